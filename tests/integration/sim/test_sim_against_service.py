"""The simulator against the real device stream: what it sends is in the log, what it is told it obeys."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from api.ingest.appender import Appender
from api.ingest.registry import Registry
from api.ingest.stream import DeviceStream
from core.clock import utc_now
from core.domain.log import PINGS
from core.domain.ping import RECORD, unpack_records
from core.redis.shard_log import ShardLog
from device_sim.device import ActorCredentials, Device
from device_sim.errors import TokenRefused
from device_sim.fleet import FleetConfig, run_fleet
from device_sim.geodesy import Point
from device_sim.noise import Fix
from infra.seed import seed

PLACE = Point(43.238, 76.945)


@dataclass
class Ingest:
    """A running device stream with a seeded agency behind it."""

    world: dict[str, Any]
    stream_url: str
    log: ShardLog
    shards: int

    async def records(self) -> list[Any]:
        """Every ping record in the logs."""
        found = []
        for shard in range(self.shards):
            for entry in await self.log.read(shard, "0-0", 10_000):
                if entry.kind == PINGS:
                    found.extend(unpack_records(entry.payload).tolist())
        return found


@pytest.fixture
async def ingest(database: Any, settings: Any, redis_client: Any) -> AsyncIterator[Ingest]:
    world = await seed(database, settings, 10, "Sim", utc_now())
    registry = Registry(database, utc_now)
    appender = Appender(settings, redis_client, utc_now)
    stream = DeviceStream(settings, registry, appender)
    async with contextlib.AsyncExitStack() as stack:
        for service in (registry, appender, stream):
            await service.start()
            stack.push_async_callback(service.stop)
        yield Ingest(world, f"ws://127.0.0.1:{stream.port}", ShardLog(redis_client), settings.shard_count)


def device_of(ingest: Ingest, actor: str, token: str | None = None) -> Device:
    told = ingest.world["pairs"][0][actor]
    return Device(
        ActorCredentials(told["device_id"], token or told["token"]),
        base_url="http://127.0.0.1:1",
        stream_url=ingest.stream_url,
        first_seq=1,
    )


async def test_what_a_device_recorded_is_acknowledged_and_in_the_log(ingest: Ingest) -> None:
    device, stopping = device_of(ingest, "aggressor"), asyncio.Event()
    device.strap = "open"
    life = asyncio.create_task(device.run(stopping))
    for _ in range(30):  # more than one frame of backlog
        device.record(Fix(PLACE, 7.5, "gps"), None, _now_ms())
    assert await device.wait_acked(10)
    stopping.set()
    await life
    records = await ingest.records()
    assert len(records) == 30
    names = list(RECORD.names or ())
    first = dict(zip(names, records[0], strict=True))
    assert (first["lat"], first["lon"], first["accuracy_m"], first["seq"]) == (43.238, 76.945, 7.5, 1)
    assert device.counts.rejected == {}
    assert device.asked_interval_s is not None


async def test_an_ancient_ping_is_refused_and_the_rest_goes_on(ingest: Ingest) -> None:
    device, stopping = device_of(ingest, "victim"), asyncio.Event()
    life = asyncio.create_task(device.run(stopping))
    device.record(Fix(PLACE, 7.5, "gps"), None, 1_000_000)
    device.record(Fix(PLACE, 7.5, "gps"), None, _now_ms())
    assert await device.wait_acked(10)
    stopping.set()
    await life
    assert device.counts.rejected == {"time_too_old": 1}
    assert len(await ingest.records()) == 1


async def test_a_forged_token_is_refused(ingest: Ingest) -> None:
    with pytest.raises(TokenRefused):
        await device_of(ingest, "victim", token=f"qd_{uuid.uuid4().hex}").run(asyncio.Event())


async def test_every_ping_of_a_fleet_is_acknowledged_and_in_the_log_once(ingest: Ingest) -> None:
    config = FleetConfig.from_seed(ingest.world, ingest.stream_url, connections=4, rate=500, seconds=0.5)
    result = await run_fleet(config)
    assert (result.errors, result.waiting, result.refused) == (0, 0, 0)
    assert result.sent == result.acknowledged == len(await ingest.records())


def _now_ms() -> int:
    return int(utc_now().timestamp() * 1000)
