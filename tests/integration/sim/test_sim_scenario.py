"""Scenarios played over real sockets against the loopback service, much faster than life."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from device_sim.device import ActorCredentials
from device_sim.scenario import ScenarioError, load_scenario, run_scenario, scenario_names

ACTORS = {name: ActorCredentials(f"device-of-{name}", f"token-of-{name}") for name in ("victim", "aggressor")}


@pytest.mark.parametrize("name", scenario_names())
async def test_every_scenario_plays_to_its_end_with_everything_acknowledged(name: str, service: Any) -> None:
    scenario = load_scenario(name)
    result = await run_scenario(
        scenario, ACTORS, service.base_url, service.stream_url, speedup=min(1000.0, scenario.duration_s / 0.6)
    )
    assert result.complete, result
    assert all(counts.acked == counts.recorded >= 2 for counts in result.counts.values())
    presses = sum(event.kind == "panic" for event in scenario.script.events)
    assert len(service.panics) == len(result.panics) == presses


async def test_a_cut_strap_is_in_the_pings_that_follow(service: Any) -> None:
    await run_scenario(load_scenario("strap_cut"), ACTORS, service.base_url, service.stream_url, speedup=500)
    straps = [ping["strap"] for ping in service.pings]
    assert {"open", "closed"} <= set(straps)


async def test_a_held_scenario_goes_on_until_it_is_stopped(service: Any) -> None:
    stopping = asyncio.Event()
    scenario = load_scenario("demo")
    playing = asyncio.create_task(
        run_scenario(scenario, ACTORS, service.base_url, service.stream_url, speedup=500, stopping=stopping)
    )
    await service.until(lambda: len(service.pings) >= 60)
    assert not playing.done()
    stopping.set()
    result = await playing
    assert result.elapsed_s * 500 > scenario.duration_s
    assert result.complete


async def test_refused_tokens_end_a_scenario_and_are_told(service: Any) -> None:
    service.refuse_status = 401
    news: list[str] = []
    result = await run_scenario(
        load_scenario("loiter"), ACTORS, service.base_url, service.stream_url, news.append, speedup=100
    )
    assert len(result.problems) == 2
    assert any("refuses the token" in line for line in news)


async def test_missing_credentials_are_named(service: Any) -> None:
    with pytest.raises(ScenarioError, match="needs credentials of aggressor"):
        await run_scenario(load_scenario("panic"), {"victim": ACTORS["victim"]}, service.base_url, service.stream_url)


async def test_a_radio_that_drops_out_only_delays(service: Any, tmp_path: Path) -> None:
    path = tmp_path / "tunnel.toml"
    path.write_text(
        'title = "t"\nduration_s = 60\norigin = [43.2, 76.9]\n[actors.victim]\ninterval_s = 2\n'
        'route = { kind = "stay", points_m = [[0, 0]] }\nradio = { dropouts = [[10, 40]], delay_s = 1 }\n'
    )
    result = await run_scenario(load_scenario(path), ACTORS, service.base_url, service.stream_url, speedup=60)
    assert result.counts["victim"].connections >= 2
    assert result.counts["victim"].acked == result.counts["victim"].recorded
