"""What devices say of themselves: silence, strap, casing, jamming, mock, battery."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from core.domain.case import CasePerson
from core.domain.ping import (
    FLAG_BACKLOG,
    FLAG_PRIMARY,
    SHIFT_CASING,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_STRAP,
)
from core.domain.transition import Transition


def signals(transitions: list[Transition]) -> list[tuple[str, str, str]]:
    return [(each.detail["signal"], each.from_state, each.to_state) for each in transitions if each.kind == "device"]


def test_a_device_is_late_after_two_minutes_silent_after_thirty_intervals_and_reports_again(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.ping(2, 12, 9000.0)
    assert signals(world.ticks(3, 121)) == []
    assert signals(world.tick(122)) == [("silence", "reporting", "late")]
    assert signals(world.ticks(123, 1801)) == []
    [silent] = world.tick(1802)
    assert signals([silent]) == [("silence", "late", "silent")]
    assert silent.device_id == uuid.UUID(int=12)
    assert silent.aggressor_id == uuid.UUID(int=2)
    assert silent.order_id is None
    assert silent.detail["party"] == "aggressor"
    assert silent.at_ms == world.start_ms + 1_802_000
    assert signals(world.ticks(1803, 2000)) == []
    [back] = world.ping(2001, 12, None)
    assert signals([back]) == [("silence", "silent", "reporting")]
    assert back.detail["silent_s"] == 1999


def test_a_device_that_was_only_late_reports_again(world: Any) -> None:
    world.configure()
    world.ping(2, 12, 9000.0)
    world.ticks(3, 200)
    assert signals(world.ping(201, 12, 9000.0)) == [("silence", "late", "reporting")]
    assert signals(world.ticks(202, 320)) == []
    assert signals(world.tick(321)) == [("silence", "reporting", "late")]


def test_a_fast_device_is_given_three_minutes_and_a_slow_one_two_intervals(new_world: Any) -> None:
    world = new_world()
    world.configure(interval_s=5.0)
    world.ping(2, 12, 9000.0)
    assert signals(world.ticks(3, 181)) == [("silence", "reporting", "late")]
    assert signals(world.tick(182)) == [("silence", "late", "silent")]
    world = new_world()
    world.configure(interval_s=900.0)
    world.ping(2, 12, 9000.0)
    assert signals(world.ticks(3, 1801)) == []
    assert signals(world.tick(1802)) == [("silence", "reporting", "silent")]


def test_in_a_breach_silence_is_called_after_two_intervals_and_once(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 100)
    assert world.ticks(3, 121) == []
    [told] = world.tick(122)
    assert (told.kind, told.to_state, told.detail["silent"]) == ("assurance", "unknown", "both")
    assert world.ticks(123, 3000) == []


def test_silence_of_one_of_them_in_a_breach_is_called_too(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 100)
    told = []
    for now_s in range(30, 300, 30):
        told += world.ping(now_s, 11, 0.0) + world.ticks(now_s, now_s + 29)
    assert [(each.kind, each.to_state, each.detail["silent"]) for each in told] == [
        ("assurance", "unknown", "aggressor")
    ]


def test_a_device_never_heard_is_not_silent_unless_it_was_fitted(new_world: Any) -> None:
    world = new_world()
    world.configure()
    assert world.ticks(1, 300) == []
    world = new_world()
    world.configure(since_ms=1)
    assert signals(world.ticks(1, 300)) == [("silence", "reporting", "late")] * 2


def test_an_outage_of_the_service_is_nobodys_silence(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 9000)
    world.ticks(3, 150)
    assert signals(world.tick(3600)) == []
    assert world.ticks(3601, 3860) == []
    [told] = world.ticks(3861, 3875)
    assert (told.kind, told.to_state) == ("assurance", "unknown")


def test_paused_ticks_stop_the_clock_of_silence(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 9000)
    for now_s in range(3, 600):
        assert world.tick(now_s, b"paused") == []
    assert world.ticks(600, 710) == []
    assert signals(world.ticks(711, 720)) == [("silence", "reporting", "late")] * 2


def test_what_was_heard_while_nobody_ticked_is_not_waited_for_twice(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.ping(2, 12, 9000.0)
    world.ping(900, 12, 9000.0)
    world.tick(1000)
    assert signals(world.ticks(1001, 1119)) == []
    assert signals(world.ticks(1120, 1122)) == [("silence", "reporting", "late")]


@pytest.mark.parametrize(
    ("name", "shift", "well", "alarm"),
    [
        ("strap", SHIFT_STRAP, "closed", "open"),
        ("casing", SHIFT_CASING, "closed", "open"),
        ("jamming", SHIFT_JAMMING, "no", "yes"),
        ("mock", SHIFT_MOCK, "no", "yes"),
    ],
)
def test_an_alarm_is_told_once_and_so_is_its_end(world: Any, name: str, shift: int, well: str, alarm: str) -> None:
    world.configure()
    assert signals(world.ping(1, 12, 9000.0, flags=FLAG_PRIMARY | 1 << shift)) == []
    assert signals(world.ping(2, 12, 9000.0, flags=FLAG_PRIMARY | 2 << shift)) == [(name, well, alarm)]
    assert signals(world.ping(3, 12, 9000.0, flags=FLAG_PRIMARY | 2 << shift)) == []
    assert signals(world.ping(4, 12, 9000.0)) == []
    assert signals(world.ping(5, 12, None, flags=FLAG_PRIMARY | 1 << shift)) == [(name, alarm, well)]


def test_two_alarms_in_one_ping_are_two(world: Any) -> None:
    world.configure()
    told = world.ping(1, 12, 9000.0, flags=FLAG_PRIMARY | 2 << SHIFT_STRAP | 2 << SHIFT_JAMMING)
    assert signals(told) == [("jamming", "no", "yes"), ("strap", "closed", "open")]
    assert len({each.id for each in told}) == 2


def test_an_alarm_that_comes_late_is_told_in_retrospect_and_only_once(world: Any) -> None:
    world.configure()
    world.ping(100, 12, 9000.0, flags=FLAG_PRIMARY | 1 << SHIFT_STRAP)
    late = {"at_s": 50, "flags": FLAG_PRIMARY | FLAG_BACKLOG | 2 << SHIFT_STRAP}
    [told] = world.ping(101, 12, 9000.0, **late)
    assert told.retrospective
    assert signals(world.ping(102, 12, 9000.0, flags=FLAG_PRIMARY | 1 << SHIFT_STRAP)) == [("strap", "open", "closed")]
    assert world.ping(103, 12, 9000.0, **late) == []


def test_battery_states_have_hysteresis(world: Any) -> None:
    world.configure()
    readings = [80, 16, 15, 18, 24, 5, 8, 11, 24, 25, float("nan"), 3]
    told = [
        change for k, pct in enumerate(readings) for change in signals(world.ping(1 + k, 12, 9000.0, battery_pct=pct))
    ]
    assert [(before, after) for _, before, after in told] == [
        ("ok", "low"),
        ("low", "critical"),
        ("critical", "low"),
        ("low", "ok"),
        ("ok", "critical"),
    ]


def test_a_tamper_says_how_separation_stands(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    assert world.ping(2, 12, 100.0, flags=FLAG_PRIMARY | 2 << SHIFT_STRAP)[0].detail["separation"] == "breach"


def test_a_tamper_without_a_fix_of_hers_is_of_unknown_separation(world: Any) -> None:
    world.configure()
    assert world.ping(2, 12, 100.0, flags=FLAG_PRIMARY | 2 << SHIFT_STRAP)[0].detail["separation"] == "unknown"


def test_device_alarms_come_only_from_the_primary_case_of_a_person(world: Any) -> None:
    people = world.case().people
    elsewhere = CasePerson(number=2, id=people[1].id, role="aggressor", primary=False, devices=people[1].devices)
    world.configure(people=[people[0], elsewhere])
    world.tick(1)
    assert world.ping(2, 12, 9000.0, flags=FLAG_PRIMARY | 2 << SHIFT_STRAP) == []
    assert signals(world.ticks(3, 300)) == []


def test_a_person_alone_is_watched_for_silence(world: Any) -> None:
    world.configure(orders=[], people=[world.case().people[0]])
    world.ping(1, 11, 0.0)
    assert signals(world.ticks(2, 121)) == [("silence", "reporting", "late")]
