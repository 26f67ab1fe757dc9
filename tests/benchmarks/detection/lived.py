"""Lives through the engine: pings as the devices send them, transitions as the engine gives them.

Two loops. *Asked*: a device waits as long as the engine asked of it, which it learns with the acknowledgement of the
ping after the asking. *Fixed*: a ping every 60 s, whatever is asked. A ping is received 0.4 s after it was taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import (
    CLOSED,
    FLAG_BACKLOG,
    FLAG_POSITION,
    FLAG_PRIMARY,
    NO,
    RECORD,
    SHIFT_CASING,
    SHIFT_CHARGING,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    SHIFT_STRAP,
    YES,
)
from core.domain.transition import Transition
from geo.engine import Engine
from tests.benchmarks.detection.carried import UPLOAD_EVERY_S, Carried, devices
from tests.benchmarks.detection.lives import DAY_S, Pair
from tests.benchmarks.detection.pairs import START_MS
from tests.benchmarks.detection.paths import Place, on_earth

DELAY_MS: Final = 400
"""From the fix to the log."""
INTERVAL_S: Final = 60
STEP_S: Final = {True: 2, False: INTERVAL_S}
"""Asked and fixed: how much of the log the engine is given at once. Entries keep their times; asks come later."""
TICK_EVERY_S: Final = {True: 4, False: 5}
WELL: Final = FLAG_PRIMARY | CLOSED << SHIFT_STRAP | CLOSED << SHIFT_CASING | NO << SHIFT_JAMMING | NO << SHIFT_MOCK
CITY: Final = Place(43.2389, 76.8897)

Moments = NDArray[np.int64]


@dataclass(slots=True)
class Lived:
    """What came of some pair-days; device 2k is hers of pair k, 2k + 1 his."""

    pairs: list[Pair]
    carried: list[tuple[Carried, Carried]]
    asked: bool
    transitions: list[Transition] = field(default_factory=list)
    pings: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """By device."""


def live(
    pairs: Sequence[Pair],
    *,
    asked: bool,
    values: Mapping[str, float] | None = None,
    observers: Sequence[Callable[[Sequence[Entry]], object]] = (),
    seconds: int = DAY_S,
    tell: Callable[[str], None] | None = None,
) -> Lived:
    """Play the pairs' day. `values` replace fields of their orders (a policy to try); `observers` see the log."""
    lived = Lived(list(pairs), [devices(pair) for pair in pairs], asked)
    engine = Engine(0, outage_after_ms=None)
    cases = [_case(k, pair, values or {}) for k, pair in enumerate(pairs)]
    waiting = [Entry(START_MS, 0, CONFIGURATION, encode_cases(cases))]
    count = 2 * len(pairs)
    table = _Table(lived)
    phase = np.random.default_rng([pairs[0].seed, 9_001]).integers(0, INTERVAL_S, count)
    next_s, interval_s = phase.copy(), np.full(count, float(INTERVAL_S))
    wanted_s = interval_s.copy()
    lived.pings = np.zeros(count, np.int64)
    for second in range(seconds):
        now_ms = START_MS + 1000 * second + DELAY_MS
        if second % TICK_EVERY_S[asked] == 0:
            waiting.append(Entry(now_ms - DELAY_MS, 0, TICK, b""))
        due = np.flatnonzero((next_s <= second) & ~table.silent[:, second])
        if due.size:
            records = table.records(due, second)
            waiting.append(Entry(now_ms, 1, PINGS, records.tobytes()))
            lived.pings[due] += 1
            interval_s[due] = wanted_s[due]
            next_s[due] = second + np.maximum(1, interval_s[due].astype(np.int64))
        if waiting and (second % STEP_S[asked] == STEP_S[asked] - 1 or second == seconds - 1):
            lived.transitions += engine.process(waiting)
            for observer in observers:
                observer(waiting)
            waiting = []
            for number, wait_s in engine.take_changes().asks:
                if asked:
                    wanted_s[number - 1] = wait_s
        if tell is not None and second % 7_200 == 0 and second:
            tell(f"{'asked' if asked else 'fixed'}: {second // 3_600} h of {len(pairs)} pairs' day")
    return lived


class _Table:
    """The days of all devices side by side, (devices, DAY_S)."""

    def __init__(self, lived: Lived) -> None:
        count = 2 * len(lived.pairs)
        self._lives = [life for pair in lived.pairs for life in pair.lives]
        self._carried = [each for both in lived.carried for each in both]
        self.silent = np.stack([each.silent for each in self._carried])
        self._where = np.stack(
            [life.where + each.error_m for life, each in zip(self._lives, self._carried, strict=True)]
        )
        self._accuracy_m = np.stack([each.accuracy_m for each in self._carried])
        self._speed_mps = np.stack([each.speed_mps for each in self._carried])
        self._heading_deg = np.stack([each.heading_deg for each in self._carried])
        self._battery_pct = np.stack([each.battery_pct for each in self._carried])
        flags = np.full((count, DAY_S), WELL, np.uint32)
        for row, each in enumerate(self._carried):
            flags[row] |= np.where(each.located, FLAG_POSITION, 0).astype(np.uint32)
            flags[row] |= np.where(each.located, each.source.astype(np.uint32) << SHIFT_SOURCE, 0).astype(np.uint32)
            flags[row] |= np.where(each.charging, YES << SHIFT_CHARGING, NO << SHIFT_CHARGING).astype(np.uint32)
            flags[row] |= np.where(each.moving, YES << SHIFT_MOVING, NO << SHIFT_MOVING).astype(np.uint32)
        self._flags = flags
        self._plane = CITY.plane()
        self._uploads = {(row, end): begin for row, each in enumerate(self._carried) for begin, end in each.uploads}

    def records(self, rows: NDArray[np.int64], second: int) -> NDArray[np.void]:
        """One live ping of each device, behind whatever a device has to upload of a silence that ends now."""
        parts = []
        for row in rows.tolist():
            begin = self._uploads.get((row, second))
            if begin is not None:
                late = np.arange(begin, second, UPLOAD_EVERY_S)
                parts.append(self._records(np.full(len(late), row), late, FLAG_BACKLOG))
        newest = self._records(rows, np.full(len(rows), second), 0)
        return np.concatenate([*parts, newest]) if parts else newest

    def _records(self, rows: NDArray[np.int64], seconds: Moments, flags: int) -> NDArray[np.void]:
        out = np.zeros(len(rows), RECORD)
        out["device"] = rows + 1
        out["flags"] = self._flags[rows, seconds] | np.uint32(flags)
        out["at_ms"] = START_MS + 1000 * seconds
        out["seq"] = seconds
        spot = self._where[rows, seconds].astype(np.float64)
        lat, lon = on_earth(np.broadcast_to(self._plane, (len(rows), 9)), spot[:, 0], spot[:, 1])
        located = (out["flags"] & np.uint32(FLAG_POSITION)) != 0
        out["lat"], out["lon"] = np.where(located, lat, np.nan), np.where(located, lon, np.nan)
        out["accuracy_m"] = np.where(located, self._accuracy_m[rows, seconds], np.nan)
        out["speed_mps"] = np.where(located, self._speed_mps[rows, seconds], np.nan)
        out["heading_deg"] = np.where(located, self._heading_deg[rows, seconds], np.nan)
        out["altitude_m"] = np.nan
        out["battery_pct"] = self._battery_pct[rows, seconds]
        return out


def _case(k: int, pair: Pair, values: Mapping[str, float]) -> Case:
    def own(kind: int, index: int) -> uuid.UUID:
        return uuid.UUID(int=(kind << 64) + index)

    people = [
        CasePerson(
            number=2 * k + side + 1,
            id=own(1, 2 * k + side),
            role=role,
            devices=[CaseDevice(number=2 * k + side + 1, id=own(2, 2 * k + side), kind=kind, interval_s=INTERVAL_S)],
        )
        for side, (role, kind) in enumerate((("victim", "phone"), ("aggressor", "bracelet")))
    ]
    facts: dict[str, Any] = {"alert_m": pair.alert_m, "warning_m": pair.warning_m} | dict(values)
    order = CaseOrder(number=k + 1, id=own(3, k), victim=2 * k + 1, aggressor=2 * k + 2, **facts)
    return Case(number=k + 1, id=own(4, k), agency_id=own(5, 0), version=1, people=people, orders=[order])


def pair_of(transition: Transition) -> int:
    """Which pair a transition is of."""
    return transition.case_id.int & 0xFFFFFFFF


def side_of(transition: Transition) -> int | None:
    """0: of her device, 1: of his, None: of no device."""
    return None if transition.device_id is None else transition.device_id.int & 1


def second_of(at_ms: int) -> int:
    """Second of the day."""
    return min(max((at_ms - START_MS) // 1000, 0), DAY_S - 1)


def by_pair(lived: Lived) -> list[list[Transition]]:
    """Transitions of each pair."""
    out: list[list[Transition]] = [[] for _ in lived.pairs]
    for each in lived.transitions:
        out[pair_of(each)].append(each)
    return out
