"""Devices side by side whose fixes the filter takes, and the ways they go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import (
    FLAG_POSITION,
    FLAG_PRIMARY,
    NO_SEQ,
    RECORD,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    Source,
)
from device_sim.noise import CITY, ERROR_MEMORY_S, RADIUS_68_PER_SIGMA
from geo import fix_filter as filters
from geo.fix_filter import (
    REST,
)
from geo.frame import Floats, flatten, tangent_plane, to_degrees
from geo.track import PLACE, PP, WIDTH, candidates

START_MS = 1_760_000_000_000
NAN = float("nan")
ALMATY = (43.25, 76.95)
CONDITION_MEMORY_S = 20.0


class Devices:
    """n devices side by side, their places in metres east and north of one spot."""

    def __init__(self, count: int = 1, spot: tuple[float, float] = ALMATY) -> None:
        self.plane = tangent_plane(*spot)
        self.rows: Floats = np.zeros((count, WIDTH))
        self.now_ms = np.full(count, START_MS)
        self.notes: NDArray[np.int64] = np.zeros(count, np.int64)

    def records(
        self, now_s: float, metres: Any, accuracy_m: Any = 10.0, *, speed_mps: Any = NAN, heading_deg: Any = NAN,
        source: Any = Source.GPS, moving: int = 0,
    ) -> NDArray[np.void]:  # fmt: skip
        spots = np.broadcast_to(np.asarray(metres, np.float64), (len(self.rows), 2))
        records = np.zeros(len(self.rows), RECORD)
        places = self.plane[:3] + spots[:, :1] * self.plane[3:6] + spots[:, 1:] * self.plane[6:9]
        records["lat"], records["lon"] = to_degrees(places)
        records["accuracy_m"], records["speed_mps"], records["heading_deg"] = accuracy_m, speed_mps, heading_deg
        records["at_ms"], records["seq"] = START_MS + round(now_s * 1000), NO_SEQ
        flags = FLAG_POSITION | FLAG_PRIMARY | moving << SHIFT_MOVING
        records["flags"] = flags | np.asarray(source, np.uint32) << np.uint32(SHIFT_SOURCE)
        return records

    def ping(self, now_s: float, metres: Any, *more: Any, **others: Any) -> int:
        records = self.records(now_s, metres, *more, **others)
        self.now_ms = records["at_ms"].copy()
        fixes, may = candidates(records, self.now_ms)
        assert may.all()
        self.rows, self.notes = filters.advance(self.rows, fixes, records["heading_deg"])
        return int(self.notes[0])

    @property
    def metres(self) -> Floats:
        return flatten(self.plane, self.rows[:, PLACE])

    def off_m(self, metres: Any) -> float:
        """How far the first device's estimate is from a spot."""
        return float(np.hypot(*(self.metres[0] - np.asarray(metres))))

    @property
    def level(self) -> int:
        return int(filters.level_of(self.rows)[0])

    @property
    def sigma_m(self) -> float:
        return float(np.sqrt(self.rows[0, PP]))

    def speeds(self) -> Floats:
        return np.linalg.norm(filters.velocity(self.rows), axis=1)


def resting(spot: tuple[float, float] = ALMATY) -> Devices:
    """A device that has rested at the origin for twenty minutes, a fix a minute."""
    device = Devices(spot=spot)
    wander = np.random.default_rng(4)
    for minute in range(20):
        device.ping(60 * minute, wander.normal(0, 4, 2))
    assert device.level == REST
    return device


class CityNoise:
    """`device_sim.noise.CityNoise` for n devices at once."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = np.random.default_rng(seed)
        self.weights = [condition.weight for condition in CITY]
        self.bounds = np.array([condition.sigma_m for condition in CITY])
        self.sources = np.array([int(Source[condition.source.upper()]) for condition in CITY])
        self.kind, self.sigma = self._chosen(count)
        self.error = self.random.standard_normal((count, 2))

    def _chosen(self, count: int) -> tuple[NDArray[np.int64], Floats]:
        kind = self.random.choice(len(CITY), count, p=self.weights)
        return kind, self.random.uniform(*self.bounds[kind].T)

    def after(self, seconds: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Errors (n, 2), accuracies and sources (n,) of the next fixes."""
        count = len(self.kind)
        kept = np.exp(-seconds / ERROR_MEMORY_S)
        self.error = kept * self.error + np.sqrt(1 - kept**2) * self.random.standard_normal((count, 2))
        changed = self.random.random(count) >= np.exp(-seconds / CONDITION_MEMORY_S)
        kind, sigma = self._chosen(count)
        other = changed & (self.sources[kind] != self.sources[self.kind])
        self.error[other] = self.random.standard_normal((int(other.sum()), 2))
        self.kind, self.sigma = np.where(changed, kind, self.kind), np.where(changed, sigma, self.sigma)
        claimed = RADIUS_68_PER_SIGMA * self.sigma * np.exp(0.15 * self.random.standard_normal(count))
        return self.error * self.sigma[:, None], claimed, self.sources[self.kind]


def drive(way: Floats, interval_s: float, seed: int = 1) -> tuple[Floats, Floats, Floats]:
    """Devices along ways (T, n, 2), in metres, by city noise: errors (T, n, 2), variances and levels (T, n)."""
    devices, noise = Devices(way.shape[1]), CityNoise(seed, way.shape[1])
    errors, variances, levels = np.empty_like(way), np.empty(way.shape[:2]), np.empty(way.shape[:2])
    for k, spots in enumerate(way):
        error, accuracy, source = noise.after(interval_s)
        devices.ping(k * interval_s, spots + error, accuracy, source=source)
        errors[k], variances[k] = devices.metres - spots, filters.variance(devices.rows, devices.now_ms)
        levels[k] = filters.level_of(devices.rows)
    return errors, variances, levels


def straight(speed_mps: float, interval_s: float, duration_s: float, count: int) -> Floats:
    """Ways (T, n, 2) from the origin in all directions."""
    run = speed_mps * np.arange(0, duration_s, interval_s)
    turn = np.linspace(0, 2 * np.pi, count)
    return np.stack([np.outer(run, np.cos(turn)), np.outer(run, np.sin(turn))], axis=-1)
