"""The rules of today's systems over the same pings: what a distance alone can do.

Written anew from their description, and given the benefit of the doubt: a person's devices count as one, late pings are
sorted into their order before a rule sees them.

* `plain`: the distance of the latest two positions; an alarm when it falls below the radius, over when it does not.
* `crossing`: Traccar's proximity event (`ProximityEventHandler`), his device linked to hers. A new position of his is
  compared with his position before it, both held against where she was last; an event when only the new one is within.
  What her movement did to the distance is in neither. (Linked both ways, the steps form one chain, and the rule tells
  what `plain` tells, but for a first position already within.)
* `square`: Tile38's roaming fence (`NEARBY … FENCE … ROAM`). Whoever is within the rectangle round a new position is
  nearby: the radius bounds the rectangle, not the distance. By default each position within is a message.
* `square once`: the same with `NODWELL`: only when the device's position before it was not within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.case import decode_cases
from core.domain.log import CONFIGURATION, PINGS, Entry
from core.domain.ping import FLAG_POSITION, RECORD, unpack_records
from geo.frame import to_vectors

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

EARTH_M: Final = 6_371_000.0
"""Tile38 makes its rectangle on a sphere."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of the two people of an order in the order in which a server takes them: arrays (n,)."""

    side: Index
    """0: hers, 1: his."""
    at_ms: Index
    received_ms: Index
    lat: Floats
    lon: Floats


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule tells: when an alarm is raised and when it is over, ms of reception."""

    raised_ms: Index
    cleared_ms: Index


@dataclass(slots=True)
class Listener:
    """Keeps what an engine is given, to be given to others: an observer of `World`."""

    people: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Device's number → case's and person's number."""
    orders: dict[tuple[int, int], tuple[int, int, float]] = field(default_factory=dict)
    """(Case, order's place in it) → victim, aggressor, alert radius as first configured."""
    _records: list[NDArray[np.void]] = field(default_factory=list)
    _received: list[Index] = field(default_factory=list)

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Take some of the log."""
        for entry in entries:
            if entry.kind == CONFIGURATION:
                for case in decode_cases(entry.payload):
                    for person in case.people:
                        self.people.update((device.number, (case.number, person.number)) for device in person.devices)
                    for place, order in enumerate(case.orders):
                        self.orders.setdefault((case.number, place), (order.victim, order.aggressor, order.alert_m))
            elif entry.kind == PINGS:
                records = unpack_records(entry.payload)
                placed = records[(records["flags"] & np.uint32(FLAG_POSITION)) != 0]
                if len(placed):
                    placed = placed[np.argsort(placed["at_ms"], kind="stable")]
                    self._records.append(placed)
                    self._received.append(np.full(len(placed), entry.ms, np.int64))

    def positions(self) -> dict[tuple[int, int], tuple[Positions, float]]:
        """(Case, order's place) → positions of its two people, and its alert radius."""
        if not self._records:
            return {}
        records, received = np.concatenate(self._records), np.concatenate(self._received)
        highest = int(records["device"].max(initial=0))
        case_of, person_of = np.full(highest + 1, -1), np.full(highest + 1, -1)
        for number, (case, person) in self.people.items():
            if number <= highest:
                case_of[number], person_of[number] = case, person
        cases, persons = case_of[records["device"]], person_of[records["device"]]
        by_case = np.argsort(cases, kind="stable")
        firsts = {int(case): int(at) for at, case in _starts(cases[by_case])}
        ends = {int(case): at for (_, case), (at, _) in _pairs(_starts(cases[by_case]), len(by_case))}
        out = {}
        for (case, place), (victim, aggressor, alert_m) in self.orders.items():
            if case not in firsts:
                continue
            rows = by_case[firsts[case] : ends[case]]
            rows = rows[(persons[rows] == victim) | (persons[rows] == aggressor)]
            some = records[rows]
            found = Positions(
                side=(persons[rows] == aggressor).astype(np.int64),
                at_ms=some["at_ms"].astype(np.int64),
                received_ms=received[rows],
                lat=some["lat"].astype(np.float64),
                lon=some["lon"].astype(np.float64),
            )
            out[case, place] = (_latest(found), alert_m)
        return out


def _starts(values: Index) -> list[tuple[int, int]]:
    """Where each run of equal values begins, and the value."""
    begins = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return [(int(at), int(values[at])) for at in begins]


def _pairs(starts: list[tuple[int, int]], end: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return list(zip(starts, [*starts[1:], (end, -1)], strict=True))


def _latest(positions: Positions) -> Positions:
    """Without what is older than the newest known of the same person: no system alarms by it."""
    keep = np.zeros(len(positions.side), np.bool_)
    for side in (0, 1):
        rows = np.flatnonzero(positions.side == side)
        at_ms = positions.at_ms[rows]
        keep[rows] = at_ms >= np.maximum.accumulate(at_ms) if rows.size else False
    return Positions(*(getattr(positions, name)[keep] for name in Positions.__slots__))


@dataclass(frozen=True, slots=True)
class _Met:
    """Positions that have one of the other's before them, (n,): rows of it, of the other's last, of one's own last."""

    row: Index
    other: Index
    own: Index
    """-1: none."""


def _met(positions: Positions) -> _Met:
    rows = np.arange(len(positions.side))
    last = [np.maximum.accumulate(np.where(positions.side == side, rows, -1)) for side in (0, 1)]
    other = np.where(positions.side == 0, last[1], last[0])
    own_now = np.where(positions.side == 0, last[0], last[1])
    before = [np.concatenate([[-1], each[:-1]]) for each in last] if len(rows) else last
    own = np.where(positions.side == 0, before[0], before[1])
    assert (own_now == rows).all()
    met = other >= 0
    return _Met(rows[met], other[met], own[met])


def _distance_m(positions: Positions, one: Index, other: Index) -> Floats:
    places = to_vectors(positions.lat, positions.lon)
    found: Floats = np.linalg.norm(places[one] - places[other], axis=1)
    return found


def plain(positions: Positions, radius_m: float) -> Told:
    """When the distance of the latest positions fell below the radius, and when it was no longer."""
    met = _met(positions)
    inside = _distance_m(positions, met.row, met.other) < radius_m
    return _edges(positions, met, inside, np.concatenate([[False], inside[:-1]]))


def crossing(positions: Positions, radius_m: float) -> Told:
    """Traccar: when a step of his crossed the radius round where she was last seen."""
    met = _his_steps(positions, _met(positions))
    new = _distance_m(positions, met.row, met.other) <= radius_m
    return _edges(positions, met, new, _distance_m(positions, met.own, met.other) <= radius_m)


def square(positions: Positions, radius_m: float) -> Told:
    """Tile38: every position with the other within its rectangle."""
    met = _met(positions)
    new = _within_square(positions, met.row, met.other, radius_m)
    return _edges(positions, met, new, _own_square(positions, met, radius_m), dwell=True)


def square_once(positions: Positions, radius_m: float) -> Told:
    """Tile38 with NODWELL: only when the other was not within the rectangle round the position before."""
    met = _met(positions)
    new = _within_square(positions, met.row, met.other, radius_m)
    return _edges(positions, met, new, _own_square(positions, met, radius_m))


def _his_steps(positions: Positions, met: _Met) -> _Met:
    some = (met.own >= 0) & (positions.side[met.row] == 1)
    return _Met(*(getattr(met, name)[some] for name in _Met.__slots__))


def _edges(
    positions: Positions, met: _Met, new: NDArray[np.bool_], old: NDArray[np.bool_], *, dwell: bool = False
) -> Told:
    received_ms = positions.received_ms[met.row]
    return Told(received_ms[new if dwell else new & ~old], received_ms[old & ~new])


def _own_square(positions: Positions, met: _Met, radius_m: float) -> NDArray[np.bool_]:
    return _within_square(positions, np.maximum(met.own, 0), met.other, radius_m) & (met.own >= 0)


def _within_square(positions: Positions, centre: Index, other: Index, radius_m: float) -> NDArray[np.bool_]:
    angle = radius_m / EARTH_M
    reach_lat = np.degrees(angle)
    reach_lon = np.degrees(np.arcsin(np.minimum(np.sin(angle) / np.cos(np.radians(positions.lat[centre])), 1.0)))
    apart_lon = (positions.lon[centre] - positions.lon[other] + 180.0) % 360.0 - 180.0
    found: NDArray[np.bool_] = (np.abs(positions.lat[centre] - positions.lat[other]) <= reach_lat) & (
        np.abs(apart_lon) <= reach_lon
    )
    return found


RULES: Final[dict[str, Callable[[Positions, float], Told]]] = {
    "plain": plain,
    "crossing": crossing,
    "square": square,
    "square once": square_once,
}
TITLES: Final = {
    "plain": "plain distance",
    "crossing": "Traccar's crossing rule",
    "square": "Tile38's square, every message",
    "square once": "Tile38's square, NODWELL",
}
"""As tables and plots call them."""
assert RECORD.names is not None
