"""Guaranteed, likely or unknown: what can be said of the distance though nobody is seen all the time.

Guaranteed: even at top speed since their last fixes they are further apart than the radius. Unknown: somebody's
fix is too old, or too poor, to say; it is told after the order's grace, and without any when there was cause to fear.
The moment at which it is to be told follows from the fixes alone, so nothing of it is stored.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo.frame import Floats
from geo.track import Bools, Times

NOT_YET, GUARANTEED, LIKELY, UNKNOWN = 0, 1, 2, 3
NAMES: Final = ("unknown", "guaranteed", "likely", "unknown")
"""By state; before anything was known nothing was known."""

TOP_SPEED_MPS: Final = 50.0
ACCURACIES: Final = 3.0 * 1.51
"""Three 68 % radii, in standard deviations an axis."""
GUARANTEE_KEPT_MS: Final = 300_000
"""A guarantee is given up when none could be renewed for so long, so that it does not come and go with each fix."""
GUARANTEE_NOTED_MS: Final = 60_000
"""How exactly the moment of the last guarantee is kept."""
POOR_RATIO: Final = 0.8
"""σ over the radius from which fixes say too little."""
POOR_SIGMAS: Final = 2.0
CLOSING_LEAST_MPS: Final = 0.5
HORIZONS: Final = 2.0
"""Closing from beyond the warning radius leaves no grace when he would be inside within so many horizons."""
PATIENCE_VICTIM: Final = 4.0
"""Graces given to a victim's silence while he is seen and does not come: her phone rests, or lies in a cellar."""


def lower_bound_m(distance_m: Floats, sigma_sum_m: Floats, age_sum_s: Floats) -> Floats:
    """Least possible distance, (n,): less three accuracies of each and what both can have moved since."""
    return np.maximum(distance_m - ACCURACIES * sigma_sum_m - TOP_SPEED_MPS * age_sum_s, 0.0)


def is_poor(distance_m: Floats, sigma_m: Floats, radius_m: Floats) -> Bools:
    """Where the estimates are too wide to tell, and he may be inside. (n,)"""
    poor: Bools = (sigma_m > POOR_RATIO * radius_m) & (distance_m - POOR_SIGMAS * sigma_m < radius_m)
    return poor


def step(
    state: np.ndarray[tuple[int], np.dtype[np.int8]],
    sure_ms: Times,
    poor_ms: Times,
    bound_m: Floats,
    radius_m: Floats,
    poor: Bools,
    fresh: Bools,
    patience_ms: Floats,
    now_ms: Times,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int8]], Times, Times]:
    """States after an evaluation by fixes, (n,), when a guarantee was last given, and since when fixes are poor.

    `patience_ms`: how long fixes may be poor (two intervals). Unknown by silence is told by `deadline_ms`, not here.
    """
    guaranteed = bound_m >= radius_m
    noted = np.where(guaranteed & (now_ms - sure_ms >= GUARANTEE_NOTED_MS), now_ms, sure_ms)
    kept = (state == GUARANTEED) & (now_ms - noted <= GUARANTEE_KEPT_MS)
    known = np.where(guaranteed | kept, GUARANTEED, LIKELY)
    since = np.where(poor, np.where(poor_ms == 0, now_ms, poor_ms), 0)
    blurred = poor & (now_ms - since >= patience_ms)
    after = np.where(blurred, UNKNOWN, np.where(fresh & ~poor, known, state)).astype(np.int8)
    return after, noted, since


def deadline_ms(
    *,
    service_ms: Times,
    fresh_ms: Floats,
    gap_m: Floats,
    sigma_sum_m: Floats,
    closing_mps: Floats,
    radius_m: Floats,
    warning_m: Floats,
    horizon_s: Floats,
    grace_ms: Floats,
    feared: Bools,
    tampered: Bools,
) -> Times:
    """Service time at which unknown separation is to be told unless there are new fixes. (n,)

    `service_ms` (n, 2): when the victim and the aggressor gave their last fix; `fresh_ms` (n, 2): how long each
    is good for; `gap_m`: the distance of the two fixes; `closing_mps` (n, 2): by whom it shrank; `feared`: a breach
    or an approach was on; `tampered`: his device said it was opened or jammed.
    """
    gap = gap_m - radius_m
    coming = closing_mps >= CLOSING_LEAST_MPS
    soon = gap[:, None] <= HORIZONS * horizon_s[:, None] * np.maximum(closing_mps, 0.0)
    near = (gap_m <= warning_m)[:, None]
    alarming = (coming & (near | soon)) | feared[:, None]
    alarming[:, 1] |= tampered
    grace = np.stack([PATIENCE_VICTIM * grace_ms, grace_ms], axis=1)
    # his coming is cause to fear her silence too, and the other way about
    grace[alarming.any(axis=1)] = 0.0
    stale = service_ms + fresh_ms
    reach_s = np.maximum(gap - ACCURACIES * sigma_sum_m, 0.0) / TOP_SPEED_MPS
    told = np.maximum(stale + grace, service_ms + 1000.0 * reach_s[:, None]).min(axis=1)
    moments: Times = np.ceil(told).astype(np.int64)
    return moments
