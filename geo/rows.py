"""The engine's tables: rows in parallel numpy arrays. Capacity doubles; freed rows are used again.

Nothing outside a process may depend on row numbers: a restored engine has others.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, CaseZone
from geo.frame import Floats
from geo.track import WIDTH, Bools, Times

Rows = NDArray[np.int32]
Slots = NDArray[np.int16]
"""Whose row it is, among the engines that share the tables (`geo.hall`)."""

NEVER: Final = np.iinfo(np.int64).max
"""A deadline that does not come."""

HEARD: Final = 0
"""Column of `Devices.pulse`: when last heard, log ms."""
SERVICE: Final = 1
"""The same less all pauses of the service, ms."""
SIGNAL_AT: Final = 2
"""Live time of the newest record, ms."""
ALARM_AT: Final = 3
"""Live time of the newest record with an alarm bit, ms."""
WORD: Final = 4
"""Bits: alarms at the low bits of their ping flags, and those below."""
PULSE_WIDTH: Final = 5

BATTERY_SHIFT: Final = 20
SILENT_BIT: Final = 1 << 22
HEARD_BIT: Final = 1 << 23
LATE_BIT: Final = 1 << 24
"""Not heard for so long that the wearer is prompted."""
FROZEN_BIT: Final = 1 << 25
CONFLICT_BIT: Final = 1 << 26
"""Wi-Fi or cell place the device elsewhere than the satellites, or an impossible jump of it persists."""
JUMPED_BIT: Final = 1 << 27

LIVE_ROW: Final = np.dtype(
    [
        ("lat", "<f8"),
        ("lon", "<f8"),
        ("accuracy_m", "<f4"),
        ("speed_mps", "<f4"),
        ("heading_deg", "<f4"),
        ("battery_pct", "<f4"),
        ("at_ms", "<i8"),
        ("received_ms", "<i8"),
        ("flags", "<u4"),
    ]
)
"""The layout of core.redis.keys.LIVE_FORMAT."""


class Table:
    """Rows with growth and reuse; `COLUMNS` gives each array's dtype, width (0: one value a row) and empty value."""

    COLUMNS: ClassVar[dict[str, tuple[DTypeLike, int, Any]]] = {}

    def __init__(self) -> None:
        self._capacity = 0
        self._unused: list[int] = []
        self.about: list[Any] = []
        self._grow(64)

    def _grow(self, capacity: int) -> None:
        for name, (dtype, width, empty) in self.COLUMNS.items():
            grown = np.full((capacity, width) if width else capacity, empty, dtype=dtype)
            if self._capacity:
                grown[: self._capacity] = getattr(self, name)
            setattr(self, name, grown)
        self._unused.extend(range(capacity - 1, self._capacity - 1, -1))
        self.about.extend([None] * (capacity - self._capacity))
        self._capacity = capacity

    @property
    def in_use(self) -> int:
        """Rows taken and not released."""
        return self._capacity - len(self._unused)

    def take(self) -> int:
        """An empty row."""
        if not self._unused:
            self._grow(self._capacity * 2)
        return self._unused.pop()

    def release(self, row: int) -> None:
        """Empty a row and keep it for the next."""
        for name, (_, _, empty) in self.COLUMNS.items():
            getattr(self, name)[row] = empty
        self.about[row] = None
        self._unused.append(row)

    def release_many(self, rows: list[int]) -> None:
        """The same of many."""
        for name, (_, _, empty) in self.COLUMNS.items():
            getattr(self, name)[rows] = empty
        for row in rows:
            self.about[row] = None
        self._unused.extend(rows)


class Devices(Table):
    """One row a device and case: a device of somebody in two cases has two, independent of each other."""

    COLUMNS: ClassVar = {
        "slot": (np.int16, 0, -1),
        "number": (np.int64, 0, -1),
        "case": (np.int64, 0, -1),
        "person": (np.int32, 0, -1),
        "next": (np.int32, 0, -1),
        "alone": (np.bool_, 0, True),
        "primary": (np.bool_, 0, False),
        "rank": (np.int8, 0, 0),
        "fresh_ms": (np.float64, 0, 0.0),
        "late_ms": (np.int64, 0, 0),
        "limit_ms": (np.int64, 0, 0),
        "due": (np.int64, 0, NEVER),
        "fix": (np.float64, WIDTH, 0.0),
        "pulse": (np.int64, PULSE_WIDTH, 0),
        "dirty": (np.bool_, 0, False),
        "shown_ms": (np.int64, 0, 0),
        "expected_s": (np.float32, 0, 60.0),
        "asked_s": (np.float32, 0, 0.0),
        "ask": (np.bool_, 0, False),
        "judged_ms": (np.int64, 0, 0),
        "longer_ms": (np.int64, 0, 0),
        "rest_ms": (np.int64, 0, 0),
        "rest_place": (np.float64, 3, 0.0),
        "turn": (np.int32, 0, 0),
    }
    slot: Slots
    number: NDArray[np.int64]
    case: NDArray[np.int64]
    person: Rows
    next: Rows
    """Another row of the same device, in another case; -1: none."""
    alone: Bools
    """Whether the person has no other device."""
    primary: Bools
    rank: NDArray[np.int8]
    """How much a device is worn rather than carried: a worn one is not outvoted by one left at home."""
    fresh_ms: Floats
    """Age up to which a fix is fresh."""
    late_ms: Times
    """Silence after which the wearer is prompted, or, where that is the limit, which counts as silence at once."""
    limit_ms: Times
    """Silence allowed at present."""
    due: Times
    """Service time at which it counts as late, or as silent."""
    fix: Floats
    pulse: Times
    dirty: Bools
    shown_ms: Times
    expected_s: NDArray[np.float32]
    asked_s: NDArray[np.float32]
    """Seconds between pings it was told last; 0: nothing yet."""
    ask: Bools
    """Whether that is to be told."""
    judged_ms: Times
    """When its wait was last worked out."""
    longer_ms: Times
    """Since when a longer one is wanted; 0: none is."""
    rest_ms: Times
    """Since when its wearer stays at `rest_place`."""
    rest_place: Floats
    turn: Rows
    """Scratch of `geo.asking`."""
    about: list[tuple[Case, CasePerson, CaseDevice]]

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[NDArray[np.int64], Slots, NDArray[np.void]]] = []
        """Numbers, slots and newest fixes, (n,) `LIVE_ROW`, that wait to be shown, the oldest first."""


class People(Table):
    """One row a person and case."""

    COLUMNS: ClassVar = {"best": (np.int32, 0, -1), "link": (np.int32, 0, -1)}
    best: Rows
    """Device row whose fix is the person's; -1: none yet."""
    link: Rows
    """First of the person's orders: 2 x order row + side (0 victim, 1 aggressor); -1: none."""
    about: list[tuple[CasePerson, list[int]]]
    """The person and the rows of her devices."""


class Ringed(Table):
    """What has the two rings of `geo.states`."""

    slot: Slots
    limits: Floats
    """(n, 4): inner and outer radius, and the same with the exit margin."""
    p_enter: Floats
    p_exit: Floats
    hold_ms: Times
    """Least time outside before a ring falls."""
    live: Bools
    on: Bools
    out_ms: Times
    due: Times
    """Log time at which it begins or ends to hold."""
    dirty: Bools


RINGS: Final[dict[str, tuple[DTypeLike, int, Any]]] = {
    "slot": (np.int16, 0, -1),
    "limits": (np.float64, 4, 0.0),
    "p_enter": (np.float64, 0, 0.5),
    "p_exit": (np.float64, 0, 0.05),
    "hold_ms": (np.int64, 0, 60_000),
    "live": (np.bool_, 0, False),
    "on": (np.bool_, 2, False),
    "out_ms": (np.int64, 2, 0),
    "due": (np.int64, 0, NEVER),
    "dirty": (np.bool_, 0, False),
}


class Orders(Ringed):
    """One row an order."""

    COLUMNS: ClassVar = {
        **RINGS,
        "party": (np.int32, 2, -1),
        "next": (np.int32, 2, -1),
        "zone": (np.int32, 0, -1),
        "legal_m": (np.float64, 0, 0.0),
        "horizon_s": (np.float64, 0, 300.0),
        "p_approach": (np.float64, 0, 0.5),
        "p_unknown": (np.float64, 0, 0.2),
        "grace_ms": (np.float64, 0, 300_000.0),
        "predicted": (np.bool_, 0, False),
        "away_ms": (np.int64, 0, 0),
        "coming_ms": (np.int64, 0, 0),
        "assured": (np.int8, 0, 0),
        "silent": (np.int8, 0, 0),
        "sure_ms": (np.int64, 0, 0),
        "poor_ms": (np.int64, 0, 0),
        "tell_ms": (np.int64, 0, NEVER),
        "p_legal": (np.float64, 0, 0.0),
        "p_legal_ms": (np.int64, 0, 0),
    }
    party: Rows
    """(n, 2): person rows of the victim and the aggressor."""
    next: Rows
    """(n, 2): the next link of the victim's and of the aggressor's orders."""
    zone: Rows
    """First zone of the order; -1: none."""
    legal_m: Floats
    horizon_s: Floats
    p_approach: Floats
    p_unknown: Floats
    grace_ms: Floats
    predicted: Bools
    """Whether he is predicted to be inside soon."""
    away_ms: Times
    """Since when that is no longer likely; 0: it is."""
    coming_ms: Times
    """Since when, within the warning radius, the distance has been shrinking; 0: it is not."""
    assured: NDArray[np.int8]
    """A state of `geo.assurance`."""
    silent: NDArray[np.int8]
    """Whose silence that is, as told and not ended since: 1 the victim's, 2 the aggressor's, 3 both."""
    sure_ms: Times
    """When separation was last guaranteed, to the minute."""
    poor_ms: Times
    """Since when fixes are too poor to tell; 0: they are not."""
    tell_ms: Times
    """Service time at which somebody's silence is looked at; follows from the fixes, is not stored."""
    p_legal: Floats
    """Greatest probability, during the present breach, of being within the order's own distance."""
    p_legal_ms: Times
    """And when that was."""
    about: list[tuple[Case, CaseOrder]]


class Zones(Ringed):
    """One row a zone."""

    COLUMNS: ClassVar = {
        **RINGS,
        "order": (np.int32, 0, -1),
        "next": (np.int32, 0, -1),
        "plane": (np.float64, 9, 0.0),
        "reach_m": (np.float64, 0, 0.0),
        "size_m": (np.float64, 0, 0.0),
        "inclusion": (np.bool_, 0, False),
        "shape": (np.object_, 0, None),
        "edge": (np.object_, 0, None),
    }
    order: Rows
    next: Rows
    plane: Floats
    reach_m: Floats
    """Radius of a circle about the plane's origin that holds the shape."""
    size_m: Floats
    """Radius of a circle of the same area."""
    inclusion: Bools
    shape: NDArray[np.object_]
    edge: NDArray[np.object_]
    about: list[tuple[Case, CaseOrder, CaseZone]]


ZoneKey = uuid.UUID


class Tables:
    """The four tables, of one engine or of several side by side: a row is its `slot`'s, and links never leave it."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.devices, self.people, self.orders, self.zones = Devices(), People(), Orders(), Zones()
        self.refused = np.zeros(slots, dtype=np.int64)
        """By slot: zones that turned out not to be measurable."""

    def of(self, table: Devices | Ringed, slot: int, condition: Bools) -> NDArray[np.int64]:
        """Rows of a slot for which the condition, one a row, holds."""
        rows = condition.nonzero()[0]
        return rows if self.slots == 1 else rows[table.slot.take(rows) == slot]
