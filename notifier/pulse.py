"""A sender's signs of life: who holds leases and has stopped giving them is taken to be dead before its leases end.

Only who has itself been heard for a while may think so of others: when PostgreSQL comes back, everybody's last sign
is old.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final

from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import beats
from core.postgres.database import Database
from core.postgres.deliveries import BEAT_NAME

BEAT_S: Final = 1.0
STALE: Final = timedelta(seconds=3)
"""Without a sign for so long, a sender is taken to be dead."""
STEADY: Final = timedelta(seconds=2)
"""Signs given without a break for so long let a sender judge others."""


class Pulse:
    """The signs of life of the sender named `holder`."""

    def __init__(self, database: Database, clock: Clock, holder: str) -> None:
        self.holder = holder
        self._database = database
        self._clock = clock
        self._steady_since: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Give a sign each second until asked to end."""
        while not stopping.is_set():
            await self.beat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), BEAT_S)

    async def beat(self) -> None:
        """Give one sign; none while PostgreSQL is away."""
        now = self._clock()
        try:
            async with self._database.connection() as connection:
                await beats.beat(connection, BEAT_NAME, self.holder, now)
        except StoreUnavailable:
            self._steady_since = None
        else:
            self._steady_since = self._steady_since or now

    def dead_before(self, now: datetime) -> datetime | None:
        """Who gave its last sign before this is dead; None while this sender may not judge."""
        if self._steady_since is None or now - self._steady_since < STEADY:
            return None
        return now - STALE

    async def end(self) -> None:
        """Take the signs away; what was under way has been given back by now."""
        with contextlib.suppress(StoreUnavailable):
            async with self._database.connection() as connection:
                await beats.forget(connection, BEAT_NAME, self.holder)
