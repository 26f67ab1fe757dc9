"""Whose ground a place is on: police agencies' jurisdictions, looked up in a tree.

Pure: built from polygons in degrees, asked for a place. Where several hold a place, the smallest does: a district comes
before its region. Distances are great-circle, metres.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import shapely
import shapely.geometry
import shapely.ops

from core.domain.sight import apart_m


class Jurisdictions:
    """An index of agencies' polygons."""

    def __init__(self, polygons: Sequence[tuple[uuid.UUID, Mapping[str, Any]]]) -> None:
        """`polygons`: agency and GeoJSON geometry (lon, lat); one that is none is left out."""
        found = [(agency_id, shape) for agency_id, geometry in polygons if (shape := _shape(geometry)) is not None]
        found.sort(key=lambda one: (one[1].area, one[0]))
        self.agency_ids = [agency_id for agency_id, _ in found]
        self._shapes = [shape for _, shape in found]
        self._tree = shapely.STRtree(self._shapes)

    def holding(self, lat: float, lon: float) -> list[uuid.UUID]:
        """The agencies in whose jurisdiction a place is, the smallest jurisdiction first; on an edge counts."""
        hits = self._tree.query(shapely.Point(lon, lat), predicate="intersects")
        return [self.agency_ids[index] for index in sorted(hits.tolist())]

    def nearest(self, lat: float, lon: float, without: frozenset[uuid.UUID]) -> uuid.UUID | None:
        """The agency whose jurisdiction is nearest to a place, of those not in `without`."""
        point = shapely.Point(lon, lat)
        best: tuple[float, int] | None = None
        for index, shape in enumerate(self._shapes):
            if self.agency_ids[index] in without:
                continue
            near = shapely.ops.nearest_points(shape, point)[0]
            measured = (apart_m((lat, lon), (near.y, near.x)), index)
            best = measured if best is None else min(best, measured)
        return None if best is None else self.agency_ids[best[1]]


def _shape(geometry: Mapping[str, Any]) -> Any:
    """A valid area, or None."""
    try:
        shape = shapely.geometry.shape(geometry)
        shape = shape if shape.is_valid else shapely.make_valid(shape)
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError):
        return None
    return shape if shape.area > 0 and math.isfinite(shape.area) else None
