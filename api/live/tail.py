"""The tail of the feed: reads each agency's new events once and hands them to all its sockets.

Model: sockets of one agency at the same cursor share one read; a socket that resumes further back reads pages of its
own until it has caught up. `NOTIFY` wakes the tail, a poll each second is the guarantee.

Failure: with PostgreSQL away sockets stay open, are told by a `health` frame, and see provisional frames from the
panics and transitions in Redis. With Redis away events go on; positions pause. A socket that does not read is
closed with 1013 and resumes from its last cursor.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from api.live.frames import parties_in, parties_of, passing_frame, reset_frame
from api.live.looks import Looks
from api.live.positions import PositionSource, Shown, watched_by
from api.live.provisional_source import ProvisionalSource
from api.live.sight import Sights
from api.live.subscription import PAGE, Subscription
from api.live.views import Page
from core.clock import Clock
from core.domain.scope import Scope
from core.domain.sight import incident_seen, sights_now
from core.errors import StoreUnavailable
from core.metrics import FEED_CONNECTIONS
from core.postgres import feed
from core.postgres.database import Database
from core.postgres.keys import vault_of
from core.redis.client import AWAY, Client, RedisError
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""Longest time between two looks for events."""
POSITIONS_S: Final = 1.0
PROVISIONAL_S: Final = 0.25
TRIM_S: Final = 60.0
TRIM_ROWS: Final = 10_000
POOL_SIZE: Final = 3
COMMAND_TIMEOUT_S: Final = 3.0
REDIS_WAIT_S: Final = 2.0
SHOWN_BOUND: Final = 10_000
"""Provisional incidents remembered, so that none is shown twice."""


class FeedTail(Service):
    """Feeds every dispatcher's socket of this process."""

    name = "feed-tail"

    def __init__(self, settings: Settings, database: Database, client: Client, clock: Clock) -> None:
        super().__init__()
        self.may_read: Callable[[], bool] = lambda: True
        """Whether what is kept may be shown yet (`api.ledger_gate`); what is provisional is shown anyway."""
        self._settings = settings
        self._database = database.another(
            size=POOL_SIZE, application="qorgan-feed", command_timeout_s=COMMAND_TIMEOUT_S
        )
        self._client = client
        self._clock = clock
        self._subscriptions: dict[uuid.UUID, set[Subscription]] = {}
        self._sights = Sights()
        self._wake = asyncio.Event()
        self._due: set[uuid.UUID] = set()
        """Agencies with news, or with sockets that are new or have room again."""
        self._failing: set[uuid.UUID] = set()
        """Agencies whose last read failed."""
        self._everything_due = True
        """Whether all agencies are to be looked at: none knows what was missed."""
        self._shown: OrderedDict[str, None] = OrderedDict()
        self._positions = PositionSource(self._database, client)
        self.looks = Looks(settings, self._database, clock)
        """Who is shown whom."""
        self._provisional = ProvisionalSource(client, settings.shard_count, vault_of(database).traveller)
        self.looked_at: datetime | None = None
        """When it last looked for events, and PostgreSQL answered."""
        self.health: dict[str, str] = {"postgres": "up", "redis": "up"}
        """Which stores answer: up | away."""

    # sockets ----------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Open sockets."""
        return sum(len(found) for found in self._subscriptions.values())

    def subscribe(self, scope: Scope, after: int | None) -> Subscription:
        """A user's place in her agency's feed after a cursor; None: from now on."""
        subscription = Subscription(scope.agency_id, after, lambda: self._look_at(scope.agency_id))
        subscription.scope = scope
        self._subscriptions.setdefault(scope.agency_id, set()).add(subscription)
        FEED_CONNECTIONS.inc()
        if "away" in self.health.values():
            subscription.push(passing_frame("health", self._clock(), self.health))
        self._look_at(scope.agency_id)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Give the place back; a second call does nothing."""
        found = self._subscriptions.get(subscription.agency_id, set())
        if subscription in found:
            found.remove(subscription)
            FEED_CONNECTIONS.dec()
            if not found:
                del self._subscriptions[subscription.agency_id]
                self._failing.discard(subscription.agency_id)
                self._positions.forget(subscription.agency_id)
                self._sights.forget(subscription.agency_id)

    def publish_provisional(self, agency_id: uuid.UUID, incident: dict[str, Any]) -> None:
        """Show an agency's sockets an incident that PostgreSQL does not have yet, once."""
        name = incident["id"]
        if name in self._shown:
            return
        self._shown[name] = None
        if len(self._shown) > SHOWN_BOUND:
            self._shown.popitem(last=False)
        found = [one for one in self._subscriptions.get(agency_id, set()) if self._sights.may_see(one.scope, incident)]
        self._note(found, parties_of(incident))
        for subscription in found:
            scope = subscription.scope
            how = sights_now("" if scope is None else scope.role, incident, self._sights.looked(scope))
            # No cells can be looked up now: who is not shown the place exactly is shown none.
            seen = incident_seen(incident, how[0], how[1], None)
            subscription.push(passing_frame("provisional", self._clock(), seen))

    def _note(self, subscriptions: Iterable[Subscription], people: list[str]) -> None:
        """Keep who is told of whom; an alarm does not wait for it."""
        for subscription in subscriptions:
            if subscription.scope is not None:
                self.looks.note(subscription.scope, people)

    @staticmethod
    def _push(subscriptions: Iterable[Subscription], frame: str) -> None:
        for subscription in list(subscriptions):
            subscription.push(frame)

    # running ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tail until stopped; an unexpected error ends the service with that error."""
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "listen": self._database.listen(feed.CHANNEL, self._told, self.stopping),
            "follow": self._follow(),
            "positions": self._every(POSITIONS_S, self._send_positions),
            "provisional": self._every(PROVISIONAL_S, self._send_provisional),
            "trim": self._every(TRIM_S, self._trim),
        }
        tasks = [asyncio.create_task(part, name=f"{self.name}:{name}") for name, part in parts.items()]
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for found in self._subscriptions.values():
                for subscription in found:
                    subscription.end(1012, "The service is stopping; connect again.")
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)

    async def open(self) -> None:
        """Begin to note who looks."""
        await self.looks.start()

    async def close(self) -> None:
        """Write the last looks and close the tail's own connections."""
        await self.looks.stop()
        await self._database.close()

    def _told(self, agency_id: str) -> None:
        """A NOTIFY: news of an agency; without its name the connection is new, and anything may have been missed."""
        if agency_id:
            self._look_at(uuid.UUID(agency_id))
        else:
            self._everything_due = True
            self._wake.set()

    def _look_at(self, agency_id: uuid.UUID) -> None:
        if agency_id in self._subscriptions:
            self._due.add(agency_id)
            self._wake.set()

    async def _every(self, interval_s: float, step: Any) -> None:
        while not await self.pause(interval_s):
            await step()

    async def _follow(self) -> None:
        everything_at = 0.0
        while not self.stopping.is_set():
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            due, self._due = self._due, set()
            if self._everything_due or time.monotonic() - everything_at >= POLL_S:
                self._everything_due, everything_at = False, time.monotonic()
                # Those with news first: an alarm does not wait for other agencies' pages.
                await self._look([*due, *(one for one in self._subscriptions if one not in due)])
            elif due:
                await self._look(due)

    async def _look(self, agency_ids: Iterable[uuid.UUID]) -> None:
        """Read what is new for these agencies; notices PostgreSQL going and coming back.

        It asks something also where nobody watches, or may. One whose read fails keeps no other from theirs.
        """
        agency_ids = sorted(agency_ids, key=self._failing.__contains__) if self.may_read() else []  # what fails is last
        try:
            if not agency_ids:
                await self._probe()
            for agency_id in agency_ids:
                await self._read_one(agency_id)
        except StoreUnavailable:
            self._everything_due = True
            self._set_health("postgres", "away")
        else:
            self.looked_at = self._clock()
            self._set_health("postgres", "up")

    async def _read_one(self, agency_id: uuid.UUID) -> None:
        """Read one agency's; raises StoreUnavailable when PostgreSQL answers nothing else either."""
        try:
            async with self._database.connection(timeout_s=COMMAND_TIMEOUT_S) as connection:
                await self._read(connection, agency_id)
        except StoreUnavailable:
            self._failing.add(agency_id)
            self._due.add(agency_id)
            await self._probe()
            log.warning("feed_not_read", agency_id=str(agency_id))
        else:
            self._failing.discard(agency_id)

    async def _probe(self) -> None:
        async with self._database.connection(timeout_s=COMMAND_TIMEOUT_S) as connection:
            await feed.issued(connection)

    async def _read(self, connection: Any, agency_id: uuid.UUID) -> None:
        await self._place(connection, agency_id)
        await self._see(connection, agency_id)
        more = True
        while more:
            more = False
            by_cursor: dict[int, list[Subscription]] = {}
            for subscription in self._subscriptions.get(agency_id, ()):
                if subscription.cursor is not None and not subscription.ended and subscription.has_room:
                    by_cursor.setdefault(subscription.cursor, []).append(subscription)
            for cursor, group in by_cursor.items():
                rows = await feed.read_after(connection, agency_id, cursor, PAGE)
                if not rows:
                    continue
                more = more or len(rows) == PAGE
                page = Page(rows)
                await page.prepare(connection)
                if any(row.kind.startswith("incident.") for row in rows):
                    self._positions.changed(agency_id)
                if any(row.kind.startswith("access.") for row in rows):
                    await self._see(connection, agency_id, changed=True)
                about = [person for row in rows for person in parties_in(row)]
                waiting = []
                for subscription in group:
                    if page.shows_cells(subscription.scope, self._sights.looked(subscription.scope)):
                        waiting.append(subscription)
                    else:  # whoever sends help sees it now
                        self._show(page, subscription, about)
                await page.keep_cells(connection, agency_id, self._clock())
                for subscription in waiting:
                    self._show(page, subscription, about)
            # Sockets get to send, and to make room, between two pages.
            await asyncio.sleep(0)

    def _show(self, page: Page, subscription: Subscription, about: list[str]) -> None:
        """Hand a page to a socket."""
        scope = subscription.scope
        subscription.cursor = page.rows[-1].id
        looked = self._sights.looked(scope)
        for row in page.rows:
            frame = self._sights.frame(scope, row, page.frame(row, scope, looked))
            if frame is not None:
                subscription.push(frame)
        hidden = self._sights.hidden(scope)
        self._note([subscription], [person for person in about if person not in hidden])

    async def _see(self, connection: Any, agency_id: uuid.UUID, *, changed: bool = False) -> None:
        """Learn what is hidden from whom; whose sight is another now loads the board again."""
        found = self._subscriptions.get(agency_id, set())
        scopes = [one.scope for one in found if one.scope is not None]
        others = await self._sights.look(connection, agency_id, scopes, self._clock(), changed=changed)
        for subscription in found:
            if subscription.scope is not None and subscription.scope.user_id in others:
                subscription.push(reset_frame(self._clock()))

    async def _place(self, connection: Any, agency_id: uuid.UUID) -> None:
        """Give new sockets their place: from now, or a reset where the feed no longer has what they ask for."""
        new = [found for found in self._subscriptions.get(agency_id, ()) if not found.placed]
        if not new:
            return
        head = await feed.head(connection, agency_id)
        trimmed = await feed.trimmed(connection)
        issued = await feed.issued(connection)
        for subscription in new:
            subscription.placed = True
            if subscription.cursor is None:
                subscription.cursor = head
            elif not trimmed <= subscription.cursor <= issued:
                subscription.cursor = head
                subscription.push(reset_frame(self._clock()))

    # beside the cursor ------------------------------------------------------------------------------------------

    def _set_health(self, store: str, state: str) -> None:
        if self.health[store] == state:
            return
        self.health = {**self.health, store: state}
        log.warning("store_health", store=store, state=state)
        if store == "postgres":
            self._provisional.rewind()
        frame = passing_frame("health", self._clock(), self.health)
        for found in list(self._subscriptions.values()):
            self._push(found, frame)

    async def _send_positions(self) -> None:
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                if not self._subscriptions or not self.may_read():
                    await self._client.ping()
                for agency_id, found in list(self._subscriptions.items()) if self.may_read() else ():
                    await self._send_positions_of(agency_id, found)
        except (RedisError, TimeoutError, StoreUnavailable, *AWAY):
            self._set_health("redis", "away")
        else:
            self._set_health("redis", "up")

    async def _send_positions_of(self, agency_id: uuid.UUID, found: set[Subscription]) -> None:
        everything, changed = await self._positions.read(agency_id)
        now = self._clock()
        shown: dict[tuple[bool, str], tuple[str | None, list[str]]] = {}
        for subscription in list(found):
            scope = subscription.scope
            if scope is None:
                continue
            every, looked = subscription.wants_all_positions, self._sights.looked(scope)
            if looked or self._sights.hidden(scope):
                mine = [one for one in everything if self._sights.may_see(scope, one.position)]
                frame, seen = self._positions_frame(now, scope, looked, mine)
            else:
                held = shown.get((every, scope.role))
                if held is None:
                    held = self._positions_frame(now, scope, looked, everything if every else changed)
                    shown[every, scope.role] = held
                frame, seen = held
            # Nobody is shown where people are while it cannot be written that she looks.
            if frame is not None and self.looks.may_watch(scope, seen):
                subscription.push_position(frame)

    @staticmethod
    def _positions_frame(
        now: datetime, scope: Scope, looked: frozenset[str], found: Iterable[Shown]
    ) -> tuple[str | None, list[str]]:
        """The frame of live positions for a user, and of whom it tells."""
        mine = watched_by(scope.role, looked, found)
        return (passing_frame("position", now, mine) if mine else None), [one["person_id"] for one in mine]

    async def _send_provisional(self) -> None:
        if self.health["postgres"] == "up" or not self._subscriptions:
            return
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                incidents = await self._provisional.read()
        except (RedisError, TimeoutError, *AWAY):
            return
        for agency_id, incident in incidents:
            self.publish_provisional(agency_id, incident)

    async def _trim(self) -> None:
        """Drop events older than the feed is kept."""
        now = self._clock()
        before = now - timedelta(days=self._settings.feed_days)
        try:
            while True:
                async with self._database.transaction(timeout_s=COMMAND_TIMEOUT_S) as connection:
                    gone = await feed.trim(connection, before, now, TRIM_ROWS)
                if gone < TRIM_ROWS:
                    return
        except StoreUnavailable:
            return
