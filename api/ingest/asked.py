"""How long each device is asked to wait between its pings, in memory: what acknowledgements say.

Model: the engine writes what it asks of devices into each shard's `asked` hash and `asks` stream; every process that
answers devices follows all of them, `LOOK_S` apart, and holds only devices asked for more than is expected of them.
Beside it, whoever is in an open panic: PostgreSQL knows the open ones and is asked each second; a press is also noted
in Redis by the panic desk, which counts until PostgreSQL must know it, or, while PostgreSQL is away, for an hour. Her
devices are then asked for the most there is. His hear nothing of it: what they are asked comes from the engine
alone, which knows of no panic.

Guarantees: a press or a shorter interval reaches a connected device within about a second, and any device with its
next answer. After a restart of this process or of the engine the same is asked again.

Failure: Redis away: what was asked stays. PostgreSQL away: panics it told of stay, and presses come by Redis. Both
away: what was known stays.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from api.ingest.registry import DeviceIdentity
from core.clock import Clock, to_ms
from core.errors import StoreUnavailable
from core.postgres.asking import people_in_panic
from core.postgres.database import Database
from core.redis import asked as store
from core.redis.client import Client
from core.redis.shard_log import START
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.25
PANIC_LOOK_S: Final = 1.0
"""Time between two questions to PostgreSQL for open panics."""
LOOKS_A_RELOAD: Final = 2400
"""All is read anew at every so manieth look: what a store forgot is forgotten here too."""
PANIC_INTERVAL_S: Final = 1.0
PRESS_COUNTS_MS: Final = 60_000
"""A press noted in Redis counts for so long though PostgreSQL, asked since, tells of no panic."""
PRESS_KEPT_MS: Final = 3_600_000
"""And for so long while PostgreSQL is away."""
AGGRESSOR_STEPS_S: Final = (60.0, 15.0)
AGGRESSOR_LEAST_S: Final = 5.0


def interval_text(interval_s: float) -> bytes:
    """An interval as JSON, blanks before it: no answer is longer or shorter for what it asks, and less sorts before."""
    return b"%7.2f" % interval_s


def interval_part(interval_s: float) -> bytes:
    """The part of an acknowledgement that tells it."""
    return b',"interval_s":%b,"commands":' % interval_text(interval_s)


def aggressor_interval_s(asked_s: float) -> float:
    """60, 15 or 5: the most that is no longer than what is asked."""
    return next((step for step in AGGRESSOR_STEPS_S if step <= asked_s), AGGRESSOR_LEAST_S)


class Changed(msgspec.Struct, frozen=True):
    """What may be told differently since the last look."""

    numbers: frozenset[int]
    """Device numbers."""
    people: frozenset[uuid.UUID]
    """People who came into, or out of, a panic."""


class AskedIntervals(Service):
    """What every device is asked for; one a process that answers devices."""

    name = "asked-intervals"

    def __init__(self, settings: Settings, redis: Client, database: Database | None, clock: Clock) -> None:
        super().__init__()
        self._redis = redis
        self._database = database
        self._clock = clock
        self._after = dict.fromkeys(range(settings.shard_count), START)
        self._of_shard: dict[int, dict[int, float]] = {shard: {} for shard in self._after}
        self._asked: dict[int, float] = {}
        self._urgent: frozenset[uuid.UUID] = frozenset()
        self._open: frozenset[uuid.UUID] = frozenset()
        self._open_ms = 0
        """When PostgreSQL last told of open panics."""
        self._looks = 0
        self._loaded = False
        self._listeners: list[Callable[[Changed], None]] = []

    def told_s(self, device: DeviceIdentity) -> float:
        """Seconds until this device's next ping is wanted."""
        asked_s = self._asked.get(device.number)
        if device.role == "aggressor":
            return device.interval_s if asked_s is None else min(device.interval_s, aggressor_interval_s(asked_s))
        if device.person_id in self._urgent:
            return min(device.interval_s, PANIC_INTERVAL_S)
        return device.interval_s if asked_s is None else min(device.interval_s, asked_s)

    def on_changed(self, listener: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `listener` after each look that found changes; returns what takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # keeping current ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read all there is, if the stores are there."""
        await self._surely(self.look_for_panics)
        await self._surely(self.look)

    async def run(self) -> None:
        """Look until stopped; PostgreSQL may hang without holding up the rest."""
        panics = asyncio.create_task(self._watch_panics())
        try:
            while not await self.pause(LOOK_S):
                await self._surely(self.look)
        finally:
            panics.cancel()
            await asyncio.gather(panics, return_exceptions=True)

    async def _watch_panics(self) -> None:
        while not await self.pause(PANIC_LOOK_S):
            await self._surely(self.look_for_panics)

    @staticmethod
    async def _surely(look: Callable[[], Awaitable[None]]) -> None:
        """No answer of a store, foreseen or not, ends a process that takes pings or panics."""
        try:
            await look()
        except Exception as error:
            log.error("asked_intervals_failed", error=type(error).__name__)

    async def look(self) -> None:
        """Take up what changed in Redis and what PostgreSQL told last, and tell the listeners."""
        numbers: set[int] = set()
        presses: list[tuple[str, int]] | None = None
        try:
            if not self._loaded or self._looks % LOOKS_A_RELOAD == 0:
                numbers = await self._load()
            else:
                numbers = await self._follow()
            presses = await store.read_presses(self._redis, to_ms(self._clock()) - PRESS_KEPT_MS)
        except StoreUnavailable:
            log.debug("asked_intervals_unseen")
        self._looks += 1
        people = self._judge_urgent(presses)
        if numbers or people:
            changed = Changed(frozenset(numbers), people)
            for listener in list(self._listeners):
                listener(changed)

    async def _load(self) -> set[int]:
        numbers: set[int] = set()
        for shard in self._after:
            self._after[shard], asked = await store.read_all(self._redis, shard)
            before, self._of_shard[shard] = self._of_shard[shard], asked
            numbers |= {number for number in before.keys() | asked.keys() if before.get(number) != asked.get(number)}
        self._settle(numbers)
        if not self._loaded:
            log.info("asked_intervals_loaded", devices=len(self._asked))
        self._loaded = True
        return numbers

    async def _follow(self) -> set[int]:
        numbers: set[int] = set()
        for shard, (newest, changes) in (await store.read_changes(self._redis, self._after)).items():
            if not newest:  # too far behind to have missed none: all is read anew at the next look
                self._loaded = False
                continue
            self._after[shard] = newest
            asked = self._of_shard[shard]
            for number, seconds in changes.items():
                if seconds > 0:
                    asked[number] = seconds
                else:
                    asked.pop(number, None)
            numbers |= changes.keys()
        self._settle(numbers)
        return numbers

    def _settle(self, numbers: set[int]) -> None:
        """The least over all shards: somebody in two cases is asked by both."""
        for number in numbers:
            least = min((asked.get(number, math.inf) for asked in self._of_shard.values()), default=math.inf)
            if least < math.inf:
                self._asked[number] = least
            else:
                self._asked.pop(number, None)

    async def look_for_panics(self) -> None:
        """Ask PostgreSQL for open panics, if it is there."""
        if self._database is None:
            return
        try:
            async with self._database.connection() as connection:
                self._open = await people_in_panic(connection)
        except StoreUnavailable:
            return
        self._open_ms = to_ms(self._clock())

    def _judge_urgent(self, presses: list[tuple[str, int]] | None) -> frozenset[uuid.UUID]:
        """Settle who is in a panic; returns for whom that changed."""
        before = self._urgent
        if presses is None:  # nobody says otherwise
            self._urgent = self._open | before
        else:
            now_ms = to_ms(self._clock())
            unseen = self._open_ms  # PostgreSQL has told of what was pressed a while before this
            self._urgent = self._open | {
                uuid.UUID(person)
                for person, at_ms in presses
                if now_ms - at_ms < PRESS_COUNTS_MS or unseen - at_ms < PRESS_COUNTS_MS
            }
        return self._urgent ^ before
