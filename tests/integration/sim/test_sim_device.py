"""A device over real sockets: what it keeps, sends again, and gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from device_sim.device import OUTBOX_MAX, ActorCredentials, Device
from device_sim.errors import TokenRefused
from device_sim.geodesy import Point
from device_sim.noise import Fix
from device_sim.routes import Motion
from device_sim.wire import Ping

PLACE = Point(43.238, 76.945)
CREDENTIALS = ActorCredentials("0197c000-0000-7000-8000-000000000001", "dev_secret")


def make(service: Any, **options: Any) -> Device:
    return Device(CREDENTIALS, base_url=service.base_url, stream_url=service.stream_url, first_seq=1, **options)


@contextlib.asynccontextmanager
async def living(device: Device) -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    life = asyncio.create_task(device.run(stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        await life


def record(device: Device, at_ms: int = 1_767_225_600_123) -> Ping:
    return device.record(Fix(PLACE, 9.0, "gps"), Motion(PLACE, 1.4, 90.0), at_ms)


async def test_a_ping_says_what_the_contract_names(service: Any) -> None:
    device = make(service)
    async with living(device):
        record(device)
        assert await device.wait_acked(10)
    assert service.tokens == ["Bearer dev_secret"]
    assert service.pings == [
        {
            "seq": 1, "at": "2026-01-01T00:00:00.123Z", "lat": 43.238, "lon": 76.945, "accuracy_m": 9.0,
            "speed_mps": 1.4, "heading_deg": 90.0, "battery_pct": 90.0, "source": "gps", "strap": "closed",
            "casing": "closed", "charging": False, "moving": True,
        }
    ]  # fmt: skip
    assert (device.counts.acked, device.unacked) == (1, 0)


async def test_pings_unacknowledged_when_a_connection_breaks_are_sent_again(service: Any) -> None:
    service.drop_after = 3
    service.ack = False
    device = make(service)
    async with living(device):
        for _ in range(3):
            record(device)
        await service.until(lambda: service.connections >= 1 and service.drop_after is None)
        service.ack = True
        assert await device.wait_acked(10)
    assert service.connections == 2
    assert {ping["seq"] for ping in service.pings} == {1, 2, 3}
    assert device.counts.acked == 3


async def test_a_request_to_try_again_sends_all_again_on_a_new_connection(service: Any) -> None:
    service.errors = {1: {"code": "ingest_unavailable", "retry_after_s": 0.01}}
    device = make(service)
    async with living(device):
        record(device)
        assert await device.wait_acked(10)
    assert [ping["seq"] for ping in service.pings] == [1, 1]
    assert service.connections == 2
    assert device.counts.rejected == {}


async def test_a_ping_refused_for_its_content_is_not_sent_again(service: Any) -> None:
    service.errors = {1: {"code": "position_invalid"}}
    device = make(service)
    async with living(device):
        record(device)
        record(device)
        assert await device.wait_acked(10)
    assert device.counts.rejected == {"position_invalid": 1}
    assert (device.counts.acked, device.unacked) == (1, 0)


async def test_a_refused_token_ends_the_device(service: Any) -> None:
    service.refuse_status = 401
    with pytest.raises(TokenRefused, match=CREDENTIALS.device_id):
        await make(service).run(asyncio.Event())


async def test_http_stands_in_when_the_stream_cannot_be_reached(service: Any) -> None:
    service.refuse_status = 503
    device = make(service)
    async with living(device):
        record(device)
        await service.until(lambda: len(service.http_pings) == 1)
        assert await device.wait_acked(10)
    assert device.counts.acked == 1


async def test_an_http_device_repeats_a_batch_until_it_is_taken(service: Any) -> None:
    service.http_statuses = [503, 429]
    device = make(service, by_http=True)
    record(device)
    record(device)
    async with living(device):
        assert await device.wait_acked(10)
    assert [ping["seq"] for ping in service.http_pings] == [1, 2]
    assert service.connections == 0


async def test_without_radio_a_device_records_and_sends_the_backlog_in_frames_later(service: Any) -> None:
    device = make(service)
    device.set_radio(False)
    async with living(device):
        for _ in range(5):
            record(device)
        assert device.unacked == 5
        device.set_radio(True)
        assert await device.wait_acked(10)
    assert [ping["seq"] for ping in service.pings] == [1, 2, 3, 4, 5]
    assert service.frames == 1


async def test_losing_the_radio_closes_the_connection(service: Any) -> None:
    device = make(service)
    async with living(device):
        record(device)
        assert await device.wait_acked(10)
        device.set_radio(False)
        record(device)
        device.set_radio(True)
        assert await device.wait_acked(10)
    assert {ping["seq"] for ping in service.pings} == {1, 2}


async def test_a_full_outbox_drops_the_oldest_and_counts_it(service: Any) -> None:
    device = make(service)
    for _ in range(OUTBOX_MAX + 2):
        device.keep(Ping(seq=1, at=""))
    assert device.unacked == OUTBOX_MAX
    assert device.counts.dropped == 2


async def test_the_interval_the_service_asks_for_is_told(service: Any) -> None:
    asked: list[float] = []
    service.interval_s = 5
    device = make(service, on_interval=asked.append)
    async with living(device):
        record(device)
        record(device)
        assert await device.wait_acked(10)
    assert asked == [5.0]
    assert device.asked_interval_s == 5.0


async def test_a_service_that_is_not_there_is_not_hammered(service: Any, unused_tcp_port: int) -> None:
    lost = asyncio.Event()
    device = Device(
        CREDENTIALS,
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
        stream_url=f"ws://127.0.0.1:{unused_tcp_port}",
        on_news=lambda _: lost.set(),
    )
    async with living(device):
        record(device)
        await asyncio.wait_for(lost.wait(), 10)
        assert device.counts.tries_failed <= 2
    assert device.unacked == 1
