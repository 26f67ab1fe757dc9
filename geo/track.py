"""From a ping to a fix, and which fix counts. The filter that makes an estimate of fixes is `geo.fix_filter`.

A device's row is `WIDTH` floats. Times are milliseconds since the epoch, exact in a float64; the columns from
`EXACT` on are always exactly representable as float32, so that a row can be kept in fewer bytes and come back the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import (
    DEFAULT_ACCURACY_M,
    FLAG_BACKLOG,
    FLAG_POSITION,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    TWO_BITS,
)
from geo.frame import Floats, to_vectors

Bools = NDArray[np.bool_]
Times = NDArray[np.int64]

PLACE: Final = slice(0, 3)
"""Estimated place at `LIVE`, earth-centred metres."""
LIVE: Final = 3
"""Time of the estimate: min(at, received) of the newest fix it believes, ms; 0: never."""
TAKEN: Final = 4
"""The same of the newest fix of all, believed or suspect."""
AT: Final = 5
"""When the device says that the newest fix was, ms."""
SEQ: Final = 6
SERVICE_MS: Final = 7
"""Service time at which the newest fix was taken, ms: the engine's."""
EXACT: Final = 8
"""Columns below are exact float64, those from here on float32."""
VELOCITY: Final = slice(8, 11)
"""m/s, earth-centred axes; zero at rest."""
PP: Final = 11
"""Variance an axis of the place, m²; the three axes are alike and independent."""
PV: Final = 12
"""Covariance of place and velocity, m²/s."""
VV: Final = 13
"""Variance an axis of the velocity, (m/s)²."""
STEP: Final = slice(14, 17)
"""Estimated place less that of the fix before, m."""
GAP: Final = 17
"""Milliseconds from the fix before to this one; 0: there was none."""
SIGMA: Final = 18
"""Standard deviation an axis of the newest believed fix by itself, m."""
DRIFT: Final = 19
"""Variance an axis, (m/s)², of the velocity that is yet to come: how fast an ageing estimate grows unsure."""
BELIEF: Final = 20
"""Log-odds that the device is at rest."""
WORD: Final = 21
"""Small counters and bits, see `geo.doubts`."""
MARK: Final = 22
"""A hash of the newest satellite fix's degrees: the same again means the very same coordinates."""
SAME_S: Final = 23
"""Since when the coordinates are the same: seconds modulo 2^24."""
SUSPECT: Final = slice(24, 27)
"""The newest suspect fix less `PLACE`, m; its time is `TAKEN`."""
SUSPECT_SIGMA: Final = 27
CONFLICT_S: Final = 28
"""Since when fixes by radio lie elsewhere than those by satellite: seconds modulo 2^24."""
WIDTH: Final = 29

FIX_SIGMA: Final = 7
"""Columns of a fix, (n, FIX_WIDTH): `PLACE`, `LIVE`, `TAKEN`, `AT`, `SEQ` as above, then these."""
FIX_SPEED: Final = 8
"""What the device says of its speed, m/s; NaN: nothing."""
FIX_REST: Final = 9
"""What the device says for (positive) and against rest, log-odds."""
FIX_MARK: Final = 10
FIX_RADIO: Final = 11
"""1: by Wi-Fi or cell; 0: by satellite, or unsaid."""
FIX_WIDTH: Final = 12

RADIUS_68_SIGMA: Final = 1.51
"""The 68 % radius of a round two-dimensional normal distribution, in standard deviations: sqrt(-2 ln 0.32)."""
SPEED_CEILING_MPS: Final = 70.0
ACCURACY_FLOOR_M: Final = 0.5
ACCURACY_CEILING_M: Final = 50_000.0
REST_BY_SPEED: Final = (2.0, 2.5, -3.0, 1.5)
"""A speed u speaks for rest with 2 - 2.5 u log-odds, within the bounds that follow."""
REST_BY_MOVING: Final = np.asarray([0.0, 1.5, -2.0, 0.0])
"""By the flag `moving`: unknown, no, yes."""
MARKS: Final = np.uint64(40)
"""A hash keeps the upper 24 of 64 bits, which a float32 holds exactly."""

_DEFAULTS: Final = np.asarray(DEFAULT_ACCURACY_M, dtype=np.float64)
_MIX_LAT: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_LON: Final = np.uint64(0xC2B2AE3D27D4EB4F)


def candidates(records: NDArray[np.void], now_ms: Times) -> tuple[Floats, Bools]:
    """Fixes as the records tell them, (n, FIX_WIDTH), and which of them may become live."""
    flags = records["flags"]
    lat, lon = records["lat"], records["lon"]
    accuracy = records["accuracy_m"].astype(np.float64)
    source = (flags >> np.uint32(SHIFT_SOURCE)) & np.uint32(TWO_BITS)
    given = accuracy > 0
    if not given.all():
        accuracy = np.where(given, accuracy, _DEFAULTS[source])
    may = (flags & np.uint32(FLAG_POSITION | FLAG_BACKLOG)) == FLAG_POSITION
    may &= (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    if not may.all():
        lat, lon = np.where(may, lat, 0.0), np.where(may, lon, 0.0)
    out = np.empty((len(records), FIX_WIDTH))
    out[:, PLACE] = to_vectors(lat, lon)
    out[:, LIVE] = np.minimum(records["at_ms"], now_ms)
    out[:, TAKEN] = out[:, LIVE]
    out[:, AT] = records["at_ms"]
    out[:, SEQ] = records["seq"]
    out[:, FIX_SIGMA] = np.clip(accuracy, ACCURACY_FLOOR_M, ACCURACY_CEILING_M) / RADIUS_68_SIGMA
    speed = records["speed_mps"].astype(np.float64)
    told = speed >= 0
    speed = np.minimum(np.where(told, speed, np.nan), SPEED_CEILING_MPS)
    out[:, FIX_SPEED] = speed
    level, slope, least, most = REST_BY_SPEED
    out[:, FIX_REST] = np.where(told, np.clip(level - slope * speed, least, most), 0.0)
    out[:, FIX_REST] += REST_BY_MOVING[(flags >> np.uint32(SHIFT_MOVING)) & np.uint32(TWO_BITS)]
    bits = np.ascontiguousarray(lat).view(np.uint64) * _MIX_LAT ^ np.ascontiguousarray(lon).view(np.uint64) * _MIX_LON
    out[:, FIX_MARK] = (bits * _MIX_LAT) >> MARKS
    out[:, FIX_RADIO] = source >= 2
    return out, may


def is_newer(fixes: Floats, held: Floats, now_ms: Times) -> Bools:
    """Which fixes are newer than the newest held, believed or suspect: older ones and repeats are history only.

    A clock that runs ahead has its live time cut to the time of reception, where a repeat would look new; there the
    device's own time, or its sequence, has to have moved on.
    """
    ahead = fixes[:, AT] > now_ms
    newer: Bools = fixes[:, LIVE] > held[:, TAKEN]
    if np.count_nonzero(ahead):
        newer &= ~ahead | (fixes[:, AT] > held[:, AT]) | (fixes[:, SEQ] > held[:, SEQ])
    return newer


def served_ms(rows: Floats, said: Bools, now_ms: Times, service_ms: Times, fresh_ms: Floats) -> Floats:
    """`SERVICE_MS` of rows after a fix each, where that is `said` to tell a place: all (n,).

    A fix that is no longer fresh when it comes does not end a silence: its delay counts as part of it.
    """
    delay_ms = now_ms - rows[:, LIVE]
    heard_ms = np.where(delay_ms <= fresh_ms, service_ms, np.maximum(service_ms - delay_ms, rows[:, SERVICE_MS]))
    served: Floats = np.where(said, heard_ms, rows[:, SERVICE_MS])
    return served
