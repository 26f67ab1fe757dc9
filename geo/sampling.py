"""How often a device should be heard: from how far apart two people surely are, and what that may give away.

Nobody reaches the radius while `safe_s` lasts: (lower bound - R) / (35 + 25) m/s. A device is told half of it, and at
most what is left of it once the wait it is on is over, because over HTTP what this ping causes is heard only in answer
to the next one. `tests/property/geo/test_geo_sampling_property.py` holds what follows: under the stated speeds, and
errors of at most three accuracies, no breach begins between two pings of a device that was told more than its
shortest wait.

What an aggressor's device is told is a distance meter in his hands if it follows her alone. So:

- it is worked out at his own pings only, never at hers, and her side counts as `VICTIM_AGE_S` old at least: how often
  *her* phone reports, and so whether she pressed, has no part in it at all;
- he is told 5 s unless he has stayed at one place for `REST_S`. Whoever walks a grid and keeps a log reads 5 s in
  every cell;
- only at rest is he told 15 or 60 s, if the distance allows it, if the place is no *decoy*, and if no *burst* is on.
  Decoys (half of all places) and bursts (a fifth of the time) come from a keyed hash of device, place and time.

What is still told: a longer wait at a place where he has rested for two hours says that she was not near it then, some
4 km for 15 s and 10 km for 60 s. The price of that is two hours a place, and half of the places never answer.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geo.frame import Floats

SAMPLING_SPEED_AGGRESSOR_MPS: Final = 35.0
SAMPLING_SPEED_VICTIM_MPS: Final = 25.0
CLOSING_MPS: Final = SAMPLING_SPEED_AGGRESSOR_MPS + SAMPLING_SPEED_VICTIM_MPS
ACCURACIES: Final = 3.0
"""How many accuracies (68 % radii) an error is taken to stay within."""
SHORTEST_S: Final = 1.0
LONGEST_S: Final = 60.0
AGGRESSOR_STEPS_S: Final = (5.0, 15.0, 60.0)
FAST_S: Final = AGGRESSOR_STEPS_S[0]

VICTIM_AGE_S: Final = 60.0
"""Least age her fix counts as when his wait is worked out."""
REST_S: Final = 7200.0
"""How long he must have been at one place before he is told more than the shortest step."""
REST_RADIUS_M: Final = 150.0
"""How far from where it began a rest may stray, beside three accuracies."""

DECOY_CELL_M: Final = 1000.0
DECOY_SHARE: Final = 0.5
"""Share of places where a rest is never told more than the shortest step, wherever she is."""
WINDOW_S: Final = 1200.0
BURST_SHARE: Final = 0.8
"""Share of windows of `WINDOW_S` that hold a burst."""
BURST_S: Final = (120.0, 480.0)
"""A burst's length is drawn evenly between these: a fifth of the time is burst, with no edge of its own kind."""

Words = NDArray[np.uint64]


def lower_bound_m(distance_m: Floats, accuracy_m: Floats, age_victim_s: Floats, age_aggressor_s: Floats) -> Floats:
    """Least distance two people may have, from fixes of those ages; `accuracy_m` is both accuracies' sum. (n,)"""
    bound: Floats = (
        distance_m
        - ACCURACIES * accuracy_m
        - SAMPLING_SPEED_VICTIM_MPS * age_victim_s
        - SAMPLING_SPEED_AGGRESSOR_MPS * age_aggressor_s
    )
    return bound


def safe_s(bound_m: Floats, radius_m: Floats) -> Floats:
    """For how long nobody can have come within the radius; negative: he may be within now. (n,)"""
    safe: Floats = (bound_m - radius_m) / CLOSING_MPS
    return safe


def zone_safe_s(distance_m: Floats, accuracy_m: Floats, age_s: Floats) -> Floats:
    """For how long he cannot have crossed the edge of a zone, which stands still; negative: he may have. (n,)"""
    safe: Floats = (distance_m - ACCURACIES * accuracy_m) / SAMPLING_SPEED_AGGRESSOR_MPS - age_s
    return safe


def wait_s(safe: Floats, told_s: Floats) -> Floats:
    """The wait to tell a device that is on a wait of `told_s` and may hear the new one only when that is over. (n,)"""
    wait: Floats = np.minimum(0.5 * safe, safe - told_s)
    return wait


def victim_wait_s(wait: Floats) -> Floats:
    """What a victim's device is told: to the second, rounded down, within [1, 60] s. (n,)"""
    told: Floats = np.clip(np.floor(wait), SHORTEST_S, LONGEST_S)
    return told


def aggressor_step_s(wait: Floats) -> Floats:
    """What an aggressor's device may be told at most: 60, 15 or 5 s, rounded down, never below 5. (n,)"""
    steps = np.asarray(AGGRESSOR_STEPS_S)
    return steps[np.clip(np.searchsorted(steps, wait, side="right") - 1, 0, len(steps) - 1)]


class Cover:
    """When and where an aggressor's device is told the shortest step for no reason: a function of a secret key."""

    def __init__(self, key: bytes = b"") -> None:
        """`key`: secret of the installation, the same for every owner of a shard."""
        digest = hashlib.blake2b(key, digest_size=16, person=b"qorgan-cover").digest()
        self._time_key, self._place_key = (
            np.uint64(int.from_bytes(part, "little")) for part in (digest[:8], digest[8:])
        )

    def is_burst(self, numbers: NDArray[Any], now_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a burst of the devices (n,) of these numbers is on at these times (n,)."""
        identity = _mix(numbers.astype(np.uint64) ^ self._time_key)
        # Each device's windows begin at moments of its own.
        moment_s = now_ms / 1000.0 + WINDOW_S * _share(identity)
        window = np.floor(moment_s / WINDOW_S)
        draw = _mix(identity ^ window.astype(np.int64).astype(np.uint64))
        length_s = BURST_S[0] + (BURST_S[1] - BURST_S[0]) * _share(_mix(draw + np.uint64(1)))
        begins_s = window * WINDOW_S + (WINDOW_S - length_s) * _share(_mix(draw + np.uint64(2)))
        on = (_share(draw) < BURST_SHARE) & (begins_s <= moment_s) & (moment_s < begins_s + length_s)
        return np.asarray(on, dtype=np.bool_)

    def is_decoy(self, numbers: NDArray[Any], places: Floats) -> NDArray[np.bool_]:
        """Whether these places (n, 3), in earth-centred metres, are decoys of the devices (n,). They stay for good.

        Decoys that moved would have to be answered anew each time, and what differs between two answers is her.
        """
        cells = np.floor(places / DECOY_CELL_M).astype(np.int64).astype(np.uint64)
        word = _mix(numbers.astype(np.uint64) ^ self._place_key)
        for axis in range(3):
            word = _mix(word ^ cells[:, axis])
        return np.asarray(_share(word) < DECOY_SHARE, dtype=np.bool_)


def _mix(words: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): any change of a bit changes half of them."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def _share(words: Words) -> Floats:
    """A number in [0, 1) of each word's upper 53 bits."""
    share: Floats = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return share
