"""How far apart two people are, how sure that is, and where it leads.

The relative position is a round two-dimensional normal distribution about the difference of the two fixes; its
variance is the sum of both, each grown with its age (`geo.fix_filter.variance`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chndtr, ndtr

from geo.fix_filter import velocity
from geo.frame import Floats
from geo.track import Bools

FLAT_RATIO: Final = 20.0
"""Radius over σ beyond which the circle's edge is as good as straight."""
CERTAIN_SIGMAS: Final = 6.0
"""Distance from the edge, in σ, beyond which the probability is 0 or 1 (error < 2e-9)."""
CANNOT_REACH: Final = 1.18
"""With σ > R/1.18 (= R/sqrt(2 ln 2)) less than half of the distribution fits the circle, even at its centre."""
STANDSTILL_MPS: Final = 0.1
SHARE_OF_ONE: Final = 0.75
"""A party that makes this share of the closing speed is the one who moved."""


def p_within(radius_m: Floats, distance_m: Floats, sigma_m: Floats) -> Floats:
    """Probability that the true distance is at most the radius; the three arrays broadcast.

    Noncentral χ² with two degrees of freedom (Rice distribution); where R/σ > 20, and that is slow, the normal
    approximation of the Rice distribution ndtr((R - hypot(d, σ))/σ), whose error is below 2e-4.
    """
    margin = np.asarray((radius_m - distance_m) / sigma_m, dtype=np.float64)
    out = np.asarray(margin > 0, dtype=np.float64)
    grey = np.abs(margin) < CERTAIN_SIGMAS
    where = grey.nonzero()
    if not where[0].size:
        return out
    r, d, s = (_at(each, where, margin.shape) for each in (radius_m, distance_m, sigma_m))
    ratio = r / s
    flat = ratio > FLAT_RATIO
    if flat.all():
        out[where] = ndtr((r - np.hypot(d, s)) / s)
    else:
        value = chndtr(np.minimum(ratio, FLAT_RATIO) ** 2, 2.0, (d / s) ** 2)
        value[flat] = ndtr((r[flat] - np.hypot(d[flat], s[flat])) / s[flat])
        out[where] = value
    return out


def _at(values: Floats, where: tuple[NDArray[np.int64], ...], shape: tuple[int, ...]) -> Floats:
    """Values at indices (m,) an axis of the shape that they broadcast to."""
    if values.shape == shape:
        return values[where]
    if len(shape) == 2 and values.shape == (shape[0], 1):
        return values[:, 0].take(where[0])
    picked: Floats = np.broadcast_to(values, shape)[where]
    return picked


def closest_approach(apart: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Least distance while the difference vector moved by `step` (n, 3) to where it is now, `apart` (n, 3).

    Returns the distance (n,) and the share of the way at which it was reached, 1 being now.
    """
    before = apart - step
    length2 = np.einsum("ij,ij->i", step, step)
    share = np.clip(-np.einsum("ij,ij->i", before, step) / np.maximum(length2, 1e-12), 0.0, 1.0)
    share[length2 < 1e-6] = 1.0
    nearest = before + share[:, None] * step
    return np.sqrt(np.einsum("ij,ij->i", nearest, nearest)), share


def closing(victim: Floats, aggressor: Floats, apart: Floats, distance_m: Floats) -> tuple[Floats, Floats]:
    """Speeds, m/s, at which the victim and the aggressor shorten the distance, (n,) each; `apart` (n, 3)."""
    towards = apart / np.maximum(distance_m, 1e-9)[:, None]
    by_victim = np.einsum("ij,ij->i", velocity(victim), towards)
    by_aggressor = -np.einsum("ij,ij->i", velocity(aggressor), towards)
    return by_victim, by_aggressor


def attribution(by_victim_mps: float, by_aggressor_mps: float) -> str | None:
    """Who made the distance shrink: aggressor, victim or both; None when it does not. Never whose fault."""
    total = by_victim_mps + by_aggressor_mps
    if total <= STANDSTILL_MPS:
        return None
    share = by_aggressor_mps / total
    if share >= SHARE_OF_ONE:
        return "aggressor"
    return "victim" if share <= 1 - SHARE_OF_ONE else "both"


def time_to_zone_s(distance_m: float, radius_m: float, closing_mps: float) -> float | None:
    """Seconds until the distance is the radius at the present closing speed; 0 inside; None when not closing."""
    if distance_m <= radius_m:
        return 0.0
    return (distance_m - radius_m) / closing_mps if closing_mps > STANDSTILL_MPS else None


def lower_bound_m(distance_m: Floats, accuracies_m: Floats, reach_m: Floats) -> Floats:
    """Least possible distance: less three times both accuracies and what both can have moved since. (n,)"""
    return np.maximum(distance_m - 3.0 * accuracies_m - reach_m, 0.0)


def is_blind(radius_m: Floats, sigma_m: Floats) -> Bools:
    """Where σ is so wide that no probability can reach one half."""
    return sigma_m > radius_m / CANNOT_REACH
