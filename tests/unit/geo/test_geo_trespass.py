"""What the engine makes of places: entered, left, crossed, scheduled, small, and when an order is suspended."""

from __future__ import annotations

import math
import uuid
from typing import Any

import pytest

from core.domain.case import CaseZone
from core.domain.ping import FLAG_PRIMARY, SOURCE_FLAGS
from core.domain.transition import Transition
from device_sim.geodesy import Frame
from device_sim.noise import CityNoise
from geo.zones import survey
from tests.unit.geo.trespassing import (
    HIS,
    MIDDLE,
    circle,
    polygon,
    spot,
    square,
    stay,
    walk,
    zone_moves,
)

# --- entering and leaving


def test_entering_a_place_warns_and_breaches_without_her_being_known(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)), warning_m=300.0)])
    assert stay(world, 0, 60, 1500) == []
    warning, breach = walk(world, 60, (1500, 0), (400, 0), 10.0)
    assert (warning.kind, warning.from_state, warning.to_state) == ("zone", "clear", "warning")
    assert warning.distance_m == pytest.approx(300, abs=100)
    assert (breach.from_state, breach.to_state) == ("warning", "breach")
    assert -100 < breach.distance_m < 0
    assert breach.p_within > 0.5
    assert breach.zone_id == uuid.UUID(int=6)
    assert breach.order_id == uuid.UUID(int=5)
    assert zone_moves(stay(world, 180, 300, 400)) == []
    left = walk(world, 300, (400, 0), (1500, 0), 10.0) + stay(world, 420, 540, 1500)
    assert zone_moves(left) == [("breach", "warning"), ("warning", "clear")] or zone_moves(left) == [
        ("breach", "clear")
    ]


def test_a_first_fix_already_inside_is_a_breach(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    [breach] = world.ping(1, HIS, 100.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")


def test_a_hole_is_not_the_place(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500), square(200)))])
    assert stay(world, 0, 60, 0) == []
    assert zone_moves(walk(world, 60, (0, 0), (350, 0), 2.0)) == [("clear", "breach")]


def test_her_own_pings_do_not_enter_his_zone(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    assert world.ping(1, 11, 0.0) == []


def test_a_loiterer_on_the_edge_is_one_breach(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    told = [each for turn in range(30)
            for each in stay(world, 60 * turn, 60 * turn + 50, 490 if turn % 2 else 510)]  # fmt: skip
    assert zone_moves(told) == [("clear", "breach")]


# --- inclusion


def test_an_inclusion_zone_left_is_a_breach_that_ends_when_he_is_back(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(5000)), kind="inclusion")])
    assert stay(world, 0, 60, 4000) == []
    [breach] = walk(world, 60, (4000, 0), (5600, 0), 10.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert -120 < breach.distance_m < 0
    back = walk(world, 220, (5600, 0), (4000, 0), 10.0) + stay(world, 390, 500, 4000)
    assert zone_moves(back) == [("breach", "clear")]


def test_the_warning_ring_of_an_inclusion_zone_lies_inside_its_edge(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(5000)), kind="inclusion", warning_m=500.0)])
    assert stay(world, 0, 60, 4000) == []
    assert zone_moves(walk(world, 60, (4000, 0), (4700, 0), 10.0)) == [("clear", "warning")]


def notched() -> dict[str, Any]:
    """Two arms, 400 m wide and 600 m apart, joined at their foot."""
    outline = [(-700, 0), (-700, 3000), (-300, 3000), (-300, 400), (300, 400), (300, 3000), (700, 3000), (700, 0)]
    return polygon([spot(*corner) for corner in [*outline, outline[0]]])


def test_a_way_that_left_an_inclusion_zone_and_came_back_between_two_fixes_is_a_breach(world: Any) -> None:
    world.configure(zones=[world.zone(notched(), kind="inclusion")])
    assert stay(world, 0, 60, -500, 2500) == []
    [breach] = world.ping(120, HIS, 500, 2500, speed_mps=17.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["crossed"] is True
    assert world.start_ms + 60_000 < breach.at_ms < world.start_ms + 120_000


def test_a_way_within_an_inclusion_zone_is_none(world: Any) -> None:
    world.configure(zones=[world.zone(notched(), kind="inclusion")])
    assert stay(world, 0, 60, -500, 200) == []
    assert world.ping(120, HIS, 500, 200, speed_mps=17.0) == []


def test_the_margin_and_the_warning_ring_fit_the_room_a_house_has() -> None:
    """Nobody gets the exit margin of 100 m away from the edge of a house and its garden."""
    home = CaseZone(id=uuid.UUID(int=6), kind="inclusion", geometry=circle(), radius_m=60.0, warning_m=100.0)
    inner, outer, inner_exit, outer_exit = survey(home, 100.0).limits
    assert inner == 0
    assert 0 < inner_exit <= 15
    assert outer < outer_exit < 60


def test_a_curfew_broken_ends_when_he_is_home_again(world: Any) -> None:
    world.configure(zones=[world.zone(circle(), kind="inclusion", radius_m=60.0)])
    assert stay(world, 0, 120, 0) == []
    gone = walk(world, 120, (0, 0), (300, 0), 1.5) + stay(world, 330, 600, 300)
    assert zone_moves(gone) == [("clear", "breach")]
    home = walk(world, 600, (300, 0), (0, 0), 1.5) + stay(world, 810, 1200, 0)
    assert zone_moves(home) == [("breach", "clear")]


def test_where_he_has_room_the_margin_is_the_orders() -> None:
    for geometry, radius_m, kind in ((polygon(square(500)), None, "exclusion"), (circle(), 5000.0, "inclusion")):
        zone = CaseZone(id=uuid.UUID(int=6), kind=kind, geometry=geometry, radius_m=radius_m, warning_m=200.0)
        assert survey(zone, 100.0).limits == (0.0, 200.0, 100.0, 300.0)


def test_a_hole_that_he_lives_in_leaves_room_for_a_breach_to_end() -> None:
    zone = CaseZone(id=uuid.UUID(int=6), kind="exclusion", geometry=polygon(square(5000), square(60)), warning_m=50.0)
    assert survey(zone, 100.0).limits[2] == pytest.approx(15.0, rel=0.05)


# --- the way between two fixes


def test_driving_through_a_place_between_two_fixes_is_a_breach_at_the_time_he_was_there(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    walk(world, 0, (-2500, 0), (-1000, 0), 25.0)
    [breach] = world.ping(140, HIS, 1000, speed_mps=25.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["crossed"] is True
    assert breach.at_ms == pytest.approx(world.start_ms + 100_000, abs=15_000)


def test_driving_past_a_place_between_two_fixes_warns(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)), warning_m=300.0)])
    walk(world, 0, (-2500, 350), (-1000, 350), 25.0)
    assert zone_moves(world.ping(140, HIS, 1000, 350, speed_mps=25.0)) == [("clear", "warning")]


def test_cutting_the_corner_of_a_place_by_less_than_the_noise_is_none(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    walk(world, 0, (-2500, 1500), (-900, 1500), 25.0, every_s=20)
    # the straight way to here passes the corner (200, 200) at 5 m, and lies within for some 10 m
    assert world.ping(180, HIS, 905, -510, speed_mps=25.0, accuracy_m=20.0) == []


def test_fixes_far_apart_in_time_are_not_joined(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    stay(world, 0, 60, -1000)
    assert zone_moves(world.ping(360, HIS, 1000, speed_mps=10.0)) == []


def test_a_fix_that_does_not_fit_and_lies_in_a_place_is_a_warning_until_it_is_confirmed(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    stay(world, 1, 301, 3000, accuracy_m=5.0)
    assert zone_moves(world.ping(311, HIS, 0.0, accuracy_m=5.0, speed_mps=0.0)) == [("clear", "warning")]
    told = stay(world, 321, 341, 0, accuracy_m=5.0)
    assert zone_moves(told) == [("warning", "breach")]


# --- poor fixes


@pytest.mark.parametrize("p_enter", [0.5, 0.3])
def test_in_a_place_smaller_than_the_noise_the_estimate_decides_and_says_so(world: Any, p_enter: float) -> None:
    world.configure(zones=[world.zone(circle(), radius_m=30.0)], p_enter=p_enter)
    [breach] = world.ping(1, HIS, 5.0, accuracy_m=75.0)  # sigma 50
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["uncertain"] is True
    assert breach.p_within < 0.2


@pytest.mark.parametrize("p_enter", [0.5, 0.3])
def test_beside_a_place_smaller_than_the_noise_nothing_is_entered(world: Any, p_enter: float) -> None:
    """The straight edge alone would say Φ(-10/50) = 0.42."""
    world.configure(zones=[world.zone(circle(), radius_m=30.0)], p_enter=p_enter)
    assert world.ping(1, HIS, 40.0, accuracy_m=75.0) == []


def test_poor_fixes_and_none_at_all_lower_nothing(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    assert zone_moves(stay(world, 0, 60, 400)) == [("clear", "breach")]
    poor = [each for now_s in range(90, 900, 30) for each in world.ping(now_s, HIS, 800.0, accuracy_m=600.0)]
    assert zone_moves(poor) == []
    assert zone_moves(world.ticks(900, 1200)) == []


def test_a_poor_fix_does_not_take_him_out_of_his_home(world: Any) -> None:
    world.configure(zones=[world.zone(circle(), kind="inclusion", radius_m=60.0)])
    assert stay(world, 0, 300, 10) == []
    assert zone_moves(world.ping(330, HIS, 150.0, accuracy_m=600.0)) == []
    assert zone_moves(stay(world, 360, 600, 10)) == []


@pytest.mark.parametrize(
    ("away_m", "speed_mps", "seed"), [(60.0, 0.0, 1), (80.0, 0.0, 2), (100.0, math.nan, 3), (100.0, math.nan, 4)]
)
def test_a_day_at_rest_beside_a_place_in_the_noise_of_a_city_is_no_breach(
    world: Any, away_m: float, speed_mps: float, seed: int
) -> None:
    """With a device that says it rests, and farther off with one that says nothing (NaN)."""
    world.configure(zones=[world.zone(polygon(square(300)))])
    frame, noise = Frame(MIDDLE), CityNoise(seed)
    truth = frame.point(300 + away_m, 0)
    told: list[Transition] = []
    for now_s in range(0, 86_400, 60):
        fix = noise.fix(truth, float(now_s))
        east_m, north_m = frame.offset_m(fix.point)
        flags = FLAG_PRIMARY | SOURCE_FLAGS[fix.source]
        told += world.ping(now_s, HIS, east_m, north_m, accuracy_m=fix.accuracy_m, speed_mps=speed_mps, flags=flags)
    assert "breach" not in [into for _, into in zone_moves(told)]
