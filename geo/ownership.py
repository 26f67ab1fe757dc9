"""Ownership: the shards this instance may work on, by leases shared out fairly among those that run.

Model: every sixth of a lease's life it beats, renews what it holds, looks how many instances run, and takes
free or expired leases up to its fair share, ceil(shards / instances); what it holds beyond that it gives back.
`hold` and `drop` are the owner's: hold begins work under a token, drop ends it and has written all it will
write when it returns; only then is the lease freed, so a successor starts at once and finds everything.

Failure: with PostgreSQL away nothing moves, since nobody can take a lease without it: work goes on. A lease
that another took is dropped when the renewal says so, or earlier, when a store refused its token (`lose`).
An instance that was killed is missed when its lease runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from math import ceil
from typing import Final

import structlog

from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import beats, leases
from core.postgres.database import Database
from core.service import Service

log = structlog.get_logger(__name__)

STEPS_PER_TTL: Final = 6
"""How often within a lease's life it is looked after."""
GIVE_BACK_TIMEOUT_S: Final = 2.0
"""Longest a stopping instance waits for PostgreSQL to note what it gives back."""
BEATS_KEPT: Final = timedelta(days=1)


async def nothing(*_: int) -> None:
    """`hold` and `drop` of who looks at `owned` by itself, and is fenced wherever it writes."""


class Ownership(Service):
    """Keeps this instance's fair share of the leases of one kind (`geo`, `recorder` or `historian`)."""

    def __init__(
        self,
        kind: str,
        instance: str,
        database: Database,
        clock: Clock,
        *,
        shard_count: int,
        ttl_s: float,
        hold: Callable[[int, int], Awaitable[None]],
        drop: Callable[[int], Awaitable[None]],
    ) -> None:
        super().__init__()
        self.name = f"{kind}-ownership"
        self._kind = kind
        self._instance = instance
        self._database = database
        self._clock = clock
        self._shard_count = shard_count
        self._ttl = timedelta(seconds=ttl_s)
        self._interval_s = ttl_s / STEPS_PER_TTL
        self._hold = hold
        self._drop = drop
        self._tokens: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._look = asyncio.Event()
        self._take_from = clock()

    def owned(self) -> Mapping[int, int]:
        """{shard: token} this instance works on now."""
        return self._tokens

    def lose(self, shard: int, token: int, seen: int = 0) -> None:
        """A store has seen a greater token (`seen`, when known) than ours: drop the shard at once."""
        if self._tokens.get(shard) == token:
            self._lost[shard] = seen
            self._look.set()

    async def run(self) -> None:
        while not self.stopping.is_set():
            try:
                await self._step()
            except StoreUnavailable:
                self._take_from = self._clock() + self._ttl  # the others' beats are as old as ours: let them return
                log.warning("leases_unattended", kind=self._kind, reason="postgres_away", owned=len(self._tokens))
            self._look.clear()
            if self._lost:
                continue
            waits = [asyncio.create_task(self.stopping.wait()), asyncio.create_task(self._look.wait())]
            await asyncio.wait(waits, timeout=self._interval_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        tokens = dict(self._tokens)
        await self._stop_work(list(tokens))
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT_S), self._database.connection() as connection:
                await leases.give_back(connection, self._instance, self._named(tokens))
                await beats.forget(connection, self._kind, self._instance)
        except (StoreUnavailable, TimeoutError):
            log.warning("leases_left_to_run_out", kind=self._kind, shards=sorted(tokens))

    async def _step(self) -> None:
        """One look: drop what was lost, renew, and move towards the fair share."""
        lost, self._lost = self._lost, {}
        await self._stop_work(sorted(lost))
        now = self._clock()
        async with self._database.connection() as connection:
            for shard, seen in lost.items():
                await leases.outgrow(connection, leases.lease_name(self._kind, shard), seen)
            await beats.beat(connection, self._kind, self._instance, now, {"shards": sorted(self._tokens)})
            gone = await leases.renew(connection, self._instance, self._named(self._tokens), now + self._ttl)
            running = await beats.count_running(connection, self._kind, now - self._ttl)
            await beats.sweep(connection, now - BEATS_KEPT)
        await self._stop_work([leases.shard_of_lease(name) for name in gone])
        share = ceil(self._shard_count / max(1, running))
        surplus = sorted(self._tokens)[share:]
        if surplus:
            tokens = {shard: self._tokens[shard] for shard in surplus}
            await self._stop_work(surplus)
            async with self._database.connection() as connection:
                await leases.give_back(connection, self._instance, self._named(tokens))
        elif len(self._tokens) < share and now >= self._take_from and not self.stopping.is_set():
            await self._take(share - len(self._tokens))

    async def _take(self, limit: int) -> None:
        now = self._clock()
        async with self._database.connection() as connection:
            taken = await leases.take(connection, self._kind, self._instance, limit, now, now + self._ttl)
        for name, token in sorted(taken.items()):
            shard = leases.shard_of_lease(name)
            if shard in self._tokens:
                await self._stop_work([shard])
            self._tokens[shard] = token
            await self._hold(shard, token)
        if taken:
            log.info("shards_taken", kind=self._kind, taken=sorted(taken), owned=sorted(self._tokens))

    async def _stop_work(self, shards: list[int]) -> None:
        mine = [shard for shard in shards if self._tokens.pop(shard, None) is not None]
        await asyncio.gather(*(self._drop(shard) for shard in mine))
        if mine:
            log.info("shards_dropped", kind=self._kind, shards=mine)

    def _named(self, tokens: Mapping[int, int]) -> dict[str, int]:
        return {leases.lease_name(self._kind, shard): token for shard, token in tokens.items()}
