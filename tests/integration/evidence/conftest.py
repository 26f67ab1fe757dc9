"""A pair that lives through an approach and a breach, on real stores: she at home and a shop, he coming and going."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from core.clock import from_ms, now_ms, utc_now
from core.domain.log import CONFIGURATION, PINGS, TICK
from core.domain.ping import FLAG_POSITION, FLAG_PRIMARY, RECORD_FORMAT, SHIFT_SOURCE
from core.ids import new_id
from core.postgres.cases import compile_new_cases
from core.postgres.database import Database
from core.redis import keys
from core.redis.shard_log import START, ShardLog, id_key
from core.settings import Settings
from geo.historian import Historian
from geo.recorder import Recorder
from geo.worker import GeoWorker
from infra.seed import seed_demo

HOME = (43.2567, 76.9286)
METRES_A_DEGREE = 111_195.0
LENGTH_S = 3 * 3_600
BREACH_BEGINS_S = LENGTH_S - 60 * 60
NAN = float("nan")


def place(east_m: float, north_m: float) -> tuple[float, float]:
    """Degrees of a place so far from her home."""
    return HOME[0] + north_m / METRES_A_DEGREE, HOME[1] + east_m / (METRES_A_DEGREE * math.cos(math.radians(HOME[0])))


async def wait_until(condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 60.0) -> None:
    """Asks each 20 ms; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        await asyncio.sleep(0.02)


@dataclass
class Lived:
    """What happened, and where it is kept."""

    settings: Settings
    database: Database
    posts: Any
    client: Any
    world: dict[str, Any]
    pair: dict[str, Any]
    began_ms: int
    shard: int
    incident_id: uuid.UUID = field(default_factory=lambda: uuid.UUID(int=0))

    @property
    def order_id(self) -> uuid.UUID:
        return uuid.UUID(self.pair["order_id"])

    @property
    def agency_id(self) -> uuid.UUID:
        return uuid.UUID(self.world["agency"]["id"])


def her_way(second: float) -> tuple[float, float]:
    """At home, then to a shop 900 m east, where she is when he comes, then home again."""
    leaves, back = BREACH_BEGINS_S - 1_000, BREACH_BEGINS_S + 700
    return float(np.interp(second, [leaves, leaves + 700, back, back + 700], [0.0, 900.0, 900.0, 0.0])), 0.0


def his_way(second: float) -> tuple[float, float]:
    """Far away; drives to within 120 m of her shop, stays nine minutes, drives off."""
    comes = BREACH_BEGINS_S - 400
    north = np.interp(second, [comes, comes + 480, comes + 1_020, comes + 1_500], [4_200.0, 120.0, 120.0, 4_500.0])
    return 900.0, float(north)


async def write_log(lived: Lived) -> None:
    """Three hours of a shard's log at their own times: pings each ten seconds, a tick each four."""
    random = np.random.default_rng(7)
    async with lived.database.connection() as connection:
        numbers = dict(await connection.fetch("SELECT role, number FROM device WHERE person_id IS NOT NULL"))
        config = await connection.fetchval(
            "SELECT config FROM protection_case WHERE id = (SELECT case_id FROM protection_order WHERE id = $1)",
            lived.order_id,
        )
    filler = struct.pack(RECORD_FORMAT, 90_001, 0, 0, -1, NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0)
    lines: list[tuple[int, str, bytes]] = [(lived.began_ms, CONFIGURATION, json.dumps([config]).encode())]
    for second in range(1, LENGTH_S):
        at_ms = lived.began_ms + 1000 * second
        if second % 4 == 1:
            lines.append((at_ms + 7, TICK, b""))
        for role, way, offset in (("victim", her_way, 3), ("aggressor", his_way, 8)):
            if second % 10 != offset or (role == "victim" and 5_000 < second < 5_400):
                continue
            lat, lon = place(*(np.array(way(second)) + random.normal(0, 4, 2)))
            flags = FLAG_PRIMARY | FLAG_POSITION | 1 << SHIFT_SOURCE
            record = struct.pack(
                RECORD_FORMAT, numbers[role], flags, at_ms - 300, second, lat, lon, 9.0, NAN, NAN, NAN, 80.0, 0
            )
            lines.append((at_ms, PINGS, filler * (second % 3) + record))
    pipeline = lived.client.pipeline(transaction=False)
    for at_ms, kind, body in sorted(lines, key=lambda line: line[0]):
        pipeline.execute_command("XADD", keys.pings(lived.shard), f"{at_ms}-*", "k", kind, "b", body)
    await pipeline.execute()


async def live(lived: Lived) -> None:
    """Have worker, recorder and historian take the log from end to end."""
    settings = lived.settings.model_copy(update={"lease_ttl_s": 1.0, "state_commit_ms": 50, "history_interval_ms": 20})
    worker = GeoWorker(settings, lived.posts.worker, lived.client, "geo-1", utc_now)
    recorder = Recorder(settings, lived.posts.worker, lived.client, worker, utc_now, leases="geo")
    historian = Historian(settings, lived.posts.historian, lived.client, "historian-1", utc_now)
    log = ShardLog(lived.client)
    last = lived.began_ms + 1000 * (LENGTH_S - 1)
    services = [worker, recorder, historian]
    for service in services:
        await service.start()

    async def all_taken() -> bool:
        async with lived.database.connection() as connection:
            places = {
                row["name"]: id_key(row["entry"])[0]
                for row in await connection.fetch("SELECT name, entry FROM log_cursor")
            }
        cursor = await lived.client.get(keys.cursor(lived.shard))
        waiting = await log.read_raw(keys.transitions(lived.shard), START, 1)
        return (
            cursor is not None
            and id_key(cursor.decode())[0] > last
            and places.get(f"historian:{lived.shard}", 0) > last
            and not waiting
        )

    try:
        await wait_until(all_taken, "the log to be taken")
    finally:
        for service in reversed(services):
            await service.stop()


@pytest.fixture
async def lived(settings: Settings, database: Database, posts: Any, redis_client: Any) -> Lived:
    """A breach that was seen, recorded, acknowledged and resolved, an hour ago."""
    began_ms = now_ms() - 1000 * (LENGTH_S + 5)
    now = from_ms(began_ms)
    world = await seed_demo(database, settings, now - timedelta(hours=1))
    (pair,) = world["pairs"]
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_order SET served_at = $2, legal_m = 200, issuer = 'Медеуский районный суд',"
            " legal_ground = 'protective_order', exceptions = $3 WHERE id = $1",
            uuid.UUID(pair["order_id"]), now - timedelta(days=2), [],
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO zone (id, agency_id, order_id, kind, name, geometry, radius_m, warning_m, disclosed,"
            " created_at, updated_at) VALUES ($1, $2, $3, 'exclusion', NULL, $4, 150, 0, false, $5, $5)",
            new_id(), uuid.UUID(world["agency"]["id"]), uuid.UUID(pair["order_id"]),
            {"type": "Point", "coordinates": [HOME[1], HOME[0]]}, now,
        )  # fmt: skip
        case = await connection.fetchrow(
            "SELECT case_id, c.shard FROM protection_order JOIN protection_case c ON c.id = case_id"
            " WHERE protection_order.id = $1",
            uuid.UUID(pair["order_id"]),
        )
        await compile_new_cases(connection, [case["case_id"]])
    found = Lived(settings, database, posts, redis_client, world, pair, began_ms, case["shard"])
    await write_log(found)
    await live(found)
    async with database.connection() as connection:
        found.incident_id = await connection.fetchval(
            "SELECT id FROM incident WHERE family = 'proximity' AND order_id = $1", found.order_id
        )
        await connection.execute(
            "UPDATE incident SET state = 'resolved', resolved_at = $2, outcome = 'warned' WHERE id = $1",
            found.incident_id, utc_now(),
        )  # fmt: skip
    return found


def metres_from_home(lat: float, lon: float) -> float:
    """How far a place in degrees is from her home."""
    north = (lat - HOME[0]) * METRES_A_DEGREE
    east = (lon - HOME[1]) * METRES_A_DEGREE * math.cos(math.radians(HOME[0]))
    return math.hypot(north, east)
