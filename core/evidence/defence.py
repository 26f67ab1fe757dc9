"""The defence's view: all of his, and of hers what accuses him, without telling where she lives.

* Her positions only while a breach lasted, by what was decided; near a protected place (an undisclosed zone, a place
  where she rested) on a coarse grid, with the accuracy that leaves.
* Distances and likelihoods only of breaches: with his own track, each of them is a ring on which she is.
* Decisions about undisclosed zones are left out and counted. So are notes, contacts, panics, her devices' signals.
* Everything that speaks for him stays.

What is kept is named, never what is left out: a field that comes new is withheld until somebody decides otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from core.domain.evidence import Fix, metres_between, within
from core.evidence.view import View

GRID_DEG: Final = 0.005
"""About 550 m from north to south; east to west as many metres."""
GRID_M: Final = 500.0
"""Accuracy stated of a position on the grid."""
MARGIN_M: Final = 300.0
"""Within so much of a protected place a position is blurred."""
REST_M: Final = 100.0
REST_MS: Final = 45 * 60_000
"""Who stays within `REST_M` for so long rests there."""
STEP_M: Final = 100.0
"""A distance told of a blurred position is rounded up to whole steps."""
WORD: Final = re.compile("[a-z_]{1,40}")

INCIDENT: Final = (
    "id", "type", "family", "severity", "state", "order_id", "occurred_at", "opened_at", "acknowledged_at",
    "dispatched_at", "resolved_at", "retrospective", "exercise", "attribution", "outcome",
)  # fmt: skip
ORDER: Final = (
    "id", "reference", "issuer", "legal_ground", "restraints", "cohabiting", "issued_at", "served_at", "valid_from",
    "valid_until", "status", "time_zone", "legal_m", "alert_m", "warning_m", "grace_s", "policy", "exceptions",
    "version",
)  # fmt: skip
TRANSITION: Final = (
    "id", "shard", "entry", "kind", "from_state", "to_state", "at_ms", "evaluated_ms", "order_id", "zone_id",
    "attribution", "assurance", "victim_fix_age_s", "aggressor_fix_age_s", "aggressor_position", "retrospective",
    "rule_version", "incident_id",
)  # fmt: skip
DETAIL: Final = (
    "policy", "alert_m", "warning_m", "legal_m", "p_legal", "p_legal_at", "uncertain", "reason", "silent", "signal",
    "until", "outcome", "heard", "zone_kind",
)  # fmt: skip
OF_BREACH: Final = ("distance_m", "p_within", "closing_mps", "victim_position")
TIMELINE: Final = ("what", "from", "to", "type", "severity", "outcome", "state")
HERS_ALONE: Final = frozenset({"note", "panic", "panic_again", "cancel_asked", "wrong_pin", "duress"})
"""Lines of a timeline of which he learns nothing, not even that they are there."""
TOLD: Final = frozenset({"dispatcher", "officer", "operator"})
DELIVERY: Final = ("id", "audience", "channel", "state", "created_at", "sent_at", "attempts")
DEVICE: Final = ("id", "number", "kind", "party", "expected_interval_s", "clock_offset_s")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A protected place as a circle around it."""

    lat: float
    lon: float
    radius_m: float

    def covers(self, lat: float, lon: float) -> bool:
        """Whether a position is so near that it would tell of the place."""
        return metres_between(self.lat, self.lon, lat, lon) <= self.radius_m + MARGIN_M


def of_defence(court: View) -> View:
    """What the defence gets of the court's view."""
    places = protected_places(court)
    disclosed = {zone["id"] for zone in court.data["zones"] if zone["disclosed"]}
    device_party = {str(each["id"]): each["party"] for each in court.data["devices"]}
    transitions = [
        shown
        for each in court.data["transitions"]
        if (shown := _transition(each, places, disclosed, device_party)) is not None
    ]
    hers = [blurred(fix, places) for fix in court.hers if within(fix.live_ms, court.breaches) and fix.lat is not None]
    near = {fix.live_ms for fix in court.hers if fix.lat is not None and _near(fix, places)}
    told = [each for each in court.data["deliveries"] if each["audience"] in TOLD]
    lines = [each for each in court.data["timeline"] if each["kind"] not in HERS_ALONE]
    data: Json = {
        **{name: court.data[name] for name in ("agency", "window", "finding", "made_at") if name in court.data},
        "incident": _only(court.data["incident"], INCIDENT),
        "orders": [_only(each, ORDER) for each in court.data["orders"]],
        "zones": [each for each in court.data["zones"] if each["disclosed"]],
        "suspensions": [
            _only(each, ("id", "order_id", "starts_at", "ends_at", "ended_at", "confirmed_at"))
            for each in court.data["suspensions"]
        ],
        "transitions": transitions,
        "timeline": [{"at": each["at"], "kind": each["kind"], "data": _only(each["data"], TIMELINE)} for each in lines],
        "deliveries": [_only(each, DELIVERY) for each in told],
        "devices": [each if each["party"] == "aggressor" else _only(each, DEVICE) for each in court.data["devices"]],
        "panics": [],
        "episode": [],
        "identities": {},
        "false_before": court.data["false_before"],
    }
    return replace(
        court,
        edition="defence",
        data=data,
        hers=hers,
        apart=[each for each in court.apart if within(each.ms, court.breaches) and not _close_in_time(each.ms, near)],
        facts=[_fact(each) for each in court.facts],
        left_out={
            "her_positions": sum(fix.lat is not None for fix in court.hers) - len(hers),
            "her_positions_blurred": sum(
                _near(fix, places) for fix in court.hers if within(fix.live_ms, court.breaches)
            ),
            "decisions": len(court.data["transitions"]) - len(transitions),
            "zones": len(court.data["zones"]) - len(disclosed),
            "timeline_lines": len(court.data["timeline"]) - len(lines),
            "deliveries": len(court.data["deliveries"]) - len(told),
            "panics": len(court.data["panics"]),
        },
    )


def protected_places(court: View) -> list[Place]:
    """Undisclosed zones, and where she rested within the window."""
    hidden = [_circle(zone) for zone in court.data["zones"] if not zone["disclosed"]]
    return [place for place in hidden if place is not None] + resting_places(court.hers)


def resting_places(fixes: Iterable[Fix]) -> list[Place]:
    """Places where somebody stayed for long, by her fixes."""
    out: list[Place] = []
    group: list[Fix] = []
    for fix in sorted((each for each in fixes if each.lat is not None), key=lambda each: each.live_ms):
        assert fix.lat is not None
        assert fix.lon is not None
        if group:
            lat, lon = _middle(group)
            if metres_between(lat, lon, fix.lat, fix.lon) > REST_M + min(fix.radius_m, REST_M):
                out += _rest(group)
                group = []
        group.append(fix)
    return out + _rest(group)


def blurred(fix: Fix, places: Sequence[Place]) -> Fix:
    """The fix, on the grid when it would tell of a protected place, and without what else could tell of it."""
    if not _near(fix, places):
        return replace(fix, heard=None)
    assert fix.lat is not None
    assert fix.lon is not None
    lat, lon = on_grid(fix.lat, fix.lon)
    accuracy = max(GRID_M, fix.radius_m)
    return replace(
        fix, lat=lat, lon=lon, accuracy_m=accuracy, speed_mps=None, heading_deg=None, altitude_m=None, heard=None
    )


def on_grid(lat: float, lon: float) -> tuple[float, float]:
    """The middle of the grid's cell that a place in degrees lies in."""
    row = math.floor(lat / GRID_DEG)
    middle = (row + 0.5) * GRID_DEG
    step = GRID_DEG / max(0.01, math.cos(math.radians(middle)))
    return round(middle, 6), round((math.floor(lon / step) + 0.5) * step, 6)


def _near(fix: Fix, places: Sequence[Place]) -> bool:
    return fix.lat is not None and fix.lon is not None and any(place.covers(fix.lat, fix.lon) for place in places)


def _close_in_time(moment_ms: int, near: Iterable[int]) -> bool:
    return any(abs(moment_ms - each) < 120_000 for each in near)


def _rest(group: Sequence[Fix]) -> list[Place]:
    if not group or group[-1].live_ms - group[0].live_ms < REST_MS:
        return []
    lat, lon = _middle(group)
    return [Place(lat, lon, REST_M)]


def _middle(group: Sequence[Fix]) -> tuple[float, float]:
    return sum(fix.lat or 0.0 for fix in group) / len(group), sum(fix.lon or 0.0 for fix in group) / len(group)


def _circle(zone: Json) -> Place | None:
    points = list(_points(zone["geometry"].get("coordinates")))
    if not points:
        return None
    lon, lat = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    reach = max(metres_between(lat, lon, point[1], point[0]) for point in points)
    return Place(lat, lon, reach + float(zone.get("radius_m") or 0))


def _points(coordinates: Any) -> Iterable[Sequence[float]]:
    if isinstance(coordinates, list) and coordinates and isinstance(coordinates[0], int | float):
        yield coordinates
    elif isinstance(coordinates, list):
        for part in coordinates:
            yield from _points(part)


def _only(values: Json, names: Sequence[str]) -> Json:
    return {name: values[name] for name in names if name in values}


def _transition(each: Json, places: Sequence[Place], disclosed: set[str], device_party: dict[str, str]) -> Json | None:
    if each["kind"] == "zone" and str(each.get("zone_id")) not in disclosed:
        return None
    if each["kind"] == "device":
        hers = device_party.get(str(each.get("device_id"))) != "aggressor"
        if hers and each.get("detail", {}).get("signal") != "silence":
            return None
    out = _only(each, TRANSITION)
    if each["kind"] != "zone":
        out.pop("zone_id", None)
    out["detail"] = _only(each.get("detail", {}), DETAIL)
    if each["kind"] == "zone":
        out |= _only(each, ("distance_m", "p_within"))
    elif each["kind"] == "proximity" and each["to_state"] == "breach":
        out |= _of_breach(each, places)
    return out


def _of_breach(each: Json, places: Sequence[Place]) -> Json:
    at = each.get("victim_position")
    if at is not None and not any(place.covers(at["lat"], at["lon"]) for place in places):
        return _only(each, OF_BREACH)
    out = _only(each, ("p_within",))
    if each.get("distance_m") is not None:
        out["distance_at_most_m"] = math.ceil(each["distance_m"] / STEP_M) * STEP_M
    if at is not None:
        lat, lon = on_grid(at["lat"], at["lon"])
        out["victim_position"] = {"lat": lat, "lon": lon, "accuracy_m": GRID_M, "at_ms": at["at_ms"]}
    return out


def _fact(fact: Json) -> Json:
    """A fact as it is; a cause in free words is left to the court."""
    if fact["code"] == "found_false" and fact.get("cause") and not WORD.fullmatch(str(fact["cause"])):
        return {**fact, "cause": None}
    return fact
