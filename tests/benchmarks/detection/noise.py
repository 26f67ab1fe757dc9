"""Noise for many devices at once: `device_sim.noise` in arrays, each device with random numbers of its own.

The mixtures, the memory of a condition (20 s) and of an error (30 s), and the reported accuracy (68 % radius, with a
spread of 15 %) are those of `device_sim.noise`. Random numbers are the SplitMix64 sequence of the device's own key,
counted by its own fixes: what a device gets depends on nothing but its key and its moments, so that a pair's
story is the same whoever else is simulated beside it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from core.domain.ping import SOURCE_CODES
from device_sim.noise import (
    ACCURACY_SPREAD,
    CITY,
    CONDITION_MEMORY_S,
    ERROR_MEMORY_S,
    OPEN_SKY,
    RADIUS_68_PER_SIGMA,
    Condition,
)

Floats = NDArray[np.float64]

HARSH: Final = (
    Condition(0.60, (8.0, 15.0), "gps"),
    Condition(0.22, (25.0, 60.0), "gps"),
    Condition(0.14, (60.0, 90.0), "wifi"),
    Condition(0.04, (500.0, 700.0), "cell"),
)
"""Narrow streets and much time indoors."""
INDOOR: Final = (
    Condition(0.15, (15.0, 35.0), "gps"),
    Condition(0.75, (30.0, 75.0), "wifi"),
    Condition(0.10, (350.0, 600.0), "cell"),
)
"""Inside a tower block."""
CELL: Final = (Condition(1.0, (350.0, 450.0), "cell"),)
"""A phone that knows only its cell."""
MIXTURES: Final[dict[str, tuple[Condition, ...]]] = {
    "open": OPEN_SKY,
    "city": CITY,
    "harsh": HARSH,
    "indoor": INDOOR,
    "cell": CELL,
}
NAMES: Final = tuple(MIXTURES)
NOISES: Final = ("open", "city", "harsh")
"""Those every scenario is played in; the others are for moments of a scenario."""

DRAWS: Final = 11
"""Random numbers a fix: 8 for its error, the rest for the world's own use."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_WIDEST: Final = max(map(len, MIXTURES.values()))


def key_of(*parts: int) -> np.uint64:
    """A device's key from numbers that tell it apart (seed, scenario, noise, index)."""
    return np.random.SeedSequence([abs(part) for part in parts]).generate_state(1, np.uint64)[0]


def uniforms(keys: NDArray[np.uint64], first: NDArray[np.uint64], count: int) -> Floats:
    """`count` numbers a key from its sequence at `first`, within (0, 1): SplitMix64 (Steele et al. 2014). (n, count)"""
    z = keys[:, None] + _GOLDEN * (first[:, None] + np.arange(1, count + 1, dtype=np.uint64))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    out: Floats = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
    return out


class DeviceNoise:
    """Receivers of D devices. `mixture` (D,) is each one's index into `NAMES`, and may be changed at any time."""

    def __init__(self, keys: NDArray[np.uint64], mixture: NDArray[np.int64]) -> None:
        count = len(keys)
        self._keys = keys
        self.mixture = mixture.copy()
        self.counter = np.zeros(count, dtype=np.uint64)
        """Fixes taken so far."""
        self._last_s = np.full(count, np.nan)
        self._mixture_then = mixture.copy()
        self._source = np.zeros(count, dtype=np.uint32)
        self._sigma_m = np.zeros(count)
        self._error = np.zeros((count, 2))
        self._bounds = np.full((len(NAMES), _WIDEST), 2.0)
        self._sigmas = np.zeros((len(NAMES), _WIDEST, 2))
        self._sources = np.zeros((len(NAMES), _WIDEST), dtype=np.uint32)
        for row, conditions in enumerate(MIXTURES.values()):
            weights = np.cumsum([condition.weight for condition in conditions])
            self._bounds[row, : len(conditions) - 1] = weights[:-1] / weights[-1]
            for k, condition in enumerate(conditions):
                self._sigmas[row, k] = condition.sigma_m
                self._sources[row, k] = SOURCE_CODES[condition.source]

    def fixes(self, rows: NDArray[np.int64], at_s: Floats) -> tuple[Floats, Floats, NDArray[np.uint32], Floats]:
        """Errors (n, 2) in metres east and north, accuracies (n,), sources (n,) and spare random numbers (n, 3).

        `rows` (n,) without repeats; `at_s` must not go back for any of them.
        """
        draws = uniforms(self._keys[rows], self.counter[rows] * np.uint64(DRAWS), DRAWS)
        self.counter[rows] += np.uint64(1)
        normal = ndtri(draws[:, 3:8])
        passed = at_s - self._last_s[rows]
        first = np.isnan(passed)
        passed = np.where(first, np.inf, np.maximum(passed, 0.0))
        kept = np.exp(-passed / ERROR_MEMORY_S)[:, None]
        error = kept * self._error[rows] + np.sqrt(1 - kept * kept) * normal[:, :2]
        mixture = self.mixture[rows]
        chooses = (draws[:, 0] >= np.exp(-passed / CONDITION_MEMORY_S)) | (mixture != self._mixture_then[rows])
        condition = (draws[:, 1, None] >= self._bounds[mixture]).sum(axis=1)
        bounds = self._sigmas[mixture, condition]
        sigma = np.where(chooses, bounds[:, 0] + draws[:, 2] * (bounds[:, 1] - bounds[:, 0]), self._sigma_m[rows])
        source = np.where(chooses, self._sources[mixture, condition], self._source[rows])
        # another sensor errs for reasons of its own
        other = chooses & (source != self._source[rows])
        error = np.where(other[:, None], normal[:, 2:4], error)
        self._last_s[rows], self._mixture_then[rows] = at_s, mixture
        self._source[rows], self._sigma_m[rows], self._error[rows] = source, sigma, error
        accuracy = np.round(RADIUS_68_PER_SIGMA * sigma * np.exp(ACCURACY_SPREAD * normal[:, 4]), 1)
        return error * sigma[:, None], accuracy, source, draws[:, 8:]
