"""How often a device should be heard, from how far apart two people surely are.

A victim's device may be told to the second. An aggressor's device is told only one of three values, rounded down:
anything finer would be a distance meter in his hands.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from geo.frame import Floats

SAMPLING_SPEED_AGGRESSOR_MPS: Final = 35.0
SAMPLING_SPEED_VICTIM_MPS: Final = 25.0
SHORTEST_S: Final = 1.0
LONGEST_S: Final = 60.0
AGGRESSOR_STEPS_S: Final = (5.0, 15.0, 60.0)


def longest_wait_s(lower_bound_m: Floats, radius_m: Floats) -> Floats:
    """Longest wait for which nobody can have reached the radius, at sampling speeds, within [1, 60] s. (n,)"""
    wait = (lower_bound_m - radius_m) / (SAMPLING_SPEED_AGGRESSOR_MPS + SAMPLING_SPEED_VICTIM_MPS)
    return np.clip(wait, SHORTEST_S, LONGEST_S)


def aggressor_step_s(wait_s: Floats) -> Floats:
    """The wait an aggressor's device is told: 60, 15 or 5 s, rounded down, never below 5. (n,)"""
    steps = np.asarray(AGGRESSOR_STEPS_S)
    return steps[np.clip(np.searchsorted(steps, wait_s, side="right") - 1, 0, len(steps) - 1)]
