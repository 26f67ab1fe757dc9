"""PostgreSQL away, Redis away: the workers' connections break and come back, what was accepted finds its place."""

from __future__ import annotations

import asyncio
from typing import Any

SHARDS = 4


async def test_without_postgres_shards_stay_owned_and_pings_evaluated(ground: Any, postgres_line: Any) -> None:
    line, database = postgres_line
    worker = ground.worker("geo-1", database=database)
    await worker.start()
    await ground.wait_until(lambda: len(worker.owned()) == SHARDS, "all shards")
    tokens = dict(worker.owned())
    await line.cut()
    for seq in range(60):
        await ground.append(0, ground.ping(5, seq, battery=ground.ALARM_PCT))
        await asyncio.sleep(ground.settings.lease_ttl_s / 30)  # so that the lease runs out meanwhile

    async def counted() -> bool:
        return await ground.counted(0, 5) == 60

    await ground.wait_until(counted, "all pings evaluated")
    assert dict(worker.owned()) == tokens
    assert await ground.applied_seqs() == []
    await line.join()
    ground.recorder(worker)
    await ground.running[-1].start()

    async def applied() -> bool:
        return len(await ground.applied_seqs()) >= 60

    await ground.wait_until(applied, "all transitions applied")
    assert await ground.applied_seqs() == list(range(60))
    assert dict(worker.owned()) == tokens, "the lease had run out, but it was nobody else's"


async def test_without_redis_workers_wait_and_go_on(ground: Any, redis_line: Any) -> None:
    line, client = redis_line
    device = await ground.add_device("victim")
    worker = ground.worker("geo-1", client=client)
    ground.client, direct = client, ground.client
    historian, recorder = ground.historian(), ground.recorder(worker)
    ground.client = direct
    for service in (worker, historian, recorder):
        await service.start()
    await ground.wait_until(lambda: len(worker.owned()) == len(historian.owned()) == SHARDS, "all shards")
    for seq in range(100):
        await ground.append(1, ground.ping(device, seq, battery=ground.ALARM_PCT))
        if seq in (30, 70):
            await line.cut()
        if seq in (50, 90):
            await line.join()

    async def done() -> bool:
        return (
            await ground.counted(1, device) == 100
            and await ground.pings_stored() == 100
            and len(await ground.applied_seqs()) >= 100
        )

    await ground.wait_until(done, "everything in its place")
    assert sorted(set(await ground.applied_seqs())) == list(range(100))
