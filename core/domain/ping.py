"""A ping as it travels: a fixed-width record in the shard's log, rare fields beside it.

One record is 64 bytes, little-endian. What a device did not say is NaN (floats) or `UNKNOWN` (two-bit flags).
The record bears the device's *number* (a dense integer), never a name or an id.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

RECORD: Final = np.dtype(
    [
        ("device", "<u4"),  # device number
        ("flags", "<u4"),  # see the FLAG_ and SHIFT_ constants
        ("at_ms", "<i8"),  # when the device says it was there
        ("seq", "<i8"),  # the device's sequence number; NO_SEQ when it has none
        ("lat", "<f8"),  # degrees, WGS84; NaN in a heartbeat
        ("lon", "<f8"),
        ("accuracy_m", "<f4"),  # 68 % horizontal radius; NaN: not said
        ("speed_mps", "<f4"),
        ("heading_deg", "<f4"),
        ("altitude_m", "<f4"),
        ("battery_pct", "<f4"),
        ("reserved", "<u4"),
    ]
)
RECORD_BYTES: Final = 64
RECORD_FORMAT: Final = "<IIqqddfffffI"
"""The same layout for `struct.pack`."""
NO_SEQ: Final = -1

assert RECORD.itemsize == RECORD_BYTES

FLAG_POSITION: Final = 1 << 0
"""Has lat and lon (else a heartbeat)."""
FLAG_PRIMARY: Final = 1 << 1
"""This copy becomes history, position and device alarm (a person in two cases is appended to both shards)."""
FLAG_EXTRA: Final = 1 << 2
"""Rare fields (`heard`) stand beside the record in the entry's `x` field."""
FLAG_BACKLOG: Final = 1 << 3
"""Not the newest ping of its upload: history, and a retrospective check, but not the live lane."""

FLAG_SIGNED: Final = 1 << 18
"""Signed by its device's own key, and the signature held."""

SHIFT_SOURCE: Final = 4
SHIFT_STRAP: Final = 6
SHIFT_CASING: Final = 8
SHIFT_CHARGING: Final = 10
SHIFT_MOVING: Final = 12
SHIFT_JAMMING: Final = 14
SHIFT_MOCK: Final = 16
TWO_BITS: Final = 0b11

UNKNOWN: Final = 0
NO: Final = 1
YES: Final = 2
"""Values of the two-bit flags charging, moving, jamming, mock."""
CLOSED: Final = 1
OPEN: Final = 2
"""Values of the two-bit flags strap and casing."""


class Source(IntEnum):
    """Where a fix came from."""

    UNKNOWN = 0
    GPS = 1
    WIFI = 2
    CELL = 3


SOURCE_CODES: Final[dict[str | None, int]] = {None: 0, "gps": 1, "wifi": 2, "cell": 3}
CLOSURE_CODES: Final[dict[str | None, int]] = {None: UNKNOWN, "closed": CLOSED, "open": OPEN}
TRUTH_CODES: Final[dict[bool | None, int]] = {None: UNKNOWN, False: NO, True: YES}

SOURCE_FLAGS: Final = {source: code << SHIFT_SOURCE for source, code in SOURCE_CODES.items()}
STRAP_FLAGS: Final = {closure: code << SHIFT_STRAP for closure, code in CLOSURE_CODES.items()}
CASING_FLAGS: Final = {closure: code << SHIFT_CASING for closure, code in CLOSURE_CODES.items()}
CHARGING_FLAGS: Final = {truth: code << SHIFT_CHARGING for truth, code in TRUTH_CODES.items()}
MOVING_FLAGS: Final = {truth: code << SHIFT_MOVING for truth, code in TRUTH_CODES.items()}
JAMMING_FLAGS: Final = {truth: code << SHIFT_JAMMING for truth, code in TRUTH_CODES.items()}
MOCK_FLAGS: Final = {truth: code << SHIFT_MOCK for truth, code in TRUTH_CODES.items()}


class Stated(Protocol):
    """What a device said of itself and its fix; None: nothing."""

    @property
    def lat(self) -> float | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def strap(self) -> str | None: ...
    @property
    def casing(self) -> str | None: ...
    @property
    def charging(self) -> bool | None: ...
    @property
    def moving(self) -> bool | None: ...
    @property
    def jamming(self) -> bool | None: ...
    @property
    def mock(self) -> bool | None: ...


def flags_of(ping: Stated, backlog: bool = False) -> int:
    """The record's flags, but for FLAG_PRIMARY and FLAG_EXTRA, which belong to a copy."""
    # A source nobody has named here is a position all the same.
    flags = SOURCE_FLAGS.get(ping.source, 0) | STRAP_FLAGS[ping.strap]
    if ping.lat is not None:
        flags |= FLAG_POSITION
    if ping.casing is not None:
        flags |= CASING_FLAGS[ping.casing]
    if ping.charging is not None:
        flags |= CHARGING_FLAGS[ping.charging]
    if ping.moving is not None:
        flags |= MOVING_FLAGS[ping.moving]
    if ping.jamming is not None:
        flags |= JAMMING_FLAGS[ping.jamming]
    if ping.mock is not None:
        flags |= MOCK_FLAGS[ping.mock]
    if backlog:
        flags |= FLAG_BACKLOG
    return flags


DEFAULT_ACCURACY_M: Final = (15.0, 15.0, 75.0, 600.0)
"""By Source: what is assumed when a device gives no accuracy."""


class Role(IntEnum):
    """Whose device it is; also the first partition key of the ping table."""

    OTHER = 0
    VICTIM = 1
    AGGRESSOR = 2


ROLE_NAMES: Final[dict[str, Role]] = {"other": Role.OTHER, "victim": Role.VICTIM, "aggressor": Role.AGGRESSOR}


def unpack_records(payload: bytes) -> NDArray[np.void]:
    """The records of one log entry, shape (n,), a read-only view of `payload`.

    Raises ValueError when the payload is not a whole number of records.
    """
    return np.frombuffer(payload, dtype=RECORD)


def two_bits(flags: NDArray[np.uint32], shift: int) -> NDArray[np.uint32]:
    """One two-bit field of many flags, shape as given."""
    return (flags >> np.uint32(shift)) & np.uint32(TWO_BITS)
