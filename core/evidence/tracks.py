"""Fixes, zones and radii as GeoJSON (RFC 7946) and GPX 1.1, for anybody's map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from core.clock import from_ms, rfc3339
from core.domain.evidence import EARTH_M, GAP_LEAST_MS, Fix
from core.evidence.view import View

CIRCLE_POINTS: Final = 72
GPX_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="Qorgan" xmlns="http://www.topografix.com/GPX/1/1">\n'
)

Json = dict[str, Any]


def collection(features: Iterable[Json]) -> Json:
    """A GeoJSON FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(features)}


def track(fixes: Sequence[Fix], party: str, device_ids: dict[int, str]) -> list[Json]:
    """A party's fixes as points, and the way between them as one line a device, broken where it was silent."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [fix.lon, fix.lat]},
            "properties": {
                "party": party,
                **{name: value for name, value in fix.as_json(device_ids).items() if name not in ("lat", "lon")},
            },
        }
        for fix in fixes
        if fix.lat is not None
    ]
    for device in sorted({fix.device for fix in fixes}):
        lines = [[[fix.lon, fix.lat] for fix in part] for part in stretches([f for f in fixes if f.device == device])]
        if any(len(line) > 1 for line in lines):
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "MultiLineString", "coordinates": [line for line in lines if len(line) > 1]},
                    "properties": {"party": party, "device_id": device_ids.get(device), "way": True},
                }
            )
    return features


def stretches(fixes: Iterable[Fix]) -> list[list[Fix]]:
    """Fixes with positions in order of time, cut where more than two minutes lie between two."""
    out: list[list[Fix]] = []
    for fix in sorted((each for each in fixes if each.lat is not None), key=lambda each: each.live_ms):
        if not out or fix.live_ms - out[-1][-1].live_ms > GAP_LEAST_MS:
            out.append([])
        out[-1].append(fix)
    return out


def gpx(fixes: Sequence[Fix], name: str, device_ids: dict[int, str]) -> str:
    """GPX 1.1: one track a device, a segment a stretch; accuracy and source stand in each point's comment."""
    parts = [GPX_HEAD]
    for device in sorted({fix.device for fix in fixes if fix.lat is not None}):
        parts.append(f"  <trk>\n    <name>{escape(name)}</name>\n    <src>{escape(device_ids.get(device, ''))}</src>\n")
        for part in stretches([fix for fix in fixes if fix.device == device]):
            parts.append("    <trkseg>\n")
            parts += [_gpx_point(fix) for fix in part]
            parts.append("    </trkseg>\n")
        parts.append("  </trk>\n")
    parts.append("</gpx>\n")
    return "".join(parts)


def _gpx_point(fix: Fix) -> str:
    elevation = "" if fix.altitude_m is None else f"<ele>{fix.altitude_m:.1f}</ele>"
    comment = f"accuracy {fix.radius_m:.0f} m, {fix.source}, received {rfc3339(from_ms(fix.received_ms))}"
    return (
        f"      <trkpt lat={quoteattr(repr(fix.lat))} lon={quoteattr(repr(fix.lon))}>{elevation}"
        f"<time>{rfc3339(from_ms(fix.live_ms))}</time><cmt>{escape(comment)}</cmt></trkpt>\n"
    )


def circle(lat: float, lon: float, radius_m: float) -> list[list[float]]:
    """A closed ring of (lon, lat) degrees around a place, counter-clockwise."""
    ring = []
    for number in range(CIRCLE_POINTS):
        angle = 2 * math.pi * number / CIRCLE_POINTS
        north, east = radius_m * math.sin(angle), radius_m * math.cos(angle)
        ring.append(
            [
                round(lon + math.degrees(east / (EARTH_M * max(0.01, math.cos(math.radians(lat))))), 7),
                round(lat + math.degrees(north / EARTH_M), 7),
            ]
        )
    return [*ring, ring[0]]


def entries(view: View) -> list[Json]:
    """The transitions by which he entered the alert radius, oldest first."""
    return [each for each in view.data["transitions"] if each["kind"] == "proximity" and each["to_state"] == "breach"]


def radii(view: View) -> list[Json]:
    """The alert and the court's radius around where she was taken to be at each entry, as polygons."""
    orders = {str(each["id"]): each for each in view.data["orders"]}
    out = []
    for each in entries(view):
        at, order = each.get("victim_position"), orders.get(str(each.get("order_id")))
        if at is None or order is None:
            continue
        moment = rfc3339(from_ms(int(each["at_ms"])))
        out += [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [circle(at["lat"], at["lon"], radius)]},
                "properties": {
                    "radius": name,
                    "metres": radius,
                    "at": moment,
                    "order_id": each["order_id"],
                    "centre_accuracy_m": at["accuracy_m"],
                },
            }
            for name in ("alert_m", "legal_m")
            if (radius := float(order.get(name) or 0))
        ]
    return out


def zones(view: View) -> list[Json]:
    """The zones that an edition shows."""
    return [
        {
            "type": "Feature",
            "id": zone["id"],
            "geometry": zone["geometry"],
            "properties": {
                name: zone.get(name)
                for name in (
                    "order_id",
                    "kind",
                    "radius_m",
                    "warning_m",
                    "schedule",
                    "disclosed",
                    "valid_from",
                    "valid_until",
                )
            },
        }
        for zone in view.data["zones"]
    ]
