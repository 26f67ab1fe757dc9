"""The geo worker: owns a fair share of the shards, evaluates their logs, and keeps time and configuration in them.

Model: `Ownership` says which shards are ours under which token; each has a `ShardRunner` (log → engine → one
fenced commit; their engines sit in one hall and take turns together, `geo.turns`), a `CaseFeeder` and a `PastFeeder`.
The worker itself appends a tick a second to each shard it owns, marked paused while no ingest process beats, so that
silence is only counted while somebody could be heard.

Failure: see `geo.ownership` (leases) and `geo.shard` (stores, poison). PostgreSQL away: no configuration and
no history arrives and leases stay where they are; evaluation goes on. A shard whose task ends by an unforeseen
error ends the worker, and its supervisor starts a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog

from core.clock import Clock, to_ms, utc_now
from core.errors import LeaseLost, StoreUnavailable
from core.metrics import POISON, SHARDS_OWNED
from core.postgres import poison
from core.postgres.database import Database
from core.redis.client import Client
from core.redis.engine_store import EngineStore
from core.redis.shard_log import ShardLog
from core.service import Service
from core.settings import Settings
from core.token_key import derived_key
from geo.case_feeder import CaseFeeder
from geo.ownership import Ownership
from geo.pace import Pace
from geo.past_feeder import Budget, PastFeeder
from geo.shard import EngineFactory, ShardRunner
from geo.turns import Turns

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
CASE_POLL_S: Final = 1.0
PAST_POLL_S: Final = 1.0
"""How often what the engines want of history is looked at."""
LIVE_KEPT: Final = timedelta(days=1)
"""How long a live position outlives the last word of its device."""
FORGET_S: Final = 600.0
"""How often those are looked for."""
POISON_WAITING_MAX: Final = 1_000
"""Poison messages kept in memory while PostgreSQL is away; beyond it the oldest are only counted."""


def _default_engine(cover_key: bytes, shard_count: int) -> EngineFactory:
    from geo.engine import Engine, Hall

    return functools.partial(Engine, hall=Hall(shard_count, cover_key))


class GeoWorker(Service):
    """Evaluates the shards whose leases it holds."""

    name = "geo-worker"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: Client,
        instance: str,
        clock: Clock = utc_now,
        *,
        engine_factory: EngineFactory | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._database = database
        self._instance = instance
        self._clock = clock
        self._engine_factory = engine_factory or _default_engine(derived_key(settings, "cover"), settings.shard_count)
        self._store = EngineStore(client)
        self._log = ShardLog(client)
        self._pace = Pace(settings.engine_cycle_ms / 1000)
        self._turns = Turns(self._pace) if engine_factory is None else None
        self._runners: dict[int, ShardRunner] = {}
        self._feeders: dict[int, CaseFeeder] = {}
        self._past_feeders: dict[int, PastFeeder] = {}
        self._poison: deque[tuple[str, str, str, bytes]] = deque(maxlen=POISON_WAITING_MAX)
        self._wake_feed = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self._ownership = Ownership(
            "geo",
            instance,
            database,
            clock,
            shard_count=settings.shard_count,
            ttl_s=settings.lease_ttl_s,
            hold=self._hold,
            drop=self._drop,
        )

    def owned(self) -> Mapping[int, int]:
        """{shard: lease token} this worker evaluates now."""
        return self._ownership.owned()

    def runner(self, shard: int) -> ShardRunner | None:
        """The runner of an owned shard."""
        return self._runners.get(shard)

    async def open(self) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        await self._ownership.start()

    async def run(self) -> None:
        assert self._failed is not None
        parts: list[Coroutine[Any, Any, object]] = [
            self._tick(),
            self._feed_cases(),
            self._feed_past(),
            self._forget_stale(),
            self._database.listen("case", lambda _: self._wake_feed.set(), self.stopping),
            self._ownership.wait(),
        ]
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(part) for part in parts]
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            waits: list[asyncio.Future[Any]] = [stopped, self._failed, *tasks]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            running = [task for task in tasks if not task.done()]
            for task in (stopped, *running):
                task.cancel()
            await asyncio.gather(stopped, *running, return_exceptions=True)
        for ended in (self._failed, *tasks):
            if ended.done() and not ended.cancelled():
                ended.result()

    async def close(self) -> None:
        await self._ownership.stop()
        await asyncio.gather(*(self._drop(shard) for shard in list(self._runners)))
        await self._flush_poison()

    async def _hold(self, shard: int, token: int) -> None:
        runner = ShardRunner(
            shard,
            token,
            self._settings,
            self._store,
            self._log,
            self._clock,
            engine_factory=self._engine_factory,
            lose=self._ownership.lose,
            set_aside=self._set_aside,
            pace=self._pace,
            turns=self._turns,
        )
        self._runners[shard] = runner
        self._feeders[shard] = CaseFeeder(runner, self._database, self._log)
        self._past_feeders[shard] = PastFeeder(runner, self._database, self._log, self._settings.shard_count)
        await runner.start()
        watch = asyncio.create_task(runner.wait())
        self._watches.add(watch)
        watch.add_done_callback(self._runner_ended)
        self._wake_feed.set()
        SHARDS_OWNED.labels(self._instance).set(len(self._runners))

    def _runner_ended(self, watch: asyncio.Task[None]) -> None:
        self._watches.discard(watch)
        error = None if watch.cancelled() else watch.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _drop(self, shard: int) -> None:
        runner = self._runners.pop(shard, None)
        self._feeders.pop(shard, None)
        self._past_feeders.pop(shard, None)
        SHARDS_OWNED.labels(self._instance).set(len(self._runners))
        if runner is not None:
            await runner.stop()

    async def _tick(self) -> None:
        """Append a tick to each owned shard, a second apart."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stopping.is_set():
            with contextlib.suppress(StoreUnavailable):
                if self._runners:
                    paused = not await self._store.ingest_runs()
                    await asyncio.gather(*(self._tick_shard(runner, paused) for runner in self._runners.values()))
            due = max(due + TICK_S, loop.time())
            await self.pause(due - loop.time())

    async def _tick_shard(self, runner: ShardRunner, paused: bool) -> None:
        if not runner.claimed:
            return
        try:
            await self._log.append_tick(runner.shard, runner.token, paused)
        except LeaseLost:
            self._ownership.lose(runner.shard, runner.token)
        except StoreUnavailable:
            return  # the runner says so, and the gap between ticks tells the engine

    async def _forget_stale(self) -> None:
        """Drop live positions of devices that have long said nothing."""
        while not await self.pause(FORGET_S):
            before_ms = to_ms(self._clock() - LIVE_KEPT)
            for runner in list(self._runners.values()):
                if runner.claimed:
                    with contextlib.suppress(StoreUnavailable, LeaseLost):
                        await self._store.forget_before(runner.shard, runner.token, before_ms)

    async def _feed_cases(self) -> None:
        """Append new configurations to each owned shard whenever there are some."""
        while not self.stopping.is_set():
            self._wake_feed.clear()
            more = False
            for shard, feeder in list(self._feeders.items()):
                try:
                    more |= await feeder.step()
                except LeaseLost:
                    self._ownership.lose(shard, self._ownership.owned().get(shard, 0))
                except StoreUnavailable:
                    break
            await self._flush_poison()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake_feed.wait(), 0.05 if more else CASE_POLL_S)

    async def _feed_past(self) -> None:
        """Answer what the engines want of history, another shard first each round, as far as a round's budget goes."""
        first = 0
        while not await self.pause(PAST_POLL_S):
            budget = Budget()
            shards = sorted(self._past_feeders)
            first = (first + 1) % max(1, len(shards))
            for shard in shards[first:] + shards[:first]:
                feeder = self._past_feeders.get(shard)
                try:
                    if feeder is not None:
                        await feeder.step(budget, to_ms(self._clock()))
                except LeaseLost:
                    self._ownership.lose(shard, self._ownership.owned().get(shard, 0))
                except StoreUnavailable:
                    break

    def _set_aside(self, source: str, entry: str, reason: str, body: bytes) -> None:
        POISON.labels("engine").inc()
        self._poison.append((source, entry, reason, body))
        self._wake_feed.set()

    async def _flush_poison(self) -> None:
        while self._poison:
            try:
                async with self._database.connection() as connection:
                    await poison.set_aside(connection, *self._poison[0], self._clock())
            except StoreUnavailable:
                return
            self._poison.popleft()
