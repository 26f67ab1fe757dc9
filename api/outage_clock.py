"""Notices that the service is without a part of itself, and has agencies and protected persons told.

The watchdog says which part; one that is red for `BEGINS` is missing, one that is green for `ENDS` is back. Processes
may see different things, as when one of them has lost its way to a store: each writes with its beat what it misses, and
an outage goes on while any that lives sees it. While PostgreSQL itself is away nothing can be written: consoles are
told by their `health` frames, the operator by a road of its own (`api.operator_news`), and agencies once it is back.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Final

import structlog

from api.operator_news import OperatorNews
from api.watchdog import Watchdog
from core.actions import broadcast
from core.actions.unit_of_work import act
from core.clock import Clock, rfc3339
from core.errors import StoreUnavailable
from core.ids import new_id
from core.postgres import beats, maintenance, service_outages
from core.postgres.database import Database
from core.service import Loop

log = structlog.get_logger(__name__)

PARTS: Final = ("database", "positions", "detection")
INTERVAL_S: Final = 5.0
BEGINS: Final = timedelta(seconds=30)
ENDS: Final = timedelta(seconds=20)
LIVES: Final = timedelta(seconds=30)
"""Without a beat for so long a process is gone, and what it saw with it."""
UPKEEP: Final = 60
"""Numbers of `core.postgres.maintenance.try_upkeep` from here on."""


class OutageClock(Loop):
    """Follows the watchdog; in every API process, each step at one time in one of them."""

    def __init__(
        self,
        database: Database,
        watchdog: Watchdog,
        clock: Clock,
        interval_s: float = INTERVAL_S,
        news: OperatorNews | None = None,
    ) -> None:
        """`news` tells the operator, who hears also while nothing can be written."""
        super().__init__("outage_clock", self.step, interval_s)
        self._database = database
        self._watchdog = watchdog
        self._clock = clock
        self._instance = str(new_id())
        self._news = news
        self._told: dict[str, datetime] = {}
        """Parts of which the operator is told that they are missing → since when."""
        self._settled: set[str] = set()
        """Those of them that another process need not be asked about any more."""
        self._red_since: dict[str, datetime] = {}
        self._green_since: dict[str, datetime] = {}

    async def step(self) -> None:
        """One look, and whatever follows from it."""
        red = await self._watchdog.red()
        now = self._clock()
        self._follow("database", "postgres" in red, now)
        if "postgres" not in red:
            self._follow("positions", "redis" in red, now)
            if "redis" not in red:
                self._follow("detection", "engine" in red, now)
        for what in PARTS:
            await self._tell_operator(what, now)
        try:
            await self._beat(now)
            for what in PARTS:
                await self._write(what, now)
            for number, work in enumerate(broadcast.STEPS, UPKEEP):
                async with act(self._database, now) as unit:
                    if await maintenance.try_upkeep(unit.connection, number):
                        await work(unit)
        except StoreUnavailable:
            return
        except Exception as error:  # beside the panic button: nothing here may end the process
            log.error("outage_clock_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Be gone at once for the others."""
        if self._news is not None:
            await self._news.close()
        with contextlib.suppress(StoreUnavailable):
            async with self._database.connection() as connection:
                await beats.forget(connection, service_outages.BEAT_NAME, self._instance)

    async def _beat(self, now: datetime) -> None:
        missing = {what: rfc3339(since) for what, since in self._red_since.items()}
        async with self._database.connection() as connection:
            await beats.beat(connection, service_outages.BEAT_NAME, self._instance, now, {"red": missing})

    def _follow(self, what: str, missing: bool, now: datetime) -> None:
        since, other = (self._red_since, self._green_since) if missing else (self._green_since, self._red_since)
        since.setdefault(what, now)
        if missing or now - since[what] >= ENDS:
            other.pop(what, None)

    def _is_missing(self, what: str, now: datetime) -> datetime | None:
        """Since when a part is, or was until just now, missing for long enough to be told of."""
        began, back = self._red_since.get(what), self._green_since.get(what)
        return began if began is not None and (back or now) - began >= BEGINS else None

    async def _tell_operator(self, what: str, now: datetime) -> None:
        if self._news is None:
            return
        since = self._is_missing(what, now)
        if (
            since is not None
            and what not in self._settled
            and (what not in self._told or what not in self._green_since)
        ):
            self._told.setdefault(what, since)
            if await self._news.began(what, self._told[what]):
                self._settled.add(what)
        elif what in self._told and what not in self._red_since:
            self._settled.discard(what)
            await self._news.over(what, self._told.pop(what))

    async def _write(self, what: str, now: datetime) -> None:
        began, back = self._is_missing(what, now), self._green_since.get(what)
        if began is not None:
            async with act(self._database, now) as unit:
                await broadcast.begin(unit, what, began)
        elif what not in self._red_since and back is not None and now - back >= ENDS:
            async with act(self._database, now) as unit:
                if not await service_outages.is_seen(unit.connection, what, now - LIVES, but=self._instance):
                    await broadcast.end(unit, what)
