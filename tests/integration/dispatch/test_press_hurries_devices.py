"""A pressed button has her devices asked for the most there is, in every process that answers devices."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from api.ingest.asked import PANIC_INTERVAL_S, AskedIntervals
from core.clock import utc_now


async def test_a_press_hurries_her_devices_by_either_store_and_his_by_none(
    api: Any, pair: Any, settings: Any, database: Any, redis_client: Any
) -> None:
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as phone:
        answer = await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    desk = api.context.panic_desk
    await asyncio.gather(*desk._presses._tasks)
    devices = list(api.context.registry._devices.values())
    hers = [device for device in devices if device.person_id == pair.victim_id]
    his = [device for device in devices if device.person_id == pair.aggressor_id]
    assert hers
    assert his
    by_redis = AskedIntervals(settings, redis_client, None, utc_now)
    by_postgres = AskedIntervals(settings, redis_client, database, utc_now)
    await by_redis.look()
    await by_postgres.look_for_panics()
    await redis_client.flushall()
    await by_postgres.look()
    for asked in (by_redis, by_postgres):
        assert {asked.told_s(device) for device in hers} == {PANIC_INTERVAL_S}
        assert all(asked.told_s(device) == device.interval_s for device in his)
