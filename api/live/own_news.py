"""A device's own news: whether its wearer is protected, and what becomes of her panics, as it changes.

Model: one look each LOOK_S reads for all sockets of this process together, and only what may have changed: panics when
the feed has moved, protection each PROTECTION_S. Each socket is told what differs from what it was told last.

Guarantees: a device hears of nobody but its own wearer, and of no place. An aggressor's device gets keepalives on
a clock of its own and nothing else, so that its socket tells it nothing, by words or by timing. A token that is
revoked ends the socket within about a second.

Failure: with PostgreSQL away she is told `degraded`, and the news follows; a lost socket begins anew with all of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import structlog

from api.ingest.registry import DeviceIdentity, Registry
from api.live.frames import passing_frame
from api.live.own_view import SERVICE_DEGRADED, UNFITTED, judge, panic_json
from api.live.subscription import Subscription
from api.panic_index import as_answered
from core.clock import Clock
from core.domain.panic import CancelIn
from core.errors import StoreUnavailable
from core.postgres import devices, feed, panics
from core.postgres.database import Database
from core.service import Service

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.5
PROTECTION_S: Final = 10.0
"""Time between two judgements of everybody's protection, and the longest a change of a panic may stay unseen."""
KEEPALIVE_S: Final = 20.0
KEEPALIVE: Final = '{"kind":"keepalive"}'
SHOWN: Final = timedelta(days=1)
"""How old a panic may be to be news."""
PANICS_A_DEVICE: Final = 20
SOCKETS_A_DEVICE: Final = 4
"""The newest stay: what a phone lost on the way is not kept against it."""
DEVICES_A_READ: Final = 500


@dataclass(eq=False)
class _Listener:
    """One socket and what it was told."""

    digest: bytes
    subscription: Subscription
    next_keepalive: float = 0.0
    greeted: bool = False
    protection: dict[str, Any] | None = None
    panics: dict[str, dict[str, Any]] = field(default_factory=dict)


Wearer = tuple[_Listener, DeviceIdentity]
"""A socket that has news, and whose."""


class OwnNews(Service):
    """Tells every device's socket of this process its own news."""

    name = "own-news"

    def __init__(
        self,
        database: Database,
        registry: Registry,
        clock: Clock,
        answered: Callable[[uuid.UUID], list[CancelIn]] = lambda _: [],
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        """`answered`: a device's wishes to cancel that it was told of as cancelled, and nobody has judged yet;
        `may_read`: whether what is kept may be shown yet (`api.ledger_gate`)."""
        super().__init__()
        self._may_read = may_read
        self._answered = answered
        self._database = database
        self._registry = registry
        self._clock = clock
        self._listeners: dict[Subscription, _Listener] = {}
        self._issued = -1
        self._moved = False
        self._next_full = 0.0

    @property
    def connections(self) -> int:
        """Open sockets."""
        return len(self._listeners)

    def subscribe(self, digest: bytes) -> Subscription:
        """News for the device whose token has this digest; its oldest socket beyond the bound is closed."""
        same = [found for found in self._listeners.values() if found.digest == digest]
        for old in same[: max(0, len(same) + 1 - SOCKETS_A_DEVICE)]:
            old.subscription.end(1008, "This device has opened newer sockets.")
        subscription = Subscription(uuid.UUID(int=0), None, lambda: None)
        self._listeners[subscription] = _Listener(digest, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop telling; a second call does nothing."""
        self._listeners.pop(subscription, None)

    async def run(self) -> None:
        """Look until stopped, then close every socket: devices connect again, perhaps elsewhere."""
        while not await self.pause(LOOK_S):
            try:
                await self._look()
            except Exception as error:  # this runs beside the panic button: no row may end it
                log.error("own_news_failed", error=type(error).__name__)
        for listener in self._listeners.values():
            listener.subscription.end(1012, "The service is stopping; connect again.")

    async def _look(self) -> None:
        if not self._listeners:
            return
        now_s = asyncio.get_running_loop().time()
        wearers = list(self._attend(now_s))
        full = now_s >= self._next_full
        if full:
            self._next_full = now_s + PROTECTION_S
        try:
            if not self._may_read():
                raise StoreUnavailable("Nobody knows yet whether what is kept may be shown.")
            async with self._database.connection() as connection:
                moved = await self._has_moved(connection)
                for part in _parts([one for one in wearers if full or moved or not one[0].greeted]):
                    await self._tell_panics(connection, part)
                for part in _parts([one for one in wearers if full or not one[0].greeted]):
                    await self._tell_protection(connection, part)
        except StoreUnavailable:
            for listener, _ in wearers:
                self._tell(listener, SERVICE_DEGRADED)
            self._next_full = 0.0
        else:
            for listener, _ in wearers:
                listener.greeted = True

    def _attend(self, now_s: float) -> Iterator[Wearer]:
        """Keep everybody's socket alive, end those whose token no longer holds; who has news."""
        for listener in list(self._listeners.values()):
            holder = self._registry.holder(listener.digest)
            if not isinstance(holder, DeviceIdentity):
                listener.subscription.end(4401, "This token does not hold; enrol the device again.")
                continue
            if now_s >= listener.next_keepalive:
                listener.next_keepalive = now_s + KEEPALIVE_S
                listener.subscription.push(KEEPALIVE)
            if holder.role != "aggressor":
                yield listener, holder

    async def _has_moved(self, connection: Any) -> bool:
        """Whether the feed has; true once more after that, as an id is issued a moment before its commit."""
        issued = await feed.issued(connection)
        before, self._moved = self._moved, issued != self._issued
        self._issued = issued
        return before or self._moved

    async def _tell_panics(self, connection: Any, wearers: Sequence[Wearer]) -> None:
        answered = {device.id: self._answered(device.id) for _, device in wearers}
        found = await panics.recent_of_devices(
            connection, [device.id for _, device in wearers], self._clock() - SHOWN, PANICS_A_DEVICE
        )
        told = await panics.told_of(connection, list({row["incident_id"] for row in found})) if found else {}
        by_device: dict[uuid.UUID, list[dict[str, Any]]] = {}
        for row in found:
            as_answered(row, (*answered[row["device_id"]], *self._answered(row["device_id"])))
            by_device.setdefault(row["device_id"], []).append(panic_json(row, told.get(row["incident_id"], [])))
        for listener, device in wearers:
            before, listener.panics = listener.panics, {}
            for panic in by_device.get(device.id, ()):
                listener.panics[panic["panic_id"]] = panic
                if before.get(panic["panic_id"]) != panic:
                    listener.subscription.push(passing_frame("panic", self._clock(), panic))

    async def _tell_protection(self, connection: Any, wearers: Sequence[Wearer]) -> None:
        people = list({device.person_id for _, device in wearers if device.person_id is not None})
        now = self._clock()
        carried: dict[uuid.UUID, list[dict[str, Any]]] = {}
        for record in await devices.of_people(connection, people):
            if record["role"] != "aggressor":
                carried.setdefault(record["person_id"], []).append(record)
        orders = await devices.protection(connection, people, now)
        for listener, device in wearers:
            if device.person_id is None:
                self._tell(listener, UNFITTED)
            else:
                self._tell(listener, judge(carried.get(device.person_id, []), orders[device.person_id], now))

    def _tell(self, listener: _Listener, protection: dict[str, Any]) -> None:
        if listener.protection != protection:
            listener.protection = protection
            listener.subscription.push(passing_frame("protection", self._clock(), protection))


def _parts(wearers: list[Wearer]) -> Iterator[list[Wearer]]:
    for start in range(0, len(wearers), DEVICES_A_READ):
        yield wearers[start : start + DEVICES_A_READ]
