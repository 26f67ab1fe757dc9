"""The engine: a shard's log in, transitions out. A pure function of the log, whatever its cuts.

Records between two ticks or configurations are expanded to one row a (record, case), ranked within their case, and
taken in rounds: a round has at most one record a case, so that records of one case follow each other and cases stand
side by side. Everything that a round does is arithmetic on rows; objects are made only for what changed.

Two clocks. *Log time* is the entries' own. *Service time* is log time less all pauses (ticks marked `paused`, and gaps
between ticks): silence is measured in it, so an outage of the service is nobody's silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.domain.case import decode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.past import Want
from core.domain.ping import FLAG_BACKLOG, RECORD_BYTES
from core.domain.transition import Transition
from geo import memory, pulse, showing, sightings, view
from geo.account import Account
from geo.asking import Asking
from geo.doubts import NOTE_ACCEPTED, NOTE_FROZEN, NOTE_SUSPECT
from geo.fix_filter import advance
from geo.frame import Floats
from geo.judging import Judging
from geo.late import OLD_MS
from geo.memory import EngineChanges, Meta
from geo.retrospect import Retrospect
from geo.roster import Roster
from geo.rows import HEARD, LATE_BIT, NEVER, SERVICE, SILENT_BIT, WORD, Rows
from geo.run import EVERYTHING, Index, Run, picked, rounds, with_copies
from geo.strangers import Strangers
from geo.track import LIVE, SERVICE_MS, Times, candidates, is_newer, served_ms

__all__ = ["Engine", "EngineChanges"]

OUTAGE_MS: Final = 5_000
"""A longer gap between ticks means that the service was not there."""
RUN_RECORDS_MAX: Final = 65_536
"""Records taken at once; it bounds memory, not meaning."""


class Engine:
    """Detection for one shard. Not thread-safe: one owner feeds it."""

    def __init__(self, shard: int, *, outage_after_ms: int | None = OUTAGE_MS, cover_key: bytes = b"") -> None:
        """`outage_after_ms`: gap between ticks that counts as an outage; None: none does (a replay has no outages).

        `cover_key`: the secret that bursts and decoys of sampling are drawn from, the same for every owner of a shard.
        """
        self._cover_key = cover_key
        self.shard = shard
        self._outage_after_ms = outage_after_ms
        self._meta = Meta()
        self._strangers = Strangers()
        self._past = Retrospect(shard)
        self._use(Roster())

    def _use(self, roster: Roster) -> None:
        """Work on these tables from now on."""
        self._roster = roster
        self._account = Account(self.shard, roster)
        self._asking = Asking(self._cover_key)
        self._judging = Judging(roster, self._account, self._asking)

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
        silence = min(int(roster.devices.due.min()), int(roster.orders.tell_ms.min()))
        due = min(int(roster.orders.due.min()), int(roster.zones.due.min()))
        if silence != NEVER:
            due = min(due, silence + self._meta.paused_ms)
        if self._past.has_notes:
            due = min(due, self._meta.last_ms)
        return None if due == NEVER else due

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
        out: list[Transition] = []
        run: list[Entry] = []
        waiting = 0
        for entry in entries:
            if entry.kind == PINGS and waiting < RUN_RECORDS_MAX:
                run.append(entry)
                waiting += len(entry.payload) // RECORD_BYTES
                continue
            if run:
                out += self._past.heed(self._pings(Run(run)))
                run, waiting = [], 0
            if entry.kind == PINGS:
                run.append(entry)
                waiting = len(entry.payload) // RECORD_BYTES
            elif entry.kind == TICK:
                out += self._past.heed(self._tick(entry))
            elif entry.kind == CONFIGURATION:
                out += self._past.heed(self._configure(entry))
            elif entry.kind == PAST:
                told = self._past.take(entry, self._roster)
                self._meta.refused_total += told is None
                out += told or []
            else:
                self._meta.refused_total += 1
        if run:
            out += self._past.heed(self._pings(Run(run)))
        if entries:
            self._meta.last_ms = entries[-1].ms
        return out

    def take_changes(self) -> EngineChanges:
        """What changed since the last call, to be written with the log's cursor in one step."""
        changes = memory.take_changes(self._roster, self._meta)
        changes.state.update(self._strangers.take_changes())
        changes.state.update(self._past.take_changes())
        changes.asks.extend(self._asking.take(self._roster))
        return changes

    def restore(self, fields: Mapping[bytes, bytes]) -> None:
        """Become the engine that gave these fields away over time."""
        self._use(Roster())
        self._meta = memory.restore(self._roster, fields)
        self._strangers = Strangers.restored(fields)
        self._past = Retrospect.restored(self.shard, fields)
        self._judging.checked_ms = self._meta.tick_ms - self._meta.paused_ms
        for entry in self._roster.cases.values():
            for row in entry.orders:
                self._roster.refresh_order(row, self._meta.clock_ms)
            for row in entry.zones:
                self._roster.refresh_zone(row, self._meta.clock_ms)
            for row in entry.people:
                self._roster.set_hot(row)
            if entry.orders:
                self._judging.foresee(np.asarray(entry.orders))

    # --- pings

    def _pings(self, run: Run) -> list[Transition]:
        self._meta.refused_total += run.torn
        self._meta.records_total += len(run.records)
        self._account.causes = run
        lookup, devices = self._roster.lookup, self._roster.devices
        rows = lookup.take(run.records["device"], mode="clip")
        known = rows >= 0
        # an older ping of an upload matters to history, and here only if it bears an alarm
        late = (run.records["flags"] & np.uint32(FLAG_BACKLOG)) != 0
        old = run.now_ms - run.records["at_ms"] > OLD_MS
        if np.count_nonzero(late) or np.count_nonzero(old):
            self._past.note(run.records, run.now_ms, (late | old) & known)
            taken = np.flatnonzero(known & ~(late & (pulse.alarms(run.records["flags"]) == 0)))
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
        heard = sightings.read(run)
        for some in rounds(devices.case.take(rows), cause, ordered_already=not copied):
            parts = tuple(picked(each, some) for each in (rows, records, now_ms, fixes, may, cause))
            self._round(*parts)
            if heard:
                self._sight(heard, parts[0], parts[1], parts[2], parts[5])
        return self._account.close()

    def _round(
        self, rows: Rows, records: NDArray[np.void], now_ms: Times, fixes: Floats, may: NDArray[np.bool_], cause: Index
    ) -> None:
        """One record a case: first what the devices say of themselves, then where they are."""
        devices = self._roster.devices
        held = devices.pulse.take(rows, axis=0)
        live_ms = np.minimum(records["at_ms"], now_ms)
        service_ms = now_ms - self._meta.paused_ms
        beaten, newest = pulse.beat(held, now_ms, service_ms, live_ms, records["flags"], records["battery_pct"])
        before = devices.fix.take(rows, axis=0)
        newer = may & is_newer(fixes, before, now_ms)
        every = bool(newer.all())
        taken: Index | slice = EVERYTHING if every else newer.nonzero()[0]
        if not every:
            self._past.note(records, now_ms, may & ~newer & (live_ms < before[:, LIVE]))
        some = every or bool(newer.any())
        if some:
            new, notes = advance(picked(before, taken), picked(fixes, taken), records["heading_deg"][taken])
            # a frozen receiver says nothing of where it is
            said = (notes & (NOTE_ACCEPTED | NOTE_FROZEN)) == NOTE_ACCEPTED
            fresh_ms = devices.fresh_ms.take(rows[taken])
            new[:, SERVICE_MS] = served_ms(new, said, now_ms[taken], service_ms[taken], fresh_ms)
            beaten[taken, WORD] = pulse.find(beaten[taken, WORD], notes)
            devices.fix[rows[taken]] = new
        primary = devices.primary.take(rows)
        devices.pulse[rows] = beaten
        devices.due[rows] = np.where(primary, beaten[:, SERVICE] + devices.late_ms.take(rows), NEVER)
        devices.dirty[rows] = True
        if some:
            moved, moved_ms = rows[taken], now_ms[taken]
            showing.keep(devices, moved, picked(records, taken), moved_ms, picked(fixes, taken))
            self._move(moved, moved_ms, cause[taken], (notes & NOTE_SUSPECT) != 0)
        differs = beaten[:, WORD] ^ held[:, WORD]
        if np.count_nonzero(differs):
            self._account.pulses(np.flatnonzero(differs * primary), rows, held, beaten, newest, records, now_ms, cause)
            opened = rows[(differs & pulse.TAMPER_BITS) != 0]  # their silence is told without grace
            self._judging.foresee(view.orders_of(self._roster.people, self._roster.orders, devices.person[opened])[0])

    def _move(self, rows: Rows, now_ms: Times, cause: Index, doubted: NDArray[np.bool_]) -> None:
        """Devices have new fixes: settle which is the person's, and judge what that touches.

        One that is doubted does not move anybody, but may be a warning, so it is judged as if nobody had moved.
        """
        devices, people = self._roster.devices, self._roster.people
        persons = devices.person.take(rows)
        alone = devices.alone.take(rows)
        if not alone.all():
            rivals = np.flatnonzero(~alone)
            alone[rivals] = self._roster.takes_over(rows[rivals], people.best.take(persons[rivals]), now_ms[rivals])
            keep = alone.nonzero()[0]
            rows, persons, now_ms, cause, doubted = (
                rows[keep], persons[keep], now_ms[keep], cause[keep], doubted[keep],
            )  # fmt: skip
            devices.dirty[people.best[persons[people.best[persons] >= 0]]] = True
        people.best[persons] = rows
        order_rows, side, index = view.orders_of(people, self._roster.orders, persons)
        if order_rows.size:
            pinged = side
            if np.count_nonzero(doubted):
                side = np.where(doubted.take(index), view.NOBODY, side)
            self._judging.orders(order_rows, now_ms.take(index), cause.take(index), side, pinged=pinged)

    def _sight(
        self, heard: dict[int, list[int]], rows: Rows, records: NDArray[np.void], now_ms: Times, cause: Index
    ) -> None:
        """Bracelets heard by radio: their wearers are near, whatever the satellites say."""
        self._account.aside = "heard"
        for k in np.flatnonzero(np.isin(cause, list(heard))).tolist():
            found = sightings.orders_of(self._roster, int(rows[k]), heard[int(cause[k])])
            if found and int(now_ms[k]) - int(records["at_ms"][k]) <= sightings.FRESH_MS:
                self._judging.level(np.asarray(found), int(now_ms[k]), int(cause[k]), heard=True)
        self._account.aside = ""

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
        self._account.causes = [(entry.id, 0)]
        self._advance(entry.ms)
        self._judging.unknown(entry.ms - meta.paused_ms, entry.ms)
        self._silence(entry.ms)
        self._past.tick(entry, before_ms, self._roster)
        return self._account.close()

    def _pause(self, gap_ms: int, now_ms: int) -> None:
        """Stop the service clock for the gap; what was heard within it was heard when the clock stood still."""
        devices = self._roster.devices
        self._meta.paused_ms += gap_ms
        service_ms = now_ms - self._meta.paused_ms
        early = np.flatnonzero((devices.pulse[:, SERVICE] > service_ms) & (devices.pulse[:, HEARD] > 0))
        devices.pulse[early, SERVICE] = service_ms
        devices.fix[early, SERVICE_MS] = np.minimum(devices.fix[early, SERVICE_MS], service_ms)
        devices.dirty[early] = True
        for row in early.tolist():
            self._roster.set_due(row)
        if early.size:
            self._judging.foresee(np.flatnonzero(self._roster.orders.party[:, 0] >= 0))

    def _silence(self, now_ms: int) -> None:
        devices = self._roster.devices
        service_ms = now_ms - self._meta.paused_ms
        for row in np.flatnonzero(devices.due <= service_ms).tolist():
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
        for row in np.flatnonzero(roster.orders.due <= now_ms).tolist():
            roster.refresh_order(row, now_ms)
            began.append(row)
            self._judging.end_if_idle(row, now_ms, 0, "validity_ended")
            for person in roster.orders.party[row].tolist():
                roster.set_hot(person)
        zones = np.flatnonzero(roster.zones.due <= now_ms).tolist()
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
        self._account.causes = [(entry.id, index - 1) for index in range(len(cases) + 1)]
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
        taken_up = self._strangers.take_up(roster.lookup, entry)
        if taken_up is not None:
            self._meta.records_total -= len(taken_up.records)  # they were counted when they came
            out += self._pings(taken_up)
        return out
