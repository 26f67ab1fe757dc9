"""Engines side by side: tables they share, so that the pings of all of them at a time are one batch.

A batch of ten records costs nearly what one of a hundred does, and whoever owns eight shards would pay for eight. So a
worker's engines are seated in one hall: rows bear their engine's *slot*, links never leave it, and everything that is
done to rows is done to each by itself. What an engine decides therefore does not depend on who else is in the hall,
nor on whether anybody is: alone, in a replay, it has a hall to itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import FLAG_BACKLOG
from core.domain.transition import Transition
from geo import pulse, showing, sightings, view
from geo.account import Account
from geo.asking import Asking
from geo.doubts import NOTE_ACCEPTED, NOTE_FROZEN, NOTE_SUSPECT
from geo.fix_filter import advance
from geo.frame import Floats
from geo.judging import Judging
from geo.late import OLD_MS
from geo.memory import Meta
from geo.retrospect import Retrospect
from geo.roster import Roster
from geo.rows import NEVER, SERVICE, WORD, Rows, Tables
from geo.run import EVERYTHING, Index, Run, picked, rounds, with_copies
from geo.strangers import Strangers
from geo.track import LIVE, SERVICE_MS, Bools, Times, candidates, is_newer, served_ms


@dataclass(slots=True)
class Seat:
    """What one engine has to itself."""

    shard: int
    slot: int
    roster: Roster
    meta: Meta
    strangers: Strangers
    past: Retrospect


class Hall:
    """The tables, and what is done to the rows of a batch. Not thread-safe."""

    def __init__(self, slots: int = 1, cover_key: bytes = b"") -> None:
        """`cover_key`: the secret that bursts and decoys of sampling are drawn from, the same for every owner."""
        self.tables = Tables(slots)
        self._everyone = Roster(self.tables, -1)
        self.account = Account(self._everyone)
        self.asking = Asking(cover_key)
        self.judging = Judging(self._everyone, self.account, self.asking)
        self._seats: dict[int, Seat] = {}

    def seat(self, shard: int, slot: int) -> Seat:
        """A slot's seat, empty; whoever sat there is gone, rows and all."""
        self.leave(slot)
        seat = Seat(shard, slot, Roster(self.tables, slot), Meta(), Strangers(), Retrospect(shard))
        self._seats[slot] = seat
        return seat

    def leave(self, slot: int) -> None:
        """Give a slot's rows back."""
        seat = self._seats.pop(slot, None)
        if seat is not None:
            seat.roster.clear()
        self.asking.forget(slot)
        self.tables.refused[slot] = 0
        self.judging.checked_ms[slot] = 0

    def is_seated(self, seat: Seat) -> bool:
        """Whether the slot is still this seat's."""
        return self._seats.get(seat.slot) is seat

    def pings(self, run: Run, parts: Sequence[tuple[Seat, int]]) -> list[list[Transition]]:
        """Take a run's records: of each seat, in order, so many; the transitions of each seat, in order."""
        self.account.causes = run
        bounds = [0, *itertools.accumulate(count for _, count in parts)]
        spans = [(seat, a, b) for (seat, _), (a, b) in zip(parts, itertools.pairwise(bounds), strict=True)]
        devices, numbers = self.tables.devices, run.records["device"]
        if len(spans) == 1:
            rows = spans[0][0].roster.lookup.take(numbers, mode="clip")
            served = run.now_ms - spans[0][0].meta.paused_ms
        else:
            rows = np.concatenate([seat.roster.lookup.take(numbers[a:b], mode="clip") for seat, a, b in spans])
            served = run.now_ms - np.repeat([seat.meta.paused_ms for seat, _ in parts], [n for _, n in parts])
        known = rows >= 0
        # an older ping of an upload matters to history, and here only if it bears an alarm
        late = (run.records["flags"] & np.uint32(FLAG_BACKLOG)) != 0
        old = run.now_ms - run.records["at_ms"] > OLD_MS
        if np.count_nonzero(late) or np.count_nonzero(old):
            noted = (late | old) & known
            for seat, a, b in spans:
                seat.past.note(run.records[a:b], run.now_ms[a:b], noted[a:b])
            taken = np.flatnonzero(known & ~(late & (pulse.alarms(run.records["flags"]) == 0)))
        else:
            taken = known.nonzero()[0]
        for seat, a, b in spans:
            seat.meta.records_total += b - a
        if np.count_nonzero(known) < len(rows):
            for seat, a, b in spans:
                strange = ~known[a:b]
                if unknown := int(np.count_nonzero(strange)):
                    seat.meta.unknown_total += unknown
                    seat.strangers.note(run.records[a:b][strange])
        if not taken.size:
            return [[] for _ in parts]
        records, now_ms, service_ms, cause = run.records, run.now_ms, served, taken
        if taken.size < len(rows):
            rows, records = rows.take(taken), records.take(taken)
            now_ms, service_ms = now_ms.take(taken), service_ms.take(taken)
        rows, cause, copied = with_copies(rows, cause, devices.next)
        if copied:
            records, now_ms, service_ms = run.records.take(cause), run.now_ms.take(cause), served.take(cause)
        fixes, may = candidates(records, now_ms)
        heard = sightings.read(run)
        cases = devices.case.take(rows)
        if len(spans) > 1:  # whose numbers are a slot's own
            cases = cases * self.tables.slots + devices.slot.take(rows)
        for some in rounds(cases, cause, ordered_already=not copied):
            whole = (rows, records, now_ms, service_ms, fixes, may, cause)
            mine = tuple(picked(each, some) for each in whole)
            self._round(*mine)
            if heard:
                self._sight(heard, mine[0], mine[1], mine[2], mine[6])
        return self.account.close_at(bounds[1:-1])

    def _round(
        self,
        rows: Rows,
        records: NDArray[np.void],
        now_ms: Times,
        service_ms: Times,
        fixes: Floats,
        may: NDArray[np.bool_],
        cause: Index,
    ) -> None:
        """One record a case: first what the devices say of themselves, then where they are."""
        devices, people = self.tables.devices, self.tables.people
        held = devices.pulse.take(rows, axis=0)
        live_ms = np.minimum(records["at_ms"], now_ms)
        beaten, newest = pulse.beat(held, now_ms, service_ms, live_ms, records["flags"], records["battery_pct"])
        before = devices.fix.take(rows, axis=0)
        newer = may & is_newer(fixes, before, now_ms)
        every = bool(newer.all())
        taken: Index | slice = EVERYTHING if every else newer.nonzero()[0]
        if not every:
            self._note_late(rows, records, now_ms, may & ~newer & (live_ms < before[:, LIVE]))
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
            self.account.pulses(np.flatnonzero(differs * primary), rows, held, beaten, newest, records, now_ms, cause)
            opened = rows[(differs & pulse.TAMPER_BITS) != 0]  # their silence is told without grace
            self.judging.foresee(view.orders_of(people, self.tables.orders, devices.person[opened])[0])

    def _note_late(self, rows: Rows, records: NDArray[np.void], now_ms: Times, late: Bools) -> None:
        """Records out of order, to whose past they belong."""
        some = late.nonzero()[0]
        if not some.size:
            return
        slots = self.tables.devices.slot.take(rows[some])
        for slot in np.unique(slots).tolist():
            mine = some[slots == slot]
            self._seats[slot].past.note(records.take(mine), now_ms.take(mine), np.ones(mine.size, dtype=np.bool_))

    def _move(self, rows: Rows, now_ms: Times, cause: Index, doubted: NDArray[np.bool_]) -> None:
        """Devices have new fixes: settle which is the person's, and judge what that touches.

        One that is doubted does not move anybody, but may be a warning, so it is judged as if nobody had moved.
        """
        devices, people = self.tables.devices, self.tables.people
        persons = devices.person.take(rows)
        alone = devices.alone.take(rows)
        if not alone.all():
            rivals = np.flatnonzero(~alone)
            alone[rivals] = self._everyone.takes_over(rows[rivals], people.best.take(persons[rivals]), now_ms[rivals])
            keep = alone.nonzero()[0]
            rows, persons, now_ms, cause, doubted = (
                rows[keep], persons[keep], now_ms[keep], cause[keep], doubted[keep],
            )  # fmt: skip
            devices.dirty[people.best[persons[people.best[persons] >= 0]]] = True
        people.best[persons] = rows
        order_rows, side, index = view.orders_of(people, self.tables.orders, persons)
        if order_rows.size:
            pinged = side
            if np.count_nonzero(doubted):
                side = np.where(doubted.take(index), view.NOBODY, side)
            self.judging.orders(order_rows, now_ms.take(index), cause.take(index), side, pinged=pinged)

    def _sight(
        self, heard: dict[int, list[int]], rows: Rows, records: NDArray[np.void], now_ms: Times, cause: Index
    ) -> None:
        """Bracelets heard by radio: their wearers are near, whatever the satellites say."""
        self.account.aside = "heard"
        for k in np.flatnonzero(np.isin(cause, list(heard))).tolist():
            found = sightings.orders_of(self._everyone, int(rows[k]), heard[int(cause[k])])
            if found and int(now_ms[k]) - int(records["at_ms"][k]) <= sightings.FRESH_MS:
                self.judging.level(np.asarray(found), int(now_ms[k]), int(cause[k]), heard=True)
        self.account.aside = ""
