"""Whether an order can be kept: a week of both, lived many times over, before a judge signs.

What goes in is where each of the two lives, works and learns, at which hours, and the radii proposed. What comes out is
how many alerts a week such radii would raise though nobody means harm, where the two lives touch, and which radii and
zones would do. Nothing is stored; the same plan gives the same answer.

Assumptions, each of which errs towards more alerts than life has:
  - a minute of which nothing is said is spent at the first place that is a home, else at the first place;
  - they travel in a straight line, at `speed_mps` / DETOUR, as if every road were 1.3 times the line;
  - they arrive when a stay begins and leave for home when one ends, give or take JITTER_S (normal, cut at three);
  - within a place they are anywhere in it, another spot each time;
  - positions are exact; an alert ends once they are EXIT_MARGIN_M further apart than the radius, as in the engine.
Time is the wall clock's of one ordinary week, STEP_S apart; change of clocks, holidays and shifts are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray

from core.domain.policy import Policy, check_bounds, check_not_below
from core.errors import InvalidInput
from geo.frame import Floats
from geo.routines import DETOUR, JITTER_S, ON_THE_WAY, STEP_S, WEEKS, Ground, Ints, Routine, lay_out, live, middle_of

EXIT_MARGIN_M: Final = 100.0
RADII_M: Final = (100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 750.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0)
ZONE_LEAST_M: Final = 50.0
SEED: Final = 7_067


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a judge is asked to sign."""

    victim: Routine
    aggressor: Routine
    alert_m: float = 1000.0
    legal_m: float = 0.0
    wanted_alerts_a_week: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    """How many alerts a week from ordinary life are still borne."""


def read_plan(values: Mapping[str, Any]) -> Plan:
    """A plan out of its JSON form; raises InvalidInput that says what is wrong and where."""
    try:
        plan = msgspec.convert(dict(values), Plan)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The plan cannot be read: {error}.") from None
    check_bounds({"alert_m": plan.alert_m})
    check_not_below("alert_m", plan.alert_m, "legal_m", plan.legal_m)
    return plan


def study(plan: Plan) -> dict[str, Any]:
    """What the plan would bring; see `docs/feasibility.md` for every field. Raises InvalidInput `geometry_invalid`."""
    hers, his = lay_out([plan.victim, plan.aggressor])
    here, there = live(hers, np.random.default_rng(SEED)), live(his, np.random.default_rng(SEED + 1))
    distance_m = np.hypot(here.x - there.x, here.y - there.y)
    radii = sorted({*RADII_M, plan.alert_m, *([plan.legal_m] if plan.legal_m > 0 else [])})
    lines = [_line(distance_m, radius) for radius in radii]
    by_radius = dict(zip(radii, lines, strict=True))
    advice = _advice(plan, hers, his, by_radius)
    entries = _entries(distance_m, plan.alert_m)
    return {
        "proposed": {"alert_m": plan.alert_m, "legal_m": plan.legal_m, **by_radius[plan.alert_m]},
        "radii": [{"radius_m": radius, **line} for radius, line in by_radius.items()],
        "meetings": _meetings(entries, hers, here.at, his, there.at),
        "hours": _by_hour(entries),
        "overlaps": _overlaps(plan, hers, his),
        "routes": _routes(plan, hers, his),
        "advice": advice,
        "weeks": WEEKS,
        "assumptions": ASSUMPTIONS,
    }


ASSUMPTIONS: Final = (
    "unsaid time is spent at home",
    f"travel is a straight line, {DETOUR} times slower than the speed given",
    f"departures and arrivals vary by {JITTER_S / 60:.0f} minutes",
    "anywhere within a place, another spot each time",
    f"an alert ends {EXIT_MARGIN_M:.0f} m beyond the radius",
    "one ordinary week: no holidays, no intent, exact positions",
)


def _entries(distance_m: Floats, radius_m: float) -> NDArray[np.bool_]:
    """Where an alert would be raised: inside, having been outside by the margin since the last; (WEEKS, STEPS)."""
    # Each week stands alone, begun outside: who lives within the radius is one alert a week, not none.
    said = np.where(distance_m < radius_m, 1, np.where(distance_m > radius_m + EXIT_MARGIN_M, -1, 0)).astype(np.int8)
    said[:, 0] = np.where(said[:, 0] == 0, -1, said[:, 0])
    steps = np.broadcast_to(np.arange(said.shape[1]), said.shape)
    last = np.maximum.accumulate(np.where(said != 0, steps, 0), axis=1)
    inside = np.take_along_axis(said, last, axis=1) == 1
    entered: NDArray[np.bool_] = inside & ~np.concatenate(
        [np.zeros((len(inside), 1), dtype=bool), inside[:, :-1]], axis=1
    )
    return entered


def _line(distance_m: Floats, radius_m: float) -> dict[str, float]:
    a_week = _entries(distance_m, radius_m).sum(axis=1)
    inside = distance_m < radius_m
    return {
        "alerts_a_week": round(float(a_week.mean()), 2),
        "alerts_p10": round(float(np.percentile(a_week, 10)), 1),
        "alerts_p90": round(float(np.percentile(a_week, 90)), 1),
        "minutes_a_week": round(float(inside.sum(axis=1).mean()) * STEP_S / 60, 1),
    }


def _meetings(entries: NDArray[np.bool_], hers: Ground, here: Ints, his: Ground, there: Ints) -> list[dict[str, Any]]:
    """Which of their places, or ways between, the alerts of the proposed radius come from, the most frequent first."""

    def name(ground: Ground, index: int) -> str | None:
        return None if index == ON_THE_WAY else ground.routine.places[index].name

    pairs, counts = np.unique(np.stack([here[entries], there[entries]], axis=1), axis=0, return_counts=True)
    found = [
        {"victim": name(hers, int(her)), "aggressor": name(his, int(him)), "alerts_a_week": round(count / WEEKS, 2)}
        for (her, him), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(found, key=lambda one: -float(one["alerts_a_week"] or 0))


def _by_hour(entries: NDArray[np.bool_]) -> list[list[float]]:
    """Alerts a week by weekday (Monday first) and hour: (7, 24)."""
    table = entries.sum(axis=0).reshape(7, 24, 3600 // STEP_S).sum(axis=2) / WEEKS
    return [[round(float(cell), 3) for cell in row] for row in table]


def _overlaps(plan: Plan, hers: Ground, his: Ground) -> list[dict[str, Any]]:
    """Places of the two that lie nearer to each other than the alert radius, the nearest first."""
    found = []
    for i, mine in enumerate(hers.shapes):
        for j, other in enumerate(his.shapes):
            gap_m = float(mine.distance(other))
            if gap_m < plan.alert_m:
                shared = int(((hers.at == i) & (his.at == j)).sum()) * STEP_S / 3600
                found.append(
                    {
                        "victim": hers.routine.places[i].name,
                        "aggressor": his.routine.places[j].name,
                        "gap_m": round(gap_m, 1),
                        "within_legal": gap_m < plan.legal_m,
                        "shared_hours_a_week": round(shared, 1),
                    }
                )
    return sorted(found, key=lambda one: float(str(one["gap_m"])))


def _routes(plan: Plan, hers: Ground, his: Ground) -> list[dict[str, Any]]:
    """His ways that pass one of her places nearer than the alert radius, though they neither begin nor end there."""
    moves = np.flatnonzero(his.at != np.roll(his.at, 1))
    legs: dict[tuple[int, int], int] = {}
    for step in moves:
        leg = (int(his.at[step - 1]), int(his.at[step]))
        legs[leg] = legs.get(leg, 0) + 1
    found = []
    for (start, end), times in legs.items():
        way = shapely.LineString([his.centres[start], his.centres[end]])
        for index, mine in enumerate(hers.shapes):
            gap_m = float(mine.distance(way))
            ends_near = min(float(mine.distance(his.shapes[start])), float(mine.distance(his.shapes[end])))
            if gap_m < plan.alert_m <= ends_near:
                found.append(
                    {
                        "from": his.routine.places[start].name,
                        "to": his.routine.places[end].name,
                        "passes": hers.routine.places[index].name,
                        "gap_m": round(gap_m, 1),
                        "times_a_week": times,
                    }
                )
    return sorted(found, key=lambda one: float(str(one["gap_m"])))


def _advice(plan: Plan, hers: Ground, his: Ground, by_radius: Mapping[float, Mapping[str, float]]) -> dict[str, Any]:
    """The largest radius not above the proposed one that ordinary life bears, and a zone about each of her places."""
    least = max(plan.legal_m, min(RADII_M))
    bearable = [
        radius
        for radius, line in by_radius.items()
        if least <= radius <= plan.alert_m and line["alerts_a_week"] <= plan.wanted_alerts_a_week
    ]
    alert_m = max(bearable, default=min(least, plan.alert_m))
    reasons: list[str] = []
    if not bearable:
        reasons.append("no_radius_bearable")
    elif alert_m < plan.alert_m:
        reasons.append("smaller_radius")
    zones, crowded = _zones(hers, his, alert_m)
    if crowded:
        reasons.append("places_too_near")
    return {
        "alert_m": alert_m,
        "warning_m": Policy().warning_for(alert_m),
        "alerts_a_week": by_radius[alert_m]["alerts_a_week"] if alert_m in by_radius else None,
        "reasons": reasons,
        "zones": zones,
        "too_near": crowded,
    }


def _zones(hers: Ground, his: Ground, alert_m: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A zone about each of her places that reaches none of his; and the places where there is no room for one."""
    zones, crowded = [], []
    for place, shape in zip(hers.routine.places, hers.shapes, strict=True):
        room_m, nearest = min(
            ((float(shape.distance(other)), his.routine.places[j].name) for j, other in enumerate(his.shapes)),
            key=lambda one: one[0],
        )
        own_m = float(np.sqrt(shape.area / np.pi))
        ring_m = min(alert_m, room_m - ZONE_LEAST_M)
        if ring_m < ZONE_LEAST_M:
            crowded.append({"victim": place.name, "aggressor": nearest, "gap_m": round(room_m, 1)})
            continue
        lon, lat = middle_of(place.geometry)
        schedule = None if place.kind == "home" or not place.hours else msgspec.to_builtins(place.hours)
        zones.append(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [lon, lat]},
                "properties": {
                    "kind": "exclusion",
                    "name": place.name,
                    "radius_m": round(own_m + ring_m),
                    "schedule": schedule,
                    "disclosed": False,
                },
            }
        )
    return zones, crowded
