"""The drills that nobody presses: what is due by the clock, and the server's own through every part of itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from api.live.subscription import Subscription, SubscriptionEnded
from api.panic_journal import PanicJournal
from core.actions import drills as actions
from core.actions.step_clock import StepClock
from core.actions.unit_of_work import act
from core.clock import Clock, rfc3339
from core.domain import drill as rules
from core.domain.delivery import PRIORITY_ALARM, Delivery
from core.domain.scope import Scope
from core.errors import StoreUnavailable
from core.ids import derived_id, new_id
from core.metrics import DRILL_PROVED_AT, DRILL_SECONDS, DRILLS
from core.postgres import drills as store
from core.postgres.database import Database
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

CLOCK_S: Final = 5.0
AGENCY: Final = rules.SELF_AGENCY
WATCHER: Final = derived_id("self-drill", "user")
DISK_WAIT_S: Final = 5.0
FEED_WAIT_S: Final = 10.0
SENT_WAIT_S: Final = 30.0
LOOK_S: Final = 0.2
PROBE: Final = b'{"record":"drill"}'
"""What the journal is given; settled at once, so that nobody ever reads it."""


class DrillClock(StepClock):
    """Follows drills of people, sends contacts' tests, tells what is overdue."""

    def __init__(self, database: Database, clock: Clock, interval_s: float = CLOCK_S) -> None:
        super().__init__("drill_clock", actions.STEPS, database, clock, interval_s)


class SelfDrill(Service):
    """Goes the way of a panic, with nobody in it: journal, commit, feed, notifier.

    Each process of the api does: its journal, its feed and its way to PostgreSQL are its own.
    """

    name = "self_drill"

    def __init__(self, settings: Settings, database: Database, tail: Any, clock: Clock) -> None:
        super().__init__()
        self._every_s = settings.self_drill_s
        self._settings = settings
        self._database = database
        self._tail = tail
        self._clock = clock
        self._started_at: datetime | None = None
        self.proved_at: datetime | None = None
        """When the whole way was last gone."""
        self.failure: str | None = None
        """Where the newest drill ended, if not at the end."""

    def is_well(self, now: datetime) -> bool:
        """Whether a drill has come through lately; before the first one is over, yes."""
        if self._every_s <= 0:
            return True
        late = timedelta(seconds=2 * self._every_s + FEED_WAIT_S + SENT_WAIT_S)
        since = self.proved_at or self._started_at
        return self.failure is None and (since is None or now - since <= late)

    async def run(self) -> None:
        """Drill until stopped; 0 seconds between two: never."""
        self._started_at = self._clock()
        if self._every_s <= 0:
            await self.stopping.wait()
            return
        while not self.stopping.is_set():
            await self.once()
            if await self.pause(self._every_s):
                return

    async def once(self) -> str | None:
        """One drill; where it ended, None: it came through."""
        try:
            self.failure = await self._drill()
        except StoreUnavailable:
            self.failure = "not_committed"
        except Exception as error:  # told by the watchdog; a drill must not end the process
            log.error("self_drill_failed", error=type(error).__name__)
            self.failure = "error"
        DRILLS.labels("proved" if self.failure is None else self.failure).inc()
        if self.failure is not None:
            log.error("self_drill_not_proved", where=self.failure)
        return self.failure

    async def _drill(self) -> str | None:
        began = time.perf_counter()
        journal_s = await prove_disk(self._settings)
        if journal_s is None:
            return "no_journal"
        async with act(self._database, self._clock()) as unit:
            agency_id = await store.self_drill_agency(unit.connection, AGENCY, rules.AGENCY_NAME, unit.now)
        if agency_id is None:
            self._started_at = self._clock()  # nobody is served yet
            return None
        subscription = self._tail.subscribe(Scope(AGENCY, WATCHER, "dispatcher", ""), None)
        try:
            if not await self._is_placed(subscription):
                return "not_on_feed"
            return await self._through(subscription, began, journal_s)
        finally:
            self._tail.unsubscribe(subscription)

    async def _through(self, subscription: Subscription, began: float, journal_s: float) -> str | None:
        drill_id, now = new_id(), self._clock()
        delivery = Delivery(
            agency_id=AGENCY, incident_id=None, cause=drill_id, audience="operator", recipient="drill:server",
            channel="log", address="self-drill", template=rules.TEMPLATES["device"], language="en",
            data={"exercise": True}, priority=PRIORITY_ALARM,
        )  # fmt: skip
        async with act(self._database, now) as unit:
            answers_by = now + timedelta(seconds=SENT_WAIT_S)
            await store.add(
                unit.connection,
                {
                    "id": drill_id, "agency_id": AGENCY, "kind": "server", "started_at": now, "journal_s": journal_s,
                    "answers_by": answers_by,
                },
            )  # fmt: skip
            unit.queue(delivery)
            unit.emit(AGENCY, "drill.server", {"drill_id": str(drill_id), "at": rfc3339(now), "exercise": True})
        DRILL_SECONDS.labels("commit").observe(time.perf_counter() - began)
        failure = None if await self._is_on_feed(subscription, drill_id) else "not_on_feed"
        DRILL_SECONDS.labels("feed").observe(time.perf_counter() - began)
        sent = failure is None and await self._is_sent(delivery.id)
        if failure is None and not sent:
            failure = "not_sent"
        total_s, now = time.perf_counter() - began, self._clock()
        async with act(self._database, now) as unit:
            await store.end_server_drill(unit.connection, drill_id, now if sent else None, failure, now)
        if failure is None:
            DRILL_SECONDS.labels("sent").observe(total_s)
            self.proved_at = now
            DRILL_PROVED_AT.set(now.timestamp())
        return failure

    async def _is_placed(self, subscription: Subscription) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FEED_WAIT_S):
                while subscription.cursor is None:  # noqa: ASYNC110 - the tail sets it, and tells nobody
                    await asyncio.sleep(LOOK_S / 4)
        return subscription.cursor is not None

    async def _is_on_feed(self, subscription: Subscription, drill_id: uuid.UUID) -> bool:
        with contextlib.suppress(TimeoutError, SubscriptionEnded):
            async with asyncio.timeout(FEED_WAIT_S):
                while str(drill_id) not in await subscription.next():
                    pass
                return True
        return False

    async def _is_sent(self, delivery_id: uuid.UUID) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SENT_WAIT_S):
                while True:
                    async with self._database.connection() as connection:
                        state = await store.delivery_state(connection, delivery_id)
                    if state in {"sent", "delivered", "seen", "acknowledged"}:
                        return True
                    if state in {"dead", "failed", "cancelled"}:
                        return False
                    await asyncio.sleep(LOOK_S)
        return False


async def prove_disk(settings: Settings) -> float | None:
    """How long the panics' disk takes to keep a record, seconds; None: it refuses, or hangs."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(DISK_WAIT_S):
            await asyncio.to_thread(_write_and_settle, settings.data_dir / "journal")
    except (OSError, TimeoutError):
        return None
    DRILL_SECONDS.labels("journal").observe(time.perf_counter() - began)
    return time.perf_counter() - began


def _write_and_settle(directory: Path) -> None:
    """Write to a journal of its own beside the panics' and have it on disk. Raises OSError."""
    journal = PanicJournal.create(directory)
    try:
        journal.settle(journal.append(PROBE))
    finally:
        journal.close()
