"""Routes, the local frame they are drawn in, and a loiterer's patience."""

from __future__ import annotations

import itertools
import math

import pytest
from geopy.distance import geodesic
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.geodesy import Frame, Point, distance_m
from device_sim.routes import Loiter, Motion, Path, Route, Stay

ALMATY = Point(43.238, 76.945)


@given(
    lat=st.floats(-80, 80),
    lon=st.floats(-180, 180),
    east_m=st.floats(-10_000, 10_000),
    north_m=st.floats(-10_000, 10_000),
)
def test_an_offset_leads_to_a_point_and_back(lat: float, lon: float, east_m: float, north_m: float) -> None:
    frame = Frame(Point(lat, lon))
    assert frame.offset_m(frame.point(east_m, north_m)) == pytest.approx((east_m, north_m), abs=1e-3)


@given(lat=st.floats(-60, 60), east_m=st.floats(-5_000, 5_000), north_m=st.floats(-5_000, 5_000))
@settings(max_examples=50)
def test_distances_agree_with_the_geodesic(lat: float, east_m: float, north_m: float) -> None:
    one = Point(lat, 179.99)
    other = Frame(one).point(east_m, north_m)
    assert distance_m(one, other) == pytest.approx(geodesic(one, other).m, rel=1e-3, abs=0.01)


def test_a_frame_near_a_pole_is_refused() -> None:
    with pytest.raises(ValueError, match="latitude"):
        Frame(Point(89.9, 0))


def test_a_walker_keeps_her_speed_turns_at_corners_and_rests_at_the_end() -> None:
    frame = Frame(ALMATY)
    path = Path([ALMATY, frame.point(100, 0), frame.point(100, 50)], 2.0, start_s=10)
    assert path.length_m == pytest.approx(150, abs=0.01)
    assert path.duration_s == pytest.approx(85, abs=0.01)
    assert path.at(0) == Motion(ALMATY, 0.0, None)
    east = path.at(35)
    assert distance_m(ALMATY, east.point) == pytest.approx(50, abs=0.05)
    assert (east.speed_mps, east.heading_deg) == (2.0, pytest.approx(90, abs=0.1))
    assert path.at(70).heading_deg == pytest.approx(0, abs=0.1)
    end = path.at(1e6)
    assert distance_m(end.point, frame.point(100, 50)) < 0.01
    assert end.speed_mps == 0


def test_a_looping_path_comes_round_again() -> None:
    frame = Frame(ALMATY)
    path = Path([ALMATY, frame.point(100, 0)], 10.0, loop=True)
    assert distance_m(path.at(3).point, path.at(23).point) < 0.01
    assert path.at(1e6 + 1).speed_mps == 10


def test_a_path_of_one_point_is_a_stay() -> None:
    assert Path([ALMATY]).at(100).point == ALMATY
    assert Path([ALMATY], loop=True).at(100).speed_mps == 0
    assert Stay(ALMATY).at(5) == Motion(ALMATY, 0.0, None)


@pytest.mark.parametrize("speed_mps", [0, -1, math.nan, math.inf])
def test_a_speed_that_is_none_is_refused(speed_mps: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Path([ALMATY], speed_mps)


def test_a_loiterer_stays_near_moves_at_his_pace_and_is_the_same_for_the_same_seed() -> None:
    one: Route = Loiter(ALMATY, 60, 1.4, seed=3)
    same: Route = Loiter(ALMATY, 60, 1.4, seed=3)
    places = [one.at(t).point for t in range(0, 3600, 5)]
    assert places == [same.at(t).point for t in range(0, 3600, 5)]
    assert max(distance_m(ALMATY, place) for place in places) <= 60.1
    steps = [distance_m(a, b) for a, b in itertools.pairwise(places)]
    assert max(steps) <= 1.4 * 5 + 0.1
    assert sum(steps) > 500
