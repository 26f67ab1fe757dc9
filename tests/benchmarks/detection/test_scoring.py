"""How a script is scored: full, partial, missed or false by rules stated before, and incidents as the product folds."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from core.domain.transition import Transition
from tests.benchmarks.detection.pairs import DEVICE_ID, ORDER_ID, START_MS, Device, Pair, Person
from tests.benchmarks.detection.paths import Place, Way
from tests.benchmarks.detection.scene import Expected, Plan
from tests.benchmarks.detection.scoring import Score, incidents, score
from tests.benchmarks.detection.world import Story

ENTRY_S = 1_000.0
"""He walks from 2,000 m at 1.5 m/s: 500 m off after 1,000 s."""
UNSEEN = frozenset({"breach", "unknown", "silence"})


def told(second: float, change: str, kind: str = "proximity", **more: Any) -> Transition:
    before, after = change.split(">")
    detail = {"signal": kind} if kind in {"silence", "strap", "jump", "mock"} else {}
    return Transition(
        id=uuid.uuid4(),
        shard=0,
        entry="0-0",
        kind="device" if detail else kind,
        from_state=before,
        to_state=after,
        at_ms=START_MS + round(1000 * second),
        evaluated_ms=START_MS + round(1000 * second),
        agency_id=uuid.UUID(int=1),
        case_id=uuid.UUID(int=1),
        order_id=None if detail else uuid.UUID(int=ORDER_ID),
        device_id=uuid.UUID(int=DEVICE_ID) if detail else None,
        detail=detail,
        **more,
    )


def scored(expected: Expected, *transitions: Transition, moving: bool = True) -> Score:
    people = (
        Person("victim", Way(0, 0).wait(2_000).path(), (Device("phone"),)),
        Person("aggressor", Way(2_000, 0).to(0, 0, 1.5).wait(2_000).path(), (Device("bracelet"),)),
    )
    pair = Pair(Place(43.25, 76.95), people, ({"victim": 0, "aggressor": 1},), 3_000, (1,))
    story = Story(list(transitions))
    (one,) = score("walk", "city", 1, Plan(pair, (expected,), moving), 0, story)
    return one


@pytest.mark.parametrize(
    ("second", "result"),
    [(1_001, "full"), (1_240, "full"), (1_245, "partial"), (1_700, "partial"), (1_900, "missed"), (850, "full")],
)
def test_a_breach_counts_in_full_within_four_minutes_and_hardly_ahead_of_the_truth(second: float, result: str) -> None:
    assert scored(Expected(), told(second, "clear>breach")).result == result


def test_an_alarm_told_from_afar_is_no_full_success() -> None:
    one = scored(Expected(), told(600, "clear>breach"))
    assert (one.result, one.early_m) == ("partial", pytest.approx(599, abs=2))


def test_a_breach_that_ended_before_he_came_is_early_and_does_not_count_as_the_detection() -> None:
    one = scored(Expected(), told(100, "clear>breach"), told(300, "breach>clear"), told(1_020, "clear>breach"))
    assert (one.result, one.delay_s) == ("partial", pytest.approx(20, abs=1))


def test_a_warning_alone_is_partial_and_nothing_is_missed() -> None:
    warned = scored(Expected(), told(400, "clear>warning"))
    assert (warned.result, warned.lead_s) == ("partial", pytest.approx(600, abs=2))
    assert scored(Expected()).result == "missed"


def test_where_he_cannot_be_seen_any_alarm_before_he_is_inside_counts() -> None:
    unseen = Expected(accept=UNSEEN, allowed_s=0.0)
    assert scored(unseen, told(900, "reporting>silent", "silence")).result == "full"
    assert scored(unseen, told(900, "reporting>late", "silence")).result == "missed"
    assert scored(unseen, told(1_030, "likely>unknown", "assurance")).result == "partial"


def test_a_quiet_script_is_false_by_a_breach_and_partial_without_its_warning() -> None:
    quiet = Expected("quiet", warned=True)
    assert scored(quiet, told(500, "clear>breach")).result == "false"
    assert scored(quiet).result == "partial"
    assert scored(quiet, told(500, "clear>warning")).result == "full"


def test_a_breach_that_has_to_hold_and_ends_is_partial() -> None:
    held = Expected(held=(0.0, 2_000.0))
    assert scored(held, told(1_010, "clear>breach")).result == "full"
    assert scored(held, told(1_010, "clear>breach"), told(1_500, "breach>warning")).result == "partial"


def test_a_past_breach_has_to_be_told_as_past() -> None:
    past = Expected("past", from_s=1_500, allowed_s=120)
    late = told(1_510, "clear>breach", retrospective=True)
    assert scored(past, late).result == "full"
    assert scored(past, told(1_100, "likely>unknown", "assurance")).result == "partial"


def test_approach_and_breach_of_one_order_are_one_incident_until_half_an_hour_after_it_eased() -> None:
    coming = [
        told(100, "none>predicted", "approach"),
        told(200, "clear>breach"),
        told(210, "predicted>none", "approach"),
    ]
    eased = told(500, "breach>warning")
    assert len(incidents([*coming, eased, told(2_200, "warning>breach")])) == 1
    assert len(incidents([*coming, eased, told(2_400, "warning>breach")])) == 2


def test_what_never_eases_stays_one_incident() -> None:
    assert len(incidents([told(100, "closed>open", "strap"), told(90_000, "no>yes", "mock")])) == 1


def test_warnings_and_prompts_open_nothing() -> None:
    assert not incidents([told(100, "clear>warning"), told(200, "reporting>late", "silence")])
