"""When silence is an outage, which pairs come first in it, and when people are at rest."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from core.domain.outage import (
    PAIRS_MAX,
    SILENT_LEAST,
    UNKNOWN_MPS,
    PairInDark,
    cell_box,
    cell_of,
    is_outage,
    is_over,
    ranked,
)  # fmt: skip
from core.domain.rest import both_at_rest, is_at_rest

BEGIN = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
END = BEGIN + timedelta(minutes=30)


@pytest.mark.parametrize(
    ("silent", "live", "so"),
    [(20, 60, True), (20, 67, False), (19, 19, False), (5_000, 16_000, True), (5_000, 17_000, False), (30, 0, True)],
)
def test_an_outage_is_many_and_a_good_share(silent: int, live: int, so: bool) -> None:
    assert is_outage(silent, live) is so


def test_an_outage_is_over_when_a_fifth_is_still_silent() -> None:
    assert is_over(100, 20)
    assert not is_over(100, 21)
    assert is_over(SILENT_LEAST, 4)


@pytest.mark.parametrize("seed", range(20))
def test_every_position_lies_in_the_box_of_its_cell_and_the_box_is_about_ten_kilometres(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        lat, lon = chance.uniform(-85, 85), chance.uniform(-180, 180)
        south, north, west, east = cell_box(cell_of(lat, lon))
        assert south - 1e-9 <= lat <= north + 1e-9
        assert west - 1e-9 <= lon <= east + 1e-9
        assert (north - south) * 111.195 == pytest.approx(10.0)


def pair(
    name: str, state: str, distance_m: float | None, closing_mps: float | None = None, alert_m: float = 500.0
) -> PairInDark:
    return PairInDark(name, name, name, name, "both", state, distance_m, alert_m, closing_mps)


def test_pairs_stand_inside_first_then_in_warning_then_by_the_time_he_needs() -> None:
    pairs = [
        pair("far", "clear", 20_000.0),
        pair("unseen", "clear", None),
        pair("coming", "clear", 20_000.0, closing_mps=40.0),
        pair("warned", "warning", 1_400.0),
        pair("inside", "breach", None),
        pair("close", "clear", 2_000.0),
    ]
    assert [one.order_id for one in ranked(pairs)] == ["inside", "warned", "close", "coming", "far", "unseen"]


def test_who_is_not_seen_may_come_at_the_pace_of_a_car() -> None:
    assert pair("a", "clear", 2_000.0, closing_mps=-3.0).time_to_reach_s == pytest.approx(1_500 / UNKNOWN_MPS)
    assert pair("a", "clear", 300.0).time_to_reach_s == 0.0
    assert pair("a", "clear", None).time_to_reach_s is None


def test_an_outage_lists_a_bounded_number_of_pairs() -> None:
    assert len(ranked([pair(str(k), "clear", float(k)) for k in range(PAIRS_MAX + 7)])) == PAIRS_MAX


@dataclass(frozen=True)
class Stay:
    """Where one party was, in metres about a place in Almaty."""

    role: str = "victim"
    fixes: int = 30
    first_at: datetime = BEGIN
    last_at: datetime = END
    north_m: float = 30.0
    east_m: float = 30.0

    south: float = 43.24
    west: float = 76.9

    @property
    def north(self) -> float:
        return self.south + self.north_m / 111_195

    @property
    def east(self) -> float:
        return self.west + self.east_m / (111_195 * 0.7285)


@pytest.mark.parametrize(
    ("stay", "so"),
    [
        (Stay(), True),
        (Stay(north_m=99.0, east_m=99.0), True),
        (Stay(north_m=102.0), False),
        (Stay(east_m=102.0), False),
        (Stay(fixes=2), False),
        (Stay(first_at=BEGIN + timedelta(minutes=11)), False),
        (Stay(last_at=END - timedelta(minutes=11)), False),
    ],
)
def test_rest_is_a_small_box_and_being_seen(stay: Stay, so: bool) -> None:
    assert is_at_rest(stay, BEGIN, END) is so


def test_both_must_be_at_rest() -> None:
    assert both_at_rest([Stay(), Stay(role="aggressor")], BEGIN, END)
    assert not both_at_rest([Stay()], BEGIN, END)
    assert not both_at_rest([Stay(), Stay(role="aggressor", north_m=500.0)], BEGIN, END)
