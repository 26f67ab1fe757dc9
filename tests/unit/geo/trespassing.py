"""Places in metres about one spot, and an aggressor who stays in them or walks through."""

from __future__ import annotations

import math
from typing import Any

from core.domain.transition import Transition
from device_sim.geodesy import Point

HIS = 12
MIDDLE = Point(43.25, 76.95)
Moves = list[tuple[str, str]]


def spot(east_m: float, north_m: float = 0.0) -> list[float]:
    return [MIDDLE.lon + east_m / 81_150.0, MIDDLE.lat + north_m / 111_100.0]  # as the world of conftest has it


def box(west_m: float, south_m: float, east_m: float, north_m: float) -> list[list[float]]:
    corners = [(west_m, south_m), (east_m, south_m), (east_m, north_m), (west_m, north_m), (west_m, south_m)]
    return [spot(*corner) for corner in corners]


def square(half_m: float) -> list[list[float]]:
    return box(-half_m, -half_m, half_m, half_m)


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def circle(east_m: float = 0.0, north_m: float = 0.0) -> dict[str, Any]:
    return {"type": "Point", "coordinates": spot(east_m, north_m)}


def zone_moves(transitions: list[Transition]) -> Moves:
    return [(each.from_state, each.to_state) for each in transitions if each.kind == "zone"]


def kinds(transitions: list[Transition]) -> list[tuple[str, str, str]]:
    return [(each.kind, each.from_state, each.to_state) for each in transitions if each.kind in ("zone", "proximity")]


def stay(world: Any, first_s: int, last_s: int, east_m: float, north_m: float = 0.0, **more: Any) -> list[Transition]:
    """He rests: a fix every ten seconds."""
    return [each for now_s in range(first_s, last_s + 1, 10)
            for each in world.ping(now_s, HIS, east_m, north_m, **({"speed_mps": 0.0} | more))]  # fmt: skip


def walk(
    world: Any,
    first_s: int,
    from_m: tuple[float, float],
    to_m: tuple[float, float],
    speed_mps: float,
    every_s: int = 10,
) -> list[Transition]:
    """He goes straight from one spot to another, the last fix there."""
    length = math.dist(from_m, to_m)
    steps = max(1, math.ceil(length / speed_mps / every_s))
    out: list[Transition] = []
    for step in range(1, steps + 1):
        east, north = (a + (b - a) * step / steps for a, b in zip(from_m, to_m, strict=True))
        out += world.ping(first_s + step * every_s, HIS, east, north, speed_mps=length / (steps * every_s))
    return out
