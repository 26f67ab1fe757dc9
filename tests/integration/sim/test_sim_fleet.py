"""A fleet against the loopback service: rates, acknowledgements, and what happens when connections break."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device_sim.errors import FleetError
from device_sim.fleet import Fleet, FleetConfig, FleetMember, FleetResult, run_fleet, spread_pairs
from device_sim.geodesy import Point, distance_m

MEMBERS = [FleetMember(f"0197c000-0000-7000-8000-{n:012d}", f"token-{n}") for n in range(20)]


async def test_all_that_was_sent_is_acknowledged_at_about_the_rate_asked_for(service: Any) -> None:
    config = FleetConfig(
        stream_url=service.stream_url, devices=MEMBERS, gateway_token="gw", connections=5, rate=400, duration_s=0.5
    )
    result = await run_fleet(config)
    assert result.sent == result.acked == len(service.pings)
    assert 1 <= result.sent <= 250
    assert (result.waiting, result.errors, service.connections) == (0, 0, 5)
    assert result.ack_p50_ms is not None
    assert {ping["device_id"] for ping in service.pings} == {member.device_id for member in MEMBERS}


async def test_without_a_gateway_each_device_has_its_own_link_and_token(service: Any) -> None:
    config = FleetConfig(stream_url=service.stream_url, devices=MEMBERS, rate=200, duration_s=0.2)
    result = await run_fleet(config)
    assert service.connections == 20
    assert set(service.tokens) == {f"Bearer token-{n}" for n in range(20)}
    assert "device_id" not in service.pings[0]
    assert result.sent == result.acked


async def test_frames_unacknowledged_when_connections_break_are_sent_again(service: Any) -> None:
    service.drop_after = 10
    config = FleetConfig(
        stream_url=service.stream_url, devices=MEMBERS, gateway_token="gw", connections=2, rate=200, duration_s=0.5
    )
    result = await run_fleet(config)
    assert result.reconnects >= 1
    assert result.resent >= 1
    assert result.sent == result.acked
    assert len({(ping["device_id"], ping["seq"]) for ping in service.pings}) == result.sent


async def test_an_error_to_try_again_loses_nothing_and_one_about_content_is_counted(service: Any) -> None:
    service.errors = {
        5: {"code": "ingest_unavailable", "retry_after_s": 0.05},
        40: {"code": "position_invalid"},
    }
    config = FleetConfig(
        stream_url=service.stream_url, devices=MEMBERS, gateway_token="gw", connections=2, rate=200, duration_s=0.5
    )
    result = await run_fleet(config)
    assert result.codes == {"ingest_unavailable": 1, "position_invalid": 1}
    assert (result.refused, result.waiting) == (1, 0)
    assert result.sent == result.acked + result.refused


async def test_what_is_never_acknowledged_is_reported_as_waiting(service: Any) -> None:
    service.ack = False
    fleet = Fleet(FleetConfig(stream_url=service.stream_url, devices=MEMBERS, gateway_token="gw", connections=2))
    await fleet.start()
    fleet.set_rate(500)
    await service.until(lambda: len(service.pings) >= 20)
    assert not await fleet.drain(0.01)
    result = await fleet.stop(drain_s=0)
    assert result.waiting == result.sent >= 20
    assert result.acked == 0


async def test_a_fleet_is_made_of_a_seed_file(service: Any) -> None:
    pairs = [{actor: {"device_id": f"{actor}-{n}", "token": "t"} for actor in ("victim", "aggressor")} for n in (1, 2)]
    world = {"pairs": pairs, "gateway": {"token": "gw"}}
    result = await run_fleet(FleetConfig.from_seed(world, service.stream_url, connections=3, rate=100, seconds=0.2))
    assert (result.connected, result.acknowledged, result.errors) == (3, result.sent, 0)
    assert set(service.tokens) == {"Bearer gw"}
    with pytest.raises(FleetError, match="seed file"):
        FleetConfig.from_seed({}, "ws://x", connections=1, rate=1, seconds=1)


async def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(FleetError, match="needs devices"):
        Fleet(FleetConfig(stream_url="ws://x", devices=[]))
    with pytest.raises(FleetError, match="its own"):
        Fleet(FleetConfig(stream_url="ws://x", devices=[FleetMember("d")]))
    with pytest.raises(FleetError, match="rate"):
        Fleet(FleetConfig(stream_url="ws://x", devices=MEMBERS, rate=float("nan")))


async def test_victims_and_aggressors_of_a_load_are_never_near_each_other() -> None:
    pairs = [
        {actor: {"device_id": f"{actor}-{n}", "token": "t"} for actor in ("victim", "aggressor")} for n in range(200)
    ]
    members = spread_pairs(pairs)
    victims = [Point(member.lat, member.lon) for member in members if member.device_id.startswith("victim")]
    aggressors = [Point(member.lat, member.lon) for member in members if member.device_id.startswith("aggressor")]
    assert min(distance_m(one, other) for one in victims for other in aggressors) > 5_000


async def test_a_fleet_in_its_own_process_takes_rates_and_tells_figures(service: Any, tmp_path: Path) -> None:
    config = FleetConfig(stream_url=service.stream_url, devices=MEMBERS, gateway_token="gw", connections=4)
    path = tmp_path / "fleet.json"
    path.write_bytes(msgspec.json.encode(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "device_sim.fleet", "--config", str(path), "--control",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b'{"rate": 300}\n')
    await service.until(lambda: len(service.pings) >= 50)
    output, _ = await process.communicate(b'{"stop": true}\n')
    result = msgspec.json.decode(output.splitlines()[-1], type=FleetResult)
    assert process.returncode == 0
    assert result.sent == result.acked == len(service.pings)


async def test_a_fleet_whose_service_is_not_there_says_how_many_links_it_got(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_sim.fleet.CONNECT_TIMEOUT_S", 0.05)
    with pytest.raises(FleetError, match="Only 0 of 20 links"):
        await run_fleet(FleetConfig(stream_url=f"ws://127.0.0.1:{unused_tcp_port}", devices=MEMBERS))
