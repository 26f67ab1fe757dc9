"""Will he be inside soon? Both motions carried forward, as far as motion can be foretold at all.

Nobody walks a straight line for five minutes: the motion model forgets a velocity within about a minute
(`geo.track`), so a prediction reaches as far as people keep their course, and its spread grows with the look ahead.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo import separation
from geo.fix_filter import estimate, velocity
from geo.frame import Floats
from geo.track import Bools, Times

LOOK_AHEAD_S: Final = (15.0, 30.0, 60.0, 90.0, 150.0, 300.0)
"""Moments looked at; those beyond the order's horizon are left out, and the horizon itself is not added."""
CLOSING_LEAST_MPS: Final = 0.5
"""Slower, and it is drift or noise."""
LOST_SHARE: Final = 0.5
"""A prediction falls when its probability is below this share of what made it."""


def closing(victim: Floats, aggressor: Floats, apart: Floats, distance_m: Floats) -> tuple[Floats, Floats]:
    """Speeds, m/s, at which the victim and the aggressor shorten the distance, (n,) each; `apart` (n, 3)."""
    towards = apart / np.maximum(distance_m, 1e-9)[:, None]
    by_victim = np.einsum("ij,ij->i", velocity(victim), towards)
    by_aggressor = -np.einsum("ij,ij->i", velocity(aggressor), towards)
    return by_victim, by_aggressor


def chance(
    victim: Floats, aggressor: Floats, now_ms: Times, radius_m: Floats, horizon_s: Floats
) -> tuple[Floats, Floats]:
    """Greatest probability, within the horizon, of being within the radius, and in how many seconds: (n,) each.

    The relative position at each look ahead is a round normal distribution, as everywhere (`geo.separation`).
    """
    best, when = np.zeros(len(radius_m)), np.zeros(len(radius_m))
    for ahead_s in LOOK_AHEAD_S:
        then_ms = now_ms + np.int64(ahead_s * 1000)
        place_v, variance_v = estimate(victim, then_ms)
        place_a, variance_a = estimate(aggressor, then_ms)
        apart = place_a - place_v
        distance = np.sqrt(np.einsum("ij,ij->i", apart, apart))
        p = separation.p_within(radius_m, distance, np.sqrt(variance_v + variance_a))
        more: Bools = (p > best) & (ahead_s <= horizon_s)
        if more.any():
            best = np.where(more, p, best)
            when = np.where(more, ahead_s, when)
    return best, when


def step(
    predicted: Bools, away_ms: Times, up: Bools, lost: Bools, entered: Bools, hold_ms: Times, now_ms: Times
) -> tuple[Bools, Times]:
    """One step of the prediction, all (n,): up at once, down when lost for the whole hold, or when he is inside.

    `lost`: evaluated on fresh fixes of both, and no longer likely. Returns what is predicted now and since when
    it has been lost (0: not).
    """
    since = np.where(predicted & lost & ~up, np.where(away_ms == 0, now_ms, away_ms), 0)
    fall = ((since > 0) & (now_ms - since >= hold_ms)) | entered
    stays: Bools = (predicted | up) & ~fall
    return stays, np.where(stays, since, 0)
