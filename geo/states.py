"""clear → warning → breach: up at once, down slowly; what is not known never lowers a state.

Two nested rings a subject, each with its own memory: column 0 the inner one (breach), column 1 the outer one (warning).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo.frame import Floats
from geo.track import Bools, Times

NAMES: Final = ("clear", "warning", "breach")
CERTAINTY_SIGMAS: Final = 3.0
"""A fall wants this many σ between the estimate and the ring with its exit margin. It leaves a probability
below Φ(-3) = 0.0014 of being within, so the rule's `p_within ≤ 0.05` holds wherever this does."""


def is_out(distance_m: Floats, sigma_m: Floats, exit_m: Floats) -> Bools:
    """Where somebody is surely outside: distances and σ (n,), exit radii (n, 2) → (n, 2)."""
    return (distance_m - CERTAINTY_SIGMAS * sigma_m)[:, None] > exit_m


def step(
    on: Bools,
    out_since_ms: Times,
    up: Bools,
    out: Bools,
    fresh: Bools,
    now_ms: Times,
    common_ms: Floats,
    hold_ms: Times,
) -> tuple[Bools, Times]:
    """One step of the rings, all (n, 2) but `fresh`, `now_ms`, `common_ms`, `hold_ms` (n,).

    A ring that is on falls when every evaluation for `hold_ms` found him out, the parties' fixes are fresh, and each
    party has given a fix since the first of them (`common_ms`: the older of the live times): two consecutive fixes.
    Returns what is on now, and since when each ring that is on has been found out (0: not).
    """
    out = out & ~up
    now = now_ms[:, None]
    since = np.where(on & out, np.where(out_since_ms == 0, now, out_since_ms), 0)
    fall = (since > 0) & fresh[:, None] & (now - since >= hold_ms[:, None]) & (common_ms[:, None] > since)
    stays = (on & ~fall) | up
    stays[:, 1] |= stays[:, 0]
    return stays, np.where(stays, since, 0)


def level(on: Bools) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Index into `NAMES` of rings (n, 2)."""
    return np.where(on[:, 0], 2, np.where(on[:, 1], 1, 0))
