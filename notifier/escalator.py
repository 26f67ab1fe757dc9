"""The escalator: watches the deadlines of incidents, and tells the next when one is over.

Deadlines are rows, so it keeps nothing: whichever notifier looks next does what is due, one at a time for each
incident, and a process that dies makes a step late by a second at most. It sleeps until the next deadline, and no
longer than `POLL_S`; nothing is due sooner than some seconds after it was made, so it needs no notification. While
PostgreSQL is away it waits, and what was due meanwhile is told at once when it is back.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from core.actions import aggressor_warnings
from core.actions.escalating import fire
from core.actions.unit_of_work import Unit, act
from core.clock import EPOCH, Clock
from core.errors import StoreUnavailable
from core.key_rings import KeyLost
from core.metrics import POISON
from core.postgres import aggressor_warnings as warning_store
from core.postgres import escalation, poison
from core.postgres.database import Connection, Database
from core.service import Service

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
WARNINGS_EVERY: Final = timedelta(seconds=5)
"""How often it is looked whom a warning may be said to."""
AWAY_S: Final = 1.0
BATCH: Final = 40
"""Incidents taken by one transaction, at most: it costs as many statements as one of a single incident, and holds their
rows for as long as it takes to write their messages. Where that is too long for PostgreSQL, half as many are taken."""
SET_ASIDE: Final = timedelta(seconds=30)
"""How long an incident that cannot be escalated is left alone; the others go on."""
SET_ASIDE_MAX: Final = 1_000
FIRST: Final = uuid.UUID(int=0)

Look = Callable[[Connection, datetime, int, Sequence[uuid.UUID]], Awaitable[list[uuid.UUID]]]
Do = Callable[[Unit, Sequence[uuid.UUID]], Awaitable[int]]


class Escalator(Service):
    """Tells whoever comes next, for as long as nobody acts; and what may be said to an aggressor, when it may."""

    name = "escalator"

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._aside: dict[uuid.UUID, datetime] = {}
        self._batch = BATCH
        self._warnings_at = EPOCH
        self._warned_after = FIRST

    async def run(self) -> None:
        """Do what is due and sleep until the next, until asked to end."""
        while not self.stopping.is_set():
            try:
                busy = await self.step()
                wait_s = 0.0 if busy else await self._wait_s()
            except StoreUnavailable:
                wait_s = AWAY_S
            if wait_s and await self.pause(wait_s):
                return

    async def step(self) -> bool:
        """One look at all that is due; True when a batch was full and there may be more."""
        more = await self._do("escalation", escalation.due, fire)
        now = self._clock()
        if now >= self._warnings_at:
            self._warnings_at = now + WARNINGS_EVERY
            await self._do("aggressor_warning", self._look_for_warnings, aggressor_warnings.release)
        return more

    async def _look_for_warnings(
        self, connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID]
    ) -> list[uuid.UUID]:
        """The next ones; those that have to wait for a place must not keep the others waiting."""
        found = await warning_store.due(connection, now, limit, without, self._warned_after)
        self._warned_after = found[-1] if len(found) == limit else FIRST
        return found

    async def _wait_s(self) -> float:
        async with self._database.connection() as connection:
            next_at = await escalation.next_due(connection, list(self._aside))
        if next_at is None:
            return POLL_S
        return min(POLL_S, max(0.01, (next_at - self._clock()).total_seconds()))

    async def _do(self, name: str, look: Look, do: Do) -> bool:
        now = self._clock()
        self._aside = {one: until for one, until in self._aside.items() if until > now}
        async with self._database.connection() as connection:
            due = await look(connection, now, batch := self._batch, list(self._aside))
        if not due:
            return False
        try:
            told = await self._tell(name, do, due, now)
        except StoreUnavailable:
            self._batch = max(1, batch // 2)
            raise
        self._batch = min(BATCH, 2 * batch)
        return len(due) == batch and told > 0

    async def _tell(self, name: str, do: Do, due: Sequence[uuid.UUID], now: datetime) -> int:
        """Do what is due of these; where that fails, of each half of them: one that cannot be told of is set aside and
        holds up no other."""
        try:
            async with act(self._database, now) as unit:
                return await do(unit, due)
        except Exception as error:
            # A key that is lost is one agency's or one person's; nobody else's incident waits for it.
            if isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, KeyLost):
                raise
            if len(due) == 1:
                await self._set_aside(name, due[0], now, error)
                return 0
            log.warning("escalation_batch_failed", work=name, count=len(due), error=type(error).__name__)
        middle = len(due) // 2
        return await self._tell(name, do, due[:middle], now) + await self._tell(name, do, due[middle:], now)

    async def _set_aside(self, name: str, one: uuid.UUID, now: datetime, error: Exception) -> None:
        log.error("escalation_set_aside", work=name, id=str(one), error=type(error).__name__)
        if len(self._aside) < SET_ASIDE_MAX:
            self._aside[one] = now + SET_ASIDE
        POISON.labels("escalator").inc()
        async with act(self._database, now) as unit:
            await poison.set_aside(unit.connection, "escalator", f"{name}:{one}", type(error).__name__, b"", now)
