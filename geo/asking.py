"""What each device is asked to wait between its pings: worked out where its fix is judged, told when it changes.

Model: columns of `Devices` hold what a device was told and how long its person has been at one place. Each batch of
judged orders gives the devices that just reported a new wish; a person with several orders takes the least. What
should be told now waits in `ask` until `take`.

A shorter wait is told at once. A longer one only after it was wanted for `DWELL_MS`, and a victim's only when it is a
quarter longer, so that a device gets no stream of small corrections. A device that is judged no more (its order
ended, its other party left) goes back to what is expected of it after `FORGET_MS`.

None of it decides a transition: it may be lost or worked out again without changing what the engine finds.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from geo import sampling
from geo.frame import Floats
from geo.roster import Roster
from geo.rows import Rows
from geo.run import Index
from geo.track import Bools, Times

DWELL_MS: Final = 30_000
"""A longer wait is told once it was wanted for so long."""
FORGET_MS: Final = 600_000
"""A device not judged for so long goes back to what is expected of it."""
SWEEP_MS: Final = 60_000
"""Log time between two looks for such devices."""
LONGER: Final = 1.25
"""A victim's longer wait is told when it is longer by this factor ..."""
SHORTER: Final = 0.85
"""... and a shorter one is told with this much to spare, so that the next is not due with the next ping."""
BLIND_AFTER_S: Final = 180.0
"""Beyond this age of his fix, hers no longer help to see him ..."""
BLIND_WAIT_S: Final = 15.0
"""... and her device is spared: its battery is needed when he is seen again. `BLIND_HOT_S` while something is on."""
BLIND_HOT_S: Final = 5.0
UNASKED: Final = 0.0
"""Told to go back to what is expected of the device."""


class Asking:
    """The waits of the devices in some tables, taken slot by slot (`geo.rows.Tables`)."""

    def __init__(self, cover_key: bytes = b"") -> None:
        self._cover = sampling.Cover(cover_key)
        self._changes = 0
        self._sweep_ms = self._sweeps = 0
        self._seen: dict[int, tuple[int, int]] = {}
        """By slot: changes and sweeps when it was taken last."""
        self._told: defaultdict[int, set[int]] = defaultdict(set)
        """By slot: numbers of devices asked for more than is expected of them."""

    def judged(
        self,
        roster: Roster,
        order_rows: Index,
        side: Index,
        device_rows: Rows,
        places: Floats,
        distance_m: Floats,
        accuracy_victim_m: Floats,
        accuracy_aggressor_m: Floats,
        age_victim_s: Floats,
        age_aggressor_s: Floats,
        now_ms: Times,
        hot: Bools,
        zone_distance_m: Floats | None = None,
    ) -> None:
        """Take note of judged orders, all (n,) but `places`.

        `side`: who moved, 0 victim, 1 aggressor (-1: nobody, passed over); `device_rows`, `places` (n, 3): the device
        that moved and where it is; accuracies: 68 % radii of the newest fixes, not grown with age; `hot`: the order is
        in warning, approach or breach, or a suspect fix says so; `zone_distance_m`: to the nearest edge of the order's
        zones, infinite where it has none.
        """
        if not side.size:
            return
        devices = roster.devices
        his = side == 1
        told = devices.asked_s.take(device_rows).astype(np.float64)
        on = np.where(told > 0.0, told, devices.expected_s.take(device_rows))
        charged_s = np.where(his, np.maximum(age_victim_s, sampling.VICTIM_AGE_S), age_victim_s)
        accuracy_m = accuracy_victim_m + accuracy_aggressor_m
        bound = sampling.lower_bound_m(distance_m, accuracy_m, charged_s, age_aggressor_s)
        safe = sampling.safe_s(bound, roster.orders.limits[order_rows, 0])
        if zone_distance_m is not None:
            safe = np.minimum(safe, sampling.zone_safe_s(zone_distance_m, accuracy_aggressor_m, age_aggressor_s))
        wait = sampling.wait_s(safe, on)
        wait[hot] = 0.0
        want = sampling.victim_wait_s(wait)
        blind = ~his & (age_aggressor_s > BLIND_AFTER_S)
        if np.count_nonzero(blind):
            want[blind] = np.maximum(want[blind], np.where(hot[blind], BLIND_HOT_S, BLIND_WAIT_S))
        mine = his.nonzero()[0]
        if mine.size:
            own_m = accuracy_aggressor_m.take(mine)
            want[mine] = self._his(roster, device_rows[mine], places[mine], own_m, wait[mine], now_ms[mine])
        np.minimum(want, devices.expected_s.take(device_rows), out=want)
        if int(side.min()) < 0:  # nobody moved: nobody is asked
            some = np.flatnonzero(side >= 0)
            device_rows, his, now_ms = device_rows.take(some), his.take(some), now_ms.take(some)
            on, told, want = on.take(some), told.take(some), want.take(some)
        self._settle(roster, device_rows, his, on, told, want, now_ms)
        if (latest_ms := int(now_ms[-1]) if now_ms.size else 0) >= self._sweep_ms:
            self.tick(roster, latest_ms)

    def _his(
        self, roster: Roster, rows: Rows, places: Floats, accuracy_m: Floats, wait: Floats, now_ms: Times
    ) -> Floats:
        """Steps for aggressors' devices: the shortest, unless at rest, uncovered, and surely far. (n,)"""
        devices = roster.devices
        strayed = places - devices.rest_place.take(rows, axis=0)
        reach = sampling.REST_RADIUS_M + sampling.ACCURACIES * accuracy_m
        left = np.einsum("ij,ij->i", strayed, strayed) > reach * reach
        if np.count_nonzero(left):
            gone = rows[left]
            devices.rest_place[gone] = places[left]
            devices.rest_ms[gone] = now_ms[left]
        want = np.full(len(rows), sampling.FAST_S)
        may = (now_ms - devices.rest_ms.take(rows) >= sampling.REST_S * 1000) & (wait >= sampling.AGGRESSOR_STEPS_S[1])
        if np.count_nonzero(may):
            some = may.nonzero()[0]
            numbers = devices.number.take(rows[some])
            covered = self._cover.is_burst(numbers, now_ms[some])
            covered |= self._cover.is_decoy(numbers, devices.rest_place.take(rows[some], axis=0))
            want[some] = np.where(covered, sampling.FAST_S, sampling.aggressor_step_s(wait[some]))
        return want

    def _settle(
        self, roster: Roster, rows: Rows, his: Bools, on: Floats, told: Floats, want: Floats, now_ms: Times
    ) -> None:
        """The least wish of each device, held against what it was told."""
        devices = roster.devices
        turns = np.arange(len(rows), dtype=np.int32)
        devices.turn[rows] = turns
        last = devices.turn.take(rows)
        if np.count_nonzero(last != turns):  # somebody with several orders: the least of them, once
            least = np.full(len(rows), np.inf)
            np.minimum.at(least, last, want)
            some = (last == turns).nonzero()[0]
            rows, his, now_ms = rows.take(some), his.take(some), now_ms.take(some)
            on, told, want = on.take(some), told.take(some), least.take(some)
        devices.judged_ms[rows] = now_ms
        shorter = want < on
        longer = want > on * np.where(his, 1.0, LONGER)
        since = devices.longer_ms.take(rows)
        waited = longer & (since > 0) & (now_ms - since >= DWELL_MS)
        devices.longer_ms[rows] = np.where(longer & ~waited, np.where(since > 0, since, now_ms), 0)
        tell = shorter | waited | (told == 0.0)
        if np.count_nonzero(tell):
            some = tell.nonzero()[0]
            want, spare = want[some], (shorter & ~his)[some]
            spared = np.minimum(want, np.maximum(np.floor(SHORTER * want), sampling.SHORTEST_S))
            devices.asked_s[rows[some]] = np.where(spare, spared, want)
            devices.ask[rows[some]] = True
            self._changes += 1

    def hurry(self, roster: Roster, person_rows: Rows, now_ms: int) -> None:
        """Something began between these people: the victims' devices are asked for the most at once.

        Aggressors among them are passed over: theirs is worked out at their own next ping, which comes before anything
        can have happened, and a message between two of his pings would tell him of hers.
        """
        devices = roster.devices
        for person in person_rows.tolist():
            about, rows = roster.people.about[person]
            if about.role == "aggressor":
                continue
            for row in rows:
                if devices.asked_s[row] != sampling.SHORTEST_S and devices.expected_s[row] > sampling.SHORTEST_S:
                    devices.asked_s[row] = sampling.SHORTEST_S
                    devices.ask[row] = True
                    self._changes += 1
                devices.longer_ms[row] = 0
                devices.judged_ms[row] = now_ms

    def tick(self, roster: Roster, now_ms: int) -> None:
        """Let go of devices that are judged no more, of new rows that never are, and of devices that left."""
        self._sweep_ms = now_ms + SWEEP_MS
        self._sweeps += 1
        devices = roster.devices
        unseen = (devices.number >= 0) & (devices.judged_ms == 0)
        devices.judged_ms[unseen] = now_ms
        stale = np.flatnonzero((devices.number >= 0) & (devices.judged_ms < now_ms - FORGET_MS))
        stale = stale[devices.asked_s[stale] != devices.expected_s[stale]]
        devices.asked_s[stale] = devices.expected_s[stale]
        devices.ask[stale] = True

    def take(self, roster: Roster) -> list[tuple[int, float]]:
        """(device number, seconds) newly to be told; `UNASKED` when it is what is expected of the device anyway.

        A device in two cases of the shard is told the least of both; a person's other devices are told the same.
        """
        slot, told = roster.slot, self._told[roster.slot]
        seen = self._seen.get(slot, (0, 0))
        if seen == (self._changes, self._sweeps):
            return []
        self._seen[slot] = (self._changes, self._sweeps)
        devices, people = roster.devices, roster.people
        rows = roster.tables.of(devices, slot, devices.ask)
        devices.ask[rows] = False
        asks: dict[int, float] = {}
        if seen[1] != self._sweeps:
            asks.update((number, UNASKED) for number in told if not roster.knows(number))
        for row in rows.tolist():
            if devices.number[row] < 0:
                continue
            mates = [row] if devices.alone[row] else people.about[devices.person[row]][1]
            for mate in mates:
                if mate != row:
                    devices.asked_s[mate] = min(devices.asked_s[row], devices.expected_s[mate])
                    devices.judged_ms[mate] = devices.judged_ms[row]
                number = int(devices.number[mate])
                asks[number] = self._least(roster, number)
        for number, seconds in asks.items():
            if seconds:
                told.add(number)
            else:
                told.discard(number)
        return list(asks.items())

    def forget(self, slot: int) -> None:
        """A slot is given up: what it was told is nobody's."""
        self._told.pop(slot, None)
        self._seen.pop(slot, None)

    @staticmethod
    def _least(roster: Roster, number: int) -> float:
        """The least that a device is asked over all its rows."""
        devices = roster.devices
        expected = least = np.inf
        row = int(roster.lookup[number])
        while row >= 0:
            expected = min(expected, float(devices.expected_s[row]))
            if devices.asked_s[row] > 0.0:
                least = min(least, float(devices.asked_s[row]))
            row = int(devices.next[row])
        return UNASKED if least >= expected else least
