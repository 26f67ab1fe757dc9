"""Pings from many senders into one append a shard: packed as they come, flushed every few milliseconds.

Model: pings are packed at once into the *filling* generation: a buffer a shard, and whoever waits for it. Every
`ping_flush_ms` the generation is sealed and appended, all its shards in one round trip, one generation at a
time and in order. When it is on disk its senders are told (`durable`), else (`lost`). Nothing is awaited, and
nothing is allocated but bytes, for a single ping.

Guarantees: `durable` is called only once every shard of the generation has it on disk (and on the disks of
`redis_replicas` replicas). A ping of a device with two shards is in the same generation for both.

Failure: an append that fails is `lost`, though some of it may be in the log: senders send again and the engine
takes each ping once. From then on `refusal` says so and nothing is taken until Redis answers again; the same
holds while Redis is over its memory mark, the disk below its floor (see `api.ingest.health`), or more than
MAX_PENDING_PINGS wait to be appended.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Protocol

import msgspec
import structlog

from api.ingest.decode import Ping, SignedPing
from api.ingest.rates import Rates, RecentPings
from api.ingest.records import Sighting, pack
from api.ingest.registry import DeviceIdentity
from core.clock import Clock
from core.domain.ping import FLAG_EXTRA, FLAG_PRIMARY, FLAG_SIGNED, RECORD_BYTES, flags_of
from core.errors import StoreUnavailable
from core.metrics import INGEST_FLUSH_SECONDS, PINGS_ACCEPTED
from core.redis.client import AWAY, Client, RedisError
from core.redis.shard_log import ShardLog
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

MAX_PENDING_PINGS: Final = 400_000
"""Pings that may wait while others are being appended (26 MB, for a device of one shard); beyond, pings are refused."""
PROBE_S: Final = 0.2
"""Time between two questions whether Redis is back."""
RETRY_AFTER_S: Final = 2
"""What a refused sender is told to wait."""

REDIS_AWAY: Final = "Redis does not answer"
STOPPING: Final = "the service is stopping"
BACKLOG_FULL: Final = "too much waits to be appended"

encode: Final = msgspec.json.Encoder().encode


class Sender(Protocol):
    """Whoever put pings into a generation."""

    def seal(self) -> None:
        """The generation is closed; the next one is sealed only after this one is `durable` or `lost`."""

    def durable(self) -> None:
        """What was sealed is on disk."""

    def lost(self) -> None:
        """What was sealed may not be in the log."""


class Generation:
    """What is appended together."""

    __slots__ = ("buffers", "extras", "future", "pings", "senders")

    def __init__(self) -> None:
        self.buffers: dict[int, bytearray] = {}
        self.extras: dict[int, dict[str, Any]] = {}
        self.senders: list[Sender] = []
        self.future: asyncio.Future[None] | None = None
        """For those who await it; made when first asked for."""
        self.pings = 0


def _flags(device: DeviceIdentity, ping: Ping, backlog: bool) -> int:
    flags = flags_of(ping, backlog)
    # Whoever has a key was checked by it before; a signature nobody could check proves nothing.
    return flags | FLAG_SIGNED if ping.__class__ is SignedPing and device.signing else flags


class Appender(Service):
    """Packs pings and appends them; one a process."""

    name = "appender"

    def __init__(self, settings: Settings, redis: Client, clock: Clock, *, road: str = "stream") -> None:
        super().__init__()
        self._redis = redis
        self._clock = clock
        self._log = ShardLog(redis, replicas=settings.redis_replicas)
        self._flush_s = settings.ping_flush_ms / 1000
        self._work = asyncio.Event()
        self._marks: dict[str, str] = {}
        self._away: str | None = REDIS_AWAY
        self._accepted = PINGS_ACCEPTED.labels(road)
        self.rates = Rates(settings.device_pings_per_second)
        self.recent = RecentPings()
        self.filling = Generation()
        """What takes pings now."""
        self.refusal: str | None = REDIS_AWAY
        """Why no ping is taken now, in a few words; None: pings are taken."""

    # taking pings ---------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The present in milliseconds since the Unix epoch, on this appender's clock."""
        return int(self._clock().timestamp() * 1000)

    def add(
        self,
        device: DeviceIdentity,
        ping: Ping,
        at_ms: int,
        *,
        backlog: bool = False,
        sightings: list[Sighting] | None = None,
    ) -> None:
        """Put one ping into the filling generation, once for each shard of its device.

        The caller has seen that `refusal` is None and joins the generation (`join` or `durable`) in the same step.
        """
        generation = self.filling
        routes = device.routes
        if sightings is None and len(routes) == 1:  # nearly all pings
            shard = routes[0]
            buffer = generation.buffers.get(shard)
            if buffer is None:
                buffer = generation.buffers[shard] = bytearray()
            buffer += pack(device.number, ping, at_ms, _flags(device, ping, backlog) | FLAG_PRIMARY)
        else:
            self._add_copies(generation, device, ping, at_ms, _flags(device, ping, backlog), sightings)
        generation.pings += 1
        if generation.pings > MAX_PENDING_PINGS:
            self._refuse("backlog", BACKLOG_FULL)

    @staticmethod
    def _add_copies(
        generation: Generation,
        device: DeviceIdentity,
        ping: Ping,
        at_ms: int,
        flags: int,
        sightings: list[Sighting] | None,
    ) -> None:
        """One copy a shard, the first one primary, each with what was heard beside it."""
        if sightings is not None:
            flags |= FLAG_EXTRA
        primary = FLAG_PRIMARY
        for shard in device.routes:
            buffer = generation.buffers.setdefault(shard, bytearray())
            if sightings is not None:
                extras = generation.extras.setdefault(shard, {})
                extras[str(len(buffer) // RECORD_BYTES)] = {"heard": sightings}
            buffer += pack(device.number, ping, at_ms, flags | primary)
            primary = 0

    def join(self, sender: Sender) -> None:
        """Tell `sender` what becomes of the filling generation; to be called once a generation."""
        senders = self.filling.senders
        if not senders:
            self._work.set()
        senders.append(sender)

    async def durable(self) -> None:
        """Return once the filling generation is on disk; raises StoreUnavailable when it was lost."""
        generation = self.filling
        if generation.future is None:
            generation.future = asyncio.get_running_loop().create_future()
        self._work.set()
        await asyncio.shield(generation.future)

    def unavailable(self) -> StoreUnavailable:
        """The error that says pings are not taken now."""
        return StoreUnavailable(
            f"Pings are not taken now ({self.refusal or REDIS_AWAY}); keep them and send them again.",
            code="ingest_unavailable",
            retry_after_s=RETRY_AFTER_S,
        )

    def mark(self, name: str, reason: str | None) -> None:
        """Refuse pings for `reason`, or no longer for the one of this name."""
        if reason is None:
            if self._marks.pop(name, None) is not None:
                self._judge()
        else:
            self._refuse(name, reason)

    def _refuse(self, name: str, reason: str) -> None:
        if self._marks.get(name) != reason:
            self._marks[name] = reason
            self._judge()

    def _judge(self) -> None:
        before = self.refusal
        self.refusal = self._away or next(iter(self._marks.values()), None)
        if (before is None) != (self.refusal is None):
            log.warning("ingest_refusing", reason=self.refusal) if self.refusal else log.info("ingest_accepting")

    # appending ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Ask once whether Redis is there; `run` asks on."""
        self._marks.pop("stopping", None)
        await self._probe()

    async def run(self) -> None:
        """Flush until stopped, what came last included."""
        ending = asyncio.create_task(self.stopping.wait())
        ending.add_done_callback(lambda _: self._work.set())
        try:
            while not self.stopping.is_set():
                if self._away is not None:
                    if await self.pause(PROBE_S):
                        break
                    await self._probe()
                    continue
                await self._work.wait()
                if self._flush_s and not self.stopping.is_set():
                    await asyncio.sleep(self._flush_s)
                await self._flush()
        finally:
            ending.cancel()
            self._refuse("stopping", STOPPING)
            await self._flush()

    async def _flush(self) -> None:
        """Seal the filling generation, append it, tell everyone."""
        self._work.clear()
        generation, self.filling = self.filling, Generation()
        self.mark("backlog", None)
        for sender in generation.senders:
            sender.seal()
        started = time.perf_counter()
        try:
            if generation.buffers:
                await self._log.append_flush(
                    {
                        shard: (bytes(buffer), encode(extras) if (extras := generation.extras.get(shard)) else None)
                        for shard, buffer in generation.buffers.items()
                    }
                )
                INGEST_FLUSH_SECONDS.observe(time.perf_counter() - started)
        except BaseException as error:
            self._away = REDIS_AWAY
            self._judge()
            for sender in generation.senders:
                sender.lost()
            if generation.future is not None:
                generation.future.set_exception(self.unavailable())
                generation.future.exception()  # whoever awaited it may be gone: that is no error of ours
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, StoreUnavailable):
                # An answer nobody foresaw is an absence too: it must not end the process that takes panics.
                log.error("append_refused", error=type(error).__name__)
            return
        self._accepted.inc(generation.pings)
        for sender in generation.senders:
            sender.durable()
        if generation.future is not None:
            generation.future.set_result(None)

    async def _probe(self) -> None:
        """See whether Redis answers; until then what came meanwhile stays lost."""
        try:
            await self._redis.ping()
        except (*AWAY, RedisError):
            return
        self._away = None
        self._judge()
