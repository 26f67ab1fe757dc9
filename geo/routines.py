"""An ordinary week of one person as it may be lived: where she is by her routine, and where she really is meanwhile.

Pure and vectorised: a routine becomes an array of places, a step of the week each, and that becomes many weeks of
positions on a plane, each week with delays and spots of its own. `geo.feasibility` says what is assumed, and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray

from core.errors import InvalidInput
from geo.frame import Floats, flatten, tangent_plane
from geo.shapes import local_shape
from geo.zones import validate_geometry

STEP_S: Final = 20
WEEK_S: Final = 7 * 86_400
STEPS: Final = WEEK_S // STEP_S
WEEKS: Final = 52
JITTER_S: Final = 900.0
DETOUR: Final = 1.3
POINT_RADIUS_M: Final = 30.0
"""A place given as a point is a house with its yard."""
SPAN_MAX_M: Final = 300_000.0

ON_THE_WAY: Final = -1
Ints = NDArray[np.int64]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Clock = Annotated[str, msgspec.Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"begins": "from", "ends": "to"}):
    """A weekly time; `to` not after `from` runs past midnight."""

    days: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=7)]], msgspec.Meta(min_length=1, max_length=7)]
    begins: Clock
    ends: Clock


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where somebody is at some hours."""

    name: Text
    geometry: dict[str, Any]
    """GeoJSON Point, LineString, Polygon or MultiPolygon."""
    kind: Literal["home", "work", "school", "other"] = "other"
    radius_m: float | None = None
    hours: Annotated[list[Window], msgspec.Meta(max_length=50)] = []


class Routine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person's ordinary week."""

    places: Annotated[list[Place], msgspec.Meta(min_length=1, max_length=20)]
    speed_mps: Annotated[float, msgspec.Meta(ge=0.5, le=40)] = 8.0


@dataclass(frozen=True)
class Ground:
    """Places of one person on the common plane."""

    routine: Routine
    shapes: list[Any]
    centres: Floats
    """Metres, (places, 2)."""
    radii: Floats
    """Radius of a circle of the same area, metres."""
    at: Ints
    """Index of the place she is at by her routine, a step of the week each."""


def lay_out(routines: Sequence[Routine]) -> list[Ground]:
    """Every person's places on one plane about their common middle. Raises InvalidInput `geometry_invalid`."""
    checked = [
        (place, validate_geometry(place.geometry, _radius(place))) for routine in routines for place in routine.places
    ]
    middle = np.array([middle_of(geometry) for _, geometry in checked]).mean(axis=0)
    plane = tangent_plane(float(middle[1]), float(middle[0]))
    shapes = [_flat(geometry, _radius(place), plane) for place, geometry in checked]
    centres = np.array([[shape.centroid.x, shape.centroid.y] for shape in shapes])
    if np.hypot(*(centres - centres.mean(axis=0)).T).max() > SPAN_MAX_M:
        raise InvalidInput(
            f"The places lie more than {SPAN_MAX_M / 1000:.0f} km from their middle; there is nothing to study.",
            code="geometry_invalid",
        )
    radii = np.sqrt(np.array([shape.area for shape in shapes]) / math.pi)
    out, start = [], 0
    for routine in routines:
        own = slice(start, start := start + len(routine.places))
        out.append(Ground(routine, shapes[own], centres[own], radii[own], _week(routine)))
    return out


def _radius(place: Place) -> float | None:
    if place.radius_m is None and place.geometry.get("type") in ("Point", "LineString"):
        return POINT_RADIUS_M
    return place.radius_m


def middle_of(geometry: Mapping[str, Any]) -> tuple[float, float]:
    """Longitude and latitude of a place's middle."""
    centre = shapely.geometry.shape(geometry).centroid
    return float(centre.x), float(centre.y)


def _flat(geometry: dict[str, Any], radius_m: float | None, plane: Floats) -> Any:
    """The place on the common plane: its own flat shape, moved to where its middle lies there."""
    own_plane, shape = local_shape(geometry, radius_m)
    offset = flatten(plane, own_plane[0:3][None, :])[0]
    return shapely.affinity.translate(shape, float(offset[0]), float(offset[1]))


def home_of(routine: Routine) -> int:
    """Where she is when nothing else is said."""
    return next((index for index, place in enumerate(routine.places) if place.kind == "home"), 0)


def _week(routine: Routine) -> Ints:
    """The place at each step of the week; of two at once the later named."""
    at = np.full(STEPS, home_of(routine), dtype=np.int64)
    for index, place in enumerate(routine.places):
        for window in place.hours:
            begins, ends = _seconds(window.begins), _seconds(window.ends)
            length = (ends - begins) if ends > begins else 86_400 - begins + ends
            for day in window.days:
                first = ((day - 1) * 86_400 + begins) // STEP_S
                at[np.arange(first, first + length // STEP_S) % STEPS] = index
    return at


def _seconds(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes)


@dataclass(frozen=True)
class Life:
    """Weeks as they were lived: (WEEKS, STEPS) each."""

    x: Floats
    y: Floats
    at: Ints
    """Place, or ON_THE_WAY."""


def live(ground: Ground, rng: np.random.Generator) -> Life:
    """Many weeks of one person, each with its own delays and spots."""
    moves = np.flatnonzero(ground.at != np.roll(ground.at, 1))
    x, y = np.empty((WEEKS, STEPS)), np.empty((WEEKS, STEPS))
    at = np.tile(ground.at, (WEEKS, 1))
    clock: Floats = np.arange(STEPS, dtype=np.float64) * STEP_S
    for week in range(WEEKS):
        if len(moves) == 0:
            spot = _spots(ground, ground.at[:1], rng)[0]
            x[week], y[week] = spot
            continue
        x[week], y[week], moving = _lived_week(ground, moves, clock, rng)
        at[week, moving] = ON_THE_WAY
    return Life(x, y, at)


def _lived_week(
    ground: Ground, moves: Ints, clock: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """One week's track, and when she is on the way: a knot where she leaves each place, one where she comes."""
    places = ground.at[moves]
    spots = _spots(ground, places, rng)
    before = np.roll(spots, 1, axis=0)
    takes_s = np.hypot(*(spots - before).T) * DETOUR / ground.routine.speed_mps
    late = np.clip(rng.normal(0, JITTER_S, len(moves)), -3 * JITTER_S, 3 * JITTER_S)
    arrives = moves * float(STEP_S) + late + np.where(places == home_of(ground.routine), takes_s, 0.0)
    leaves = arrives - takes_s
    knots = np.maximum.accumulate(np.stack([leaves, arrives], axis=1).ravel())
    track = np.stack([before, spots], axis=1).reshape(-1, 2)
    # The week is a ring: its end is where it begins.
    times = np.concatenate([knots - WEEK_S, knots, knots + WEEK_S])
    ring = np.tile(track, (3, 1))
    order = np.argsort(times, kind="stable")
    times, ring = times[order], ring[order]
    moving = np.zeros(len(clock), dtype=bool)
    for left, came in zip(knots[0::2], knots[1::2], strict=True):
        moving[(np.arange(math.ceil(left / STEP_S), math.ceil(came / STEP_S))) % STEPS] = True
    return np.interp(clock, times, ring[:, 0]), np.interp(clock, times, ring[:, 1]), moving


def _spots(ground: Ground, places: Ints, rng: np.random.Generator) -> Floats:
    """A spot within each of these places: (n, 2) metres."""
    angle = rng.uniform(0, 2 * math.pi, len(places))
    radius = ground.radii[places] * np.sqrt(rng.uniform(0, 1, len(places)))
    return ground.centres[places] + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
