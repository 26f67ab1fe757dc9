"""The engine: a shard's log in, transitions out. A pure function of the log, whatever its cuts.

Records between two ticks or configurations are expanded to one row a (record, case), ranked within their case, and
taken in rounds: a round has at most one record a case, so that records of one case follow each other and cases stand
side by side. Everything that a round does is arithmetic on rows; objects are made only for what changed.

Two clocks. *Log time* is the entries' own. *Service time* is log time less all pauses (ticks marked `paused`, and gaps
between ticks): silence is measured in it, so an outage of the service is nobody's silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.domain.case import decode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.past import Want
from core.domain.ping import RECORD_BYTES
from core.domain.transition import Transition
from geo import memory, pulse
from geo.hall import Hall, Seat
from geo.memory import EngineChanges
from geo.retrospect import Retrospect
from geo.rows import HEARD, LATE_BIT, NEVER, SERVICE, SILENT_BIT, WORD, Devices, Ringed
from geo.run import Run
from geo.strangers import Strangers
from geo.track import SERVICE_MS, Times

__all__ = ["Engine", "EngineChanges", "Hall", "process_together"]

OUTAGE_MS: Final = 5_000
"""A longer gap between ticks means that the service was not there."""
RUN_RECORDS_MAX: Final = 65_536
"""Records taken at once; it bounds memory, not meaning."""


class Engine:
    """Detection for one shard. Not thread-safe: one owner feeds it."""

    def __init__(
        self,
        shard: int,
        *,
        outage_after_ms: int | None = OUTAGE_MS,
        cover_key: bytes = b"",
        hall: Hall | None = None,
    ) -> None:
        """`outage_after_ms`: gap between ticks that counts as an outage; None: none does (a replay has no outages).

        `cover_key`: the secret that bursts and decoys of sampling are drawn from, the same for every owner of a shard.
        `hall`: where it sits beside the owner's other engines, in place of whoever had the shard before; its
        `cover_key` counts then. None: alone.
        """
        self.shard = shard
        self._outage_after_ms = outage_after_ms
        self.hall = hall or Hall(cover_key=cover_key)
        self._slot = 0 if hall is None else shard
        self._sit()

    def _sit(self) -> None:
        """Have empty tables."""
        self._seat = self.hall.seat(self.shard, self._slot)
        self._roster, self._meta = self._seat.roster, self._seat.meta
        self._strangers, self._past = self._seat.strangers, self._seat.past
        self._account, self._judging, self._asking = self.hall.account, self.hall.judging, self.hall.asking

    def close(self) -> None:
        """Give the rows back; the engine is of no use afterwards."""
        if self.hall.is_seated(self._seat):
            self.hall.leave(self._slot)

    def _mine(self, table: Devices | Ringed, condition: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Own rows for which the condition, one a row of the table, holds."""
        return self._roster.tables.of(table, self._slot, condition)

    @property
    def records_total(self) -> int:
        """Records processed since the log began."""
        return self._meta.records_total

    @property
    def unknown_total(self) -> int:
        """Records whose device no case of this shard knows."""
        return self._meta.unknown_total

    @property
    def refused_total(self) -> int:
        """Entries that could not be read, whole or at their end, and zones that could not be understood."""
        refused = self._meta.refused_total + self._roster.shapes_refused
        return refused + int(self._roster.tables.refused[self._slot])

    @property
    def last_ms(self) -> int:
        """Time of the newest entry processed."""
        return self._meta.last_ms

    @property
    def next_deadline_ms(self) -> int | None:
        """Log time of the earliest deadline; a tick at or after it acts on it. None: nothing waits."""
        roster = self._roster
        silence = min(self._least(roster.devices, "due"), self._least(roster.orders, "tell_ms"))
        due = min(self._least(roster.orders, "due"), self._least(roster.zones, "due"))
        if silence != NEVER:
            due = min(due, silence + self._meta.paused_ms)
        if self._past.has_notes:
            due = min(due, self._meta.last_ms)
        return None if due == NEVER else due

    def _least(self, table: Devices | Ringed, name: str) -> int:
        moments: Times = getattr(table, name)
        return int(moments.min(where=table.slot == self._slot, initial=NEVER))

    @property
    def wants_dropped_total(self) -> int:
        """Stretches of history that are not asked for because there were too many."""
        return self._past.dropped_total

    def wants(self, limit: int) -> list[Want]:
        """Stretches of history that a retrospective check asks for, the longest waiting first, at most `limit`."""
        return self._past.wants(self._roster, limit)

    def case_versions(self) -> dict[int, int]:
        """Case number → version of the configuration in force."""
        return {number: entry.case.version for number, entry in self._roster.cases.items()}

    def process(self, entries: Sequence[Entry]) -> list[Transition]:
        """Take entries in log order; the transitions they cause, in order. Any cut of the log gives the same."""
        return process_together([(self, entries)])[0]

    def heed(self, transitions: list[Transition]) -> list[Transition]:
        """Remember what is told live, which is given back."""
        return self._past.heed(transitions)

    def take(self, entry: Entry) -> list[Transition]:
        """Take an entry that is no pings."""
        if entry.kind == TICK:
            return self._past.heed(self._tick(entry))
        if entry.kind == CONFIGURATION:
            return self._past.heed(self._configure(entry))
        told = self._past.take(entry, self._roster) if entry.kind == PAST else None
        self._meta.refused_total += told is None
        return told or []

    def counted(self, entries: Sequence[Entry]) -> tuple[Seat, int]:
        """Its seat, and how many whole records its ping entries have; those that end with a torn one are refused."""
        sizes = [len(entry.payload) for entry in entries]
        self._meta.refused_total += sum(1 for size in sizes if size % RECORD_BYTES)
        return self._seat, sum(size // RECORD_BYTES for size in sizes)

    def passed(self, entries: Sequence[Entry]) -> None:
        """All of these have been taken."""
        if entries:
            self._meta.last_ms = entries[-1].ms

    def take_changes(self) -> EngineChanges:
        """What changed since the last call, to be written with the log's cursor in one step."""
        changes = memory.take_changes(self._roster, self._meta)
        changes.state.update(self._strangers.take_changes())
        changes.state.update(self._past.take_changes())
        changes.asks.extend(self._asking.take(self._roster))
        return changes

    def restore(self, fields: Mapping[bytes, bytes]) -> None:
        """Become the engine that gave these fields away over time."""
        self._sit()
        self._meta = self._seat.meta = memory.restore(self._roster, fields)
        self._strangers = self._seat.strangers = Strangers.restored(fields)
        self._past = self._seat.past = Retrospect.restored(self.shard, fields)
        self._judging.checked_ms[self._slot] = self._meta.tick_ms - self._meta.paused_ms
        for entry in self._roster.cases.values():
            for row in entry.orders:
                self._roster.refresh_order(row, self._meta.clock_ms)
            for row in entry.zones:
                self._roster.refresh_zone(row, self._meta.clock_ms)
            for row in entry.people:
                self._roster.set_hot(row)
            if entry.orders:
                self._judging.foresee(np.asarray(entry.orders))

    # --- time and configuration

    def _tick(self, entry: Entry) -> list[Transition]:
        """Pause the service clock if nobody was there; then act on every deadline that has come."""
        meta = self._meta
        before_ms = meta.tick_ms
        gap_ms = entry.ms - before_ms if before_ms else 0
        outage = self._outage_after_ms is not None and gap_ms > self._outage_after_ms
        if outage or entry.payload == b"paused":
            self._pause(gap_ms, entry.ms)
        meta.tick_ms = entry.ms
        self._account.causes = [(self.shard, entry.id, 0)]
        self._advance(entry.ms)
        self._judging.unknown(self._slot, entry.ms - meta.paused_ms, entry.ms)
        self._silence(entry.ms)
        self._past.tick(entry, before_ms, self._roster)
        return self._account.close()

    def _pause(self, gap_ms: int, now_ms: int) -> None:
        """Stop the service clock for the gap; what was heard within it was heard when the clock stood still."""
        devices = self._roster.devices
        self._meta.paused_ms += gap_ms
        service_ms = now_ms - self._meta.paused_ms
        early = self._mine(devices, (devices.pulse[:, SERVICE] > service_ms) & (devices.pulse[:, HEARD] > 0))
        devices.pulse[early, SERVICE] = service_ms
        devices.fix[early, SERVICE_MS] = np.minimum(devices.fix[early, SERVICE_MS], service_ms)
        devices.dirty[early] = True
        for row in early.tolist():
            self._roster.set_due(row)
        if early.size:
            self._judging.foresee(self._mine(self._roster.orders, self._roster.orders.party[:, 0] >= 0))

    def _silence(self, now_ms: int) -> None:
        devices = self._roster.devices
        service_ms = now_ms - self._meta.paused_ms
        for row in self._mine(devices, devices.due <= service_ms).tolist():
            word = int(devices.pulse[row, WORD])
            heard_ms = int(devices.pulse[row, HEARD])
            late_ms = service_ms - int(devices.due[row])
            only_late = not word & LATE_BIT and devices.late_ms[row] < devices.limit_ms[row]
            if not only_late and self._judging.is_told(int(devices.person[row])):
                devices.due[row] = NEVER  # the dispatcher was told what this silence means
                continue
            devices.pulse[row, WORD] |= LATE_BIT if only_late else SILENT_BIT
            devices.dirty[row] = True
            allowed_ms = int(devices.late_ms[row] if not word & LATE_BIT else devices.limit_ms[row])
            self._account.device(
                row,
                "silence",
                ("late" if word & LATE_BIT else "reporting", "late" if only_late else "silent"),
                cause=0,
                at_ms=now_ms - late_ms,
                now_ms=now_ms,
                last_heard_ms=heard_ms or None,
                battery="low" if word & pulse.BATTERY_MASK else None,
                allowed_s=allowed_ms / 1000,
            )
            self._roster.set_due(row)

    def _advance(self, now_ms: int) -> None:
        """Begin and end what begins and ends by now; judge what begins."""
        roster = self._roster
        self._meta.clock_ms = now_ms
        began = []
        for row in self._mine(roster.orders, roster.orders.due <= now_ms).tolist():
            roster.refresh_order(row, now_ms)
            began.append(row)
            self._judging.end_if_idle(row, now_ms, 0, "validity_ended")
            for person in roster.orders.party[row].tolist():
                roster.set_hot(person)
        zones = self._mine(roster.zones, roster.zones.due <= now_ms).tolist()
        for row in zones:
            roster.refresh_zone(row, now_ms)
            self._judging.end_zone_if_idle(row, now_ms, 0, "schedule_ended")
        if began:
            self._judging.level(np.asarray(began), now_ms, 0)
        if zones:
            self._judging.zones(
                np.asarray(zones), np.full(len(zones), now_ms), np.zeros(len(zones), np.int64), moved=False
            )

    def _configure(self, entry: Entry) -> list[Transition]:
        try:
            cases = decode_cases(entry.payload)
        except (msgspec.DecodeError, ValueError):
            self._meta.refused_total += 1
            return []
        # cause 0 is the time that the entry brings, cause k + 1 its k-th case
        self._account.causes = [(self.shard, entry.id, index - 1) for index in range(len(cases) + 1)]
        self._advance(entry.ms)
        roster, judging = self._roster, self._judging
        for cause, case in enumerate(cases, start=1):
            ended = roster.apply(case, entry.ms - self._meta.paused_ms)
            if ended is None:
                continue
            self._past.configured(case, entry.ms)
            for each in ended:
                self._account.ended(each, entry.ms, cause, "order_removed" if each.zone is None else "zone_removed")
            rows = roster.cases[case.number]
            for row in rows.orders:
                roster.refresh_order(row, entry.ms)
                judging.end_if_idle(row, entry.ms, cause, "order_inactive")
            for row in rows.zones:
                roster.refresh_zone(row, entry.ms)
                judging.end_zone_if_idle(row, entry.ms, cause, "zone_inactive")
            known = [row for row in rows.orders if roster.people.best[roster.orders.party[row, 1]] >= 0]
            if known:
                judging.level(np.asarray(known), entry.ms, cause)
            for row in rows.people:
                roster.set_hot(row)
        out = self._account.close()
        taken_up = self._strangers.take_up(roster.lookup, entry, self.shard)
        if taken_up is not None:
            count = len(taken_up.records)
            self._meta.records_total -= count  # they were counted when they came
            out += self.hall.pings(taken_up, [(self._seat, count)])[0]
        return out


def process_together(parts: Sequence[tuple[Engine, Sequence[Entry]]]) -> list[list[Transition]]:
    """What `process` would give for each engine of a hall and its entries, in one go: pings of all are one batch.

    Whatever it raises, none of these engines is to be trusted afterwards.
    """
    hall = parts[0][0].hall
    out: list[list[Transition]] = [[] for _ in parts]
    waiting = [_pieces(entries) for _, entries in parts]
    try:
        while any(waiting):
            runs = [(k, queue.popleft()) for k, queue in enumerate(waiting) if queue and isinstance(queue[0], list)]
            if runs:
                for (k, _), told in zip(runs, _take_runs(hall, [(parts[k][0], run) for k, run in runs]), strict=True):
                    out[k] += parts[k][0].heed(told)
            for k, queue in enumerate(waiting):
                while queue and isinstance(queue[0], Entry):
                    out[k] += parts[k][0].take(queue.popleft())
    except BaseException:
        hall.account.close()
        hall.account.aside = ""
        raise
    for engine, entries in parts:
        engine.passed(entries)
    return out


def _pieces(entries: Sequence[Entry]) -> deque[Any]:
    """Entries to be taken by themselves, and lists of ping entries that are taken at once, in order."""
    pieces: deque[Any] = deque()
    waiting = RUN_RECORDS_MAX
    for entry in entries:
        if entry.kind != PINGS:
            pieces.append(entry)
            waiting = RUN_RECORDS_MAX
            continue
        if waiting >= RUN_RECORDS_MAX:
            pieces.append([])
            waiting = 0
        pieces[-1].append(entry)
        waiting += len(entry.payload) // RECORD_BYTES
    return pieces


def _take_runs(hall: Hall, runs: Sequence[tuple[Engine, Sequence[Entry]]]) -> list[list[Transition]]:
    entries = [entry for _, some in runs for entry in some]
    run = Run(entries, [engine.shard for engine, some in runs for _ in some])
    return hall.pings(run, [engine.counted(some) for engine, some in runs])
