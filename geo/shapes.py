"""A place in metres: a GeoJSON geometry laid flat about its middle, and how far its edge is from a point or a way.

An edge is the straight line of longitude and latitude between its ends, as GeoJSON has it; laid flat it is bent to
follow that line. Distances are those of `geo.frame.flatten`: true from the middle, within 0.1 % up to 400 km from it.
What cannot be measured is NaN: a fault of one geometry is that geometry's alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from geo.frame import Floats, flatten, tangent_plane, to_vectors
from geo.track import Bools

EXTENT_MAX_M: Final = 1_500_000.0
RADIUS_MAX_M: Final = 100_000.0
CIRCLE_SEGMENTS: Final = 64
"""Segments a quarter: the polygon is inside the circle by less than 0.01 % of its radius."""
EDGE_STEP_DEG: Final = 0.02
"""Longer edges are bent: a piece departs from the line it follows by 5 cm at most, up to latitude 89."""
PIECES_MAX: Final = 100_000
"""Pieces into which all edges of a geometry are bent at most; beyond, they are longer."""
MERGE_GRID_M: Final = 1e-3
WAY_SAMPLES: Final = 32

Objects = NDArray[np.object_]


def local_shape(geojson: dict[str, Any], radius_m: float | None) -> tuple[Floats, Any]:
    """A geometry in metres on the plane that touches the earth at its middle: (plane (9,), shapely geometry).

    `radius_m` is for points and lines; areas stand for themselves. Raises ValueError (or what shapely makes of a
    malformed geometry) for one that is not finite, or not on earth.
    """
    shape = shapely.geometry.shape(geojson)
    degrees = shapely.get_coordinates(shape)
    if not degrees.size or not np.isfinite(degrees).all() or np.abs(degrees).max() > 720.0:
        raise ValueError("not a geometry on earth")
    thin = shape.geom_type in ("Point", "LineString")
    if thin and not (radius_m is not None and 0 < radius_m <= RADIUS_MAX_M):
        raise ValueError("a point or a line without a radius")
    lon = np.asarray(unwrapped([(x, y) for x, y in degrees]))[:, 0]
    if span_m(np.column_stack([lon, degrees[:, 1]])) > EXTENT_MAX_M:
        raise ValueError("larger than a region")
    middle_lon = (lon.min() + lon.max()) / 2
    middle_lat = (degrees[:, 1].min() + degrees[:, 1].max()) / 2
    plane = tangent_plane(float(middle_lat), float(middle_lon))

    def flat(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return flatten(plane, to_vectors(points[:, 1], points[:, 0]))

    whole = _unwrap(shape)
    if shape.geom_type != "Point":
        whole = shapely.segmentize(whole, max(EDGE_STEP_DEG, shapely.length(whole) / PIECES_MAX))
    local = shapely.transform(whole, flat)
    if thin:
        local = local.buffer(radius_m, quad_segs=CIRCLE_SEGMENTS)
    if not local.is_valid:
        local = shapely.make_valid(local)
    if local.geom_type == "GeometryCollection":
        local = shapely.union_all([part for part in local.geoms if part.area > 0])
    if local.geom_type == "MultiPolygon":  # halves cut at the antimeridian are one place
        local = shapely.union_all([local], grid_size=MERGE_GRID_M)
    return plane, local


def span_m(degrees: NDArray[np.float64]) -> float:
    """Metres across the corners of what (n, 2) longitudes and latitudes, unwrapped, span; infinite beyond 180°."""
    least, most = degrees.min(axis=0), degrees.max(axis=0)
    if most[0] - least[0] > 180:
        return float("inf")
    corners = to_vectors(
        np.array([least[1], most[1], least[1], most[1]]), np.array([least[0], most[0], most[0], least[0]])
    )
    return float(np.linalg.norm(corners[:, None] - corners[None, :], axis=2).max())


def unwrapped(positions: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
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


def _unwrap(shape: Any) -> Any:
    """Each ring without its jump; flattening turns degrees into vectors, so whole turns do not matter."""
    if shape.geom_type == "MultiPolygon":
        return shapely.MultiPolygon([_unwrap(part) for part in shape.geoms])
    if shape.geom_type == "Polygon":
        rings = [unwrapped(list(ring.coords)) for ring in (shape.exterior, *shape.interiors)]
        return shapely.Polygon(rings[0], rings[1:])
    if shape.geom_type == "LineString":
        return shapely.LineString(unwrapped(list(shape.coords)))
    return shape


def room_m(shape: Any, inclusion: bool) -> float:
    """How far from every edge one can get where he may be: inside an inclusion zone, or in a hole of the other kind.

    The least of all such parts; infinite where there is none, and for the open country about an exclusion zone.
    """
    parts = shapely.get_parts(shape).tolist()
    free = parts if inclusion else [shapely.Polygon(ring) for part in parts for ring in part.interiors]
    radii = [float(shapely.length(shapely.maximum_inscribed_circle(each))) for each in free if each.area > 0]
    return min(radii, default=float("inf"))


def signed_distance(shapes: Objects, edges: Objects, inclusion: Bools, points: Floats) -> Floats:
    """Metres to the edge, (n,): positive where he may be, negative where he may not (outside an inclusion zone)."""

    def measure(shapes: Objects, edges: Objects, points: Floats) -> Floats:
        spots = shapely.points(points)
        signed: Floats = np.asarray(shapely.distance(shapes, spots), dtype=np.float64)
        inside = np.flatnonzero(signed == 0)
        if inside.size:
            signed[inside] = -shapely.distance(edges[inside], spots[inside])
        return signed

    signed = _each(measure, shapes, edges, points)
    facing: Floats = np.where(inclusion, -signed, signed)
    return facing


def way_clearance(shapes: Objects, edges: Objects, inclusion: Bools, starts: Floats, ends: Floats) -> Floats:
    """Metres by which straight ways (n, 2) keep clear of where he may not be, (n,); 0: they do not. An inclusion zone's
    way begins and ends within it."""

    def measure(bounds: Objects, starts: Floats, ends: Floats) -> Floats:
        return np.asarray(shapely.distance(bounds, shapely.linestrings(np.stack([starts, ends], axis=1))))

    return _each(measure, np.where(inclusion, edges, shapes), starts, ends)


def least_on_way(
    shapes: Objects, edges: Objects, inclusion: Bools, starts: Floats, ends: Floats
) -> tuple[Floats, Floats, Floats]:
    """Along straight ways from start to end, (n, 2) each: the least signed distance, where, and how much lies beyond.

    Returns three of shape (n,): metres; the share of the way at which it is reached (of `WAY_SAMPLES` + 1 looked at);
    and the metres of the way that lie where he may not be.
    """
    shares = np.linspace(0.0, 1.0, WAY_SAMPLES + 1)
    spots = starts[:, None, :] + shares[None, :, None] * (ends - starts)[:, None, :]
    count = len(shares)
    signed = signed_distance(
        np.repeat(shapes, count), np.repeat(edges, count), np.repeat(inclusion, count), spots.reshape(-1, 2)
    ).reshape(-1, count)
    at = np.argmin(np.where(np.isnan(signed), np.inf, signed), axis=1)

    def within(shapes: Objects, ways: Objects) -> Floats:
        return np.asarray(shapely.length(shapely.intersection(shapes, ways)), dtype=np.float64)

    ways = shapely.linestrings(np.stack([starts, ends], axis=1))
    inside = _each(within, shapes, ways)
    beyond: Floats = np.where(inclusion, np.linalg.norm(ends - starts, axis=1) - inside, inside)
    return signed[np.arange(len(at)), at], shares[at], beyond


def _each(measure: Callable[..., Floats], *columns: Any) -> Floats:
    """The measure of all rows at once; if one fails, of each alone, NaN where it cannot be had."""
    try:
        return measure(*columns)
    except Exception:  # whatever GEOS makes of one geometry, the others of the shard are judged
        out = np.full(len(columns[0]), np.nan)
        for row in range(len(out)):
            try:
                out[row] = measure(*(column[row : row + 1] for column in columns))[0]
            except Exception:  # noqa: S112 - it stays NaN, which the caller counts
                continue
        return out
