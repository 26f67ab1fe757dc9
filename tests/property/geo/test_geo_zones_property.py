"""Whatever is sent as a geometry is refused with words that say where, or measured as the earth is."""

from __future__ import annotations

import itertools
import math
import re
import uuid
from typing import Any

import numpy as np
import pytest
import shapely
from geopy.distance import geodesic
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from core.domain.case import CaseZone
from core.errors import InvalidInput
from geo.frame import flatten, to_vectors
from geo.shapes import least_on_way, signed_distance
from geo.zones import AREA_MIN_M2, survey, validate_geometry

SAYS_WHERE = re.compile(
    r"polygon|ring|hole|position|point|line|area|spans|coordinates|radius_m|has to be a Polygon", re.IGNORECASE
)

numbers = st.one_of(
    st.floats(-180, 180),
    st.sampled_from([0.0, 179.9999, 180.0, -180.0, 181.0, 89.0, 89.1, 90.0, -90.0, 1e-320, 1e308, math.nan, math.inf]),
    st.integers(-200, 200),
    st.sampled_from([10**400, -(10**400), None, "1", True, [1]]),
)
positions = st.one_of(st.lists(numbers, min_size=0, max_size=4), st.none(), st.text(max_size=2))
grid = st.tuples(st.integers(0, 6), st.integers(0, 6))


def on_grid(corners: list[tuple[int, int]], lon: float, lat: float, step: float) -> list[list[float]]:
    ring = [[lon + x * step, lat + y * step] for x, y in corners]
    return [[(x + 180) % 360 - 180 if abs(x) > 180 else x, y] for x, y in [*ring, ring[0]]]


origins = st.tuples(
    st.sampled_from([76.9, 0.0, 179.9999, -180.0, -0.01]), st.sampled_from([43.2, 0.0, -88.9, 88.9, 60.0])
)
drawn_rings = st.tuples(st.lists(st.lists(grid, min_size=3, max_size=8), min_size=1, max_size=3), origins,
                        st.sampled_from([1e-9, 1e-4, 1e-2, 1.0]))  # fmt: skip


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """Rings on a small grid: bow-ties, spikes, repeated points, no area, holes outside, nested and touching."""

    def polygon() -> list[list[list[float]]]:
        rings, (lon, lat), step = draw(drawn_rings)
        return [on_grid(ring, lon, lat, step) for ring in rings]

    if draw(st.booleans()):
        return {"type": "Polygon", "coordinates": polygon()}
    return {"type": "MultiPolygon", "coordinates": [polygon() for _ in range(draw(st.integers(1, 3)))]}


@st.composite
def nonsense(draw: st.DrawFn) -> dict[str, Any]:
    depth = {"Point": positions, "LineString": st.lists(positions, max_size=4),
             "Polygon": st.lists(st.lists(positions, max_size=5), max_size=2),
             "MultiPolygon": st.lists(st.lists(st.lists(positions, max_size=5), max_size=2), max_size=2)}  # fmt: skip
    kind = draw(st.sampled_from(sorted(depth)))
    closed = draw(depth[draw(st.sampled_from(sorted(depth)))] | st.sampled_from([None, {}, 5, "text"]))
    return {"type": kind, "coordinates": closed}


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    geojson=drawn() | nonsense(), radius_m=st.sampled_from([None, None, None, 50.0, 0.0, math.nan, math.inf, 10**400])
)
def test_a_geometry_is_refused_with_words_that_say_where_or_is_a_place(geojson: dict[str, Any], radius_m: Any) -> None:
    refusal, mended = validated(geojson, radius_m)
    event("refused" if mended is None else "accepted")
    if mended is None:
        assert refusal.code == "geometry_invalid"
        assert SAYS_WHERE.search(str(refusal)), refusal
        return
    assert shapely.geometry.shape(mended).is_valid
    radius = radius_m if mended["type"] in ("Point", "LineString") else None
    found = surveyed(mended, radius)
    assert found.shape.is_valid
    assert found.shape.geom_type in ("Polygon", "MultiPolygon")
    assert found.shape.area > AREA_MIN_M2 / 4
    again = validate_geometry(mended, radius)
    assert surveyed(again, radius).shape.area == pytest.approx(found.shape.area, rel=1e-6)


def validated(geojson: Any, radius_m: Any) -> tuple[Any, dict[str, Any] | None]:
    try:
        return None, validate_geometry(geojson, radius_m)
    except InvalidInput as refusal:
        return refusal, None


def surveyed(geometry: dict[str, Any], radius_m: float | None = None, kind: str = "exclusion") -> Any:
    return survey(CaseZone(id=uuid.UUID(int=1), kind=kind, geometry=geometry, radius_m=radius_m), 100.0)


@settings(max_examples=200)
@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=4), max_leaves=12),
       st.sampled_from(["Polygon", "MultiPolygon", "Point", "LineString", "Feature"]),
       st.none() | st.floats())  # fmt: skip
def test_surveying_whatever_came_into_the_log_costs_that_zone_only(coordinates: Any, kind: str, radius: Any) -> None:
    """The engine takes what the log says without the checks of the interface."""
    try:
        found = surveyed({"type": kind, "coordinates": coordinates}, radius)
    except ValueError:
        return
    assert 0 < found.size_m < math.inf
    assert found.reach_m < math.inf


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float, list[tuple[float, float]]]:
    """Longitude and latitude of a middle anywhere, and the corners of a star about it, metres east and north."""
    lon = draw(st.one_of(st.floats(-180, 180), st.sampled_from([180.0, -180.0, 179.999, -179.9999])))
    lat = draw(st.one_of(st.floats(-85, 85), st.sampled_from([88.5, -88.5, 0.0])))
    count = draw(st.integers(3, 9))
    size_m = draw(st.sampled_from([50.0, 500.0, 5000.0]))
    radii = [draw(st.floats(0.3, 1.0)) * size_m for _ in range(count)]
    return lon, lat, [(r * math.cos(2 * math.pi * k / count), r * math.sin(2 * math.pi * k / count))
                      for k, r in enumerate(radii)]  # fmt: skip


def to_position(lon: float, lat: float, east_m: float, north_m: float) -> tuple[float, float]:
    return lon + east_m / (111_320.0 * math.cos(math.radians(lat))), lat + north_m / 111_320.0


def wrapped(position: tuple[float, float]) -> list[float]:
    return [(position[0] + 180) % 360 - 180, position[1]]


@settings(max_examples=150, deadline=None)
@given(place=places(), share=st.floats(0, 1), turn=st.floats(0, 2 * math.pi), clockwise=st.booleans())
def test_inside_and_distance_are_those_of_the_earth_at_any_latitude_and_across_the_date_line(
    place: tuple[float, float, list[tuple[float, float]]], share: float, turn: float, clockwise: bool
) -> None:
    lon, lat, corners = place
    ring = [to_position(lon, lat, *corner) for corner in corners]
    ring = [*ring, ring[0]][:: -1 if clockwise else 1]
    found = surveyed(validate_geometry({"type": "Polygon", "coordinates": [[wrapped(each) for each in ring]]}))
    far_m = 3 * max(math.hypot(*corner) for corner in corners) * share
    spot = to_position(lon, lat, far_m * math.cos(turn), far_m * math.sin(turn))
    here = flatten(found.plane, to_vectors(np.array([spot[1]]), np.array([spot[0]])))
    got = float(signed_distance(objects(found.shape), objects(found.edge), np.array([False]), here)[0])
    true_m = geodesic_to(ring, spot)
    assert abs(got) == pytest.approx(true_m, rel=1e-3, abs=0.06)
    if true_m > 0.1:
        assert (got < 0) == shapely.Polygon(ring).contains(shapely.Point(spot))


def objects(shape: Any) -> Any:
    out = np.empty(1, dtype=object)
    out[0] = shape
    return out


def geodesic_to(ring: list[tuple[float, float]], spot: tuple[float, float]) -> float:
    """Metres from a spot to the nearest of the edges, straight in longitude and latitude, by golden section."""
    golden = (math.sqrt(5) - 1) / 2

    def metres(start: tuple[float, float], end: tuple[float, float], at: float) -> float:
        lon, lat = (a + at * (b - a) for a, b in zip(start, end, strict=True))
        return float(geodesic((spot[1], wrapped(spot)[0]), (lat, wrapped((lon, lat))[0])).m)

    least = math.inf
    for start, end in itertools.pairwise(ring):
        low, high = 0.0, 1.0
        for _ in range(30):
            one, two = high - golden * (high - low), low + golden * (high - low)
            if metres(start, end, one) < metres(start, end, two):
                high = two
            else:
                low = one
        least = min(least, metres(start, end, (low + high) / 2))
    return least


@settings(max_examples=60, deadline=None)
@given(
    lon=st.sampled_from([0.0, 76.9, 180.0, -179.9]),
    lat=st.floats(-80, 80),
    radius_m=st.sampled_from([30.0, 300.0, 20_000.0]),
    turn=st.floats(0, 2 * math.pi),
    away=st.floats(0.1, 3.0),
)
def test_a_circle_is_as_far_as_its_radius(lon: float, lat: float, radius_m: float, turn: float, away: float) -> None:
    found = surveyed(validate_geometry({"type": "Point", "coordinates": [lon, lat]}, radius_m), radius_m)
    goal = geodesic(meters=away * radius_m).destination((lat, lon), math.degrees(turn))
    here = flatten(found.plane, to_vectors(np.array([goal.latitude]), np.array([goal.longitude])))
    got = float(signed_distance(objects(found.shape), objects(found.edge), np.array([False]), here)[0])
    assert got == pytest.approx((away - 1) * radius_m, abs=max(1e-3 * away, 2e-4) * radius_m)


@settings(max_examples=60, deadline=None)
@given(
    place=places(),
    ends=st.tuples(*[st.floats(-2, 2)] * 4),
    inclusion=st.booleans(),
)
def test_the_least_distance_of_a_way_is_no_greater_than_at_its_ends_and_no_less_than_its_length_allows(
    place: tuple[float, float, list[tuple[float, float]]], ends: tuple[float, ...], inclusion: bool
) -> None:
    lon, lat, corners = place
    ring = [wrapped(to_position(lon, lat, *corner)) for corner in corners]
    found = surveyed(validate_geometry({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}))
    start, end = (np.array([ends[:2]]) * found.reach_m, np.array([ends[2:]]) * found.reach_m)
    length = float(np.linalg.norm(end - start))
    assume(length > 1)
    shape, edge, facing = objects(found.shape), objects(found.edge), np.array([inclusion])
    least, share, beyond = least_on_way(shape, edge, facing, start, end)
    at_ends = [float(signed_distance(shape, edge, facing, each)[0]) for each in (start, end)]
    assert min(at_ends) - length / 2 - 1e-6 <= least[0] <= min(at_ends) + 1e-6
    assert 0 <= share[0] <= 1
    assert -1e-6 <= beyond[0] <= length + 1e-6
    if least[0] < -1e-6:
        assert beyond[0] > 0
