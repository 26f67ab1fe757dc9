"""Places: what is a geometry, how far its edge is, when it holds, and what the engine makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from geopy.distance import geodesic

from core.errors import InvalidInput
from geo.frame import flatten, to_vectors
from geo.shapes import signed_distance
from geo.zones import local_shape, validate_geometry


def degrees(east_m: float, north_m: float) -> list[float]:
    return [76.95 + east_m / 81_150.0, 43.25 + north_m / 111_100.0]


def square(half_m: float, east_m: float = 0.0, north_m: float = 0.0) -> list[list[float]]:
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return [degrees(east_m + x * half_m, north_m + y * half_m) for x, y in corners]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def distance_to(geometry: dict[str, Any], lon: float, lat: float, *, radius_m: float | None = None) -> float:
    plane, shape = local_shape(geometry, radius_m)
    here = flatten(plane, to_vectors(np.array([lat]), np.array([lon])))
    shapes, edges = np.array([shape], dtype=object), np.array([shape.boundary], dtype=object)
    return float(signed_distance(shapes, edges, np.array([False]), here)[0])


def test_a_good_polygon_keeps_its_places_and_gets_its_winding_mended() -> None:
    mended = validate_geometry(polygon(square(500)[::-1], square(100)))
    assert shapely.geometry.shape(mended).exterior.is_ccw
    assert not shapely.geometry.shape(mended).interiors[0].is_ccw
    assert sorted(map(tuple, mended["coordinates"][0])) == sorted(map(tuple, square(500)))


def test_altitudes_are_dropped() -> None:
    mended = validate_geometry(polygon([[*position, 800.0] for position in square(500)]))
    assert {len(position) for position in mended["coordinates"][0]} == {2}


@pytest.mark.parametrize(
    ("geometry", "radius_m", "words"),
    [
        (polygon([degrees(0, 0), degrees(900, 900), degrees(900, 0), degrees(0, 900), degrees(0, 0)]), None,
         r"crosses itself at longitude 76\.9555\d+, latitude 43\.2540\d+"),
        (polygon(square(500)[:-1]), None, "a ring has to be closed"),
        (polygon(square(500)[:2]), None, "fewer than 4 positions in the outer ring"),
        (polygon([[43.2, 176.9], *square(500)[1:-1], [43.2, 176.9]]), None, "out of range.*longitude first"),
        (polygon([[float("nan"), 1.0]] * 4), None, "not a finite number"),
        (polygon([["a", 1.0]] * 4), None, r"not \[longitude, latitude\]"),
        (polygon(square(1)), None, "at least 10 m²"),
        (polygon(square(900_000)), None, "spans more than"),
        (polygon(square(500), square(100, 5000)), None, "hole lies outside shell at longitude"),
        (polygon(), None, "no ring"),
        ({"type": "Point", "coordinates": [76.9, 43.2]}, None, "needs radius_m"),
        ({"type": "LineString", "coordinates": [[76.9, 43.2], [76.9, 43.2]]}, 50.0, "no length"),
        (polygon(square(500)), 300.0, "radius_m belongs to a Point"),
        ({"type": "Point", "coordinates": [76.9, 43.2]}, 0.5, "needs radius_m"),
        (polygon([[0.0, 85.0], [90.0, 85.0], [180.0, 85.0], [-90.0, 85.0], [0.0, 85.0]]), None,
         "may not go round a pole; the outer ring of the polygon does"),
        (polygon([degrees(0, 0), degrees(9, 0), degrees(0, 0), degrees(0, 0)]), None,
         "fewer than 3 different positions in the outer ring"),
        (polygon([degrees(0, 0), degrees(900, 0), degrees(1800, 0), degrees(0, 0)]), None,
         "outer ring of the polygon: "),
        (polygon([*square(500)[:2], degrees(900, -500), *square(500)[1:]]), None, "outer ring of the polygon: "),
        (polygon(square(500), square(300), square(100)), None, "fault in the polygon: .* at longitude"),
        (polygon(square(500), [degrees(0, 0), degrees(9, 9), degrees(9, 0), degrees(0, 9), degrees(0, 0)]), None,
         "hole 1 of the polygon: it crosses itself at longitude"),
        ({"type": "MultiPolygon", "coordinates": [[square(500)], [square(300)]]}, None, "do not fit together"),
        ({"type": "MultiPolygon", "coordinates": [[square(500)], [square(500, 3000)[:-1]]]}, None,
         "outer ring of polygon 2: a ring has to be closed"),
        (polygon([*square(500)[:2], [10**400, 0], *square(500)[2:]]), None,
         "Position 3 of the outer ring of the polygon"),
        (polygon([[True, 1.0]] * 4), None, r"Position 1 of the outer ring of the polygon is not \[longitude"),
        (polygon([[76.9, 89.5]] * 4), None, "latitude goes to 89"),
        ({"type": "GeometryCollection"}, None, "has to be a Polygon"),
        ("text", None, "has to be a Polygon"),
        ({"type": "MultiPolygon", "coordinates": []}, None, "no coordinates"),
    ],
)  # fmt: skip
def test_a_bad_geometry_is_refused_with_words_that_say_where(geometry: Any, radius_m: float | None, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        validate_geometry(geometry, radius_m)
    assert caught.value.code == "geometry_invalid"


def test_what_crosses_the_antimeridian_is_cut_there_and_is_one_place() -> None:
    ring = [[179.9, 52.0], [-179.9, 52.0], [-179.9, 52.1], [179.9, 52.1], [179.9, 52.0]]
    mended = validate_geometry(polygon(ring))
    assert mended["type"] == "MultiPolygon"
    assert len(mended["coordinates"]) == 2
    for geometry in (polygon(ring), mended):
        inside = distance_to(geometry, 180.0, 52.05)
        assert inside == pytest.approx(-geodesic((52.05, 180), (52.0, 180)).m, rel=2e-3)
        assert distance_to(geometry, -179.9 + 0.02, 52.05) == pytest.approx(1372, rel=5e-3)


def test_distances_to_the_edge_are_metres_and_negative_inside() -> None:
    zone = polygon(square(500), square(100))
    assert distance_to(zone, *degrees(700, 0)) == pytest.approx(200, rel=0.01)
    assert distance_to(zone, *degrees(450, 0)) == pytest.approx(-50, rel=0.01)
    assert distance_to(zone, *degrees(0, 0)) == pytest.approx(100, rel=0.01)


def test_a_circle_and_a_buffered_line_are_places_too() -> None:
    middle = {"type": "Point", "coordinates": degrees(0, 0)}
    assert validate_geometry(middle, 300.0) == middle
    assert distance_to(middle, *degrees(500, 0), radius_m=300.0) == pytest.approx(200, rel=0.01)
    street = {"type": "LineString", "coordinates": [degrees(-500, 0), degrees(500, 0)]}
    validate_geometry(street, 50.0)
    assert distance_to(street, *degrees(0, 80), radius_m=50.0) == pytest.approx(30, rel=0.02)


def test_the_far_side_of_the_earth_is_far() -> None:
    assert distance_to(polygon(square(500)), -103.05, -43.25) > 10_000_000


def test_what_was_cut_at_the_antimeridian_may_be_sent_again() -> None:
    ring = [[179.9, 52.0], [-179.9, 52.0], [-179.9, 52.1], [179.9, 52.1], [179.9, 52.0]]
    mended = validate_geometry(polygon(ring))
    again = validate_geometry(mended)
    assert again["type"] == "MultiPolygon"
    assert distance_to(again, 180.0, 52.05) == pytest.approx(distance_to(mended, 180.0, 52.05))


def test_a_line_may_cross_the_antimeridian_and_a_circle_lie_on_it() -> None:
    line = validate_geometry({"type": "LineString", "coordinates": [[179.99, 10.0], [-179.99, 10.0]]}, 100.0)
    assert distance_to(line, 180.0, 10.0, radius_m=100.0) == pytest.approx(-100, rel=1e-3)
    point = validate_geometry({"type": "Point", "coordinates": [180.0, 10.0]}, 500.0)
    assert distance_to(point, -179.99, 10.0, radius_m=500.0) == pytest.approx(
        geodesic((10, 180), (10, -179.99)).m - 500, rel=1e-3
    )


def test_the_parts_of_a_multipolygon_are_one_zone() -> None:
    yards = validate_geometry({"type": "MultiPolygon", "coordinates": [[square(100)], [square(100, 1000)]]})
    assert distance_to(yards, *degrees(0, 0)) == pytest.approx(-100, rel=0.01)
    assert distance_to(yards, *degrees(1000, 0)) == pytest.approx(-100, rel=0.01)
    assert distance_to(yards, *degrees(500, 0)) == pytest.approx(400, rel=0.01)
