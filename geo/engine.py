"""The engine: a shard's log in, transitions out. A pure function of the log, whatever its cuts.

Records between two ticks or configurations are expanded to one row a (record, case), ranked within their case, and
taken in rounds: a round has at most one record a case, so that records of one case follow each other and cases stand
side by side. Everything that a round does is arithmetic on rows; objects are made only for what changed.

Two clocks. *Log time* is the entries' own. *Service time* is log time less all pauses (ticks marked `paused`, and gaps
between ticks): silence is measured in it, so an outage of the service is nobody's silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.domain.case import decode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import FLAG_BACKLOG, RECORD_BYTES
from core.domain.transition import Transition
from geo import memory, proximity, pulse, showing, trespass
from geo.account import Account
from geo.fix_filter import NOTE_ACCEPTED, advance
from geo.frame import Floats
from geo.memory import EngineChanges, Meta
from geo.roster import Ended, Roster
from geo.rows import HEARD, NEVER, SERVICE, SILENT_BIT, WORD, Rows
from geo.run import EVERYTHING, Index, Run, rounds, with_copies
from geo.strangers import Strangers
from geo.track import Times, candidates, is_newer

__all__ = ["Engine", "EngineChanges"]

OUTAGE_MS: Final = 5_000
"""A longer gap between ticks means that the service was not there."""
RUN_RECORDS_MAX: Final = 65_536
"""Records taken at once; it bounds memory, not meaning."""


class Engine:
    """Detection for one shard. Not thread-safe: one owner feeds it."""

    def __init__(self, shard: int, *, outage_after_ms: int | None = OUTAGE_MS) -> None:
        """`outage_after_ms`: gap between ticks that counts as an outage; None: none does (a replay has no outages)."""
        self.shard = shard
        self._outage_after_ms = outage_after_ms
        self._roster = Roster()
        self._meta = Meta()
        self._strangers = Strangers()
        self._account = Account(shard, self._roster)

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
        return self._meta.refused_total + self._roster.shapes_refused

    @property
    def last_ms(self) -> int:
        """Time of the newest entry processed."""
        return self._meta.last_ms

    @property
    def next_deadline_ms(self) -> int | None:
        """Log time of the earliest deadline; a tick at or after it acts on it. None: nothing waits."""
        roster = self._roster
        silence = int(roster.devices.due.min())
        due = min(int(roster.orders.due.min()), int(roster.zones.due.min()))
        if silence != NEVER:
            due = min(due, silence + self._meta.paused_ms)
        return None if due == NEVER else due

    def case_versions(self) -> dict[int, int]:
        """Case number → version of the configuration in force."""
        return {number: entry.case.version for number, entry in self._roster.cases.items()}

    def process(self, entries: Sequence[Entry]) -> list[Transition]:
        """Take entries in log order; the transitions they cause, in order. Any cut of the log gives the same."""
        out: list[Transition] = []
        run: list[Entry] = []
        waiting = 0
        for entry in entries:
            if entry.kind == PINGS and waiting < RUN_RECORDS_MAX:
                run.append(entry)
                waiting += len(entry.payload) // RECORD_BYTES
                continue
            if run:
                out += self._pings(Run(run))
                run, waiting = [], 0
            if entry.kind == PINGS:
                run.append(entry)
                waiting = len(entry.payload) // RECORD_BYTES
            elif entry.kind == TICK:
                out += self._tick(entry)
            elif entry.kind == CONFIGURATION:
                out += self._configure(entry)
            else:
                self._meta.refused_total += 1
        if run:
            out += self._pings(Run(run))
        if entries:
            self._meta.last_ms = entries[-1].ms
        return out

    def take_changes(self) -> EngineChanges:
        """What changed since the last call, to be written with the log's cursor in one step."""
        changes = memory.take_changes(self._roster, self._meta)
        changes.state.update(self._strangers.take_changes())
        return changes

    def restore(self, fields: Mapping[bytes, bytes]) -> None:
        """Become the engine that gave these fields away over time."""
        self._roster = Roster()
        self._account = Account(self.shard, self._roster)
        self._meta = memory.restore(self._roster, fields)
        self._strangers = Strangers.restored(fields)
        for entry in self._roster.cases.values():
            for row in entry.orders:
                self._roster.refresh_order(row, self._meta.clock_ms)
            for row in entry.zones:
                self._roster.refresh_zone(row, self._meta.clock_ms)
            for row in entry.people:
                self._roster.set_hot(row)

    # --- pings

    def _pings(self, run: Run) -> list[Transition]:
        self._meta.refused_total += run.torn
        self._meta.records_total += len(run.records)
        self._account.causes = run
        lookup, devices = self._roster.lookup, self._roster.devices
        rows = lookup.take(run.records["device"], mode="clip")
        known = rows >= 0
        # an older ping of an upload matters only if it bears an alarm
        idle = (run.records["flags"] & np.uint32(FLAG_BACKLOG)) != 0
        if idle.any():
            idle &= pulse.alarms(run.records["flags"]) == 0
            taken = np.flatnonzero(known & ~idle)
        else:
            taken = known.nonzero()[0]
        unknown = len(rows) - int(np.count_nonzero(known))
        if unknown:
            self._meta.unknown_total += unknown
            self._strangers.note(run.records[~known])
        if not taken.size:
            return []
        records, now_ms, cause = run.records, run.now_ms, taken
        if taken.size < len(rows):
            rows, records, now_ms = rows.take(taken), records.take(taken), now_ms.take(taken)
        rows, cause, copied = with_copies(rows, cause, devices.next)
        if copied:
            records, now_ms = run.records.take(cause), run.now_ms.take(cause)
        fixes, may = candidates(records, now_ms)
        for some in rounds(devices.case.take(rows), cause, ordered_already=not copied):
            self._round(rows[some], records[some], now_ms[some], fixes[some], may[some], cause[some])
        return self._account.close()

    def _round(
        self, rows: Rows, records: NDArray[np.void], now_ms: Times, fixes: Floats, may: NDArray[np.bool_], cause: Index
    ) -> None:
        """One record a case: first what the devices say of themselves, then where they are."""
        devices = self._roster.devices
        held = devices.pulse.take(rows, axis=0)
        live_ms = np.minimum(records["at_ms"], now_ms)
        beaten, newest = pulse.beat(
            held, now_ms, now_ms - self._meta.paused_ms, live_ms, records["flags"], records["battery_pct"]
        )
        primary = devices.primary.take(rows)
        devices.pulse[rows] = beaten
        devices.due[rows] = np.where(primary, beaten[:, SERVICE] + devices.limit_ms.take(rows), NEVER)
        devices.dirty[rows] = True
        before = devices.fix.take(rows, axis=0)
        newer = may & is_newer(fixes, before, now_ms)
        if newer.any():
            taken = EVERYTHING if newer.all() else newer.nonzero()[0]
            fixes, records_taken, moved, moved_ms = fixes[taken], records[taken], rows[taken], now_ms[taken]
            new, notes = advance(before[taken], fixes, records_taken["heading_deg"])
            devices.fix[moved] = new
            showing.keep(devices, moved, records_taken, moved_ms, fixes)
            accepted = (notes & NOTE_ACCEPTED) != 0
            if accepted.all():
                self._move(moved, moved_ms, cause[taken])
            elif accepted.any():
                self._move(moved[accepted], moved_ms[accepted], cause[taken][accepted])
        changed = np.flatnonzero(((beaten[:, WORD] ^ held[:, WORD]) != 0) & primary)
        if changed.size:
            self._account.pulses(changed, rows, held, beaten, newest, records, now_ms, cause)

    def _move(self, rows: Rows, now_ms: Times, cause: Index) -> None:
        """Devices have new fixes: settle which is the person's, and judge what that touches."""
        devices, people = self._roster.devices, self._roster.people
        persons = devices.person.take(rows)
        alone = devices.alone.take(rows)
        if not alone.all():
            rivals = np.flatnonzero(~alone)
            alone[rivals] = self._roster.takes_over(rows[rivals], people.best.take(persons[rivals]), now_ms[rivals])
            keep = alone.nonzero()[0]
            rows, persons, now_ms, cause = rows[keep], persons[keep], now_ms[keep], cause[keep]
            devices.dirty[people.best[persons[people.best[persons] >= 0]]] = True
        people.best[persons] = rows
        order_rows, side, index = proximity.orders_of(people, self._roster.orders, persons)
        if order_rows.size:
            self._judge(order_rows, now_ms.take(index), cause.take(index), side)

    # --- judging

    def _judge(self, order_rows: Index, now_ms: Times, cause: Index, side: Index) -> None:
        """Judge orders, and the zones of those whose aggressor moved (or whose configuration changed)."""
        roster = self._roster
        verdict = proximity.judge(roster.devices, roster.people, roster.orders, order_rows, now_ms, side)
        if verdict is not None:
            self._write(roster.orders, verdict)
            self._account.orders(verdict, now_ms.tolist(), cause.tolist())
            for row in verdict.rows[(verdict.on != verdict.on_before).any(axis=1)].tolist():
                for person in roster.orders.party[row].tolist():
                    roster.set_hot(person)
        if not roster.zones.in_use:
            return
        his = np.flatnonzero(side != 0)
        zone_rows, index = trespass.zones_of(roster.orders, roster.zones, order_rows[his])
        if zone_rows.size:
            whose = his[index]
            self._judge_zones(zone_rows, now_ms[whose], cause[whose], moved=bool(side[his[0]] == 1))

    def _judge_zones(self, zone_rows: Index, now_ms: Times, cause: Index, *, moved: bool) -> None:
        roster = self._roster
        verdict = trespass.judge(roster.devices, roster.people, roster.orders, roster.zones, zone_rows, now_ms, moved)
        if verdict is not None:
            self._write(roster.zones, verdict)
            self._account.zones(verdict, now_ms.tolist(), cause.tolist())

    @staticmethod
    def _write(table: Any, verdict: proximity.Verdict) -> None:
        changed = (verdict.on != verdict.on_before) | (verdict.out_ms != verdict.out_before_ms)
        some = np.flatnonzero(changed.any(axis=1))
        if some.size:
            rows = verdict.rows[some]
            table.on[rows] = verdict.on[some]
            table.out_ms[rows] = verdict.out_ms[some]
            table.dirty[rows] = True

    # --- time and configuration

    def _tick(self, entry: Entry) -> list[Transition]:
        """Pause the service clock if nobody was there; then act on every deadline that has come."""
        meta = self._meta
        gap_ms = entry.ms - meta.tick_ms if meta.tick_ms else 0
        outage = self._outage_after_ms is not None and gap_ms > self._outage_after_ms
        if outage or entry.payload == b"paused":
            self._pause(gap_ms, entry.ms)
        meta.tick_ms = entry.ms
        self._account.causes = [(entry.id, 0)]
        self._advance(entry.ms)
        self._silence(entry.ms)
        return self._account.close()

    def _pause(self, gap_ms: int, now_ms: int) -> None:
        """Stop the service clock for the gap; what was heard within it was heard when the clock stood still."""
        devices = self._roster.devices
        self._meta.paused_ms += gap_ms
        service_ms = now_ms - self._meta.paused_ms
        early = np.flatnonzero((devices.pulse[:, SERVICE] > service_ms) & (devices.pulse[:, HEARD] > 0))
        devices.pulse[early, SERVICE] = service_ms
        devices.dirty[early] = True
        for row in early.tolist():
            self._roster.set_due(row)

    def _silence(self, now_ms: int) -> None:
        devices = self._roster.devices
        service_ms = now_ms - self._meta.paused_ms
        for row in np.flatnonzero(devices.due <= service_ms).tolist():
            late_ms = service_ms - int(devices.due[row])
            heard_ms = int(devices.pulse[row, HEARD])
            devices.pulse[row, WORD] |= SILENT_BIT
            devices.due[row] = NEVER
            devices.dirty[row] = True
            self._account.device(
                row,
                "silence",
                ("reporting", "silent"),
                cause=0,
                at_ms=now_ms - late_ms,
                now_ms=now_ms,
                last_heard_ms=heard_ms or None,
                allowed_s=int(devices.limit_ms[row]) / 1000,
            )

    def _advance(self, now_ms: int) -> None:
        """Begin and end what begins and ends by now; judge what begins."""
        roster = self._roster
        self._meta.clock_ms = now_ms
        began = []
        for row in np.flatnonzero(roster.orders.due <= now_ms).tolist():
            self._roster.refresh_order(row, self._meta.clock_ms)
            began.append(row)
            self._end_if_idle(row, 0, "validity_ended")
        zones = np.flatnonzero(roster.zones.due <= now_ms).tolist()
        for row in zones:
            self._roster.refresh_zone(row, self._meta.clock_ms)
            self._end_zone_if_idle(row, 0, "schedule_ended")
        if began:
            self._judge_level(np.asarray(began), now_ms, 0)
        if zones:
            self._judge_zones(
                np.asarray(zones), np.full(len(zones), now_ms), np.zeros(len(zones), np.int64), moved=False
            )

    def _configure(self, entry: Entry) -> list[Transition]:
        try:
            cases = decode_cases(entry.payload)
        except (msgspec.DecodeError, ValueError):
            self._meta.refused_total += 1
            return []
        # cause 0 is the time that the entry brings, cause k + 1 its k-th case
        self._account.causes = [(entry.id, index - 1) for index in range(len(cases) + 1)]
        self._advance(entry.ms)
        for cause, case in enumerate(cases, start=1):
            ended = self._roster.apply(case, entry.ms - self._meta.paused_ms)
            if ended is None:
                continue
            for each in ended:
                self._account.ended(each, entry.ms, cause, "order_removed" if each.zone is None else "zone_removed")
            rows = self._roster.cases[case.number]
            for row in rows.orders:
                self._roster.refresh_order(row, self._meta.clock_ms)
                self._end_if_idle(row, cause, "order_inactive")
            for row in rows.zones:
                self._roster.refresh_zone(row, self._meta.clock_ms)
                self._end_zone_if_idle(row, cause, "zone_inactive")
            known = [row for row in rows.orders if self._roster.people.best[self._roster.orders.party[row, 1]] >= 0]
            if known:
                self._judge_level(np.asarray(known), entry.ms, cause)
            for row in rows.people:
                self._roster.set_hot(row)
        out = self._account.close()
        taken_up = self._strangers.take_up(self._roster.lookup, entry)
        if taken_up is not None:
            self._meta.records_total -= len(taken_up.records)  # they were counted when they came
            out += self._pings(taken_up)
        return out

    def _judge_level(self, order_rows: Index, now_ms: int, cause: int) -> None:
        """Judge by where people are, nobody having moved: level, not edge."""
        count = len(order_rows)
        self._judge(
            order_rows.astype(np.int64),
            np.full(count, now_ms, np.int64),
            np.full(count, cause, np.int64),
            np.full(count, proximity.NOBODY, np.int64),
        )

    def _end_if_idle(self, row: int, cause: int, reason: str) -> None:
        """An order that does not hold is clear, whatever the distance, and so are its zones."""
        orders = self._roster.orders
        if orders.live[row]:
            return
        if orders.on[row].any():
            case, order = orders.about[row]
            ended = Ended(case, order, None, 2 if orders.on[row, 0] else 1, self._roster.parties(row))
            self._clear(orders, row)
            self._account.ended(ended, self._meta.clock_ms, cause, reason)
            for person in orders.party[row].tolist():
                self._roster.set_hot(person)
        zone = int(orders.zone[row])
        while zone >= 0:
            self._end_zone_if_idle(zone, cause, reason)
            zone = int(self._roster.zones.next[zone])

    def _end_zone_if_idle(self, row: int, cause: int, reason: str) -> None:
        zones = self._roster.zones
        order_row = int(zones.order[row])
        if (zones.live[row] and self._roster.orders.live[order_row]) or not zones.on[row].any():
            return
        case, order, zone = zones.about[row]
        ended = Ended(case, order, zone, 2 if zones.on[row, 0] else 1, self._roster.parties(order_row))
        self._clear(zones, row)
        self._account.ended(ended, self._meta.clock_ms, cause, reason)

    @staticmethod
    def _clear(table: Any, row: int) -> None:
        table.on[row] = False
        table.out_ms[row] = 0
        table.dirty[row] = True
