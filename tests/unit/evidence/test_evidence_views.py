"""What each side is shown: facts for him alike, of hers only what accuses him, and every word in three languages."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import from_ms, rfc3339, to_ms
from core.domain import evidence
from core.domain.evidence import Fix, Window, window_of
from core.evidence import document
from core.evidence.defence import GRID_M, of_defence, on_grid, resting_places
from core.evidence.facts import facts_of
from core.evidence.view import View, of_court
from core.evidence.wording import LANGUAGES, words_of

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
MS0 = to_ms(T0)
HOME = (43.25, 76.95)
ORDER = "01980000-0000-7000-8000-000000000001"
HIDDEN = "01980000-0000-7000-8000-000000000002"


def fix(party: str, minute: float, lat: float, lon: float, **more: Any) -> Fix:
    ms = MS0 + round(minute * 60_000)
    values = {
        "party": party, "device": 1 if party == "victim" else 2, "live_ms": ms, "at_ms": ms, "received_ms": ms + 300,
        "seq": None, "flags": 0x11, "lat": lat, "lon": lon, "accuracy_m": 10.0, "speed_mps": None, "heading_deg": None,
        "altitude_m": None, "battery_pct": None,
    }  # fmt: skip
    return Fix(**values | more)


def transition(minute: float, kind: str, from_state: str, to_state: str, **more: Any) -> dict[str, Any]:
    ms = MS0 + round(minute * 60_000)
    return {
        "id": f"{kind}-{minute}", "kind": kind, "from_state": from_state, "to_state": to_state, "at_ms": ms,
        "evaluated_ms": ms, "order_id": ORDER, "rule_version": "2026.3", "distance_m": 321.5, "p_within": 0.9,
        "victim_position": {"lat": HOME[0] + 0.02, "lon": HOME[1], "accuracy_m": 10, "at_ms": ms}, **more,
    }  # fmt: skip


def data_of(**more: Any) -> dict[str, Any]:
    order = {
        "id": ORDER, "reference": "2026/1", "issuer": "суд", "legal_m": 200.0, "alert_m": 500.0, "warning_m": 1000.0,
        "served_at": rfc3339(T0 - timedelta(days=1)), "time_zone": "Asia/Almaty", "cohabiting": False, "exceptions": [],
        "victim_id": "her-id", "restraints": [],
    }  # fmt: skip
    return {
        "agency": {"name": "Алматы", "time_zone": "Asia/Almaty", "language": "ru"},
        "made_at": rfc3339(T0 + timedelta(hours=2)), "window": {},
        "incident": {"id": "i", "type": "proximity", "occurred_at": rfc3339(T0), "opened_at": rfc3339(T0)},
        "orders": [order], "order_versions": [], "suspensions": [], "configurations": [], "deliveries": [],
        "panics": [],
        "episode": [], "false_before": [], "timeline": [], "audit": {}, "identities": {"victim": {"name": "Әсем"}},
        "finding": {"reason": "probability", "p_legal": 0.5},
        "zones": [{"id": HIDDEN, "disclosed": False, "geometry": {"type": "Point", "coordinates": [HOME[1], HOME[0]]},
                   "radius_m": 100.0}],
        "devices": [{"id": "d1", "number": 1, "kind": "phone", "party": "victim", "expected_interval_s": 60.0},
                    {"id": "d2", "number": 2, "kind": "bracelet", "party": "aggressor", "expected_interval_s": 60.0}],
        "transitions": [
            transition(-9, "proximity", "clear", "warning", attribution="aggressor"),
            transition(0, "proximity", "warning", "breach", attribution="victim", detail={"closest_m": 4.0}),
            transition(3, "zone", "clear", "breach", zone_id=HIDDEN),
            transition(20, "proximity", "breach", "clear"),
        ],
        **more,
    }  # fmt: skip


def scene(**more: Any) -> View:
    """She is at home for an hour, then a good 2 km north, where he comes; he is near her for twenty minutes."""
    hers = [fix("victim", minute, *HOME) for minute in range(-60, -12)]
    hers += [fix("victim", minute, HOME[0] + 0.02, HOME[1]) for minute in range(-9, 30)]
    his = [fix("aggressor", minute, HOME[0] + 0.02, HOME[1] + 0.002) for minute in range(-60, 60)]
    window = Window(T0 - timedelta(hours=1), T0 + timedelta(hours=1), False)
    return of_court(data_of(**more), [*hers, *his], window, {"state": "not_made"})


def test_the_defence_gets_all_of_his_and_of_hers_the_breach() -> None:
    court = scene()
    defence = of_defence(court)
    assert defence.his == court.his
    assert [each.live_ms for each in defence.hers] == [MS0 + 60_000 * minute for minute in range(21)]
    assert all(each.accuracy_m == 10.0 for each in defence.hers), "far from home nothing is blurred"
    kinds = [(each["kind"], each["to_state"]) for each in defence.data["transitions"]]
    assert kinds == [("proximity", "warning"), ("proximity", "breach"), ("proximity", "clear")]
    warning, breach, end = defence.data["transitions"]
    assert "distance_m" not in warning
    assert "distance_m" not in end
    assert breach["distance_m"] == 321.5
    assert "closest_m" not in breach["detail"]
    assert defence.data["zones"] == []
    assert defence.data["identities"] == {}
    assert "victim_id" not in defence.data["orders"][0]
    assert defence.left_out["decisions"] == 1


def test_near_her_home_she_is_put_on_a_grid() -> None:
    at_home = [fix("victim", minute, *HOME, speed_mps=1.0) for minute in range(-60, 60)]
    court = replace(scene(), hers=at_home)
    shown = of_defence(court).hers
    assert shown
    assert {(each.lat, each.lon) for each in shown} == {on_grid(*HOME)}
    assert all(each.accuracy_m == GRID_M and each.speed_mps is None for each in shown)


@given(st.floats(-80, 80), st.floats(-179, 179), st.floats(-0.0001, 0.0001))
def test_the_grid_tells_the_same_of_neighbours_and_no_more_than_its_cell(lat: float, lon: float, by: float) -> None:
    middle = on_grid(lat, lon)
    assert evidence.metres_between(lat, lon, *middle) < 500
    assert on_grid(*middle) == middle


def test_who_walks_on_rests_nowhere() -> None:
    walking = [fix("victim", minute, HOME[0] + 0.001 * minute, HOME[1]) for minute in range(120)]
    assert resting_places(walking) == []
    assert len(resting_places([fix("victim", minute, *HOME) for minute in range(50)])) == 1


def test_facts_for_him_are_told_alike() -> None:
    data = data_of(
        suspensions=[
            {"starts_at": rfc3339(T0), "ends_at": rfc3339(T0 + timedelta(hours=1)), "confirmed_at": rfc3339(T0)},
            {"starts_at": rfc3339(T0), "ends_at": rfc3339(T0 + timedelta(hours=1)), "confirmed_at": None},
        ],
        false_before=[{}],
    )
    data["incident"] |= {"outcome": "false_alarm", "false_alarm_cause": "poor_signal"}
    data["orders"][0] |= {"served_at": None, "cohabiting": True, "exceptions": [{"kind": "hearing"}]}
    fixes = [
        fix("victim", minute, *HOME, accuracy_m=300.0, at_ms=MS0 + 60_000 * minute + 40_000) for minute in range(9)
    ]
    stays = evidence.stays(data["transitions"], Window(T0 - timedelta(hours=1), T0 + timedelta(hours=1), False))
    told = facts_of(data, fixes, stays, {"aggressor": [(MS0 + 60_000, MS0 + 600_000)]})
    codes = [fact["code"] for fact in told]
    assert codes == [
        "not_served", "cohabiting", "exception", "alert_wider", "suspended", "she_moved", "no_violation", "poor_fixes",
        "poor_in_breach", "clock_ahead", "silent_in_breach", "found_false", "false_before",
    ]  # fmt: skip
    assert {party["party"] for party in told if "party" in party} == {"victim", "aggressor"}
    assert facts_of(data_of(transitions=[], finding=None), [], [], {}) == [
        {"code": "alert_wider", "alert_m": 500.0, "legal_m": 200.0}
    ]


def test_gaps_are_stated_for_each() -> None:
    window = Window(T0, T0 + timedelta(minutes=30), False)
    fixes = [fix("victim", minute, *HOME) for minute in (0, 1, 2, 9, 10)]
    assert evidence.gaps(fixes, "victim", window, 60.0) == [
        (MS0 + 120_000, MS0 + 540_000), (MS0 + 600_000, MS0 + 1_800_000),
    ]  # fmt: skip
    assert evidence.gaps(fixes, "aggressor", window, 60.0) == [(MS0, MS0 + 1_800_000)]


def test_a_window_ends_an_hour_after_the_incident_and_no_incident_is_endless() -> None:
    def window(resolved: datetime | None, now: datetime) -> Window:
        return window_of(T0, T0, resolved, T0 + timedelta(minutes=5), now)

    hour = timedelta(hours=1)
    assert window(T0 + hour, T0 + 9 * hour) == Window(T0 - hour, T0 + 2 * hour, False)
    assert window(None, T0 + hour) == Window(T0 - hour, T0 + 2 * hour, False)
    forgotten = window(T0 + timedelta(days=21), T0 + timedelta(days=30))
    assert forgotten.cut
    assert forgotten.until == T0 + timedelta(days=1, minutes=5) + hour


def test_every_language_says_everything() -> None:
    def names(words: Any, path: str = "") -> dict[str, frozenset[str]]:
        if isinstance(words, dict):
            return {key: value for name, each in words.items() for key, value in names(each, f"{path}.{name}").items()}
        texts = words if isinstance(words, list) else [words]
        return {
            path: frozenset(part[1] or "" for text in texts for part in string.Formatter().parse(str(text)) if part[1])
        }

    first, *others = (names(words_of(language)) for language in LANGUAGES)
    for other in others:
        assert other == first
    assert re.search("[әғқңөұүһі]", str(words_of("kk")["title"]))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["proximity", "zone", "panic", "silence", "tamper", "outage"])
def test_a_report_is_made_of_anything(language: str, kind: str) -> None:
    """Also of an incident without fixes, order, decisions: it says that it does not know."""
    court = scene()
    court.data["incident"]["type"] = kind
    if kind == "outage":
        court = of_court(
            data_of(transitions=[], zones=[], orders=[], devices=[], finding=None),
            [],
            court.window,
            {"state": "failed"},
        )
        court.data["incident"]["type"] = kind
    for view in (court, of_defence(court)):
        assert document.render(view, language, "b", bytes(32)).startswith(b"%PDF")


def test_a_report_of_the_defence_says_what_it_leaves_out() -> None:
    from core.evidence.telling import Teller

    court = scene()
    told = Teller(of_defence(court), "en").content("b", bytes(32))
    assert ["undisclosed places", "1"] in told["left_out"]
    assert told["identities"] == []
    assert "Әсем" in str(Teller(court, "en").content("b", bytes(32))["identities"])
    assert from_ms(MS0).isoformat() not in str(told), "moments are civil, in the order's zone"
    assert "17:00:00" in str(told["when"])
