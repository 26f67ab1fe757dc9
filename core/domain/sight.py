"""Least sight: who sees where somebody is, and how exactly. The one rule for all routes, sockets, lists and maps.

A protected person's place is *exact* for whoever sends help (dispatcher, supervisor) while a panic, a breach or an
approach of hers is open, or while that user has a reasoned look at her; else it is *coarse*, a cell of about two
kilometres. Where an aggressor is they see exactly while an incident of his is open, or with a look. An administrator
and an officer see coarse places, caseworkers and auditors none.

A coarse place must not become exact by being read often. So a cell never follows a fix over its edge and back: a
place within `MARGIN_M` of a cell that she was shown in before is shown as that cell (`Coarse`). And beside a coarse
place stands no figure that an exact one of his would turn into a circle around hers (`figures_seen`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final


class Sight(StrEnum):
    """How exactly a place is seen."""

    EXACT = "exact"
    COARSE = "coarse"
    NONE = "none"


UNLOCKING: Final = frozenset({"panic", "proximity", "approach"})
"""Types of incident that, while open, unlock where the protected person is. A flat battery opens nothing."""
RESOLVED: Final = "resolved"
EXACT_ROLES: Final = frozenset({"dispatcher", "supervisor"})
"""Who sends help."""
COARSE_ROLES: Final = EXACT_ROLES | {"admin", "officer"}
"""Who is shown a district. Nobody else is shown a place."""

REASONS: Final = ("welfare_check", "threat_reported", "medical", "missing", "device_fault", "other")
"""Why somebody may look at where a person is though no incident of hers unlocks it."""
LOOK_LIFE: Final = timedelta(minutes=10)

CELL_M: Final = 2_000.0
MARGIN_M: Final = 500.0
"""How far beyond its edge a cell still stands for a place: more than a fix strays."""
METRES_PER_DEGREE: Final = 111_195.0
SLOT: Final = timedelta(minutes=15)
"""A coarse place of the present is that of the last whole stretch of this length: no crossing of an edge is seen."""
SHOWN_M: Final = 100.0
"""To what a distance between shown places is rounded."""

Place = Mapping[str, Any]
Box = dict[str, float]

HER_FIELDS: Final = frozenset({"lat", "lon", "accuracy_m", "differs", "place", "victim_place", "other_places"})
"""Of an incident's detail or a timeline's line: what tells where she is."""
HIS_FIELD: Final = "aggressor_place"
DISTRICT: Final = "district"
FIGURES: Final = ("distance_m", "p_within", "closing_mps", "time_to_zone_s")
"""What an incident tells of how far apart they are."""


def unlocks(incident: Mapping[str, Any]) -> bool:
    """Whether an incident, as it is now, unlocks where its protected person is."""
    return incident["type"] in UNLOCKING and incident["state"] != RESOLVED


def of_her(role: str, *, unlocked: bool, looked: bool) -> Sight:
    """How exactly a user sees where a protected person is. `unlocked`: by an open incident; `looked`: by a look."""
    if role in EXACT_ROLES and (unlocked or looked):
        return Sight.EXACT
    return Sight.COARSE if role in COARSE_ROLES else Sight.NONE


def of_him(role: str, *, open_incident: bool, looked: bool) -> Sight:
    """How exactly a user sees where an aggressor is. `open_incident`: whether any incident of his is open."""
    return of_her(role, unlocked=open_incident, looked=looked)


def sights(
    role: str, incident: Mapping[str, Any], looked: Container[str], *, unlocked: bool, is_open: bool
) -> tuple[Sight, Sight]:
    """How exactly a user sees her and him in an incident."""
    return (
        of_her(role, unlocked=unlocked, looked=str(incident["victim_id"]) in looked),
        of_him(role, open_incident=is_open, looked=str(incident["aggressor_id"]) in looked),
    )


def sights_now(role: str, incident: Mapping[str, Any], looked: Container[str]) -> tuple[Sight, Sight]:
    """The same of an incident that is as its row says now."""
    is_open = incident["state"] != RESOLVED
    return sights(role, incident, looked, unlocked=unlocks(incident), is_open=is_open)


# coarse places ----------------------------------------------------------------------------------------------------


def cell_of(lat: float, lon: float) -> str:
    """The cell of a place: `row:column` of a grid of about `CELL_M`, counted from the equator and Greenwich."""
    row = math.floor(lat * METRES_PER_DEGREE / CELL_M)
    return f"{row}:{math.floor(lon * _columns_per_degree(row))}"


def box_of(cell: str) -> Box:
    """A cell's edges, degrees."""
    row, column = (int(part) for part in cell.split(":"))
    height, per_degree = CELL_M / METRES_PER_DEGREE, _columns_per_degree(row)
    edges = {
        "south": row * height,
        "north": (row + 1) * height,
        "west": column / per_degree,
        "east": (column + 1) / per_degree,
    }
    return {name: round(edge, 5) for name, edge in edges.items()}


def middle_of(box: Mapping[str, float]) -> tuple[float, float]:
    """Latitude and longitude of a cell's middle."""
    return (box["south"] + box["north"]) / 2, (box["west"] + box["east"]) / 2


def stands_for(cell: str, lat: float, lon: float) -> bool:
    """Whether a cell, widened by `MARGIN_M`, holds a place."""
    box = box_of(cell)
    north = MARGIN_M / METRES_PER_DEGREE
    east = north / max(math.cos(math.radians(min(abs(lat), 89.9))), 1e-3)
    return box["south"] - north <= lat <= box["north"] + north and box["west"] - east <= lon <= box["east"] + east


def _columns_per_degree(row: int) -> float:
    middle = (row + 0.5) * CELL_M / METRES_PER_DEGREE
    return max(METRES_PER_DEGREE * math.cos(math.radians(min(abs(middle), 89.9))) / CELL_M, 1e-3)


class Coarse:
    """Coarse places of some people: the cells each was shown in, oldest first, and those that come anew."""

    def __init__(self, known: Mapping[str, Sequence[str]] | None = None) -> None:
        self._known = {person: list(cells) for person, cells in (known or {}).items()}
        self.fresh: list[tuple[str, str]] = []
        """(person, cell) shown here for the first time: to be kept."""

    def cell(self, person: str, lat: float, lon: float) -> str:
        """The cell that stands for a place of this person, the same however often it is asked."""
        cells = self._known.setdefault(person, [])
        for cell in cells:
            if stands_for(cell, lat, lon):
                return cell
        cell = cell_of(lat, lon)
        cells.append(cell)
        self.fresh.append((person, cell))
        return cell


def place_seen(place: Place | None, sight: Sight, person: str | None, coarse: Coarse | None) -> dict[str, Any] | None:
    """A place as it is seen: with `lat`, `lon` and `accuracy_m`, or as a `cell` alone.

    Without `coarse` (nothing can be looked up now) or without a person, what is not exact is nothing.
    """
    if place is None or sight is Sight.NONE:
        return None
    if sight is Sight.EXACT:
        return {"precision": str(sight), **place}
    if coarse is None or person is None or place.get("lat") is None or place.get("lon") is None:
        return None
    box = box_of(coarse.cell(person, place["lat"], place["lon"]))
    return {"precision": str(sight), "cell": box, "at": place.get("at")}


def point_of(seen: Place | None) -> tuple[float, float] | None:
    """Latitude and longitude to measure from of a place as it is seen: its own, or the middle of its cell."""
    if seen is None:
        return None
    if "cell" in seen:
        return middle_of(seen["cell"])
    if seen.get("lat") is None or seen.get("lon") is None:
        return None
    return seen["lat"], seen["lon"]


# incidents --------------------------------------------------------------------------------------------------------


def places_in(incident: Mapping[str, Any]) -> list[str]:
    """The people of whose places an incident tells."""
    people = []
    if incident.get("place") is not None and incident.get("victim_id") is not None:
        people.append(str(incident["victim_id"]))
    if (incident.get("detail") or {}).get(HIS_FIELD) is not None and incident.get("aggressor_id") is not None:
        people.append(str(incident["aggressor_id"]))
    return people


def incident_seen(incident: Mapping[str, Any], her: Sight, him: Sight, coarse: Coarse | None) -> dict[str, Any]:
    """An incident as it is seen, in the form that `core.postgres.incidents.incident_json` gives."""
    victim, aggressor = incident.get("victim_id"), incident.get("aggressor_id")
    place = place_seen(incident.get("place"), her, victim and str(victim), coarse)
    detail = dict(incident["detail"])
    if her is not Sight.EXACT:
        detail = {name: value for name, value in detail.items() if name not in HER_FIELDS}
    his = place_seen(detail.pop(HIS_FIELD, None), him, aggressor and str(aggressor), coarse)
    if his is not None:
        detail[HIS_FIELD] = his
    if Sight.NONE is her:
        detail.pop(DISTRICT, None)
    if "pairs" in detail:
        detail["pairs"] = [_pair_seen(pair) for pair in detail["pairs"]]
    seen = {**incident, "place": place, "detail": detail}
    if not figures_seen(incident, her):
        seen |= dict.fromkeys(FIGURES)
        seen["distance_m"] = distance_shown(place, his)
    return seen


def figures_seen(incident: Mapping[str, Any], her: Sight) -> bool:
    """Whether how far apart they are may be told as it was measured.

    While he is seen exactly and she is not, each such figure would be a circle around him that she is on. A zone's
    figures are to the zone.
    """
    return her is Sight.EXACT or incident["type"] in UNLOCKING or incident["family"] == "zone"


def distance_shown(place: Place | None, other: Place | None) -> float | None:
    """Between two places as they are shown: of what is shown coarsely, from the middle of its cell."""
    one, two = point_of(place), point_of(other)
    return None if one is None or two is None else round(apart_m(one, two) / SHOWN_M) * SHOWN_M


def apart_m(one: tuple[float, float], two: tuple[float, float]) -> float:
    """Great-circle distance of two (lat, lon), metres (haversine)."""
    (lat1, lon1), (lat2, lon2) = ((math.radians(lat), math.radians(lon)) for lat, lon in (one, two))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * math.degrees(math.asin(min(1.0, math.sqrt(half)))) * METRES_PER_DEGREE


def _pair_seen(pair: Mapping[str, Any]) -> dict[str, Any]:
    """A pair of an outage: how far apart to the kilometre, how soon to the minute, both rounded down."""
    seen = dict(pair)
    for name, step in (("distance_m", 1_000), ("time_to_reach_s", 60)):
        if seen.get(name) is not None:
            seen[name] = math.floor(seen[name] / step) * step
    return seen


def lines_seen(
    lines: Iterable[Mapping[str, Any]], incident: Mapping[str, Any], her: Sight, him: Sight
) -> list[dict[str, Any]]:
    """A timeline as it is seen."""
    dropped: set[str] = set()
    if her is not Sight.EXACT:
        dropped |= HER_FIELDS
    if him is not Sight.EXACT:
        dropped.add(HIS_FIELD)
    if her is Sight.NONE:
        dropped.add(DISTRICT)
    if not figures_seen(incident, her):
        dropped |= set(FIGURES)
    return [{**line, "data": {k: v for k, v in line["data"].items() if k not in dropped}} for line in lines]
