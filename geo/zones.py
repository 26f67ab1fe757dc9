"""Places: a GeoJSON geometry is validated, mended, and surveyed for the engine.

What is accepted here can be surveyed (`survey`), measured (`geo.shapes`) and scheduled (`geo.schedules`); what is
refused is refused with words that say where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from core.domain.case import CaseZone
from core.errors import InvalidInput
from geo.frame import Floats
from geo.schedules import holds_at, next_change_ms
from geo.shapes import EXTENT_MAX_M, RADIUS_MAX_M, local_shape, room_m, span_m, unwrapped

__all__ = ["Survey", "holds_at", "local_shape", "next_change_ms", "survey", "validate_geometry"]

VERTICES_MAX: Final = 10_000
AREA_MIN_M2: Final = 10.0
RADIUS_MIN_M: Final = 1.0
LATITUDE_MAX: Final = 89.0
SLIVER_DEG2: Final = 1e-14
"""What is cut off at the antimeridian and is smaller (0.1 mm²) is no place."""
OVERLAP_SHARE: Final = 1e-9
"""Parts that share an edge, as those cut at the antimeridian do, overlap by rounding only."""

Position = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the engine keeps of a zone."""

    plane: Floats
    """The plane it is laid flat on, (9,)."""
    shape: Any
    edge: Any
    """Prepared shapely geometries, metres on that plane."""
    reach_m: float
    """Radius of a circle about the plane's origin that holds the shape."""
    size_m: float
    """Radius of a circle of the same area."""
    limits: tuple[float, float, float, float]
    """Inner and outer radius, and how far from the edge he has to be for each to fall."""


def survey(zone: CaseZone, exit_margin_m: float) -> Survey:
    """Lay a zone out in metres. Raises ValueError, and nothing else, for one that is no place.

    The margin of leaving, and for an inclusion zone the ring of warning, fit the room he has: nobody gets 100 m away
    from the edge of a house and its garden, and a breach there could not end.
    """
    try:
        inclusion = zone.kind == "inclusion"
        plane, shape = local_shape(zone.geometry, zone.radius_m)
        room = room_m(shape, inclusion)
        edge = shape.boundary
        area, reach_m = float(shape.area), float(np.linalg.norm(shapely.get_coordinates(shape), axis=1).max())
        shapely.prepare(shape)
        shapely.prepare(edge)
    except Exception as error:  # a configuration is taken whole: no geometry in it may cost the others
        raise ValueError("the geometry is no place") from error
    if shape.is_empty or not (0 < area < math.inf and math.isfinite(reach_m)):
        raise ValueError("the geometry has no area")
    outer = max(zone.warning_m, 0.0)
    margin = min(exit_margin_m, room / 4)
    if inclusion:
        outer = min(outer, room / 2)
    return Survey(plane, shape, edge, reach_m, math.sqrt(area / math.pi), (0.0, outer, margin, outer + margin))


def validate_geometry(geojson: dict[str, Any], radius_m: float | None = None) -> dict[str, Any]:
    """A zone's geometry, mended: winding as RFC 7946 has it, altitudes dropped, cut at the antimeridian.

    Polygon and MultiPolygon stand for themselves; Point and LineString want `radius_m`. Raises InvalidInput
    `geometry_invalid` that says what is wrong and where, and nothing else.
    """
    try:
        return _validated(geojson, radius_m)
    except InvalidInput:
        raise
    except Exception as error:  # GEOS has faults of its own for what is barely a geometry
        raise _wrong("The geometry cannot be understood as a place.") from error


def _validated(geojson: Any, radius_m: Any) -> dict[str, Any]:
    kind = geojson.get("type") if isinstance(geojson, dict) else None
    coordinates = geojson.get("coordinates") if isinstance(geojson, dict) else None
    if kind in ("Point", "LineString"):
        return _about(kind, coordinates, radius_m)
    if kind not in ("Polygon", "MultiPolygon"):
        raise _wrong("The geometry has to be a Polygon, MultiPolygon, Point or LineString.")
    if radius_m:
        raise _wrong(f"A {kind} stands for itself: radius_m belongs to a Point or a LineString; leave it out.")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list | tuple) or not parts:
        raise _wrong(f"The {kind} has no coordinates.")
    polygons: list[Any] = []
    count = 0
    for index, part in enumerate(parts, start=1):
        polygon = _polygon(part, f"polygon {index}" if len(parts) > 1 else "the polygon")
        count += int(shapely.get_num_coordinates(polygon))
        if count > VERTICES_MAX:
            raise _wrong(f"The geometry has more than {VERTICES_MAX} positions.")
        polygons.append(polygon if not polygons else _turned(polygon, polygons[0].exterior.coords[0][0]))
    polygons = _fitted(polygons)
    _within_extent(np.concatenate([shapely.get_coordinates(polygon) for polygon in polygons]))
    _, local = local_shape(_geojson(polygons), None)
    if not local.area >= AREA_MIN_M2:
        raise _wrong(f"The area is {local.area:.1f} m²; it has to be at least {AREA_MIN_M2:g} m².")
    mended = [part for polygon in polygons for part in _cut_at_antimeridian(polygon)]
    return _geojson([shapely.geometry.polygon.orient(polygon) for polygon in mended])


def _about(kind: str, coordinates: Any, radius_m: Any) -> dict[str, Any]:
    """A circle about a point, or all that is near a line."""
    if not isinstance(radius_m, int | float) or not RADIUS_MIN_M <= radius_m <= RADIUS_MAX_M:
        raise _wrong(f"A {kind} needs radius_m between {RADIUS_MIN_M:g} and {RADIUS_MAX_M:g} metres.")
    if kind == "Point":
        return {"type": "Point", "coordinates": list(_position(coordinates, "The position of the point"))}
    line = _positions(coordinates, "the line", least=2)
    _within_extent(np.asarray(unwrapped(line)))
    if len(set(line)) < 2:
        raise _wrong("The line has no length: all its positions are the same.")
    mended = {"type": "LineString", "coordinates": [list(position) for position in line]}
    local_shape(mended, radius_m)
    return mended


def _wrong(detail: str) -> InvalidInput:
    return InvalidInput(detail, code="geometry_invalid")


def _position(value: Any, name: str) -> Position:
    if (
        not isinstance(value, list | tuple)
        or len(value) < 2
        or not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value[:2])
    ):
        raise _wrong(f"{name} is not [longitude, latitude].")
    if not all(isinstance(part, int) or math.isfinite(part) for part in value[:2]):
        raise _wrong(f"{name} is not a finite number.")
    if not (-180 <= value[0] <= 180 and -LATITUDE_MAX <= value[1] <= LATITUDE_MAX):
        raise _wrong(
            f"{name} is out of range: longitude {_shown(value[0])}, latitude {_shown(value[1])}"
            f" (GeoJSON has longitude first; latitude goes to {LATITUDE_MAX:g})."
        )
    return float(value[0]), float(value[1])


def _shown(part: float) -> str:
    return f"{part:.10g}" if abs(part) < 1e15 else "beyond any"  # an integer may be longer than a float


def _positions(value: Any, where: str, least: int) -> list[Position]:
    if not isinstance(value, list | tuple) or len(value) < least:
        raise _wrong(f"There are fewer than {least} positions in {where}.")
    if len(value) > VERTICES_MAX:
        raise _wrong(f"There are more than {VERTICES_MAX} positions in {where}.")
    return [_position(item, f"Position {number} of {where}") for number, item in enumerate(value, start=1)]


def _polygon(rings: Any, where: str) -> Any:
    if not isinstance(rings, list | tuple) or not rings:
        raise _wrong(f"There is no ring in {where}.")
    if len(rings) > VERTICES_MAX:
        raise _wrong(f"There are more than {VERTICES_MAX} rings in {where}.")
    checked = []
    for index, ring in enumerate(rings):
        name = f"the outer ring of {where}" if index == 0 else f"hole {index} of {where}"
        positions = _positions(ring, name, least=4)
        if positions[0] != positions[-1]:
            raise _wrong(f"The first and the last position differ in {name}: a ring has to be closed.")
        if len(set(positions)) < 3:
            raise _wrong(f"There are fewer than 3 different positions in {name}.")
        turned = unwrapped(positions)
        if abs(turned[-1][0] - turned[0][0]) > 180:
            raise _wrong(f"A ring may not go round a pole; {name} does.")
        alone = shapely.Polygon(turned)
        if not alone.is_valid:
            raise _wrong(f"There is a fault in {name}: {_reason(alone)}.")
        checked.append(turned)
    anchor = checked[0][0][0]
    for hole in checked[1:]:  # a hole beyond the antimeridian moves to where its outer ring was moved
        shift = 360.0 * round((anchor - hole[0][0]) / 360.0)
        hole[:] = [(lon + shift, lat) for lon, lat in hole]
    polygon = shapely.Polygon(checked[0], checked[1:])
    if not polygon.is_valid:
        raise _wrong(f"There is a fault in {where}: {_reason(polygon)}.")
    return polygon


def _turned(polygon: Any, anchor: float) -> Any:
    """A part beyond the antimeridian, moved to where the first part is."""
    shift = 360.0 * round((anchor - polygon.exterior.coords[0][0]) / 360.0)
    return shapely.affinity.translate(polygon, xoff=shift) if shift else polygon


def _fitted(polygons: list[Any]) -> list[Any]:
    """Parts that may stand side by side; those that share an edge (a cut at the antimeridian) become one."""
    whole = shapely.MultiPolygon(polygons)
    if whole.is_valid:
        return polygons
    merged = shapely.union_all(polygons)
    area = sum(polygon.area for polygon in polygons)
    if not merged.is_valid or merged.area < area * (1 - OVERLAP_SHARE):
        raise _wrong(f"The polygons do not fit together: {_reason(whole)}.")
    return [part for part in shapely.get_parts(merged).tolist() if part.geom_type == "Polygon"]


def _reason(shape: Any) -> str:
    """GEOS's reason as a sentence that says where."""
    reason = str(shapely.is_valid_reason(shape))
    found = re.fullmatch(r"(.*?)\s*\[(\S+) (\S+)\]", reason)
    if not found:
        return reason
    words = {"Self-intersection": "it crosses itself", "Ring Self-intersection": "a ring touches itself"}
    what = words.get(found[1], found[1].lower())
    lon = (float(found[2]) + 180.0) % 360.0 - 180.0
    return f"{what} at longitude {lon:.6f}, latitude {float(found[3]):.6f}"


def _cut_at_antimeridian(polygon: Any) -> list[Any]:
    """RFC 7946, 3.1.9: what crosses the antimeridian is cut there."""
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    parts = []
    for turn in (-360, 0, 360):
        cut = polygon.intersection(shapely.box(-180 + turn, -90, 180 + turn, 90))
        pieces = cut.geoms if hasattr(cut, "geoms") else [cut]
        parts += [shapely.affinity.translate(piece, xoff=-turn) for piece in pieces if piece.geom_type == "Polygon"]
    return [part for part in parts if part.is_valid and part.area > SLIVER_DEG2]


def _within_extent(degrees: NDArray[np.float64]) -> None:
    """Refuse what is larger than a region; (n, 2) longitude, latitude, unwrapped."""
    if span_m(degrees) > EXTENT_MAX_M:
        raise _wrong(f"The geometry spans more than {EXTENT_MAX_M / 1000:.0f} km.")


def _geojson(polygons: Sequence[Any]) -> dict[str, Any]:
    def ring(coords: Any) -> list[list[float]]:
        return [[float(lon), float(lat)] for lon, lat in coords]

    parts = [[ring(each.coords) for each in (polygon.exterior, *polygon.interiors)] for polygon in polygons]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}
