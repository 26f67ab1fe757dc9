"""From a ping to a fix: live time, accuracy, speed, and which fix counts.

A fix is a row of `WIDTH` floats. Times are milliseconds since the epoch, exact in a float64.
Leaves room for the filter to come: the row is the whole of what the rules see of a position.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import (
    DEFAULT_ACCURACY_M,
    FLAG_BACKLOG,
    FLAG_POSITION,
    SHIFT_SOURCE,
    TWO_BITS,
)
from geo.frame import Floats, to_vectors

Bools = NDArray[np.bool_]
Times = NDArray[np.int64]

PLACE: Final = slice(0, 3)
"""Earth-centred metres."""
PLACE_BEFORE: Final = slice(3, 6)
"""The same of the fix before."""
LIVE: Final = 6
"""When he was there: min(at, received), ms; 0: never."""
LIVE_BEFORE: Final = 7
AT: Final = 8
"""When the device says he was there, ms."""
SEQ: Final = 9
SIGMA: Final = 10
"""Standard deviation an axis of the fix when it was taken, m."""
DRIFT: Final = 11
"""By how much a second it grows, m/s: the last speed, not below the floor."""
WIDTH: Final = 12

RADIUS_68_SIGMA: Final = 1.51
"""The 68 % radius of a round two-dimensional normal distribution, in standard deviations: sqrt(-2 ln 0.32)."""
SPEED_FLOOR_MPS: Final = 1.5
SPEED_UNKNOWN_MPS: Final = 15.0
SPEED_CEILING_MPS: Final = 70.0
ACCURACY_FLOOR_M: Final = 0.5
ACCURACY_CEILING_M: Final = 50_000.0
SPEED_MEMORY_MS: Final = 300_000
"""Two fixes further apart than this say nothing about a speed."""

_DEFAULTS: Final = np.asarray(DEFAULT_ACCURACY_M, dtype=np.float64)


def candidates(records: NDArray[np.void], now_ms: Times) -> tuple[Floats, Bools]:
    """Fixes as the records tell them, (n, WIDTH), and which of them may become live.

    `DRIFT` is NaN where the device gave no speed; the columns of the fix before are left zero.
    """
    flags = records["flags"]
    lat, lon = records["lat"], records["lon"]
    accuracy = records["accuracy_m"].astype(np.float64)
    given = accuracy > 0
    if not given.all():
        accuracy = np.where(given, accuracy, _DEFAULTS[(flags >> np.uint32(SHIFT_SOURCE)) & np.uint32(TWO_BITS)])
    may = (flags & np.uint32(FLAG_POSITION | FLAG_BACKLOG)) == FLAG_POSITION
    may &= (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    if not may.all():
        lat, lon = np.where(may, lat, 0.0), np.where(may, lon, 0.0)
    out = np.zeros((len(records), WIDTH))
    out[:, PLACE] = to_vectors(lat, lon)
    out[:, LIVE] = np.minimum(records["at_ms"], now_ms)
    out[:, AT] = records["at_ms"]
    out[:, SEQ] = records["seq"]
    out[:, SIGMA] = np.clip(accuracy, ACCURACY_FLOOR_M, ACCURACY_CEILING_M) / RADIUS_68_SIGMA
    speed = records["speed_mps"]
    out[:, DRIFT] = np.where(speed >= 0, np.clip(speed, SPEED_FLOOR_MPS, SPEED_CEILING_MPS), np.nan)
    return out, may


def is_newer(fixes: Floats, held: Floats, now_ms: Times) -> Bools:
    """Which fixes take the place of the held ones: older ones and repeats are history only.

    A clock that runs ahead has its live time cut to the time of reception, where a repeat would look new; there the
    device's own time, or its sequence, has to have moved on.
    """
    ahead = fixes[:, AT] > now_ms
    newer: Bools = fixes[:, LIVE] > held[:, LIVE]
    if ahead.any():
        newer &= ~ahead | (fixes[:, AT] > held[:, AT]) | (fixes[:, SEQ] > held[:, SEQ])
    return newer


def follow(fixes: Floats, held: Floats) -> None:
    """Fill in what the fix before tells: its place and time, and a speed where the device gave none. In place."""
    fixes[:, PLACE_BEFORE] = held[:, PLACE]
    fixes[:, LIVE_BEFORE] = held[:, LIVE]
    unsaid = np.flatnonzero(np.isnan(fixes[:, DRIFT]))
    if not unsaid.size:
        return
    now, before = fixes[unsaid], held[unsaid]
    elapsed_ms = now[:, LIVE] - before[:, LIVE]
    # what may be the noise of both fixes is not taken for motion
    step = np.linalg.norm(now[:, PLACE] - before[:, PLACE], axis=1) - now[:, SIGMA] - before[:, SIGMA]
    speed = np.clip(1000.0 * step / np.maximum(elapsed_ms, 1.0), SPEED_FLOOR_MPS, SPEED_CEILING_MPS)
    told = (before[:, LIVE] > 0) & (elapsed_ms <= SPEED_MEMORY_MS)
    fixes[unsaid, DRIFT] = np.where(told, speed, SPEED_UNKNOWN_MPS)


def variance(fixes: Floats, now_ms: Times) -> Floats:
    """Variance an axis at `now_ms`, m²: the fix's own, grown by its age times its drift. Shape (n,)."""
    spread = fixes[:, DRIFT] * ((now_ms - fixes[:, LIVE]) / 1000.0)
    return fixes[:, SIGMA] ** 2 + spread * spread


def velocity(fixes: Floats) -> Floats:
    """Metres a second between the last two fixes, (n, 3), no faster than the drift; zero where there is none."""
    elapsed_ms = fixes[:, LIVE] - fixes[:, LIVE_BEFORE]
    usable = (fixes[:, LIVE_BEFORE] > 0) & (elapsed_ms > 0) & (elapsed_ms <= SPEED_MEMORY_MS)
    raw = (fixes[:, PLACE] - fixes[:, PLACE_BEFORE]) / np.where(usable, elapsed_ms / 1000.0, 1.0)[:, None]
    speed = np.linalg.norm(raw, axis=1)
    scale = np.where(usable, np.minimum(1.0, fixes[:, DRIFT] / np.maximum(speed, 1e-9)), 0.0)
    slowed: Floats = raw * scale[:, None]
    return slowed
