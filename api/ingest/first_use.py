"""Tokens that devices asked for, at their first use: only then do the earlier ones begin to end.

The answer to a device that asks for a new token may be lost. It then goes on with the one it has, perhaps after days
without a network, and that has to hold. A panic notes nothing here either.
"""

from __future__ import annotations

import structlog

from core.actions.devices import note_used
from core.actions.unit_of_work import act
from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres.database import Database

log = structlog.get_logger(__name__)

WAITING_MAX = 1_000
"""Tokens held until PostgreSQL is asked, all at once; one more is noted when it is shown again."""


class FirstUse:
    """What one process was shown of tokens that earlier ones wait for."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: set[bytes] = set()
        self._settled: set[bytes] = set()

    def note(self, digest: bytes) -> None:
        """Somebody asked with the token of this digest."""
        if digest not in self._settled and len(self._waiting) < WAITING_MAX:
            self._waiting.add(digest)

    async def settle(self) -> None:
        """Have the earlier ones end. Raises StoreUnavailable; what is left waits then."""
        if not self._waiting:
            return
        digests = frozenset(self._waiting)
        try:
            async with act(self._database, self._clock()) as unit:
                await note_used(unit, digests)
        except StoreUnavailable:
            raise
        except Exception as error:  # this runs beside what keeps devices current; it is noted again when shown again
            log.error("token_use_not_noted", error=type(error).__name__)
        else:
            self._settled |= digests
        self._waiting -= digests
