"""Which sessions have ended while their access tokens would still hold, in memory.

Model: an access token bears its session's id and is checked without a store. Every process keeps the ids of the
sessions that ended within the life of an access token, read anew at each NOTIFY and each POLL_S in any case.

Guarantees: a session that is ended, or whose user is disabled, is refused within a second of the commit in every
process, and whoever waits for its end (an open feed) hears of it.

Failure: with PostgreSQL away nothing new is heard; what is known stays, and access tokens run out by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from datetime import datetime, timedelta
from typing import Final

from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import sessions
from core.postgres.database import Database
from core.service import Service

POLL_S: Final = 0.8
"""Longest time between two looks."""
SLACK: Final = timedelta(minutes=1)
"""Clocks of two machines may differ, and a transaction may take a while to commit."""


class EndedSessions(Service):
    """The sessions that ended lately."""

    name = "ended-sessions"

    def __init__(self, database: Database, clock: Clock, access_token_s: int) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._kept = timedelta(seconds=access_token_s) + SLACK
        self._ended: dict[uuid.UUID, datetime] = {}
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = {}
        self._look = asyncio.Event()

    def has_ended(self, session_id: uuid.UUID | None) -> bool:
        """Whether this session ended lately."""
        return session_id is not None and session_id in self._ended

    async def ended(self, session_id: uuid.UUID | None, timeout_s: float) -> bool:
        """Wait until a session ends; False when it has not within `timeout_s`."""
        if session_id is None:
            await asyncio.sleep(timeout_s)
            return False
        if self.has_ended(session_id):
            return True
        event = asyncio.Event()
        self._waiting.setdefault(session_id, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            waiting = self._waiting[session_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[session_id]
        return True

    async def open(self) -> None:
        """Read what ended lately, if PostgreSQL is there."""
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()

    async def run(self) -> None:
        """Look when told to, and each POLL_S."""
        listening = asyncio.create_task(
            self._database.listen(sessions.CHANNEL, lambda _: self._look.set(), self.stopping)
        )
        ending = asyncio.create_task(self.stopping.wait())
        try:
            while not self.stopping.is_set():
                looking = asyncio.create_task(self._look.wait())
                await asyncio.wait({looking, ending}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                looking.cancel()
                self._look.clear()
                with contextlib.suppress(StoreUnavailable):
                    await self.refresh()
        finally:
            ending.cancel()
            listening.cancel()
            await asyncio.gather(ending, listening, return_exceptions=True)

    async def refresh(self) -> None:
        """Read what ended lately and tell whoever waits."""
        async with self._database.connection() as connection:
            self._ended = await sessions.ended_since(connection, self._clock() - self._kept)
        for session_id in self._ended.keys() & self._waiting.keys():
            for event in self._waiting[session_id]:
                event.set()
