"""Notes of fixes that come late, and which orders they could matter to.

Part of the engine's state: wn <device> holds a note until the next tick takes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import FLAG_POSITION
from geo import trespass, view
from geo.frame import to_vectors
from geo.roster import Roster
from geo.run import with_copies
from geo.track import LIVE, PLACE, Bools, Times

AGE_MAX_MS: Final = 7 * 86_400_000
"""Older fixes are history only: of her days no more are kept."""
OLD_MS: Final = 180_000
"""A fix that is older than this when it comes is late, though it be the newest there is: what it shows is past."""
TOP_SPEED_MPS: Final = 70.0
SLACK_M: Final = 2_000.0
"""How wrong two fixes may be together when it is asked whether the two can have met."""
SIGMA_SHARE: Final = 0.5
"""Of the alert radius: a fix less sure than that does not count afterwards."""
FIELD: Final = b"wn"

_NOTE: Final = struct.Struct("<qq6d")
_NUMBER: Final = struct.Struct("<I")

Note = tuple[float, ...]
"""First and last live time, ms, and the box that holds the fixes: least x, y, z, greatest x, y, z, m."""


class Late:
    """Notes by device number."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._changed: set[int] = set()

    @property
    def any(self) -> bool:
        """Whether there is a note."""
        return bool(self._notes)

    def note(self, records: NDArray[np.void], now_ms: Times, late: Bools) -> None:
        """Note those of the records, (n,), received at `now_ms`, (n,), that are `late` and tell a place."""
        live_ms = np.minimum(records["at_ms"], now_ms)
        placed = (records["flags"] & np.uint32(FLAG_POSITION)) != 0
        placed &= (np.abs(records["lat"]) <= 90) & (np.abs(records["lon"]) <= 180)
        some = np.flatnonzero(late & placed & (live_ms > now_ms - AGE_MAX_MS))
        if not some.size:
            return
        devices, times = records["device"][some], live_ms[some].astype(np.float64)
        spots = to_vectors(records["lat"][some], records["lon"][some])
        order = np.argsort(devices, kind="stable")
        devices = devices[order]
        starts = np.flatnonzero(np.concatenate([[True], devices[1:] != devices[:-1]]))
        least = np.minimum.reduceat(np.column_stack([times, spots])[order], starts)
        most = np.maximum.reduceat(np.column_stack([times, spots])[order], starts)
        for k, number in enumerate(devices[starts].tolist()):
            low, high = least[k].tolist(), most[k].tolist()
            if (held := self._notes.get(number)) is not None:
                low = [min(pair) for pair in zip(low, (held[0], *held[2:5]), strict=True)]
                high = [max(pair) for pair in zip(high, (held[1], *held[5:8]), strict=True)]
            self._notes[number] = (low[0], high[0], *low[1:], *high[1:])
            self._changed.add(number)

    def take(self, roster: Roster) -> list[tuple[tuple[int, int], int, int]]:
        """((case, order), first, last time, ms) of what the notes could matter to; they are notes no more."""
        found = list(self._could_matter(roster))
        self._changed.update(self._notes)
        self._notes.clear()
        return found

    def _could_matter(self, roster: Roster) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Orders whose parties may have been near each other at late fixes, and the first and last time of these."""
        devices, people, orders = roster.devices, roster.people, roster.orders
        numbers = np.asarray(sorted(self._notes), dtype=np.int64)
        notes = np.asarray([self._notes[number] for number in numbers.tolist()])
        rows = roster.lookup.take(numbers, mode="clip")
        whose = np.flatnonzero(rows >= 0)
        if not whose.size:
            return
        rows, whose, _ = with_copies(rows[whose], whose, devices.next)
        order_rows, side, index = view.orders_of(people, orders, devices.person.take(rows))
        if not order_rows.size:
            return
        notes = notes[whose[index]]
        other = people.best[orders.party[order_rows, 1 - side]]
        fixes = devices.fix.take(np.maximum(other, 0), axis=0)
        alert = orders.limits[order_rows, 0]
        far_s = np.abs(notes[:, :2] - fixes[:, LIVE, None]).max(axis=1) / 1000.0
        near = _box_distance(notes, fixes[:, PLACE]) <= (1 + 3 * SIGMA_SHARE) * alert + SLACK_M + TOP_SPEED_MPS * far_s
        near |= (other < 0) | (fixes[:, LIVE] <= 0)
        his = np.flatnonzero((side == 1) & ~near)
        zone_rows, at = trespass.zones_of(orders, roster.zones, order_rows[his])
        if zone_rows.size:
            zones = roster.zones
            close = _box_distance(notes[his[at]], zones.plane[zone_rows, :3]) <= zones.reach_m[zone_rows] + SLACK_M
            near[his[at[close | zones.inclusion[zone_rows]]]] = True
        for k in np.flatnonzero(near).tolist():
            case, order = orders.about[int(order_rows[k])]
            if order.active:
                yield (case.number, order.number), int(notes[k, 0]), int(notes[k, 1])

    def take_changes(self) -> dict[bytes, bytes | None]:
        """State fields that changed since the last call."""
        changes: dict[bytes, bytes | None] = {}
        for number in sorted(self._changed):
            note = self._notes.get(number)
            packed = None if note is None else _NOTE.pack(int(note[0]), int(note[1]), *note[2:])
            changes[FIELD + _NUMBER.pack(number)] = packed
        self._changed.clear()
        return changes

    @classmethod
    def restored(cls, fields: Mapping[bytes, bytes]) -> Late:
        """Those of a state hash."""
        late = cls()
        for field, value in fields.items():
            if field[: len(FIELD)] == FIELD and len(value) == _NOTE.size:
                late._notes[_NUMBER.unpack(field[len(FIELD) :])[0]] = tuple(map(float, _NOTE.unpack(value)))
        return late


def _box_distance(notes: NDArray[np.float64], spots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres from spots, (n, 3), to the boxes of notes, (n, 8)."""
    nearest = np.clip(spots, notes[:, 2:5], notes[:, 5:8])
    return np.asarray(np.linalg.norm(spots - nearest, axis=1), dtype=np.float64)
