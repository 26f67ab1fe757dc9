"""Routes: where somebody truly is at a moment. Legs are straight in a local metric frame around the route's start."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from device_sim.geodesy import Frame, Point

WALKING_MPS: Final = 1.4
DRIVING_MPS: Final = 13.9
LOITER_LEGS_MAX: Final = 100_000
"""Legs a loiterer may walk; at ordinary radii this is months."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Where somebody truly is, how fast and whither."""

    point: Point
    speed_mps: float
    heading_deg: float | None
    """Clockwise from north; None at rest."""


class Route(Protocol):
    """Anything that says where somebody is `elapsed_s` seconds after the start."""

    def at(self, elapsed_s: float) -> Motion:
        """Position, speed and heading at that moment; before the start, those at the start."""
        ...


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody who does not move."""

    point: Point

    def at(self, elapsed_s: float) -> Motion:  # noqa: ARG002 - a stayer is there at any moment
        """The place, at rest."""
        return Motion(self.point, 0.0, None)


class Path:
    """Way points passed at a steady speed: walked, driven, once or round and round.

    `start_s` is when the first point is left; a path that does not loop ends at rest at its last point.
    """

    def __init__(
        self, points: Sequence[Point], speed_mps: float = WALKING_MPS, *, start_s: float = 0.0, loop: bool = False
    ) -> None:
        if not points:
            raise ValueError("A path needs at least one point.")
        if not (math.isfinite(speed_mps) and speed_mps > 0):
            raise ValueError(f"A path's speed must be more than 0 m/s, not {speed_mps}.")
        self._frame = Frame(points[0])
        self._speed_mps = speed_mps
        self._start_s = start_s
        self._loop = loop
        closed = [*points, points[0]] if loop else list(points)
        self._corners = np.array([self._frame.offset_m(point) for point in closed])
        legs = np.hypot(*np.diff(self._corners, axis=0).T) if len(closed) > 1 else np.zeros(0)
        self._reached_m: list[float] = [0.0, *np.cumsum(legs).tolist()]

    @property
    def length_m(self) -> float:
        """Length of the path, of one round if it loops."""
        return self._reached_m[-1]

    @property
    def duration_s(self) -> float:
        """Seconds from the start until the end is reached (of one round, if it loops)."""
        return self._start_s + self.length_m / self._speed_mps

    def at(self, elapsed_s: float) -> Motion:
        """Position on the path, by the distance covered since its start."""
        covered_m = max(0.0, elapsed_s - self._start_s) * self._speed_mps
        if self._loop and self.length_m > 0:
            covered_m %= self.length_m
        resting = elapsed_s < self._start_s or covered_m >= self.length_m
        covered_m = min(covered_m, self.length_m)
        leg = min(bisect.bisect_right(self._reached_m, covered_m) - 1, len(self._reached_m) - 2)
        if leg < 0:
            return Motion(self._frame.origin, 0.0, None)
        begin, end = self._corners[leg], self._corners[leg + 1]
        length_m = self._reached_m[leg + 1] - self._reached_m[leg]
        share = (covered_m - self._reached_m[leg]) / length_m if length_m > 0 else 1.0
        east_m, north_m = (begin + (end - begin) * share).tolist()
        point = self._frame.point(east_m, north_m)
        if resting:
            return Motion(point, 0.0, None)
        heading_deg = math.degrees(math.atan2(*(end - begin).tolist())) % 360
        return Motion(point, self._speed_mps, heading_deg)


class Loiter:
    """Somebody who walks about within `radius_m` of a place, resting at every turn; seeded, endless."""

    def __init__(
        self, centre: Point, radius_m: float, speed_mps: float = WALKING_MPS, *, rest_s: float = 20.0, seed: int = 0
    ) -> None:
        if not radius_m > 0 or not speed_mps > 0 or not rest_s >= 0:
            raise ValueError("A loiterer needs a radius and a speed above 0 and a rest of 0 s or more.")
        self._frame = Frame(centre)
        self._radius_m = radius_m
        self._speed_mps = speed_mps
        self._rest_s = rest_s
        self._random = np.random.default_rng(seed)
        self._stops: list[tuple[float, float]] = [self._anywhere()]
        self._leaves_s: list[float] = [rest_s]
        """When stop i is left for stop i + 1."""

    def _anywhere(self) -> tuple[float, float]:
        reach_m = self._radius_m * math.sqrt(self._random.random())
        turn = 2 * math.pi * self._random.random()
        return reach_m * math.cos(turn), reach_m * math.sin(turn)

    def _extend(self, elapsed_s: float) -> None:
        while self._leaves_s[-1] <= elapsed_s and len(self._stops) < LOITER_LEGS_MAX:
            stop = self._anywhere()
            walk_s = math.dist(stop, self._stops[-1]) / self._speed_mps
            self._stops.append(stop)
            self._leaves_s.append(self._leaves_s[-1] + walk_s + self._rest_s)

    def at(self, elapsed_s: float) -> Motion:
        """Walking between two stops, or resting at one."""
        self._extend(elapsed_s)
        stop = bisect.bisect_right(self._leaves_s, elapsed_s)
        if stop == 0 or stop >= len(self._stops):
            return Motion(self._frame.point(*self._stops[min(stop, len(self._stops) - 1)]), 0.0, None)
        begin, end = self._stops[stop - 1], self._stops[stop]
        length_m = math.dist(begin, end)
        covered_m = (elapsed_s - self._leaves_s[stop - 1]) * self._speed_mps
        if covered_m >= length_m:
            return Motion(self._frame.point(*end), 0.0, None)
        share = covered_m / length_m
        east_m, north_m = begin[0] + (end[0] - begin[0]) * share, begin[1] + (end[1] - begin[1]) * share
        heading_deg = math.degrees(math.atan2(end[0] - begin[0], end[1] - begin[1])) % 360
        return Motion(self._frame.point(east_m, north_m), self._speed_mps, heading_deg)
