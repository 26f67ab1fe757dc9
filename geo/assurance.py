"""Guaranteed, likely or unknown: what can be said of the distance though nobody is seen all the time.

Guaranteed: even at top speed since their last fixes they are further apart than the radius. Unknown: somebody's
fix is too old, or too poor, to say; it is told after the order's grace, and without any when there was cause to fear.
The moment at which it is to be told follows from the fixes alone, so nothing of it is stored.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo import approach, separation
from geo.frame import Floats
from geo.track import RADIUS_68_SIGMA, Bools, Times

NOT_YET, GUARANTEED, LIKELY, UNKNOWN = 0, 1, 2, 3
NAMES: Final = ("unknown", "guaranteed", "likely", "unknown")
"""By state; before anything was known nothing was known."""

TOP_SPEED_MPS: Final = 50.0
ACCURACIES: Final = 3.0 * RADIUS_68_SIGMA
"""Three 68 % radii, in standard deviations an axis."""
GUARANTEE_KEPT_MS: Final = 300_000
"""A guarantee is given up when none could be renewed for so long, so that it does not come and go with each fix."""
GUARANTEE_NOTED_MS: Final = 60_000
"""How exactly the moment of the last guarantee is kept."""
POOR_RATIO: Final = 0.8
"""σ over the radius from which fixes say too little."""
MENDED_RATIO: Final = 0.6
"""σ over the radius below which they say enough again: one fix a little better than the rest does not end it."""
POOR_SIGMAS: Final = 2.0
PATIENCE: Final = 4.0
"""Graces given to the silence of somebody who was at rest: a phone in a cellar, a bracelet without a cell. Sooner only
when, by the motion model, he could be inside (`p_unknown`)."""
PATIENCE_WHILE_SEEN: Final = 5.5
"""Graces given to her silence while he is at rest; and the most that is given to his own, far off."""
CITY_MPS: Final = 5.0
"""Through a city, from door to door: his rest far off is given until he could be there, had he left at once."""
WAY_SHARE: Final = 0.5
TUNNEL_MS: Final = 90_000.0
"""What a way underground is given beyond two intervals, whoever is coming."""
WALKING_MPS: Final = 1.5
CHECK_MS: Final = 60_000
"""How often that is asked while somebody is silent."""


def lower_bound_m(distance_m: Floats, sigma_sum_m: Floats, age_sum_s: Floats) -> Floats:
    """Least possible distance, (n,): less three accuracies of each and what both can have moved since."""
    return separation.lower_bound_m(distance_m, RADIUS_68_SIGMA * sigma_sum_m, TOP_SPEED_MPS * age_sum_s)


def step(
    state: np.ndarray[tuple[int], np.dtype[np.int8]],
    sure_ms: Times,
    poor_ms: Times,
    bound_m: Floats,
    gap_m: Floats,
    radius_m: Floats,
    distance_m: Floats,
    sigma_m: Floats,
    fresh: Bools,
    patience_ms: Floats,
    now_ms: Times,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int8]], Times, Times]:
    """States after an evaluation by fixes, (n,), when a guarantee was last given, and since when fixes are poor.

    `gap_m`: the bound if nobody had moved since; `sigma_m`: of the relative position, or of the raw fixes while
    somebody moves by them; `patience_ms`: how long it may be too wide (two intervals). Unknown by silence follows from
    `deadlines_ms`, not from here.
    """
    poor = (sigma_m > np.where(poor_ms > 0, MENDED_RATIO, POOR_RATIO) * radius_m) & fresh
    guaranteed = bound_m >= radius_m
    noted = np.where(guaranteed & (now_ms - sure_ms >= GUARANTEE_NOTED_MS), now_ms, sure_ms)
    kept = (state == GUARANTEED) & (now_ms - noted <= GUARANTEE_KEPT_MS)
    known = np.where(guaranteed | (kept & (gap_m >= radius_m)), GUARANTEED, LIKELY)
    since = np.where(poor, np.where(poor_ms == 0, now_ms, poor_ms), 0)
    maybe_inside = distance_m - POOR_SIGMAS * sigma_m < radius_m
    blurred = poor & (now_ms - since >= patience_ms) & maybe_inside
    seen = fresh & ~(poor & maybe_inside)
    after = np.where(blurred, UNKNOWN, np.where(seen, known, state)).astype(np.int8)
    return after, noted, since


def deadlines_ms(
    *,
    service_ms: Floats,
    fresh_ms: Floats,
    gap_m: Floats,
    sigma_sum_m: Floats,
    closing_mps: Floats,
    speed_mps: Floats,
    radius_m: Floats,
    warning_m: Floats,
    horizon_s: Floats,
    grace_ms: Floats,
    resting: Bools,
    feared: Bools,
    tampered: Bools,
) -> tuple[Floats, Floats]:
    """Service times from which separation is unknown, and at which that is told in any case: (n,) each.

    `service_ms` (n, 2): when the victim and the aggressor gave their last fix; `fresh_ms` (n, 2): how long each
    is good for; `gap_m`: the distance of the two fixes; `closing_mps`, `resting` (n, 2): by whom it shrank, who was at
    rest; `speed_mps`: how fast both moved together; `feared`: a breach or an approach was on; `tampered`: his device
    said it was opened or jammed. No grace for either of these, and little when he would be inside soon (for the
    silence of either), or she would, or he was about within the warning radius and not going away (for his).
    """
    gap = gap_m - radius_m
    soon = (closing_mps >= approach.CLOSING_LEAST_MPS) & (gap[:, None] <= horizon_s[:, None] * closing_mps)
    about = (gap_m <= warning_m) & ~resting[:, 1] & (closing_mps[:, 1] > -approach.CLOSING_LEAST_MPS)
    grace = np.where(resting, PATIENCE, 1.0) * grace_ms[:, None]
    grace[resting[:, 1], 0] = (PATIENCE_WHILE_SEEN * grace_ms)[resting[:, 1]]
    there_ms = np.minimum(1000.0 * gap / CITY_MPS - fresh_ms[:, 1], PATIENCE_WHILE_SEEN * grace_ms)
    grace[resting[:, 1], 1] = np.maximum(grace[:, 1], there_ms)[resting[:, 1]]
    # who was on his way is told of by the time he can be half of the way there at the pace he had
    arrival_ms = 1000.0 * WAY_SHARE * gap / np.maximum(speed_mps, WALKING_MPS)
    hurry = np.maximum(arrival_ms[:, None] - fresh_ms, TUNNEL_MS)
    grace = np.where(np.stack([soon[:, 1], about | soon.any(axis=1)], axis=1), np.minimum(grace, hurry), grace)
    grace[feared] = 0.0
    grace[tampered, 1] = 0.0
    stale = service_ms + fresh_ms
    reach_s = np.maximum(gap - ACCURACIES * sigma_sum_m, 0.0) / TOP_SPEED_MPS
    reached = service_ms + 1000.0 * reach_s[:, None]
    stale = np.maximum(stale, reached)
    unknown: Floats = np.ceil(stale.min(axis=1))
    told: Floats = np.ceil(np.maximum(stale, service_ms + fresh_ms + grace).min(axis=1))
    return unknown, told


def next_check_ms(unknown_ms: Floats, told_ms: Floats, checked_ms: Times) -> Times:
    """When to look next, (n,): at the first moment of doubt, each `CHECK_MS` after it, and when it is to be told.

    `checked_ms`, (n,): service time up to which everything of their shard was looked at.
    """
    rounds = np.floor(np.maximum(checked_ms - unknown_ms, -1.0) / CHECK_MS) + 1.0
    moments: Times = np.minimum(unknown_ms + rounds * CHECK_MS, told_ms).astype(np.int64)
    return moments
