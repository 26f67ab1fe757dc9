"""Noise: what a receiver in a city makes of a true position.

Errors are a mixture (85 % open street, 10 % between high houses, 4 % by Wi-Fi, 1 % by cell) and hang together:
the condition lasts for some seconds, and the error itself is a first-order autoregression, so that a parked car
drifts about instead of jumping at every fix. The reported accuracy is the phones' 68 % radius, 1.51 sigma for a
two-dimensional Gaussian, itself only roughly right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from device_sim.geodesy import Frame, Point

RADIUS_68_PER_SIGMA: Final = 1.51
"""The radius that holds 68 % of a round two-dimensional Gaussian: sqrt(-2 ln 0.32) sigma."""
ERROR_MEMORY_S: Final = 30.0
"""After so long an error has forgotten all but 1/e of itself."""
CONDITION_MEMORY_S: Final = 20.0
"""How long a receiver stays in one condition on average."""
ACCURACY_SPREAD: Final = 0.15
"""Standard deviation of the logarithm of reported over true accuracy."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One member of the mixture."""

    weight: float
    sigma_m: tuple[float, float]
    """Least and greatest standard deviation an axis."""
    source: str


CITY: Final = (
    Condition(0.85, (5.0, 10.0), "gps"),
    Condition(0.10, (20.0, 50.0), "gps"),
    Condition(0.04, (70.0, 78.0), "wifi"),
    Condition(0.01, (550.0, 650.0), "cell"),
)
OPEN_SKY: Final = (Condition(1.0, (2.0, 4.0), "gps"),)


@dataclass(frozen=True, slots=True)
class Fix:
    """A position as a receiver reports it."""

    point: Point
    accuracy_m: float
    source: str


class Noise(Protocol):
    """Anything that turns a true position into a reported one; moments must not go back."""

    def fix(self, truth: Point, elapsed_s: float) -> Fix:
        """The fix reported at `elapsed_s` seconds after the start."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """No noise at all: the truth, with a constant accuracy."""

    accuracy_m: float = 5.0

    def fix(self, truth: Point, elapsed_s: float) -> Fix:  # noqa: ARG002 - the truth has no memory
        """The truth."""
        return Fix(truth, self.accuracy_m, "gps")


class CityNoise:
    """The mixture, seeded: the same seed and moments give the same errors."""

    def __init__(self, seed: int, conditions: tuple[Condition, ...] = CITY) -> None:
        self._random = np.random.default_rng(seed)
        self._conditions = conditions
        weights = np.array([condition.weight for condition in conditions])
        self._bounds = np.cumsum(weights / weights.sum())
        self._last_s: float | None = None
        self._condition = conditions[0]
        self._sigma_m = 0.0
        self._error = np.zeros(2)
        """In units of sigma."""

    def _choose(self) -> None:
        chosen = int(np.searchsorted(self._bounds, self._random.random(), side="right"))
        condition = self._conditions[min(chosen, len(self._conditions) - 1)]
        if self._last_s is None or condition.source != self._condition.source:
            self._error = self._random.standard_normal(2)  # another sensor errs for reasons of its own
        self._condition = condition
        self._sigma_m = float(self._random.uniform(*condition.sigma_m))

    def fix(self, truth: Point, elapsed_s: float) -> Fix:
        """The next fix; the longer since the last one, the less its error has to do with that one's."""
        if self._last_s is None:
            self._choose()
        else:
            passed_s = max(0.0, elapsed_s - self._last_s)
            kept = math.exp(-passed_s / ERROR_MEMORY_S)
            self._error = kept * self._error + math.sqrt(1 - kept * kept) * self._random.standard_normal(2)
            if self._random.random() >= math.exp(-passed_s / CONDITION_MEMORY_S):
                self._choose()
        self._last_s = elapsed_s
        east_m, north_m = (self._error * self._sigma_m).tolist()
        misjudged = math.exp(ACCURACY_SPREAD * float(self._random.standard_normal()))
        accuracy_m = RADIUS_68_PER_SIGMA * self._sigma_m * misjudged
        return Fix(Frame(truth).point(east_m, north_m), round(accuracy_m, 1), self._condition.source)
