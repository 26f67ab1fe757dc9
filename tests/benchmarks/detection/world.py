"""A closed loop: many pairs side by side, their devices' pings into one engine, its asks back to the devices.

No store, no network: a second of simulated time makes at most one PINGS entry and one TICK. Every pair is a case of
its own, with its own random numbers, so that its story does not depend on who else is simulated.

A device makes a ping every interval. What it says is the truth with its receiver's noise (`noise`), changed by the
`Window`s of its plan: silent, offline (recorded, and uploaded at the end of the window: all but the newest are marked
backlog), frozen, displaced, elsewhere, once astray, without fix, other noise, other interval, flags. The answer to a
ping tells the device the interval it is asked for by then, so an ask is obeyed from the next ping on; `pushed=True`
lets it be obeyed at once, `closed_loop=False` never (real devices may ignore it). What the engine wants of history it
gets a few seconds later, as from a worker.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.case import encode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.ping import (
    FLAG_BACKLOG,
    FLAG_EXTRA,
    FLAG_POSITION,
    FLAG_PRIMARY,
    NO,
    RECORD,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    TWO_BITS,
    YES,
)
from core.domain.transition import Transition
from geo.annals import Annals
from geo.engine import Engine
from tests.benchmarks.detection.noise import NAMES, DeviceNoise, key_of
from tests.benchmarks.detection.pairs import PEOPLE_MOST, START_MS, Pair, Window, configurations, worn
from tests.benchmarks.detection.paths import Floats, Walkers, on_earth

CASES_AN_ENTRY: Final = 200
WANTS_MOST: Final = 1_000
HISTORY_LAGS_MS: Final = 5_000
"""How long after a want the history it asks for is there."""
HEARD_M: Final = 30.0
"""Within this the victim's unit hears the bracelet."""
MOVING_MPS: Final = 0.3
SPEED_ERROR_MPS: Final = 0.2
WHAT: Final = ("silent", "offline", "frozen", "shift", "at", "stray", "nofix", "noise", "interval", "flag")

Index = NDArray[np.int64]


@dataclass
class Story:
    """What came of a pair."""

    transitions: list[Transition] = field(default_factory=list)
    ping_s: dict[int, Floats] = field(default_factory=dict)
    """Person's index → seconds at which her devices made pings that tell a place, in order."""


@dataclass
class Cost:
    """Where the time went, seconds of wall clock."""

    world_s: float = 0.0
    engine_s: float = 0.0
    pings: int = 0
    seconds: int = 0


class World:
    """Pairs, and the engine that watches them."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        closed_loop: bool = True,
        interval_s: float | None = None,
        pushed: bool = False,
        engine: Engine | None = None,
        observers: Sequence[Callable[[Sequence[Entry]], object]] = (),
    ) -> None:
        """`interval_s`: every device's interval (expected and, without an ask, held) in place of its own.

        `observers` are given every second's entries before the engine is.
        """
        self.pairs = pairs
        self.closed_loop = closed_loop
        self.pushed = pushed
        self.engine = engine or Engine(0, outage_after_ms=None)
        self.observers = observers
        self.stories = [Story() for _ in pairs]
        self.cost = Cost()
        self.asked = 0
        """Asks taken from the engine."""
        people = [(k, who, person) for k, pair in enumerate(pairs) for who, person in enumerate(pair.people)]
        carried = [(row, device) for row, (_, _, person) in enumerate(people) for device in person.devices]
        if interval_s is not None:
            carried = [(row, replace(device, interval_s=interval_s)) for row, device in carried]
        self._devices = [device for _, device in carried]
        self._pair_of = np.asarray([people[row][0] for row, _ in carried], dtype=np.int64)
        self._who_of = np.asarray([people[row][1] for row, _ in carried], dtype=np.int64)
        self._walkers = Walkers([device.path or people[row][2].path for row, device in carried])
        self._planes = np.asarray([pairs[k].place.plane() for k in self._pair_of])
        count = len(carried)
        keys = np.empty(count, dtype=np.uint64)
        nth: dict[int, int] = defaultdict(int)
        for d, k in enumerate(self._pair_of.tolist()):
            keys[d] = key_of(*pairs[k].key, nth[k])
            nth[k] += 1
        self._noise = DeviceNoise(keys, np.asarray([NAMES.index(device.noise) for device in self._devices]))
        self._interval = np.asarray([device.interval_s for device in self._devices])
        self._asks = self._interval.copy()
        self._obeys = np.ones(count, dtype=np.bool_)
        phase = (keys >> np.uint64(20)).astype(np.float64) / 2.0**44
        self._next_s = phase * np.minimum(self._interval, 60.0)
        self._until_s = np.asarray([float(pairs[k].duration_s) for k in self._pair_of])
        self._delay = np.asarray([device.delay_s for device in self._devices]).reshape(count, 2)
        self._skew_ms = np.asarray([round(device.skew_s * 1000) for device in self._devices], dtype=np.int64)
        self._battery = np.asarray([(device.battery_pct, device.drain_pct_h / 3600) for device in self._devices])
        self._gives_speed = np.asarray([device.gives_speed for device in self._devices])
        self._tells_motion = np.asarray([device.tells_motion for device in self._devices])
        self._flags = np.asarray([worn(device) for device in self._devices], dtype=np.uint32)
        self._silent = np.zeros(count, dtype=np.bool_)
        self._nofix = np.zeros(count, dtype=np.bool_)
        self._frozen = np.zeros(count, dtype=np.bool_)
        self._held = np.zeros(count, dtype=RECORD)
        self._offline_until = np.zeros(count)
        self._shift = np.zeros((count, 2))
        self._at = np.full((count, 2), np.nan)
        self._stray = np.full((count, 2), np.nan)
        self._seq = np.zeros(count, dtype=np.int64)
        self._bracelets = self._whom_to_hear()
        self._hears = np.asarray([device.hears for device in self._devices])
        self._queue: dict[int, list[_Batch]] = defaultdict(list)
        self._events = self._timeline()
        self._configurations = configurations(pairs, self._devices, self._pair_of.tolist(), self._who_of.tolist())
        self._history = Annals()
        self._made: list[tuple[Index, Floats]] = []
        self._n = 0

    # --- what is set up

    def _whom_to_hear(self) -> Index:
        """For each device, the (first) bracelet of its pair, or -1."""
        bracelet = {
            k: d for d, k in reversed(list(enumerate(self._pair_of.tolist()))) if self._devices[d].kind == "bracelet"
        }
        return np.asarray([bracelet.get(k, -1) for k in self._pair_of.tolist()], dtype=np.int64)

    def _timeline(self) -> dict[int, list[tuple[int, Window, bool]]]:
        out: dict[int, list[tuple[int, Window, bool]]] = defaultdict(list)
        for d, device in enumerate(self._devices):
            for window in device.windows:
                if window.what not in WHAT:
                    raise ValueError(f"no window does {window.what!r}")
                out[round(window.from_s)].append((d, window, True))
                if np.isfinite(window.to_s):
                    out[round(window.to_s)].append((d, window, False))
        for each in out.values():
            each.sort(key=lambda one: one[2])  # what ends, ends before the next begins
        return out

    # --- what happens

    def run(self) -> list[Story]:
        """Play everything from its first second to its last; what came of each pair."""
        last = max((pair.duration_s for pair in self.pairs), default=0)
        for second in range(last + 1):
            begun = time.perf_counter()
            entries = self._second(second)
            handed = time.perf_counter()
            for observer in self.observers:
                observer(entries)
            seen = time.perf_counter()
            for transition in self.engine.process(entries):
                k = transition.case_id.int - 1
                if transition.evaluated_ms <= START_MS + 1000 * self.pairs[k].duration_s:
                    self.stories[k].transitions.append(transition)
            asks = getattr(self.engine.take_changes(), "asks", ()) if self.closed_loop or second % 10 == 0 else ()
            done = time.perf_counter()
            if self.closed_loop and asks:
                self._obey(asks, second)
            self.cost.world_s += handed - begun + time.perf_counter() - done
            self.cost.engine_s += done - seen
        self.cost.seconds += last + 1
        self._note_pings()
        return self.stories

    def _obey(self, asks: Sequence[tuple[int, float]], second: int) -> None:
        numbers, seconds = zip(*asks, strict=True)
        rows = np.asarray(numbers, dtype=np.int64) - 1
        self._asks[rows] = np.maximum(np.asarray(seconds, dtype=np.float64), 1.0)
        self.asked += len(rows)
        if self.pushed:
            reached = rows[~self._silent[rows] & (self._offline_until[rows] <= second) & self._obeys[rows]]
            self._interval[reached] = self._asks[reached]
            soonest = np.maximum(self._next_s[reached] - 60.0, second + 1) + self._asks[reached]
            self._next_s[reached] = np.minimum(self._next_s[reached], soonest)

    def _second(self, second: int) -> list[Entry]:
        """The log's entries of what happens within [second, second + 1), received at its end."""
        now_ms = START_MS + 1000 * (second + 1)
        out: list[Entry] = []
        for first in range(0, len(cases := self._configurations.get(second, [])), CASES_AN_ENTRY):
            out.append(self._entry(now_ms, CONFIGURATION, encode_cases(cases[first : first + CASES_AN_ENTRY])))
        for d, window, begins in self._events.get(second, ()):
            self._turn(d, window, begins)
        due = np.flatnonzero(self._next_s < second + 1)
        if due.size:
            self._take(due, second)
        waiting = self._queue.pop(second, None)
        if waiting:
            records, beacon, rssi = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            _mark_backlog(records)
            heard = {
                str(k): {"heard": [{"beacon": int(beacon[k]), "rssi_dbm": round(float(rssi[k]))}]}
                for k in np.flatnonzero(beacon).tolist()
            }
            extras = json.dumps(heard).encode() if heard else None
            out.append(self._entry(now_ms, PINGS, records.tobytes(), extras))
            self.cost.pings += len(records)
        ripe = [want for want in self.engine.wants(WANTS_MOST) if want.asked_ms <= now_ms - HISTORY_LAGS_MS]
        if ripe:
            out.append(self._entry(now_ms, PAST, self._history.answer(ripe)))
        out.append(self._entry(now_ms, TICK, b""))
        for entry in out:
            self._history.add(entry)
        return out

    def _entry(self, now_ms: int, kind: str, payload: bytes, extras: bytes | None = None) -> Entry:
        self._n += 1
        return Entry(now_ms, self._n, kind, payload, extras)

    def _turn(self, d: int, window: Window, begins: bool) -> None:
        """Begin or end a window."""
        device, what, value = self._devices[d], window.what, window.value
        if what == "silent":
            self._silent[d] = begins
        elif what == "offline":
            self._offline_until[d] = window.to_s if begins else 0.0
        elif what == "frozen":
            self._frozen[d] = begins
            self._held[d]["seq"] = -1
        elif what == "shift":
            self._shift[d] = value if begins else 0.0
        elif what == "at":
            self._at[d] = value if begins else np.nan
        elif what == "stray":
            self._stray[d] = value
        elif what == "nofix":
            self._nofix[d] = begins
        elif what == "noise":
            self._noise.mixture[d] = NAMES.index(value if begins else device.noise)
        elif what == "interval":
            self._obeys[d] = not begins
            self._interval[d] = value if begins else device.interval_s
        elif what == "flag":
            shift, bits = value
            word = int(worn(device)) if not begins else int(bits) << shift
            mask = TWO_BITS << shift
            self._flags[d] = (int(self._flags[d]) & ~mask) | (word & mask)

    def _take(self, due: Index, second: int) -> None:
        """Devices (n,) make a ping within this second: it is queued for when it arrives."""
        at_s = self._next_s[due]
        fixed = ~self._obeys[due]
        online = ~self._silent[due] & (self._offline_until[due] <= second)
        if self.closed_loop:
            self._interval[due] = np.where(online & ~fixed, self._asks[due], self._interval[due])
        following = at_s + self._interval[due]
        self._next_s[due] = np.where(following >= self._until_s[due], np.inf, following)
        keep = ~self._silent[due]
        if not keep.all():
            due, at_s = due[keep], at_s[keep]
            if not due.size:
                return
        error, accuracy, source, spare = self._noise.fixes(due, at_s)
        east, north, east_mps, north_mps = self._walkers.at(due, at_s)
        speed = np.hypot(east_mps, north_mps)
        records = np.zeros(len(due), dtype=RECORD)
        records["device"] = due + 1
        moving = np.where(speed > MOVING_MPS, YES, NO).astype(np.uint32)
        told = self._flags[due]
        silent_on_it = ~self._tells_motion[due] | ((told >> np.uint32(SHIFT_MOVING)) & np.uint32(TWO_BITS) != 0)
        moving = np.where(silent_on_it, np.uint32(0), moving)
        records["flags"] = (
            np.uint32(FLAG_POSITION | FLAG_PRIMARY) | source << np.uint32(SHIFT_SOURCE) | told
            | moving << np.uint32(SHIFT_MOVING)
        )  # fmt: skip
        records["at_ms"] = START_MS + np.floor(at_s * 1000).astype(np.int64) + self._skew_ms[due]
        records["seq"] = self._seq[due]
        self._seq[due] += 1
        claimed = ~np.isnan(self._at[due, 0])
        shown = np.where(claimed[:, None], self._at[due], np.column_stack([east, north])) + self._shift[due] + error
        stray = np.flatnonzero(~np.isnan(self._stray[due, 0]))
        if stray.size:
            shown[stray] = self._stray[due[stray]] + error[stray]
            self._stray[due[stray]] = np.nan
        records["lat"], records["lon"] = on_earth(self._planes[due], shown[:, 0], shown[:, 1])
        records["accuracy_m"] = accuracy
        speaks = self._gives_speed[due] & (source == 1) & ~claimed
        records["speed_mps"] = np.where(speaks, np.abs(speed + SPEED_ERROR_MPS * (2 * spare[:, 0] - 1)), np.nan)
        heading = np.degrees(np.arctan2(east_mps, north_mps)) % 360
        records["heading_deg"] = np.where(speaks & (speed > MOVING_MPS), heading, np.nan)
        records["altitude_m"] = np.nan
        battery = self._battery[due]
        records["battery_pct"] = np.clip(battery[:, 0] - battery[:, 1] * at_s, 1, 100)
        self._freeze(due, records)
        self._made.append((due, at_s))
        beacon, rssi = self._heard(due, at_s, east, north)
        records["flags"][beacon > 0] |= np.uint32(FLAG_EXTRA)
        low, high = self._delay[due].T
        arrives = np.floor(np.maximum(at_s + low + spare[:, 1] * (high - low), second)).astype(np.int64)
        arrives = np.where(self._offline_until[due] > second, np.ceil(self._offline_until[due]), arrives)
        if (arrives == second).all():
            self._queue[second].append((records, beacon, rssi))
            return
        for moment in np.unique(arrives[np.isfinite(arrives)]).astype(np.int64).tolist():
            some = arrives == moment
            self._queue[moment].append((records[some], beacon[some], rssi[some]))

    def _freeze(self, due: Index, records: NDArray[np.void]) -> None:
        """What is frozen repeats its fix of the moment it froze; what has no fix is a heartbeat."""
        frozen = np.flatnonzero(self._frozen[due])
        if frozen.size:
            rows = due[frozen]
            fresh = self._held[rows]["seq"] < 0
            self._held[rows[fresh]] = records[frozen[fresh]]
            for name in ("lat", "lon", "accuracy_m", "speed_mps", "heading_deg"):
                records[name][frozen] = self._held[name][rows]
        blind = np.flatnonzero(self._nofix[due])
        if blind.size:
            records["flags"][blind] &= ~np.uint32(FLAG_POSITION | TWO_BITS << SHIFT_SOURCE)
            for name in ("lat", "lon", "accuracy_m", "speed_mps", "heading_deg"):
                records[name][blind] = np.nan

    def _heard(self, due: Index, at_s: Floats, east: Floats, north: Floats) -> tuple[Index, Floats]:
        """The bracelet's number where a unit hears it, else 0; and how loud."""
        beacon, rssi = np.zeros(len(due), dtype=np.int64), np.zeros(len(due))
        some = np.flatnonzero(self._hears[due] & (self._bracelets[due] >= 0))
        if some.size:
            bracelet = self._bracelets[due[some]]
            other_east, other_north, _, _ = self._walkers.at(bracelet, at_s[some])
            apart = np.hypot(east[some] - other_east, north[some] - other_north)
            near = apart <= HEARD_M
            beacon[some[near]] = bracelet[near] + 1
            rssi[some[near]] = -45.0 - 25.0 * np.log10(np.maximum(apart[near], 1.0))
        return beacon, rssi

    def _note_pings(self) -> None:
        if not self._made:
            return
        rows = np.concatenate([each for each, _ in self._made])
        at_s = np.concatenate([each for _, each in self._made])
        person = self._pair_of[rows] * PEOPLE_MOST + self._who_of[rows]
        order = np.lexsort((at_s, person))
        person, at_s = person[order], at_s[order]
        ends = np.flatnonzero(np.diff(person)) + 1
        for part, moments in zip(np.split(person, ends), np.split(at_s, ends), strict=True):
            self.stories[int(part[0]) // PEOPLE_MOST].ping_s[int(part[0]) % PEOPLE_MOST] = moments


_Batch = tuple[NDArray[np.void], Index, Floats]


def _mark_backlog(records: NDArray[np.void]) -> None:
    """Of several pings that a device uploads at once, all but the newest are backlog. In place."""
    order = np.lexsort((records["at_ms"], records["device"]))
    device = records["device"][order]
    older = np.flatnonzero(device[:-1] == device[1:])
    if older.size:
        records["flags"][order[older]] |= np.uint32(FLAG_BACKLOG)
