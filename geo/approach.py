"""Will he be inside soon? Both motions carried forward, as far as motion can be foretold at all.

Nobody walks a straight line for five minutes, so a prediction reaches as far as people keep their course: who has been
coming for long goes on coming for longer than who has just turned.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo import separation
from geo.fix_filter import velocity
from geo.frame import Floats
from geo.track import VV, Bools, Times

LOOK_AHEAD_S: Final = (3.0, 6.0, 10.0, 15.0, 20.0, 30.0, 40.0, 55.0, 75.0, 100.0, 140.0, 200.0, 300.0)
"""Moments looked at; those beyond the order's horizon are left out, and the horizon itself is not added."""
COURSE_LEAST_S: Final = 25.0
COURSE_SHARE: Final = 0.6
"""Who has been coming for a while goes on coming, on average, for this share of it as long; at least for the above.
In streets people turn: a car that just turned towards her tells less than a walker who keeps coming."""
CLOSING_LEAST_MPS: Final = 0.5
"""Slower, and it is drift or noise."""
LEAVING_MPS: Final = 0.2
"""Slower than this, and the coming is at an end."""
LOST_SHARE: Final = 0.5
"""A prediction falls when its probability is below this share of what made it."""


def chance(
    victim: Floats,
    aggressor: Floats,
    apart: Floats,
    variance_m2: Floats,
    radius_m: Floats,
    horizon_s: Floats,
    coming_s: Floats,
) -> tuple[Floats, Floats]:
    """Greatest probability, within the horizon, of being within the radius, and in how many seconds: (n,) each.

    That they are there if both go on as they do, times that they go on so; `apart` (n, 3) and `variance_m2` (n,) are
    the relative position now, `coming_s` (n,) for how long they have come. The relative position at each look ahead
    is a round normal distribution, as everywhere (`geo.separation`), as wide as both velocities are unsure.
    """
    best, when = np.zeros(len(radius_m)), np.zeros(len(radius_m))
    course_s = np.maximum(COURSE_LEAST_S, COURSE_SHARE * coming_s)
    drift = velocity(aggressor) - velocity(victim)
    unsure = victim[:, VV] + aggressor[:, VV]
    for ahead_s in LOOK_AHEAD_S:
        there = apart + ahead_s * drift
        distance = np.sqrt(np.einsum("ij,ij->i", there, there))
        p = separation.p_within(radius_m, distance, np.sqrt(variance_m2 + ahead_s * ahead_s * unsure))
        p *= np.exp(-ahead_s / course_s)
        more: Bools = (p > best) & (ahead_s <= horizon_s)
        if np.count_nonzero(more):
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
