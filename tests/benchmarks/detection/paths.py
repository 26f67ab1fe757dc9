"""True paths: straight ways between waypoints at stated speeds, with pauses, in metres east and north of a place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.frame import tangent_plane, to_degrees

Floats = NDArray[np.float64]
Spot = tuple[float, float]
"""Metres east and north of the place."""


@dataclass(frozen=True)
class Path:
    """Waypoints: seconds since the start, growing, and where; before the first and after the last he stands still."""

    times_s: Floats
    east_m: Floats
    north_m: Floats

    def at(self, seconds: Floats) -> tuple[Floats, Floats]:
        """Where he is, metres east and north, at moments of any shape."""
        return np.interp(seconds, self.times_s, self.east_m), np.interp(seconds, self.times_s, self.north_m)

    @staticmethod
    def of_seconds(where: NDArray[np.floating[Any]], within_m: float = 0.01) -> Path:
        """The path of somebody known in every second, (seconds, 2), without the points that lie on a straight way."""
        bend = np.abs(np.diff(where.astype(np.float64), n=2, axis=0)).max(axis=1) > within_m
        kept = np.unique(np.concatenate([[0], np.flatnonzero(bend) + 1, [len(where) - 1]]))
        return Path(kept.astype(np.float64), where[kept, 0].astype(np.float64), where[kept, 1].astype(np.float64))

    def turned(self, angle_rad: float) -> Path:
        """The same path turned about the place, anticlockwise."""
        east, north = turned(self.east_m, self.north_m, angle_rad)
        return Path(self.times_s, east, north)


def turned(east_m: Floats, north_m: Floats, angle_rad: float) -> tuple[Floats, Floats]:
    """Spots turned about the place, anticlockwise."""
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return east_m * cosine - north_m * sine, east_m * sine + north_m * cosine


class Way:
    """Builds a path step by step: `Way(2000, 0).wait(300).to(50, 0, 1.4).wait(600)`."""

    def __init__(self, east_m: float, north_m: float = 0.0) -> None:
        self._points: list[tuple[float, float, float]] = [(0.0, east_m, north_m)]

    @property
    def now_s(self) -> float:
        """When the way told so far ends."""
        return self._points[-1][0]

    @property
    def spot(self) -> Spot:
        """Where the way told so far ends."""
        return self._points[-1][1:]

    def wait(self, seconds: float) -> Way:
        """Stand still."""
        if seconds > 0:
            self._points.append((self.now_s + seconds, *self.spot))
        return self

    def wait_until(self, at_s: float) -> Way:
        """Stand still until a moment; nothing if that is past."""
        return self.wait(at_s - self.now_s)

    def to(self, east_m: float, north_m: float, speed_mps: float) -> Way:
        """Go straight to a spot."""
        length = math.hypot(east_m - self.spot[0], north_m - self.spot[1])
        if length > 0:
            self._points.append((self.now_s + length / speed_mps, east_m, north_m))
        return self

    def through(self, spots: Sequence[Spot], speed_mps: float, pause_s: float = 0.0) -> Way:
        """Go to several spots one after the other, pausing at each."""
        for east_m, north_m in spots:
            self.to(east_m, north_m, speed_mps).wait(pause_s)
        return self

    def arc(self, radius_m: float, angle_rad: float, speed_mps: float) -> Way:
        """Go round the place at a radius, from the present direction, by an angle (may be more than a turn)."""
        start = math.atan2(self.spot[1], self.spot[0])
        steps = max(2, math.ceil(abs(angle_rad) / 0.1))
        turns = [start + angle_rad * (k + 1) / steps for k in range(steps)]
        return self.through([(radius_m * math.cos(a), radius_m * math.sin(a)) for a in turns], speed_mps)

    def path(self) -> Path:
        """The path."""
        times, east, north = np.asarray(self._points).T
        return Path(times.copy(), east.copy(), north.copy())


class Walkers:
    """Many paths side by side, asked at times that only grow."""

    def __init__(self, paths: Sequence[Path]) -> None:
        longest = max((len(path.times_s) for path in paths), default=1) + 1
        self._times = np.full((len(paths), longest + 1), np.inf)
        self._east = np.zeros((len(paths), longest + 1))
        self._north = np.zeros((len(paths), longest + 1))
        for row, path in enumerate(paths):
            count = len(path.times_s)
            self._times[row, :count] = path.times_s
            self._east[row, :count] = path.east_m
            self._north[row, :count] = path.north_m
            self._east[row, count:] = path.east_m[-1]
            self._north[row, count:] = path.north_m[-1]
        self._leg = np.zeros(len(paths), dtype=np.int64)

    def at(self, rows: NDArray[np.int64], seconds: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Where walkers (n,) are at moments (n,), and how fast: east, north, metres a second east, north."""
        leg = self._leg[rows]
        while True:
            behind = self._times[rows, leg + 1] <= seconds
            if not behind.any():
                break
            leg = leg + behind
        # one walker may be asked for by several devices in the same second
        np.maximum.at(self._leg, rows, np.where(seconds >= self._times[rows, leg], leg, 0))
        began, ends = self._times[rows, leg], self._times[rows, leg + 1]
        length = np.where(np.isfinite(ends), ends - began, np.inf)
        share = np.clip((seconds - began) / length, 0.0, 1.0)
        east, north = self._east[rows, leg], self._north[rows, leg]
        step_east, step_north = self._east[rows, leg + 1] - east, self._north[rows, leg + 1] - north
        return east + share * step_east, north + share * step_north, step_east / length, step_north / length


@dataclass(frozen=True)
class Place:
    """A spot on earth and the plane that touches it there."""

    lat: float
    lon: float

    def plane(self) -> Floats:
        """Origin, east and north vectors, earth-centred, (9,)."""
        plane: Floats = tangent_plane(self.lat, self.lon)
        return plane

    def degrees(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Latitude and longitude of a spot."""
        lat, lon = on_earth(self.plane()[None], np.asarray([east_m]), np.asarray([north_m]))
        return float(lat[0]), float(lon[0])


def on_earth(planes: Floats, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats]:
    """Degrees of spots (n,) on planes (n, 9).

    A spot d metres off lies d²/2R above the ground; brought straight down, its distances are right to (d/R)²/3: within
    50 km better than 2e-5.
    """
    return to_degrees(planes[:, :3] + east_m[:, None] * planes[:, 3:6] + north_m[:, None] * planes[:, 6:9])
