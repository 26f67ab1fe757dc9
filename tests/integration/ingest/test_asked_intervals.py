"""From the engine's commit, or a pressed button, to what a device is told: by stream, over HTTP, through a gateway."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.deps import ApiContext
from api.ingest.asked import PRESS_COUNTS_MS, PRESS_KEPT_MS, AskedIntervals, aggressor_interval_s, interval_text
from api.ingest.stream import DeviceStream
from core.clock import to_ms, utc_now
from core.ids import new_id
from core.redis import asked as asked_store
from core.redis import keys
from core.redis.client import connect as connect_redis
from core.redis.engine_store import EngineStore

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Ping = Callable[..., dict[str, Any]]


class Road:
    """A way in that follows what is asked, looking when the test says so."""

    def __init__(self, door: Any, asked: AskedIntervals, redis: Any, http: httpx.AsyncClient) -> None:
        self.door = door
        self.asked = asked
        self.redis = redis
        self.http = http
        self.store = EngineStore(redis)
        self._cursor = 0

    async def ask(self, shard: int, *asks: tuple[int, float]) -> None:
        """Commit as the shard's owner, and look."""
        self._cursor += 1
        await self.store.commit(shard, 1, f"{self._cursor}-0", state={b"m": b"x"}, asks=asks)
        await self.asked.look()

    async def post(self, sender: Any, pings: list[dict[str, Any]]) -> httpx.Response:
        """Over HTTP."""
        await self.door.registry.refresh()
        return await self.http.post(
            "/v1/pings",
            content=msgspec.json.encode({"pings": pings}),
            headers={"Authorization": f"Bearer {sender.token}"},
        )


@pytest.fixture
async def road(database: Any, settings: Any, stores: Any, open_door: Any) -> AsyncIterator[Road]:
    """Registry, appender, stream and API on one empty Valkey."""
    door = await open_door()
    await door.stream.stop()
    redis = connect_redis(stores.redis_url, timeout_s=2)
    asked = AskedIntervals(door.settings, redis, database, utc_now)
    await asked.look()
    door.stream = DeviceStream(door.settings, door.registry, door.appender, asked)
    await door.stream.start()
    context = ApiContext(
        settings=door.settings, database=database, redis=redis, registry=door.registry, appender=door.appender,
        asked=asked,
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(context)), base_url="http://test") as http:
        yield Road(door, asked, redis, http)
    await redis.aclose()


async def carried_by(fleet: Any, device: Any, role: str) -> uuid.UUID:
    """A person who carries the device."""
    person_id = new_id()
    async with fleet.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
            person_id, fleet.agency_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "UPDATE device SET role = $2, person_id = $3, changed_xid = pg_current_xact_id() WHERE id = $1",
            device.id, role, person_id,
        )  # fmt: skip
    return person_id


async def open_panic(fleet: Any, person_id: uuid.UUID) -> uuid.UUID:
    """A panic of hers, as an incident."""
    incident_id = new_id()
    async with fleet.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, victim_id, subject, occurred_at,"
            " opened_at, updated_at) VALUES ($1, 'panic', 'panic', 'critical', $1, $2, $3, $4, $5, $5, $5)",
            incident_id, fleet.agency_id, person_id, f"person:{person_id}", NOW,
        )  # fmt: skip
    return incident_id


async def test_what_is_asked_is_told_at_once_when_it_is_sooner_and_with_the_next_answer_else(
    road: Road, fleet: Any, make_ping: Ping
) -> None:
    device = await fleet.device((1,), interval_s=60)
    peer = await road.door.open(device)
    await peer.send(make_ping(1))
    assert (await peer.acked(1))["interval_s"] == 60.0
    await road.ask(1, (device.number, 5.0))
    assert await peer.answer() == {"ack": 1, "interval_s": 5.0, "commands": []}  # unasked
    await road.ask(1, (device.number, 15.0))
    await peer.send(make_ping(2))
    assert await peer.answer() == {"ack": 2, "interval_s": 15.0, "commands": []}
    await road.ask(1, (device.number, 0.0))
    await peer.send(make_ping(3))
    assert (await peer.acked(3))["interval_s"] == 60.0
    assert await road.redis.hlen(keys.asked(1)) == 0, "only who is asked for more is kept"


async def test_answers_are_of_one_size_whatever_they_ask(road: Road, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device((1,), interval_s=60)
    sizes = set()
    for seq, seconds in enumerate((60.0, 15.0, 5.0), start=1):
        await road.ask(1, (device.number, seconds))
        response = await road.post(device, [make_ping(seq)])
        assert response.json()["interval_s"] == seconds
        assert response.json().keys() == {"accepted", "duplicates", "rejected", "interval_s", "commands"}
        sizes.add(
            (len(response.content), tuple(sorted((name, len(value)) for name, value in response.headers.items())))
        )
    assert len(sizes) == 1
    peer = await road.door.open(device)
    frames = []
    for seq, seconds in enumerate((60.0, 15.0, 5.0), start=10):
        await road.ask(1, (device.number, seconds))
        await peer.send(make_ping(seq))
        frames.append(await peer.socket.recv())
    assert len({len(frame) for frame in frames}) == 1
    assert len({len(interval_text(seconds)) for seconds in (0.5, 1, 5, 15, 60, 300)}) == 1


async def test_an_aggressors_device_is_told_one_of_three_whatever_is_asked(road: Road, fleet: Any) -> None:
    device = await fleet.device((1,), interval_s=60)
    await road.door.registry.refresh()
    known = road.door.registry.device_by_id(device.id)
    for asked, told in ((59.0, 15.0), (14.0, 5.0), (1.0, 5.0), (60.0, 60.0)):
        await road.ask(1, (device.number, asked))
        assert (road.asked.told_s(known), aggressor_interval_s(asked)) == (told, told)


async def test_a_device_of_two_cases_is_told_the_least_of_both(road: Road, fleet: Any) -> None:
    device = await fleet.device((1, 2), interval_s=60)
    await carried_by(fleet, device, "victim")
    await road.door.registry.refresh()
    known = road.door.registry.device_by_id(device.id)
    await road.ask(1, (device.number, 20.0))
    await road.ask(2, (device.number, 7.0))
    assert road.asked.told_s(known) == 7.0
    await road.ask(2, (device.number, 0.0))
    assert road.asked.told_s(known) == 20.0


async def test_a_new_process_asks_the_same(road: Road, fleet: Any, database: Any) -> None:
    device = await fleet.device((3,), interval_s=60)
    await road.ask(3, (device.number, 15.0))
    await road.door.registry.refresh()
    other = AskedIntervals(road.door.settings, road.redis, database, utc_now)
    await other.look()
    known = road.door.registry.device_by_id(device.id)
    assert other.told_s(known) == 15.0
    await road.ask(3, (device.number, 5.0))
    await other.look()
    assert other.told_s(known) == 5.0


async def test_without_redis_what_was_asked_stays(road: Road, fleet: Any, database: Any) -> None:
    device = await fleet.device((1,), interval_s=60)
    await road.ask(1, (device.number, 5.0))
    await road.door.registry.refresh()
    away = connect_redis("redis://127.0.0.1:1", timeout_s=0.2)
    road.asked._redis = away
    await road.asked.look()
    assert road.asked.told_s(road.door.registry.device_by_id(device.id)) == 5.0
    await away.aclose()


async def test_a_gateway_is_told_of_each_device_and_the_least(road: Road, fleet: Any, make_ping: Ping) -> None:
    gateway, near, far = await fleet.gateway(), await fleet.device(interval_s=60), await fleet.device(interval_s=60)
    await road.ask(1, (near.number, 5.0))
    pings = [make_ping(device_id=str(device.id)) for device in (near, far)]
    answer = (await road.post(gateway, pings)).json()
    assert (answer["interval_s"], answer["devices"]) == (5.0, {str(near.id): 5.0})
    peer = await road.door.open(gateway)
    await peer.send([make_ping(1, device_id=str(near.id)), make_ping(2, device_id=str(far.id))])
    answer = await peer.acked(2)
    assert (answer["interval_s"], answer["devices"]) == (5.0, {str(near.id): 5.0})
    await road.ask(1, (far.number, 15.0))
    answer = await peer.answer()  # unasked
    assert (answer["interval_s"], answer["devices"]) == (5.0, {str(far.id): 15.0})
    await peer.send(make_ping(3, device_id=str(far.id)))
    assert "devices" not in await peer.acked(3), "told once"


async def test_an_open_panic_hurries_her_devices_until_it_is_resolved_and_never_his(
    road: Road, fleet: Any, make_ping: Ping
) -> None:
    hers, his = await fleet.device(interval_s=60), await fleet.device(interval_s=60)
    person_id = await carried_by(fleet, hers, "victim")
    await carried_by(fleet, his, "aggressor")
    peer, other = await road.door.open(hers), await road.door.open(his)
    for each in (peer, other):
        await each.send(make_ping(1))
        assert (await each.acked(1))["interval_s"] == 60.0
    incident_id = await open_panic(fleet, person_id)
    await road.asked.look_for_panics()
    await road.asked.look()
    assert await peer.answer() == {"ack": 1, "interval_s": 1.0, "commands": []}  # unasked
    await other.send(make_ping(2))
    assert await other.answer() == {"ack": 2, "interval_s": 60.0, "commands": []}, "nothing came to him in between"
    async with fleet.database.transaction() as connection:
        await connection.execute("UPDATE incident SET state = 'resolved' WHERE id = $1", incident_id)
    await road.asked.look_for_panics()
    await road.asked.look()
    await peer.send(make_ping(2))
    assert (await peer.acked(2))["interval_s"] == 60.0


async def test_a_press_counts_before_postgres_knows_and_for_long_while_it_is_away(
    road: Road, fleet: Any, database: Any
) -> None:
    device = await fleet.device(interval_s=60)
    person_id = await carried_by(fleet, device, "victim")
    await road.door.registry.refresh()
    known = road.door.registry.device_by_id(device.id)
    now = utc_now()

    def clock() -> datetime:
        return now

    for without_postgres in (False, True):
        asked = AskedIntervals(road.door.settings, road.redis, None if without_postgres else database, clock)
        await asked_store.note_press(road.redis, str(person_id), to_ms(now), PRESS_KEPT_MS)
        await asked.look_for_panics()
        await asked.look()
        assert asked.told_s(known) == 1.0
        now += timedelta(milliseconds=PRESS_COUNTS_MS)
        await asked.look_for_panics()
        await asked.look()
        assert asked.told_s(known) == (1.0 if without_postgres else 60.0)
        now += timedelta(milliseconds=PRESS_KEPT_MS)
        await asked.look()
        assert asked.told_s(known) == 60.0
