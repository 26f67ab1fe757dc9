"""The rules of proximity, time and configuration, one at a time."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from core.domain.case import CaseDevice, CasePerson
from core.domain.log import CONFIGURATION, PINGS, Entry
from core.domain.ping import FLAG_BACKLOG, FLAG_POSITION, FLAG_PRIMARY, RECORD_BYTES
from core.domain.transition import Transition
from geo.engine import Engine
from geo.memory import DEVICE


def moves(transitions: list[Transition], kind: str = "proximity") -> list[tuple[str, str]]:
    return [(each.from_state, each.to_state) for each in transitions if each.kind == kind]


def of_distance(transitions: list[Transition]) -> list[Transition]:
    """Without those of how sure it is."""
    return [each for each in transitions if each.kind == "proximity"]


def test_far_apart_says_nothing(world: Any) -> None:
    world.configure()
    assert world.both(1, 20_000) == []


def test_coming_near_warns_and_then_breaches_with_the_figures(world: Any) -> None:
    world.configure()
    world.both(1, 3000)
    assert moves(world.both(60, 1200)) == [("clear", "warning")]
    [breach] = of_distance(world.ping(120, 12, 300.0, speed_mps=15.0))
    assert (breach.from_state, breach.to_state) == ("warning", "breach")
    assert breach.distance_m == pytest.approx(300, rel=0.01)
    assert breach.p_within is not None
    assert breach.p_within > 0.5
    assert breach.closing_mps == pytest.approx(15, rel=0.05)
    assert breach.attribution == "aggressor"
    assert breach.time_to_zone_s == 0
    assert breach.victim_fix_age_s == 60
    assert breach.aggressor_fix_age_s == 0
    assert breach.order_id == uuid.UUID(int=5)
    assert breach.victim_position is not None
    assert 5 < breach.victim_position.accuracy_m < 10  # the estimate's, of two fixes


def test_a_first_fix_already_inside_is_a_breach_at_once(world: Any) -> None:
    world.configure()
    assert moves(world.both(1, 100)) == [("clear", "breach")]


def test_the_victim_walking_to_him_is_seen_by_her_own_ping(world: Any) -> None:
    world.configure()
    world.both(1, 800)
    [breach] = of_distance(world.ping(30, 11, 700.0, speed_mps=15.0))
    assert breach.to_state == "breach"
    assert breach.attribution == "victim"


def test_a_high_risk_order_is_entered_at_a_lower_probability(new_world: Any) -> None:
    for p_enter, seen in ((0.5, "warning"), (0.3, "breach")):
        world = new_world()
        world.configure(p_enter=p_enter)
        assert world.both(1, 530, accuracy_m=100.0)[-1].to_state == seen


def test_wide_fixes_inside_are_an_uncertain_breach_by_the_second(world: Any) -> None:
    world.configure()
    assert moves(world.both(1, 400, accuracy_m=900.0)) == [("clear", "warning")]
    [breach] = of_distance(world.both(16, 400, accuracy_m=900.0))
    assert breach.to_state == "breach"
    assert breach.p_within is not None
    assert breach.p_within < 0.5
    assert breach.detail["uncertain"] is True


def test_a_wide_fix_outside_is_no_breach(world: Any) -> None:
    world.configure()
    assert "breach" not in [to for _, to in moves(world.both(1, 700, accuracy_m=900.0))]


def test_a_drive_past_between_two_pings_is_seen(world: Any) -> None:
    world.configure()
    world.ping(0, 11, 0.0)
    world.ping(1, 12, -2200.0, 100.0)
    [breach] = world.ping(151, 12, 2200.0, 100.0, speed_mps=29.0)
    assert breach.to_state == "breach"
    assert breach.detail["closest_m"] == pytest.approx(100, abs=3)
    assert breach.distance_m == pytest.approx(100, abs=3)
    assert breach.detail["distance_now_m"] == pytest.approx(2202, rel=0.01)
    assert breach.p_within is not None
    assert breach.p_within > 0.5
    assert world.start_ms + 1000 < breach.at_ms < world.start_ms + 151_000


def test_a_way_over_a_long_silence_is_not_believed(world: Any) -> None:
    world.configure()
    world.ping(0, 11, 0.0)
    world.ping(1, 12, -6000.0, 100.0)
    assert moves(world.ping(900, 12, 6000.0, 100.0, speed_mps=1.0)) == []


def test_it_falls_only_after_a_minute_outside_with_fresh_fixes_of_both(world: Any) -> None:
    world.configure(warning_m=500.0)
    world.both(1, 100)
    assert moves(world.both(31, 1000)) == []
    assert moves(world.both(61, 1000)) == []
    assert moves(world.both(89, 1000)) == []
    assert moves(world.both(92, 1000)) == [("breach", "clear")]


def test_it_falls_to_warning_when_he_stays_near(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    for now_s in (30, 60, 85):
        assert moves(world.both(now_s, 1000)) == []
    assert moves(world.both(92, 1000)) == [("breach", "warning")]


def test_a_loiterer_on_the_line_is_one_breach(world: Any) -> None:
    world.configure()
    told = []
    for k in range(120):
        told += world.both(1 + 20 * k, 480 if k % 2 else 560)
    assert [to for _, to in moves(told)] == ["warning", "breach"]


def test_foil_round_a_bracelet_is_not_distance(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    told = []
    for k in range(1, 60):
        told += world.ping(1 + 30 * k, 11, -3000.0)
    assert moves(told) == []


def test_a_single_far_fix_does_not_lower_it(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    world.ping(30, 12, 3000.0, accuracy_m=5.0)
    told = [each for now_s in (40, 60, 80, 100, 120) for each in world.ping(now_s, 11, 0.0)]
    assert moves(told) == []


def test_wide_fixes_do_not_lower_it(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    told = [each for k in range(10) for each in world.both(60 + 60 * k, 1100, accuracy_m=600.0)]
    assert moves(told) == []


def test_a_missing_accuracy_is_taken_from_its_source(world: Any) -> None:
    world.configure()
    [breach] = world.both(1, 100, accuracy_m=float("nan"), flags=FLAG_PRIMARY | 3 << 4)
    assert breach.aggressor_position is not None
    assert breach.aggressor_position.accuracy_m == 600


def test_an_older_fix_is_history_only(world: Any) -> None:
    world.configure()
    world.ping(10, 11, 0.0)
    world.ping(100, 12, 5000.0)
    assert world.ping(101, 12, 100.0, at_s=50) == []


def test_the_older_pings_of_an_upload_are_history_only(world: Any) -> None:
    world.configure()
    world.ping(10, 11, 0.0)
    assert world.ping(101, 12, 100.0, at_s=50, flags=FLAG_PRIMARY | FLAG_BACKLOG) == []


def test_a_duplicate_changes_nothing(world: Any) -> None:
    world.configure()
    world.both(1, 2000)
    world.engine.take_changes()
    record = world.record(12, 300.0, now_s=60, seq=4)
    assert moves(world.add(60, PINGS, record)) == [("clear", "breach")]
    assert world.add(61, PINGS, record * 3) == []


def test_a_clock_that_runs_ahead_is_cut_to_reception_and_its_repeat_is_not_new(world: Any) -> None:
    world.configure()
    world.ping(1, 11, 0.0)
    [breach] = world.ping(20, 12, 300.0, at_s=4000, seq=1)
    assert breach.at_ms == world.start_ms + 20_000
    changes = world.engine.take_changes()
    world.ping(500, 12, 300.0, at_s=4000, seq=1)
    after = world.engine.take_changes()
    device = next(
        field for field in changes.state if field.startswith(b"d") and field[5:] == (12).to_bytes(4, "little")
    )
    held, kept = (
        np.frombuffer((each.state[device] or b"").ljust(DEVICE.itemsize, b"\0"), dtype=DEVICE)
        for each in (changes, after)
    )
    for name in ("place", "told", "estimate", "suspect"):
        assert np.array_equal(held[name], kept[name])
    assert np.array_equal(held["times"][:, :2], kept["times"][:, :2])  # of the fix; that it was heard is later


def test_one_entry_holds_many_records_of_a_case_in_order(world: Any) -> None:
    world.configure()
    world.both(1, 2500)
    world.now_s = 180
    records = [world.record(12, 1200.0, at_s=60), world.record(12, 300.0, at_s=120), world.record(12, 290.0, at_s=180)]
    told = world.add(180, PINGS, b"".join(records))
    assert moves(told) == [("clear", "warning"), ("warning", "breach")]
    assert len({each.id for each in told}) == 2


def test_what_cannot_be_read_is_counted_and_passed_over(world: Any) -> None:
    world.configure()
    world.ping(1, 11, 0.0)
    good = world.record(12, 300.0, now_s=2)
    assert moves(world.add(2, PINGS, world.record(4_000_000_000, 1.0) + good + b"\x01" * 5)) == [("clear", "breach")]
    assert world.add(3, CONFIGURATION, b"{no json") == []
    assert world.add(4, "?", b"") == []
    assert world.engine.unknown_total == 1
    assert world.engine.refused_total == 3


@pytest.mark.parametrize("where", [float("nan"), float("inf"), 1e9])
def test_a_place_that_is_none_is_a_heartbeat(world: Any, where: float) -> None:
    world.configure()
    world.ping(1, 11, 0.0)
    assert world.ping(2, 12, where, flags=FLAG_PRIMARY | FLAG_POSITION) == []
    assert world.ping(3, 12, 0.0, where) == []


def test_any_bytes_as_records_never_raise(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    for k in range(50):
        payload = uuid.uuid5(uuid.NAMESPACE_DNS, str(k)).bytes * (RECORD_BYTES // 16)
        world.add(2, PINGS, (12).to_bytes(4, "little") + payload[4:] + payload)


def test_an_older_configuration_is_ignored(world: Any) -> None:
    world.configure()
    world.version = -1
    world.configure(1, alert_m=9000.0, warning_m=9000.0)
    assert world.engine.case_versions() == {7: 1}
    assert moves(world.both(2, 8000)) == []


def test_an_order_that_starts_while_he_is_inside_is_a_breach_then(world: Any) -> None:
    world.configure(orders=[])
    world.both(1, 100)
    [breach] = world.configure(5)
    assert (breach.to_state, breach.at_ms) == ("breach", world.start_ms + 5000)
    assert breach.detail.get("reason") is None


def test_a_radius_that_grows_over_him_is_a_breach_then(world: Any) -> None:
    world.configure()
    world.both(1, 3000)
    assert moves(world.configure(5, alert_m=4000.0, warning_m=4000.0)) == [("clear", "breach")]


def test_a_configuration_that_changes_nothing_keeps_the_state(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    assert world.configure(5) == []
    assert world.both(6, 90) == []


@pytest.mark.parametrize(
    ("change", "reason"), [({"active": False}, "order_inactive"), ({"orders": []}, "order_removed")]
)
def test_an_order_that_ends_in_breach_is_clear_and_says_why(world: Any, change: dict[str, Any], reason: str) -> None:
    world.configure()
    world.both(1, 100)
    [clear] = world.configure(5, **change)
    assert (clear.from_state, clear.to_state, clear.detail["reason"]) == ("breach", "clear", reason)
    assert moves(world.both(6, 100)) == []


def test_a_suspension_that_ends_while_he_is_inside_reopens_it(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    world.configure(5, active=False)
    assert moves(world.configure(9)) == [("clear", "breach")]


def test_validity_begins_and_ends_by_ticks(world: Any) -> None:
    begin, end = world.start_ms + 10_000, world.start_ms + 20_000
    world.configure(valid_from_ms=begin, valid_until_ms=end)
    assert moves(world.both(1, 100)) == []
    assert moves(world.ticks(2, 9)) == []
    assert moves(world.tick(10)) == [("clear", "breach")]
    assert moves(world.ticks(11, 19)) == []
    [clear] = world.tick(20)
    assert clear.detail["reason"] == "validity_ended"
    assert moves(world.both(21, 100)) == []


def test_nobody_outside_the_order_is_told_of(world: Any) -> None:
    stranger = CasePerson(
        number=3,
        id=uuid.UUID(int=3),
        role="victim",
        devices=[CaseDevice(number=13, id=uuid.UUID(int=13), kind="phone")],
    )
    world.configure(people=[*world.case().people, stranger])
    world.ping(1, 12, 0.0)
    assert world.ping(2, 13, 10.0) == []


def test_a_worn_bracelet_is_not_outvoted_by_a_phone_left_at_home(world: Any) -> None:
    people = world.case().people
    phone = CaseDevice(number=14, id=uuid.UUID(int=14), kind="phone")
    both = CasePerson(number=2, id=uuid.UUID(int=2), role="aggressor", devices=[*people[1].devices, phone])
    world.configure(people=[people[0], both])
    world.ping(1, 11, 0.0)
    world.ping(2, 12, 300.0)
    world.ping(3, 14, 9000.0, accuracy_m=3.0)
    told = [each for k in range(20) for each in world.ping(10 + 20 * k, 14, 9000.0) + world.ping(20 + 20 * k, 12, 300.0)
            + world.ping(21 + 20 * k, 11, 0.0)]  # fmt: skip
    assert moves(told) == []


def test_his_phone_takes_over_when_the_bracelet_is_cut(world: Any) -> None:
    people = world.case().people
    phone = CaseDevice(number=14, id=uuid.UUID(int=14), kind="phone")
    both = CasePerson(number=2, id=uuid.UUID(int=2), role="aggressor", devices=[*people[1].devices, phone])
    world.configure(people=[people[0], both])
    world.ping(1, 11, 0.0)
    world.ping(2, 12, 9000.0, flags=FLAG_PRIMARY | 2 << 6)
    assert moves(world.ping(3, 14, 300.0)) == [("clear", "breach")]


def test_live_positions_go_out_at_most_once_a_second_and_from_primary_copies(world: Any) -> None:
    world.configure()
    world.both(1, 5000)
    assert [number for number, _ in world.engine.take_changes().live] == [11, 12]
    world.ping(1.5, 12, 4990.0)
    assert world.engine.take_changes().live == []
    world.ping(2.0, 12, 4980.0, flags=0)
    assert world.engine.take_changes().live == []
    world.ping(2.1, 12, 4970.0)
    changes = world.engine.take_changes()
    assert [number for number, _ in changes.live] == [12]
    assert len(changes.live[0][1]) == 52
    assert changes.places[0][0] == pytest.approx(76.95, abs=0.1)


def test_a_state_row_is_small(world: Any) -> None:
    world.configure()
    world.both(1, 100)
    state = world.engine.take_changes().state
    devices = [len(field) + len(value or b"") for field, value in state.items() if field.startswith(b"d")]
    assert len(devices) == 2
    assert max(devices) <= 200
    case = next(value for field, value in state.items() if field.startswith(b"c"))
    assert len(case or b"") <= 600


def test_an_empty_batch_is_nothing() -> None:
    engine = Engine(0)
    assert engine.process([]) == []
    assert engine.process([Entry(1, 0, PINGS, b"")]) == []
    assert engine.last_ms == 1


@pytest.mark.parametrize("speed_mps", [1.4, 4.0, 16.7])
def test_an_approach_is_a_breach_within_one_interval_of_the_true_entry(world: Any, speed_mps: float) -> None:
    world.configure()
    told = []
    for now_s in range(10, 3000, 10):
        distance = 3000.0 - speed_mps * now_s
        if distance < 0:
            break
        told += world.ping(now_s, 11, 0.0) + world.ping(now_s + 0.5, 12, distance, accuracy_m=8.0, speed_mps=speed_mps)
    assert moves(told) == [("clear", "warning"), ("warning", "breach")]
    entry_s = (3000 - 500) / speed_mps
    assert told[1].at_ms - world.start_ms <= (entry_s + 10.5) * 1000


def test_a_speed_that_may_be_noise_does_not_widen_what_is_known(world: Any) -> None:
    world.configure()
    world.ping(1, 11, 0.0)
    world.ping(2, 12, 1200.0, accuracy_m=40.0, speed_mps=float("nan"))
    world.ping(12, 12, 1230.0, accuracy_m=40.0, speed_mps=float("nan"))
    [told] = of_distance(
        world.ping(42, 11, 0.0, accuracy_m=5.0) + world.configure(43, alert_m=1400.0, warning_m=1500.0)
    )
    assert told.to_state == "breach"
    assert told.detail["sigma_m"] < 100
