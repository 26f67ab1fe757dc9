"""Places: a GeoJSON geometry is validated, mended, flattened to local metres, scheduled, measured to its edge."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import shapely
from numpy.typing import NDArray

from core.clock import from_ms, to_ms
from core.domain.case import CaseZone
from core.errors import InvalidInput
from geo.frame import Floats, flatten, tangent_plane, to_vectors

VERTICES_MAX: Final = 10_000
EXTENT_MAX_M: Final = 1_500_000.0
AREA_MIN_M2: Final = 10.0
RADIUS_MIN_M: Final = 1.0
RADIUS_MAX_M: Final = 100_000.0
LATITUDE_MAX: Final = 89.0
CIRCLE_SEGMENTS: Final = 64
"""Segments a quarter: the polygon is inside the circle by less than 0.01 % of its radius."""
EDGE_STEP_DEG: Final = 0.05
"""Longer edges are bent, so that flattened they still follow the straight line of longitude and latitude."""
WINDOWS_MAX: Final = 64
DAY: Final = timedelta(days=1)
LOOK_AHEAD_DAYS: Final = 8


def validate_geometry(geojson: dict[str, Any], radius_m: float | None = None) -> dict[str, Any]:
    """A zone's geometry, mended: winding as RFC 7946 has it, altitudes dropped, cut at the antimeridian.

    Polygon and MultiPolygon stand for themselves; Point and LineString want `radius_m`. Raises InvalidInput
    `geometry_invalid` that says what is wrong and where.
    """
    kind = geojson.get("type") if isinstance(geojson, dict) else None
    coordinates = geojson.get("coordinates") if isinstance(geojson, dict) else None
    if kind in ("Point", "LineString"):
        if radius_m is None or not RADIUS_MIN_M <= radius_m <= RADIUS_MAX_M:
            raise _wrong(f"A {kind} needs radius_m between {RADIUS_MIN_M:g} and {RADIUS_MAX_M:g} metres.")
        if kind == "Point":
            return {"type": "Point", "coordinates": list(_position(coordinates, "the point"))}
        line = _positions(coordinates, "the line", least=2)
        _within_extent(np.asarray(_unwrapped(line)))
        if len(set(line)) < 2:
            raise _wrong("The line has no length: all its positions are the same.")
        return {"type": "LineString", "coordinates": [list(position) for position in line]}
    if kind not in ("Polygon", "MultiPolygon"):
        raise _wrong("The geometry has to be a Polygon, MultiPolygon, Point or LineString.")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list | tuple) or not parts:
        raise _wrong(f"The {kind} has no coordinates.")
    polygons = [_polygon(part, f"polygon {index + 1}" if len(parts) > 1 else "the polygon")
                for index, part in enumerate(parts)]  # fmt: skip
    whole = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if not whole.is_valid:
        raise _wrong(f"The polygons do not fit together: {_reason(whole)}.")
    _within_extent(shapely.get_coordinates(whole))
    if shapely.get_num_coordinates(whole) > VERTICES_MAX:
        raise _wrong(f"The geometry has more than {VERTICES_MAX} positions.")
    _, local = local_shape({"type": kind, "coordinates": _nested(polygons, kind)}, None)
    if local.area < AREA_MIN_M2:
        raise _wrong(f"The area is {local.area:.1f} m²; it has to be at least {AREA_MIN_M2:g} m².")
    mended = [part for polygon in polygons for part in _cut_at_antimeridian(polygon)]
    oriented = [shapely.geometry.polygon.orient(polygon) for polygon in mended]
    final = "Polygon" if len(oriented) == 1 else "MultiPolygon"
    return {"type": final, "coordinates": _nested(oriented, final)}


def local_shape(geojson: dict[str, Any], radius_m: float | None) -> tuple[Floats, Any]:
    """A geometry in metres on the plane that touches the earth at its middle: (plane (9,), shapely geometry)."""
    shape = shapely.geometry.shape(geojson)
    degrees = shapely.get_coordinates(shape)
    lon = np.asarray(_unwrapped([(x, y) for x, y in degrees]))[:, 0]
    middle_lon = (lon.min() + lon.max()) / 2
    middle_lat = (degrees[:, 1].min() + degrees[:, 1].max()) / 2
    plane = tangent_plane(float(middle_lat), float(middle_lon))

    def flat(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return flatten(plane, to_vectors(points[:, 1], points[:, 0]))

    unwrapped = _unwrap_shape(shape)
    if shape.geom_type != "Point":
        unwrapped = shapely.segmentize(unwrapped, EDGE_STEP_DEG)
    local = shapely.transform(unwrapped, flat)
    if radius_m is not None:
        local = local.buffer(radius_m, quad_segs=CIRCLE_SEGMENTS)
    if not local.is_valid:
        local = shapely.make_valid(local)
    if local.geom_type == "MultiPolygon":  # halves cut at the antimeridian are one place
        local = shapely.union_all([local], grid_size=1e-3)
    return plane, local


def signed_distance(
    shapes: NDArray[np.object_], edges: NDArray[np.object_], inclusion: NDArray[np.bool_], points: Floats
) -> Floats:
    """Metres to the edge, (n,): positive where he may be, negative where he may not (outside an inclusion zone)."""
    spots = shapely.points(points)
    outside = shapely.distance(shapes, spots)
    inside = shapely.distance(edges, spots)
    signed = np.where(outside > 0, outside, -inside)
    facing: Floats = np.where(inclusion, -signed, signed)
    return facing


def crossed_m(shapes: NDArray[np.object_], starts: Floats, ends: Floats) -> Floats:
    """How many metres of each straight way from start to end lie within the shape, (n,)."""
    ways = shapely.linestrings(np.stack([starts, ends], axis=1))
    lengths: Floats = shapely.length(shapely.intersection(shapes, ways))
    return lengths


def holds_at(zone: CaseZone, time_zone: str, now_ms: int) -> bool:
    """Whether the zone is in force: within its validity dates and, if it has one, its weekly schedule.

    A schedule that cannot be read counts as always: the zone protects somebody.
    """
    if zone.valid_from_ms is not None and now_ms < zone.valid_from_ms:
        return False
    if zone.valid_until_ms is not None and now_ms >= zone.valid_until_ms:
        return False
    if not zone.schedule:
        return True
    try:
        return any(start <= now_ms < end for start, end in _windows(zone.schedule, time_zone, now_ms))
    except (KeyError, TypeError, ValueError):
        return True


def next_change_ms(zone: CaseZone, time_zone: str, now_ms: int) -> int | None:
    """The next moment at which `holds_at` may change; None: never."""
    moments = [moment for moment in (zone.valid_from_ms, zone.valid_until_ms) if moment is not None]
    if zone.schedule:
        try:
            for start, end in _windows(zone.schedule, time_zone, now_ms):
                moments += (start, end)
        except (KeyError, TypeError, ValueError):
            pass
    return min((moment for moment in moments if moment > now_ms), default=None)


def _windows(schedule: Sequence[dict[str, Any]], time_zone: str, now_ms: int) -> Iterator[tuple[int, int]]:
    """The schedule's windows from yesterday to a week ahead, in ms; one that ends before it starts ends next day."""
    try:
        zone = ZoneInfo(time_zone)
    except (OSError, ValueError, KeyError):
        zone = ZoneInfo("UTC")
    today = from_ms(now_ms).astimezone(zone).date()
    for offset in range(-1, LOOK_AHEAD_DAYS):
        day = today + offset * DAY
        for window in schedule[:WINDOWS_MAX]:
            if day.isoweekday() in window["days"]:
                start, end = _moment(day, window["from"], zone), _moment(day, window["to"], zone)
                yield start, end if end > start else _moment(day + DAY, window["to"], zone)


def _moment(day: date, clock: str, zone: ZoneInfo) -> int:
    if clock == "24:00":
        return to_ms(datetime.combine(day + DAY, time(), zone))
    return to_ms(datetime.combine(day, time.fromisoformat(clock), zone))


def _wrong(detail: str) -> InvalidInput:
    return InvalidInput(detail, code="geometry_invalid")


def _position(value: Any, where: str) -> tuple[float, float]:
    if (
        not isinstance(value, list | tuple)
        or len(value) < 2
        or not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value)
    ):
        raise _wrong(f"A position of {where} is not [longitude, latitude].")
    lon, lat = float(value[0]), float(value[1])
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise _wrong(f"A position of {where} is not a finite number.")
    if not (-180 <= lon <= 180 and -LATITUDE_MAX <= lat <= LATITUDE_MAX):
        raise _wrong(
            f"A position of {where} is out of range: longitude {lon:g}, latitude {lat:g} (GeoJSON has longitude first)."
        )
    return lon, lat


def _positions(value: Any, where: str, least: int) -> list[tuple[float, float]]:
    if not isinstance(value, list | tuple) or len(value) < least:
        raise _wrong(f"There are fewer than {least} positions in {where}.")
    if len(value) > VERTICES_MAX:
        raise _wrong(f"There are more than {VERTICES_MAX} positions in {where}.")
    return [_position(item, where) for item in value]


def _polygon(rings: Any, where: str) -> Any:
    if not isinstance(rings, list | tuple) or not rings:
        raise _wrong(f"There is no ring in {where}.")
    checked = []
    for index, ring in enumerate(rings):
        name = f"the outer ring of {where}" if index == 0 else f"hole {index} of {where}"
        positions = _positions(ring, name, least=4)
        if positions[0] != positions[-1]:
            raise _wrong(f"The first and the last position differ in {name}: a ring has to be closed.")
        checked.append(_unwrapped(positions))
    anchor = checked[0][0][0]
    for hole in checked[1:]:  # a hole beyond the antimeridian moves to where its outer ring was moved
        shift = 360.0 * round((anchor - hole[0][0]) / 360.0)
        hole[:] = [(lon + shift, lat) for lon, lat in hole]
    polygon = shapely.Polygon(checked[0], checked[1:])
    if not polygon.is_valid:
        raise _wrong(f"There is a fault in {where}: {_reason(polygon)}.")
    return polygon


def _reason(shape: Any) -> str:
    """GEOS's reason as a sentence that says where."""
    reason = str(shapely.is_valid_reason(shape))
    found = re.fullmatch(r"(.*?)\s*\[(\S+) (\S+)\]", reason)
    if not found:
        return reason
    words = {"Self-intersection": "it crosses itself", "Ring Self-intersection": "a ring touches itself"}
    what = words.get(found[1], found[1].lower())
    return f"{what} at longitude {float(found[2]):.6f}, latitude {float(found[3]):.6f}"


def _unwrapped(positions: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same ring or line without the jump of 360° where it crosses the antimeridian."""
    out = [positions[0]]
    shift = 0.0
    for (before, _), (lon, lat) in itertools.pairwise(positions):
        if lon - before > 180:
            shift -= 360
        elif lon - before < -180:
            shift += 360
        out.append((lon + shift, lat))
    return out


def _unwrap_shape(shape: Any) -> Any:
    """Each ring without its jump; flattening turns degrees into vectors, so whole turns do not matter."""
    if shape.geom_type == "MultiPolygon":
        return shapely.MultiPolygon([_unwrap_shape(part) for part in shape.geoms])
    if shape.geom_type == "Polygon":
        rings = [_unwrapped(list(ring.coords)) for ring in (shape.exterior, *shape.interiors)]
        return shapely.Polygon(rings[0], rings[1:])
    if shape.geom_type == "LineString":
        return shapely.LineString(_unwrapped(list(shape.coords)))
    return shape


def _cut_at_antimeridian(polygon: Any) -> list[Any]:
    """RFC 7946, 3.1.9: what crosses the antimeridian is cut there."""
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    parts = []
    for turn in (-360, 0, 360):
        band = shapely.box(-180 + turn, -90, 180 + turn, 90)
        cut = polygon.intersection(band)
        pieces = cut.geoms if hasattr(cut, "geoms") else [cut]
        parts += [shapely.affinity.translate(piece, xoff=-turn) for piece in pieces if piece.geom_type == "Polygon"]
    return [part for part in parts if not part.is_empty]


def _within_extent(degrees: NDArray[np.float64]) -> None:
    """Refuse what is larger than a region; (n, 2) longitude, latitude, unwrapped."""
    corners = to_vectors(
        np.array([degrees[:, 1].min(), degrees[:, 1].max()]), np.array([degrees[:, 0].min(), degrees[:, 0].max()])
    )
    span = float(np.linalg.norm(corners[1] - corners[0]))
    if span > EXTENT_MAX_M or np.ptp(degrees[:, 0]) > 180:
        raise _wrong(f"The geometry spans more than {EXTENT_MAX_M / 1000:.0f} km.")


def _nested(polygons: Sequence[Any], kind: str) -> list[Any]:
    def ring(coords: Any) -> list[list[float]]:
        return [[float(lon), float(lat)] for lon, lat in coords]

    parts = [[ring(each.coords) for each in (polygon.exterior, *polygon.interiors)] for polygon in polygons]
    return parts[0] if kind == "Polygon" else parts
