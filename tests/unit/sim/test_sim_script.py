"""Scenario files: those that come along play as their titles say, and bad ones are refused in one clear sentence."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from device_sim.clock import rfc3339
from device_sim.geodesy import distance_m
from device_sim.scenario import ScenarioError, load_scenario, scenario_names
from device_sim.script import Script, make_route
from device_sim.wire import new_id, stream_address

GOOD = """
title = "t"
duration_s = 60
origin = [43.2, 76.9]
[actors.victim]
route = { kind = "stay", points_m = [[0, 0]] }
"""


def apart_m(script: Script, elapsed_s: float) -> float:
    victim, aggressor = (make_route(script, script.actors[name], 1) for name in ("victim", "aggressor"))
    return distance_m(victim.at(elapsed_s).point, aggressor.at(elapsed_s).point)


def test_the_scenarios_are_those_of_the_manual() -> None:
    assert scenario_names() == ("approach_on_foot", "demo", "drive_past", "loiter", "panic", "silence", "strap_cut")


@pytest.mark.parametrize(
    ("name", "starts_m", "nearest_m"),
    [
        ("approach_on_foot", (1900, 2200), (20, 60)),
        ("demo", (700, 900), (100, 200)),
        ("drive_past", (2900, 3200), (200, 300)),
        ("loiter", (430, 570), (430, 500)),
        ("panic", (7000, 8000), (7000, 8000)),
        ("silence", (2500, 2700), (850, 950)),
        ("strap_cut", (2900, 3100), (2800, 3000)),
    ],
)
def test_scenarios_go_as_near_as_they_tell(
    name: str, starts_m: tuple[float, float], nearest_m: tuple[float, float]
) -> None:
    script = load_scenario(name).script
    distances = [apart_m(script, script.duration_s * n / 500) for n in range(501)]
    assert starts_m[0] <= distances[0] <= starts_m[1]
    assert nearest_m[0] <= min(distances) <= nearest_m[1]


def test_the_demo_breaches_and_panics_within_half_a_minute() -> None:
    script = load_scenario("demo").script
    breach_s = next(t for t in range(60) if apart_m(script, t) < 500)
    (panic,) = [event for event in script.events if event.kind == "panic"]
    assert breach_s < panic.at_s < 30
    assert script.hold


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match="no scenario 'nonsense'; known are approach_on_foot, demo"):
        load_scenario("nonsense")
    assert issubclass(ScenarioError, ValueError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = ", "not valid TOML"),
        (GOOD.replace('title = "t"', ""), "title"),
        (GOOD + "colour = 3\n", "colour"),
        (GOOD.replace("60", "-1"), "duration_s"),
        (GOOD.replace("victim", "neighbour"), "actors must be"),
        (GOOD + '[[events]]\nat_s = 1\nactor = "aggressor"\nkind = "panic"\n', "aggressor, who is not among"),
        (GOOD + '[[events]]\nat_s = 99\nactor = "victim"\nkind = "panic"\n', "outside its duration"),
        (GOOD + '[[events]]\nat_s = 9\nactor = "victim"\nkind = "dance"\n', "dance"),
        (GOOD.replace("points_m = [[0, 0]]", "points_m = []"), "victim: A route needs points"),
        (GOOD.replace('"stay"', '"walk", speed_mps = 0'), "speed"),
        (GOOD.replace("43.2", "95.0"), "latitude"),
        (GOOD + "radio = { delay_s = -1 }\n", "negative"),
        (GOOD + "interval_s = 0\n", "interval_s"),
    ],
)
def test_a_script_that_cannot_be_played_says_why(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "story.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=says):
        load_scenario(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(path)


def test_addresses_are_completed_and_ids_are_of_version_seven() -> None:
    assert stream_address("http://h:1") == "ws://h:1/v1/pings/stream"
    assert stream_address("wss://h/v1/pings/stream") == "wss://h/v1/pings/stream"
    ids = [new_id() for _ in range(100)]
    assert {made.version for made in ids} == {7}
    assert {made.variant for made in ids} == {uuid.RFC_4122}
    assert len(set(ids)) == 100
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
