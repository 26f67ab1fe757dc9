"""Tokens that a newer one took the place of, and that come again: somebody holds a copy.

Who it is, the one with the old token or the one with the new, nobody can tell. So it is noted, the agency gets a task,
and soon after the newer one was confirmed both lose their tokens (`core.actions.devices.note_reuse`), as with refresh
tokens. A panic is heard from either, unverified, and notes nothing.
"""

from __future__ import annotations

import structlog

from core.actions.devices import note_reuse
from core.actions.unit_of_work import act
from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres.database import Database

log = structlog.get_logger(__name__)

WAITING_MAX = 1_000
"""Tokens held until PostgreSQL is asked; each is one that was issued once, so a flood of guesses makes none."""


class Reuse:
    """What one process was shown of replaced tokens."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: set[bytes] = set()
        self._settled: set[bytes] = set()

    def note(self, digest: bytes) -> None:
        """Somebody asked with the replaced token of this digest."""
        if digest not in self._settled and len(self._waiting) < WAITING_MAX:
            self._waiting.add(digest)

    async def settle(self) -> None:
        """Have written down what was noted. Raises StoreUnavailable; what is left waits then."""
        for digest in list(self._waiting):
            try:
                async with act(self._database, self._clock()) as unit:
                    settled = await note_reuse(unit, digest)
            except StoreUnavailable:
                raise
            except Exception as error:  # this runs beside what keeps devices current
                log.error("token_reuse_not_noted", error=type(error).__name__)
                settled = True
            self._waiting.discard(digest)
            if settled:
                self._settled.add(digest)
