"""The sender: claims due deliveries, sends them, marks how it went. One loop a channel, none waits for another's.

What is promised: a delivery is sent at least once with the same id, and by one sender at a time while its lease
holds. A process that dies between sending and marking leaves a lease behind; when that has run out, or when the
process has given no sign of life for seconds (`notifier.pulse`), the delivery is claimed again, the lost attempt on
record. While PostgreSQL is away nothing is claimed, and what was sent waits in memory to be marked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from core.clock import Clock
from core.errors import StoreUnavailable
from core.metrics import DEAD_LETTERS, DELIVERIES_WAITING, DELIVERY_QUEUE_AGE, POISON_UNHANDLED
from core.postgres import dead_letters, poison
from core.postgres.database import Database
from core.postgres.deliveries import Mark
from core.service import Service
from core.settings import Settings
from notifier.channels.base import Channel
from notifier.lane import Lane
from notifier.marker import Marker
from notifier.pulse import Pulse
from notifier.pushes_first import PUSHED, PushesFirst
from notifier.templates.render import warm_up

COUNT_S: Final = 15.0
BESIDE_PUSH_S: Final = 0.015
"""How much later the other channels of the same news begin: a push is not written turn by turn with a letter."""
READY_S: Final = 60.0
"""How often channels look whether they have what the next message needs."""


class Sender(Service):
    """Sends what the database says is due, on every channel it is given."""

    name = "notifier"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        channels: Mapping[str, Channel],
        clock: Clock,
        *,
        dice: random.Random | None = None,
        holder: str | None = None,
        observe: Callable[[Sequence[Mark]], object] | None = None,
    ) -> None:
        """`observe` is told of marks once they are committed."""
        super().__init__()
        self.holder = holder or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._database = database
        self._clock = clock
        self._pulse = Pulse(database, clock, self.holder)
        dice, marker, pushes = dice or random.Random(), Marker(database, clock, self.holder), PushesFirst()
        self._lanes = [
            Lane(settings, database, channel, clock, self._pulse, dice, self.stopping, observe, marker, pushes)
            for channel in channels.values()
        ]

    def wake(self, channels: str = "") -> None:
        """Look for due deliveries now, on the channels named, with spaces between; none named: on every channel."""
        named = frozenset(channels.split())
        pushed = named & PUSHED
        for lane in self._lanes:
            if not named or lane.name in pushed or (lane.name in named and not pushed):
                lane.wake()
            elif lane.name in named:
                asyncio.get_running_loop().call_later(BESIDE_PUSH_S, lane.wake)

    async def run(self) -> None:
        """One loop a channel, and one that listens for new deliveries; ends when all have."""
        warm_up()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_ready(), name="notifier-ready")
            group.create_task(self._pulse.run(self.stopping), name="notifier-pulse")
            for lane in self._lanes:
                group.create_task(lane.run(), name=f"notifier-{lane.name}")
            group.create_task(self._database.listen("delivery", self.wake, self.stopping))
            group.create_task(self._count(), name="notifier-count")
            group.create_task(self._end_lanes())

    async def _keep_ready(self) -> None:
        """Have the channels keep at hand what the next message needs."""
        while not self.stopping.is_set():
            await asyncio.gather(*(lane.keep_ready() for lane in self._lanes))
            await self.pause(READY_S)

    async def _count(self) -> None:
        """Keep the gauges of what waits, and of what nobody got or looked at, current."""
        while not self.stopping.is_set():
            with contextlib.suppress(StoreUnavailable):
                await self.count()
            await self.pause(COUNT_S)

    async def count(self) -> None:
        """Count once. Raises StoreUnavailable."""
        async with self._database.connection() as connection:
            waiting = await dead_letters.waiting(connection, self._clock())
            DEAD_LETTERS.set(await dead_letters.count(connection))
            POISON_UNHANDLED.set(await poison.count_unhandled(connection))
        for lane in self._lanes:
            number, age_s = waiting.get(lane.name, (0, 0.0))
            DELIVERIES_WAITING.labels(lane.name).set(number)
            DELIVERY_QUEUE_AGE.labels(lane.name).set(age_s)

    async def _end_lanes(self) -> None:
        await self.stopping.wait()
        self.wake()

    async def close(self) -> None:
        """Give the channels' connections back, and say that this sender is gone."""
        for lane in self._lanes:
            await lane.aclose()
        await self._pulse.end()
