"""What only time brings to orders: suspensions begin and end, orders expire, tasks open, first fixes are found.

Each kind of work is looked up as a list of ids and done in one transaction. Where that fails, every id is done in a
transaction of its own; what fails alone is set aside for a while and said, so that one order that cannot be taken
delays no other. Deadlines are rows: a process that dies makes them late and nothing else.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from core.actions import protection, suspensions
from core.actions.order_life import expire
from core.actions.policies import recompile_due
from core.actions.unit_of_work import Unit, act
from core.clock import EPOCH, Clock
from core.errors import StoreUnavailable
from core.metrics import POISON
from core.postgres import orders, poison
from core.postgres import protection as protection_store
from core.postgres import suspensions as suspension_store
from core.postgres import tasks as task_store
from core.postgres.database import Connection, Database
from core.service import Loop

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 1.0
BATCH: Final = 200
"""Ids taken by one transaction; the next step takes the rest."""
GAP_BATCH: Final = 1_000
SET_ASIDE: Final = timedelta(minutes=5)
"""How long what failed alone is left alone."""
SET_ASIDE_MAX: Final = 1_000
GAP_EVERY: Final = timedelta(seconds=10)
COUNT_EVERY: Final = timedelta(seconds=30)

FIRST: Final = uuid.UUID(int=0)

Look = Callable[[Connection, datetime, int, Sequence[uuid.UUID]], Awaitable[list[uuid.UUID]]]
Do = Callable[[Unit, Sequence[uuid.UUID]], Awaitable[int]]


@dataclass
class Due:
    """One kind of work: what is due, and how it is done."""

    name: str
    look: Look
    do: Do
    every: timedelta = timedelta(0)
    next_at: datetime = EPOCH
    aside: dict[uuid.UUID, datetime] = field(default_factory=dict)
    """What failed alone → until when it is left alone."""

    def without(self, now: datetime) -> list[uuid.UUID]:
        """What is left alone at this moment."""
        self.aside = {one: until for one, until in self.aside.items() if until > now}
        return list(self.aside)


def due_work() -> list[Due]:
    """Every kind of work on a list of ids, in the order in which it is done."""
    return [
        Due("suspension_begins", suspension_store.due_to_begin, suspensions.begin),
        Due("suspension_ends", suspension_store.due_to_end, suspensions.end_over),
        Due("order_expires", orders.due_to_expire, expire),
        Due("task_opens", task_store.due_to_open, protection.open_due),
    ]


class OrderClock(Loop):
    """Does all that is due each second; while PostgreSQL is away it waits, and catches up."""

    def __init__(self, database: Database, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        super().__init__("order_clock", self.step, interval_s)
        self._database = database
        self._clock = clock
        self._gaps_after = self._stays_after = FIRST
        self._work = [
            *due_work(),
            Due("order_protects", self._look_for_gaps, protection.find_protected, GAP_EVERY),
            Due("order_violated", self._look_for_stays, protection.count_violations, COUNT_EVERY),
        ]

    async def step(self) -> None:
        """One look at the clock; what one kind of work stumbles over holds up neither the others nor the process."""
        steps: list[Callable[[], Awaitable[object]]] = [functools.partial(self.do, each) for each in self._work]
        for step in (*steps, self._recompile):
            try:
                await step()
            except StoreUnavailable:
                return
            except Exception as error:  # this runs beside the panic button: nothing in an order may end it
                log.error("order_clock_failed", error=type(error).__name__)

    async def do(self, work: Due) -> int:
        """Do what is due of a kind; returns how much was done."""
        now = self._clock()
        if now < work.next_at:
            return 0
        work.next_at = now + work.every
        async with self._database.connection() as connection:
            due = await work.look(connection, now, BATCH, work.without(now))
        if not due:
            return 0
        try:
            async with act(self._database, now) as unit:
                return await work.do(unit, due)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.warning("order_clock_batch_failed", work=work.name, count=len(due), error=type(error).__name__)
        done = 0
        for one in due:
            try:
                async with act(self._database, now) as unit:
                    done += await work.do(unit, [one])
            except StoreUnavailable:
                raise
            except Exception as error:
                await self._set_aside(work, one, now, error)
        return done

    async def _set_aside(self, work: Due, one: uuid.UUID, now: datetime, error: Exception) -> None:
        log.error("order_clock_set_aside", work=work.name, id=str(one), error=type(error).__name__)
        if len(work.aside) < SET_ASIDE_MAX:
            work.aside[one] = now + SET_ASIDE
        POISON.labels("order_clock").inc()
        async with act(self._database, now) as unit:
            await poison.set_aside(unit.connection, "order_clock", f"{work.name}:{one}", type(error).__name__, b"", now)

    async def _recompile(self) -> None:
        async with act(self._database, self._clock()) as unit:
            await recompile_due(unit)

    async def _look_for_gaps(
        self, connection: Connection, _: datetime, __: int, without: Sequence[uuid.UUID]
    ) -> list[uuid.UUID]:
        """The next orders that want their first fixes; after the last the first again."""
        found = await protection_store.unprotected(connection, self._gaps_after, GAP_BATCH, without)
        self._gaps_after = found[-1] if len(found) == GAP_BATCH else FIRST
        return found

    async def _look_for_stays(
        self, connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID]
    ) -> list[uuid.UUID]:
        """The next cases that may have been violated lately; after the last the first again."""
        since = now - protection.LOOK_BACK
        found = await protection_store.cases_to_count(connection, since, self._stays_after, limit, without)
        self._stays_after = found[-1] if len(found) == limit else FIRST
        return found
