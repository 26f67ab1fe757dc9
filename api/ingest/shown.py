"""Tokens of which something is to be written down when somebody shows them; kept aside, as no request waits for it.

Of two kinds (`api.ingest.registry`). A token that its device asked for, at its first use: only then do the earlier
ones begin to end, since the answer may have been lost, and she then goes on with the one she has. And one that a newer
took the place of, when it comes again: somebody holds a copy. Who that is, the one with the old token or the one with
the new, nobody can tell; so it is noted, the agency gets a task, and soon after the newer one was confirmed both lose
their tokens, as with refresh tokens (`core.actions.devices`). A panic is heard from either, and notes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from core.actions.unit_of_work import Unit, act
from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres.database import Database

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 1_000
"""Tokens held until PostgreSQL is asked, each one that was issued once, so that a flood of guesses makes none; one more
is noted when it is shown again."""

Write = Callable[[Unit, Collection[bytes]], Awaitable[Collection[bytes]]]
"""Writes down what tokens of these digests were shown for; returns those that need no second look."""


class ShownTokens:
    """What one process was shown of one kind of token."""

    def __init__(self, database: Database, clock: Clock, kind: str, write: Write, *, at_once: int) -> None:
        """`at_once`: how many are written in one transaction; `kind`: its name in the log."""
        self._database = database
        self._clock = clock
        self._kind = kind
        self._write = write
        self._at_once = at_once
        self._waiting: set[bytes] = set()
        self._settled: set[bytes] = set()

    def note(self, digest: bytes) -> None:
        """Somebody asked with the token of this digest."""
        if digest not in self._settled and len(self._waiting) < WAITING_MAX:
            self._waiting.add(digest)

    async def settle(self) -> None:
        """Have written down what was noted. Raises StoreUnavailable; what is left waits then."""
        waiting = list(self._waiting)
        for start in range(0, len(waiting), self._at_once):
            digests = frozenset(waiting[start : start + self._at_once])
            try:
                async with act(self._database, self._clock()) as unit:
                    settled = await self._write(unit, digests)
            except StoreUnavailable:
                raise
            except Exception as error:  # beside what keeps devices current; noted again when it is shown again
                log.error("shown_token_not_noted", kind=self._kind, error=type(error).__name__)
                settled = ()
            self._waiting -= digests
            self._settled |= frozenset(settled)
