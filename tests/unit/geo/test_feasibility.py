"""A plan lived many times over: what touches, what does not, and what is advised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from core.errors import InvalidInput
from geo.feasibility import RADII_M, read_plan, study
from geo.routines import STEP_S

LAT, LON = 43.24, 76.92
M_LAT, M_LON = 1 / 111_100, 1 / 81_100
WEEKDAYS = [1, 2, 3, 4, 5]


def place(name: str, kind: str, east_m: float, north_m: float, *hours: tuple[str, str]) -> dict[str, Any]:
    return {
        "name": name, "kind": kind,
        "geometry": {"type": "Point", "coordinates": [LON + east_m * M_LON, LAT + north_m * M_LAT]},
        "hours": [{"days": WEEKDAYS, "from": begins, "to": ends} for begins, ends in hours],
    }  # fmt: skip


def plan(hers: list[dict[str, Any]], his: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"victim": {"places": hers}, "aggressor": {"places": his}, "alert_m": 1000, **more}


FAR = plan([place("home", "home", 0, 0)], [place("home", "home", 20_000, 0)])
WORK = plan(
    [place("home", "home", 0, 0), place("school", "school", 1500, 0, ("08:00", "14:00"))],
    [place("home", "home", 12_000, 0), place("work", "work", 1900, 0, ("10:00", "18:00"))],
    legal_m=100,
)
"""His work is 400 m from her school, four hours a day at the same time."""


def test_lives_far_apart_raise_nothing_and_the_proposal_stands() -> None:
    found = study(read_plan(FAR))
    assert found["proposed"]["alerts_a_week"] == 0
    assert (found["overlaps"], found["routes"], found["meetings"], found["advice"]["reasons"]) == ([], [], [], [])
    assert found["advice"]["alert_m"] == 1000
    [zone] = found["advice"]["zones"]
    assert (zone["properties"]["radius_m"], zone["properties"]["disclosed"]) == (1030, False)


def test_a_work_beside_her_school_is_found_with_its_hours_and_a_smaller_radius_advised() -> None:
    found = study(read_plan(WORK))
    assert 5 <= found["proposed"]["alerts_a_week"] <= 15, "once or twice a working day"
    [overlap] = [one for one in found["overlaps"] if one["victim"] == "school"]
    assert (overlap["aggressor"], overlap["shared_hours_a_week"], overlap["within_legal"]) == ("work", 20.0, False)
    assert overlap["gap_m"] == pytest.approx(340, abs=10)
    assert found["meetings"][0]["victim"] in {"school", None}
    assert sum(found["hours"][5]) + sum(found["hours"][6]) == 0, "nothing at the weekend"
    assert sum(map(sum, found["hours"])) == pytest.approx(found["proposed"]["alerts_a_week"], abs=0.1)
    assert found["advice"]["alert_m"] < 400
    assert "smaller_radius" in found["advice"]["reasons"]
    assert found["proposed"]["minutes_a_week"] == pytest.approx(20 * 60, rel=0.3)


def test_neighbours_are_told_that_no_radius_will_do() -> None:
    found = study(
        read_plan(plan([place("home", "home", 0, 0)], [place("flat", "home", 80, 0)], wanted_alerts_a_week=0.5))
    )
    assert found["proposed"]["alerts_a_week"] == 1
    assert found["proposed"]["minutes_a_week"] == 7 * 24 * 60
    assert set(found["advice"]["reasons"]) == {"no_radius_bearable", "places_too_near"}
    assert found["advice"]["too_near"][0]["gap_m"] == pytest.approx(20, abs=2)


def test_a_way_past_her_home_is_found() -> None:
    his = [place("home", "home", -6000, 100), place("work", "work", 6000, 100, ("09:00", "18:00"))]
    found = study(read_plan(plan([place("home", "home", 0, 0)], his)))
    assert [(one["from"], one["to"], one["times_a_week"]) for one in found["routes"]] == [
        ("work", "home", 5), ("home", "work", 5),
    ] or [(one["from"], one["to"], one["times_a_week"]) for one in found["routes"]] == [
        ("home", "work", 5), ("work", "home", 5),
    ]  # fmt: skip
    assert found["proposed"]["alerts_a_week"] == pytest.approx(10, abs=0.2)
    assert found["meetings"][0] == {"victim": "home", "aggressor": None, "alerts_a_week": pytest.approx(10, abs=0.2)}


def test_the_same_plan_gives_the_same_answer() -> None:
    assert study(read_plan(WORK)) == study(read_plan(WORK))


@settings(max_examples=8, deadline=None)
@given(st.floats(-4000, 4000), st.floats(-4000, 4000), st.integers(0, 23), st.integers(0, 23))
def test_a_larger_radius_is_never_less_time_and_hours_of_night_wrap(
    east_m: float, north_m: float, begins: int, ends: int
) -> None:
    his = [
        place("home", "home", 9000, 0),
        place("work", "work", east_m, north_m, (f"{begins:02}:00", f"{ends:02}:00")),
    ]
    found = study(read_plan(plan([place("home", "home", 0, 0)], his)))
    minutes = [line["minutes_a_week"] for line in found["radii"]]
    assert minutes == sorted(minutes)
    assert [line["radius_m"] for line in found["radii"]] == sorted({*RADII_M, 1000})
    assert all(line["alerts_p10"] <= line["alerts_p90"] for line in found["radii"])
    assert 86_400 % STEP_S == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"alert_m": 5}, {"alert_m": 100, "legal_m": 200}, {"aggressor": {"places": []}}, {"surprise": 1},
        {"victim": {"places": [{"name": "x", "geometry": {"type": "Point", "coordinates": [200, 99]}}]}},
        {"victim": {"places": [place("home", "home", 2e6, 0)]}},
        {"victim": {"places": [place("home", "home", 0, 0, ("25:00", "26:00"))]}},
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        study(read_plan({**FAR, **wrong} if wrong else {}))


def test_the_command_prints_a_page_a_chart_and_json(tmp_path: Path) -> None:
    from infra.cli import app

    file, svg = tmp_path / "plan.json", tmp_path / "chart.svg"
    file.write_text(json.dumps(WORK))
    shown = CliRunner().invoke(app, ["feasibility", "--file", str(file), "--svg", str(svg)])
    assert shown.exit_code == 0, shown.output
    assert "his work" in shown.output
    assert "►" in shown.output
    assert svg.read_text().startswith("<svg")
    whole = CliRunner().invoke(app, ["feasibility", "--file", str(file), "--json"])
    assert json.loads(whole.output)["advice"]["alert_m"] < 400
