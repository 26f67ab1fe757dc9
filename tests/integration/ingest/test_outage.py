"""The device stream while Redis is away, full, or comes back: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from api.ingest.health import DISK_LOW, MEMORY_FULL, IngestHealth
from core.redis.keys import INGEST_BEAT

Ping = Callable[..., dict[str, Any]]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition`; the test's own timeout is the bound."""
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
async def outage(open_door: Any, own_valkey: Any, fleet: Any) -> tuple[Any, Any, Any]:
    """A way in on a Valkey that can be stopped, and a device that has one ping acknowledged."""
    return await open_door(own_valkey.redis_url), own_valkey.valkey, await fleet.device()


async def test_without_redis_no_ping_is_acknowledged_and_the_device_is_told(
    outage: tuple[Any, Any, Any], make_ping: Ping
) -> None:
    door, valkey, device = outage
    peer = await door.open(device)
    await peer.send(make_ping(1))
    await peer.acked(1)
    valkey.kill()

    await peer.send(make_ping(2))
    told = await peer.answer()
    assert told["error"]["code"] == "ingest_unavailable"
    assert told["error"]["retry_after_s"] > 0
    await peer.send(*(make_ping(seq) for seq in range(3, 30)))
    with pytest.raises(TimeoutError):
        await peer.answer(0.7)  # neither an acknowledgement nor a second error within the second


async def test_what_is_sent_again_after_an_outage_is_acknowledged_on_the_same_connection(
    outage: tuple[Any, Any, Any], make_ping: Ping
) -> None:
    door, valkey, device = outage
    peer = await door.open(device)
    await peer.send(make_ping(1))
    await peer.acked(1)
    valkey.kill()
    await peer.send(make_ping(2), make_ping(3))
    await peer.error()
    valkey.start()
    await until(lambda: door.appender.refusal is None)

    await peer.send(make_ping(4))  # newer than the gap: taken, not acknowledged
    while 4 not in (await door.records(1))["seq"]:
        await asyncio.sleep(0.01)
    await peer.send(make_ping(2))
    assert (await peer.answer())["ack"] == 2
    await peer.send(make_ping(3), make_ping(4))
    await peer.acked(4)
    assert set((await door.records(1))["seq"]) == {1, 2, 3, 4}


async def test_who_does_not_send_again_is_closed_so_that_it_does_when_it_reconnects(
    outage: tuple[Any, Any, Any], make_ping: Ping, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, valkey, device = outage
    monkeypatch.setattr("api.ingest.stream.GAP_GRACE_S", 0.2)
    peer = await door.open(device)
    valkey.kill()
    await peer.send(make_ping(1))
    await peer.error()
    valkey.start()
    await until(lambda: door.appender.refusal is None)
    await peer.send(make_ping(2))
    assert await peer.closed() == 1013

    peer = await door.open(device)
    await peer.send(make_ping(1), make_ping(2))
    await peer.acked(2)
    assert set((await door.records(1))["seq"]) == {1, 2}


async def test_under_steady_sending_everything_acknowledged_survives_a_killed_redis(
    open_door: Any, own_valkey: Any, fleet: Any, make_ping: Ping
) -> None:
    door = await open_door(own_valkey.redis_url)
    devices = [await fleet.device((number,)) for number in range(4)]
    acked = [-1] * 4

    async def stream(index: int) -> None:
        """Send rising numbers; after an error or a lost connection send again from the last acknowledged."""
        while acked[index] < 300:
            peer = await door.open(devices[index])

            async def read(peer: Any = peer) -> None:
                while True:
                    answer = await peer.answer()
                    if "error" in answer:
                        return
                    acked[index] = max(acked[index], answer["ack"])
                    if acked[index] >= 300:
                        return

            reading = asyncio.create_task(read())
            seq = acked[index] + 1
            while not reading.done():
                if seq <= 300:
                    await peer.send(make_ping(seq))
                    seq += 1
                await asyncio.sleep(0.002)
            await asyncio.gather(reading, return_exceptions=True)
            await peer.socket.close()

    streaming = [asyncio.create_task(stream(index)) for index in range(4)]
    await until(lambda: min(acked) > 50)
    own_valkey.valkey.kill()
    await until(lambda: door.appender.refusal is not None)
    own_valkey.valkey.start()
    await asyncio.gather(*streaming)
    for index in range(4):
        assert set((await door.records(index))["seq"]) == set(range(301))


async def test_a_full_redis_or_disk_refuses_pings_until_there_is_room(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    for changes, reason in [({"ping_log_max_bytes": 1}, MEMORY_FULL), ({"free_disk_floor_mb": 10**9}, DISK_LOW)]:
        full = IngestHealth(door.settings.model_copy(update=changes), door.redis, door.appender)
        await full.look()
        assert door.appender.refusal == reason
        assert await door.redis.get(INGEST_BEAT) is None
        await IngestHealth(door.settings, door.redis, door.appender).look()
        assert door.appender.refusal is None
        assert await door.redis.get(INGEST_BEAT) is not None
        await door.redis.delete(INGEST_BEAT)
    await peer.send(make_ping(1))
    await peer.acked(1)


async def test_a_refused_device_is_told_why_in_words(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    door.appender.mark("disk", DISK_LOW)
    await peer.send(make_ping(1))
    assert DISK_LOW in (await peer.error())["detail"]
    door.appender.mark("disk", None)
    await peer.send(make_ping(1))
    await peer.acked(1)


async def test_what_was_taken_is_appended_when_the_service_stops(open_door: Any, fleet: Any, make_ping: Ping) -> None:
    door = await open_door(ping_flush_ms=1000)
    peer = await door.open(await fleet.device())
    await peer.send(make_ping(1))
    await until(lambda: bool(door.appender.filling.senders))
    await door.appender.stop()
    await peer.acked(1)
    assert len(await door.records(1)) == 1


async def test_the_registry_goes_on_without_postgres(
    open_door: Any, database: Any, fleet: Any, make_ping: Ping
) -> None:
    door = await open_door()
    device = await fleet.device()
    await door.registry.refresh()
    await database.close()
    database.url = "postgresql://postgres@/nothing?host=/nowhere"
    assert door.registry.device_by_token(device.token).number == device.number
