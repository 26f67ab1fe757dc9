"""Turning back at the edge is noticed; a warning draws no edge."""

from __future__ import annotations

import math
import statistics
import uuid
from typing import Any

import pytest

from core.domain.jitter import HOUR_MS, may_warn, release_of
from core.domain.probing import probing_of, spread_of, turns_of
from core.domain.transition import Position, Transition

HOUR = 3_600_000
AGENCY, CASE, ORDER = (uuid.UUID(int=n) for n in (1, 2, 3))


def transition(at_ms: int, kind: str, before: str, after: str, bearing: float | None = None, **more: Any) -> Transition:
    """Of one order; `bearing`: where he is, seen from her, 1 km off."""
    if bearing is not None:
        north, east = math.cos(math.radians(bearing)), math.sin(math.radians(bearing))
        more["victim_position"] = Position(43.0, 76.0, 5.0, at_ms)
        more["aggressor_position"] = Position(
            43.0 + north / 111.195, 76.0 + east / (111.195 * math.cos(math.radians(43))), 5.0, at_ms
        )
    return Transition(
        id=uuid.uuid4(), shard=0, entry=f"{at_ms}-0", kind=kind, from_state=before, to_state=after, at_ms=at_ms,
        evaluated_ms=at_ms, agency_id=AGENCY, case_id=CASE, order_id=ORDER, **more,
    )  # fmt: skip


def visit(at_ms: int, bearing: float | None = None) -> list[Transition]:
    return [
        transition(at_ms, "proximity", "clear", "warning", bearing),
        transition(at_ms + 1_000, "approach", "none", "predicted", bearing),
        transition(at_ms + 2_000, "approach", "predicted", "none"),
        transition(at_ms + 3_000, "proximity", "warning", "clear"),
    ]


def judged(*visits: list[Transition], now_ms: int = 30 * HOUR) -> Any:
    return probing_of(turns_of([item for one in visits for item in one]), now_ms, 3, 120)


def test_a_warning_with_an_approach_in_it_is_one_turn() -> None:
    assert len(turns_of(visit(0))) == 1
    assert (
        len(turns_of([transition(0, "approach", "none", "predicted"), transition(9, "approach", "predicted", "none")]))
        == 1
    )
    assert turns_of(visit(0)[:2]) == [], "he has not turned back"


def test_a_breach_is_no_turn() -> None:
    inside = [
        transition(0, "proximity", "clear", "warning"), transition(1, "proximity", "warning", "breach"),
        transition(2, "proximity", "breach", "warning"), transition(3, "proximity", "warning", "clear"),
    ]  # fmt: skip
    assert turns_of(inside) == []


def test_what_was_found_afterwards_is_no_turn() -> None:
    assert turns_of([transition(0, "proximity", "clear", "warning", retrospective=True)]) == []


def test_three_turns_in_a_day_are_probing_from_whatever_side() -> None:
    day = [visit(h * HOUR, 10.0) for h in (10, 14, 20)]
    assert judged(*day[:2]) is None
    assert judged(*day).turns == 3
    assert judged(*day, now_ms=35 * HOUR) is None, "the first is longer ago than a day"


def test_two_turns_from_opposite_sides_are_probing_and_from_one_side_are_not() -> None:
    assert judged(visit(10 * HOUR, 350.0), visit(12 * HOUR, 20.0)) is None
    found = judged(visit(10 * HOUR, 350.0), visit(12 * HOUR, 160.0))
    assert (found.turns, found.spread_deg) == (2, 170)
    assert judged(visit(10 * HOUR), visit(12 * HOUR)) is None, "nobody saw from where"
    assert "lat" not in str(found.told())


@pytest.mark.parametrize(
    ("bearings", "spread"),
    [([], None), ([5], None), ([350, 10], 20), ([0, 90, 180], 180), ([0, 120, 240], 240), ([10, 10], 0)],
)
def test_the_spread_is_the_narrowest_arc(bearings: list[float], spread: float | None) -> None:
    assert spread_of(bearings) == spread


def test_a_warning_waits_and_holds_within_the_ring() -> None:
    for n in range(500):
        release = release_of(uuid.UUID(int=n), n * 977_001, 500.0, 1_500.0)
        assert 30_000 <= release.at_ms - n * 977_001 <= 600_000
        assert 500.0 < release.radius_m < 1_500.0


def test_to_come_again_within_the_hour_is_answered_alike_and_no_averaging_finds_the_edge() -> None:
    order = uuid.uuid4()
    again = {release_of(order, 7 * HOUR_MS + k * 60_000, 500.0, 1_500.0).radius_m for k in range(60)}
    assert len(again) == 1
    means = [
        statistics.fmean(release_of(uuid.UUID(int=n), h * HOUR_MS, 500.0, 1_500.0).radius_m for h in range(24 * 30))
        for n in range(1, 60)
    ]
    assert statistics.stdev(means) > 60, "after a month of trying, what is left is the order's own bias"


def test_an_undisclosed_zone_warns_of_nothing() -> None:
    assert may_warn(warn_aggressor=True)
    assert may_warn(warn_aggressor=True, disclosed=True)
    assert not may_warn(warn_aggressor=True, disclosed=False)
    assert not may_warn(warn_aggressor=False, disclosed=True)
