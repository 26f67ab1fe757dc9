"""What a retrospective check asks of history, and the log entry that brings it.

The engine keeps no history. Where fixes arrive late it *wants* a stretch of it; who owns the shard fetches that and
appends it to the log as an entry of kind PAST, so that the same log decides the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import FLAG_POSITION, RECORD

PAST_FIX: Final = np.dtype(
    [
        ("live_ms", "<i8"),  # min(at, received): when the person was there
        ("lat", "<f8"),  # degrees, WGS84
        ("lon", "<f8"),
        ("device", "<u4"),
        ("flags", "<u4"),  # as in core.domain.ping
        ("accuracy_m", "<f4"),  # NaN: not said
        ("speed_mps", "<f4"),
    ]
)
"""A fix as history tells it, 40 bytes."""
MARGIN_MS: Final = 300_000
"""How much of history before and after a wanted stretch is needed to say where people were at its ends."""
FIXES_MAX: Final = 10_000
"""Fixes of one party that a part of a PAST entry bears at most; of a longer stretch the surest of each moment."""

_HEAD: Final = struct.Struct("<IIqII")
_TICK_BITS: Final = 20


@dataclass(frozen=True, slots=True)
class Want:
    """A stretch of history about one order that is to be looked at again. Times are live times, ms."""

    case: int
    order: int
    from_ms: int
    to_ms: int
    serial: int
    """The log entry that asked last (`serial_of`): an answer answers what was asked up to here."""
    since_ms: int
    """Log time of the entry that asked first."""
    victim: tuple[int, ...]
    """Device numbers; none when the order is no longer there."""
    aggressor: tuple[int, ...]

    @property
    def asked_ms(self) -> int:
        """Log time of the entry that asked last."""
        return ms_of(self.serial)


@dataclass(frozen=True, slots=True)
class Past:
    """One want answered: the fixes of both parties, PAST_FIX arrays of shape (n,), in any order."""

    case: int
    order: int
    serial: int
    victim: NDArray[np.void]
    aggressor: NDArray[np.void]


def serial_of(ms: int, n: int) -> int:
    """The id of a log entry as one number that grows with the log."""
    return ms << _TICK_BITS | min(n, (1 << _TICK_BITS) - 1)


def ms_of(serial: int) -> int:
    """Log time of the entry with this serial."""
    return serial >> _TICK_BITS


def bucket_ms(from_ms: int, to_ms: int) -> int:
    """Length of the moments of which one fix a device is enough, for a stretch to stay within FIXES_MAX; 1: all."""
    return max(1, -(-(to_ms - from_ms) // FIXES_MAX))


def encode_past(parts: Sequence[Past]) -> bytes:
    """The payload of a PAST entry."""
    out = []
    for part in parts:
        out.append(_HEAD.pack(part.case, part.order, part.serial, len(part.victim), len(part.aggressor)))
        out.append(part.victim.tobytes())
        out.append(part.aggressor.tobytes())
    return b"".join(out)


def decode_past(payload: bytes) -> list[Past]:
    """The parts of a PAST entry. Raises ValueError when it is damaged."""
    parts, at = [], 0
    while at < len(payload):
        if len(payload) - at < _HEAD.size:
            raise ValueError("a part of a PAST entry has no whole head")
        case, order, serial, hers, his = _HEAD.unpack_from(payload, at)
        at += _HEAD.size
        if len(payload) - at < (hers + his) * PAST_FIX.itemsize:
            raise ValueError("a part of a PAST entry lacks fixes")
        victim = np.frombuffer(payload, PAST_FIX, hers, at)
        at += victim.nbytes
        aggressor = np.frombuffer(payload, PAST_FIX, his, at)
        at += aggressor.nbytes
        parts.append(Past(case, order, serial, victim, aggressor))
    return parts


def fixes_of(records: NDArray[np.void], received_ms: NDArray[np.int64]) -> NDArray[np.void]:
    """The fixes among ping records (n,) received at times (n,): what history would tell of them."""
    assert records.dtype == RECORD
    some = np.flatnonzero((records["flags"] & np.uint32(FLAG_POSITION)) != 0)
    out = np.empty(some.size, dtype=PAST_FIX)
    for name in ("lat", "lon", "device", "flags", "accuracy_m", "speed_mps"):
        out[name] = records[name][some]
    out["live_ms"] = np.minimum(records["at_ms"][some], received_ms[some])
    return out


def thinned(fixes: NDArray[np.void], bucket: int) -> NDArray[np.void]:
    """Of each device the surest fix a moment of `bucket` ms, in order of time; of equals the first given."""
    accuracy = np.where(fixes["accuracy_m"] > 0, fixes["accuracy_m"], np.inf)
    moment = fixes["live_ms"] // bucket
    order = np.lexsort((np.arange(len(fixes)), accuracy, moment, fixes["device"]))
    device, moment = fixes["device"][order], moment[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (device[1:] != device[:-1]) | (moment[1:] != moment[:-1])
    kept = fixes[order[first]]
    return kept[np.argsort(kept["live_ms"], kind="stable")]
