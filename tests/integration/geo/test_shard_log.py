"""The shard's log and live positions on a real Valkey."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.log import CONFIGURATION, PINGS, TICK
from core.errors import LeaseLost, StoreUnavailable
from core.redis import keys
from core.redis.client import connect
from core.redis.engine_store import EngineStore
from core.redis.live import LiveFix, nearest, read_live
from core.redis.shard_log import START, ShardLog

ALMATY = (43.238, 76.945)


async def test_what_is_appended_is_read_in_order_with_its_time(redis_client: Any) -> None:
    log = ShardLog(redis_client)
    ids = await log.append_flush({0: (b"\0" * 64, None), 3: (b"\1" * 128, b'{"0":{}}')})
    tick = await log.append_tick(3, 7, paused=True)
    await log.append_configurations(3, 7, [b"[]", b"[1]"])
    entries = await log.read(3, START, 10)
    assert [entry.kind for entry in entries] == [PINGS, TICK, CONFIGURATION, CONFIGURATION]
    assert [entries[0].id, entries[1].id] == [ids[3], tick]
    assert (entries[0].payload, entries[0].extras, entries[1].payload) == (b"\1" * 128, b'{"0":{}}', b"paused")
    assert entries[1].extras is None
    assert await log.read(3, entries[-1].id, 10, block_ms=1) == []
    many = await log.read_many({0: START, 1: START, 3: tick}, 10)
    assert {shard: len(read) for shard, read in many.items()} == {0: 1, 1: 0, 3: 2}


async def test_a_replaced_owner_cannot_append(redis_client: Any) -> None:
    log = ShardLog(redis_client)
    await log.append_tick(0, 5, paused=False)
    await log.append_tick(0, 6, paused=False)
    with pytest.raises(LeaseLost):
        await log.append_tick(0, 5, paused=False)
    with pytest.raises(LeaseLost):
        await log.append_configurations(0, 5, [b"[]"])
    assert len(await log.read(0, START, 10)) == 2
    assert await redis_client.get(keys.owner(0)) == b"6"


async def test_the_log_is_trimmed_only_below_both_engine_and_history(redis_client: Any) -> None:
    log = ShardLog(redis_client)
    ids = [await log.append(0, PINGS, b"\0" * 64) for _ in range(5)]
    assert await log.trim(0, ids[4], exact=True) == 0, "the engine has passed nothing yet"
    await redis_client.set(keys.cursor(0), ids[1])
    assert await log.trim(0, ids[4], exact=True) == 1
    assert [entry.id for entry in await log.read(0, START, 10)] == ids[1:]
    await redis_client.set(keys.cursor(0), ids[4])
    await log.trim(0, ids[2], exact=True)
    assert [entry.id for entry in await log.read(0, START, 10)] == ids[4:], "history was known to be further already"
    assert await redis_client.get(keys.history(0)) == ids[4].encode()


async def test_a_store_that_is_away_is_said_to_be_away(tmp_path: Any) -> None:
    client = connect(f"unix://{tmp_path}/none.sock")
    log = ShardLog(client)
    with pytest.raises(StoreUnavailable):
        await log.append(0, PINGS, b"")
    with pytest.raises(StoreUnavailable):
        await log.append_tick(0, 1, paused=False)
    with pytest.raises(StoreUnavailable):
        await log.read(0, START, 1)
    await client.aclose()


async def test_live_fixes_and_who_is_near(redis_client: Any) -> None:
    lat, lon = ALMATY
    for number in range(8):
        shard = number % 4
        fix = LiveFix(lat, lon + number * 0.001, 5.0, 1.0, 90.0, 80.0, 1_000, 1_001, 1)
        await redis_client.hset(keys.live(shard), str(number), fix.pack())
        await redis_client.geoadd(keys.geo(shard), (fix.lon, fix.lat, str(number)))
    fixes = await read_live(redis_client, 1, [1, 5, 6])
    assert sorted(fixes) == [1, 5]
    assert fixes[5].lon == lon + 0.005
    assert fixes[5].has_position
    near = await nearest(redis_client, 4, lat, lon, 250, 3)
    assert [number for number, _ in near] == [0, 1, 2]
    assert near[1][1] == pytest.approx(81.1, abs=1)
    assert await read_live(redis_client, 0, []) == {}


async def test_a_live_position_is_forgotten_when_its_device_has_long_said_nothing(redis_client: Any) -> None:
    for number, received_ms in ((1, 100), (2, 300)):
        fix = LiveFix(*ALMATY, 5.0, 1.0, 90.0, 80.0, 100, received_ms, 1)
        await redis_client.hset(keys.live(0), str(number), fix.pack())
        await redis_client.geoadd(keys.geo(0), (fix.lon, fix.lat, str(number)))
    assert await EngineStore(redis_client).forget_before(0, 1, 200) == 1
    assert list(await read_live(redis_client, 0, [1, 2])) == [2]
    assert [number for number, _ in await nearest(redis_client, 1, *ALMATY, 100, 5)] == [2]


async def test_a_commit_is_one_step_however_large_and_skips_what_the_index_cannot_hold(redis_client: Any) -> None:
    store = EngineStore(redis_client)
    state: dict[bytes, bytes | None] = {b"f%d" % number: b"x" * 40 for number in range(20_000)}
    places = [(76.9, 43.2, 1), (0.0, 89.9, 2), (76.9, float("nan"), 3)]
    live = [(number, b"y") for number in range(5_000)]
    await store.commit(1, 1, "5-0", state=state, live=live, places=places)
    await store.commit(1, 1, "6-0", state={b"f0": None, b"f1": b"z"})
    cursor, fields = await store.load(1)
    assert (cursor, len(fields), fields[b"f1"]) == ("6-0", 19_999, b"z")
    assert await redis_client.zrange(keys.geo(1), 0, -1) == [b"1"]
    assert await redis_client.hlen(keys.live(1)) == 5_000


async def test_everything_works_through_a_cluster_client(redis_client: Any) -> None:
    port = (await redis_client.config_get("port"))["port"]
    cluster = connect(f"redis://127.0.0.1:{port}", cluster=True)
    log, store = ShardLog(cluster), EngineStore(cluster)
    await log.append_flush(dict.fromkeys(range(4), (b"\x00" * 64, None)))
    await log.append_tick(2, 1, paused=False)
    await store.claim(2, 1)
    await store.commit(2, 1, "5-0", state={b"a": b"b"}, live=[(7, LiveFix(*ALMATY, 1, 1, 1, 1, 1, 1, 1).pack())])
    assert await store.load(2) == ("5-0", {b"a": b"b"})
    assert {shard: len(read) for shard, read in (await log.read_many(dict.fromkeys(range(4), START), 9)).items()} == {
        0: 1, 1: 1, 2: 2, 3: 1,
    }  # fmt: skip
    assert len(await log.read(2, START, 9, block_ms=5)) == 2
    assert await nearest(cluster, 4, *ALMATY, 10, 3) == []
    assert list(await read_live(cluster, 2, [7])) == [7]
    assert await log.trim(2, "9-0") == 0
    await cluster.aclose()
