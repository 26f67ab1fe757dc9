"""Judging: what orders and zones are at a moment, written into the tables and told.

Everything that asks a rule goes through here: a fix, a sighting, a configuration, a deadline. The rules are pure
(`geo.proximity`, `geo.trespass`); here their verdicts become state.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from geo import assurance, findings, proximity, separation, trespass
from geo import view as viewing
from geo.account import Account
from geo.asking import Asking
from geo.fix_filter import is_at_rest
from geo.proximity import Verdict
from geo.roster import Ended, Roster
from geo.rows import NEVER, Rows
from geo.run import Index
from geo.track import LIVE, PLACE, RADIUS_68_SIGMA, SERVICE_MS, SIGMA, Bools, Times
from geo.view import NOBODY, View

SIDES: Final = np.asarray([1, 2], dtype=np.int8)
"""Bits of `Orders.silent`: the victim, the aggressor."""


class Judging:
    """The rules applied to a roster's rows; transitions go to the account."""

    def __init__(self, roster: Roster, account: Account, asking: Asking) -> None:
        self._roster = roster
        self._account = account
        self._asking = asking
        self.checked_ms = np.zeros(roster.tables.slots, dtype=np.int64)
        """By slot: service time of the last tick."""

    def orders(
        self,
        order_rows: Index,
        now_ms: Times,
        cause: Index,
        side: Index,
        heard: Bools | None = None,
        pinged: Index | None = None,
    ) -> None:
        """Judge orders, and the zones of those whose aggressor moved (or whose configuration changed).

        All (n,): `side` is who moved (0 victim, 1 aggressor, -1 nobody), `heard` where his bracelet was heard by her,
        `pinged` whose fix it is, where that is not the same because the fix is doubted.
        """
        roster = self._roster
        view = viewing.look(roster.devices, roster.people, roster.orders, order_rows, now_ms, side, heard, pinged)
        if view is not None:
            self._distance(view, now_ms, cause)
        if not roster.zones.in_use:
            return
        his = np.flatnonzero(side != 0)
        zone_rows, index = trespass.zones_of(roster.orders, roster.zones, order_rows[his])
        if zone_rows.size:
            whose = his[index]
            self.zones(zone_rows, now_ms[whose], cause[whose], moved=side[whose] == 1)

    def zones(self, zone_rows: Index, now_ms: Times, cause: Index, *, moved: Bools | bool) -> None:
        """Judge zones; one that cannot be measured costs itself only."""
        roster = self._roster
        faults: list[int] = []
        verdict = trespass.judge(
            roster.devices, roster.people, roster.orders, roster.zones, zone_rows, now_ms, moved, faults
        )
        for row in faults:
            roster.zones.shape[row] = None  # not asked again; a new configuration surveys it anew
            roster.tables.refused[roster.zones.slot[row]] += 1
        if verdict is not None:
            self._write_rings(roster.zones, verdict)
            findings.zones(self._account, verdict, now_ms, cause)
            for row in verdict.rows[verdict.on[:, 0] != verdict.on_before[:, 0]].tolist():
                roster.set_hot(int(roster.orders.party[int(roster.zones.order[row]), 1]))

    def level(self, order_rows: Index, now_ms: int, cause: int, *, heard: bool = False) -> None:
        """Judge by where people are, nobody having moved: level, not edge. `heard`: her unit heard his bracelet."""
        count = len(order_rows)
        self.orders(
            order_rows.astype(np.int64),
            np.full(count, now_ms, np.int64),
            np.full(count, cause, np.int64),
            np.full(count, NOBODY, np.int64),
            np.full(count, heard),
        )

    def unknown(self, slot: int, service_ms: int, now_ms: int) -> None:
        """Look at orders of which somebody is silent; tell of those whose grace is over, or where he could be inside.

        The cause is a tick of a slot's shard, at `now_ms`; service time stands at `service_ms`.
        """
        devices, orders = self._roster.devices, self._roster.orders
        self.checked_ms[slot] = service_ms
        rows = self._roster.tables.of(orders, slot, orders.tell_ms <= service_ms)
        if not rows.size:
            return
        moment, nobody = np.full(len(rows), now_ms, np.int64), np.full(len(rows), NOBODY, np.int64)
        view = viewing.look(devices, self._roster.people, orders, rows, moment, nobody)
        if view is not None:
            _, told_ms = proximity.deadlines(devices, orders, view.rows, view.best)
            p = separation.p_within(orders.limits[view.rows, 0], view.distance_m, view.sigma_m)
            # while he is seen at rest, her silence brings him no nearer
            his = (view.aggressor[:, SERVICE_MS] + devices.fresh_ms[view.best[:, 1]] <= service_ms) | (
                ~is_at_rest(view.aggressor)
            )
            view = view.take(np.flatnonzero((told_ms <= service_ms) | (his & (p >= orders.p_unknown[view.rows]))))
            before = orders.assured[view.rows]
            orders.assured[view.rows] = assurance.UNKNOWN
            last_ms = np.column_stack([view.victim[:, SERVICE_MS], view.aggressor[:, SERVICE_MS]])
            orders.silent[view.rows] = (service_ms - last_ms >= view.good_ms) @ SIDES
            orders.dirty[view.rows] = True
            findings.silence(self._account, view, before, service_ms)
        self.foresee(rows)

    def is_told(self, person: int) -> bool:
        """Whether of all orders of a person (there is one) it is told that this person's silence leaves them unknown.

        That it is unknown for another reason tells nobody of this silence.
        """
        orders, found = self._roster.orders, False
        link = int(self._roster.people.link[person])
        while link >= 0:
            row = link >> 1
            if orders.live[row]:
                if orders.assured[row] != assurance.UNKNOWN or not orders.silent[row] & SIDES[link & 1]:
                    return False
                found = True
            link = int(orders.next[row, link & 1])
        return found

    def foresee(self, order_rows: Index) -> None:
        """Set anew when orders are looked at for silence; what it follows from is in the tables already."""
        people, orders = self._roster.people, self._roster.orders
        best = people.best.take(orders.party.take(order_rows, axis=0))
        usable = (best >= 0).all(axis=1) & orders.live.take(order_rows)
        usable &= orders.assured.take(order_rows) != assurance.UNKNOWN
        orders.tell_ms[order_rows[~usable]] = NEVER
        if np.count_nonzero(usable):
            rows, best, devices = order_rows[usable], best[usable], self._roster.devices
            until = devices.fix[best, SERVICE_MS] + devices.fresh_ms.take(best)
            self._look_again(rows, best, until.min(axis=1).astype(np.int64))

    def _foresee(self, view: View) -> None:
        """The same, of what was just judged."""
        orders = self._roster.orders
        moments = viewing.stale_ms(view)
        told = orders.assured.take(view.rows) == assurance.UNKNOWN
        if np.count_nonzero(told):
            orders.tell_ms[view.rows[told]] = NEVER
            some = np.flatnonzero(~told)
            self._look_again(view.rows[some], view.best[some], moments[some])
        else:
            self._look_again(view.rows, view.best, moments)

    def _look_again(self, rows: Index, best: Rows, stale_ms: Times) -> None:
        """Look at orders when a fix is no longer fresh; where one is not, each minute and when it is to be told."""
        orders = self._roster.orders
        orders.tell_ms[rows] = stale_ms
        checked_ms = self.checked_ms.take(orders.slot.take(rows))
        silent = np.flatnonzero(stale_ms <= checked_ms)
        if silent.size:
            unknown_ms, told_ms = proximity.deadlines(self._roster.devices, orders, rows[silent], best[silent])
            orders.tell_ms[rows[silent]] = assurance.next_check_ms(unknown_ms, told_ms, checked_ms[silent])

    def end_if_idle(self, row: int, now_ms: int, cause: int, reason: str) -> None:
        """An order that does not hold is clear, whatever the distance, and so are its zones."""
        orders = self._roster.orders
        if orders.live[row]:
            return
        if self._roster.is_telling(row):
            ended = self._roster.ended_order(row)
            orders.on[row] = False
            orders.out_ms[row] = 0
            orders.predicted[row] = False
            orders.away_ms[row] = orders.coming_ms[row] = orders.poor_ms[row] = 0
            orders.assured[row] = assurance.NOT_YET
            orders.silent[row] = 0
            orders.dirty[row] = True
            self._account.ended(ended, now_ms, cause, reason)
            for person in orders.party[row].tolist():
                self._roster.set_hot(person)
        orders.tell_ms[row] = NEVER
        zone = int(orders.zone[row])
        while zone >= 0:
            self.end_zone_if_idle(zone, now_ms, cause, reason)
            zone = int(self._roster.zones.next[zone])

    def end_zone_if_idle(self, row: int, now_ms: int, cause: int, reason: str) -> None:
        """A zone that does not hold is clear."""
        zones = self._roster.zones
        order_row = int(zones.order[row])
        if (zones.live[row] and self._roster.orders.live[order_row]) or not zones.on[row].any():
            return
        case, order, zone = zones.about[row]
        ended = Ended(case, order, zone, 2 if zones.on[row, 0] else 1, self._roster.parties(order_row))
        zones.on[row] = False
        zones.out_ms[row] = 0
        zones.dirty[row] = True
        self._account.ended(ended, now_ms, cause, reason)
        self._roster.set_hot(int(self._roster.orders.party[order_row, 1]))

    # --- one view of distance

    def _distance(self, view: View, now_ms: Times, cause: Index) -> None:
        roster = self._roster
        devices, orders = roster.devices, roster.orders
        heated: list[int] = []
        verdict = proximity.judge(devices, orders, view)
        if verdict is not None:
            self._write_rings(orders, verdict)
            orders.coming_ms[verdict.rows[~verdict.on[:, 1]]] = 0  # who left may come anew
            self._write_legal(verdict)
            findings.orders(self._account, verdict, now_ms, cause)
            turned = verdict.on[:, 0] != verdict.on_before[:, 0]
            if np.count_nonzero(turned):
                heated += verdict.rows[turned].tolist()
        prediction = proximity.predict(devices, orders, view)
        if prediction is not None:
            self._write_prediction(prediction)
            findings.approach(self._account, prediction, now_ms, cause)
            heated += prediction.view.rows[prediction.after != prediction.before].tolist()
        assured = proximity.assure(devices, orders, view)
        self._write_assurance(assured)
        findings.assurance(self._account, assured, now_ms, cause)
        for row in heated:
            parties = orders.party[row]
            for person in parties.tolist():
                roster.set_hot(person)
            if orders.on[row].any():
                self._asking.hurry(roster, parties, int(now_ms[0]))
        self._foresee(view)
        self._ask(view)

    def _ask(self, view: View) -> None:
        """Work out how soon those who moved are to be heard again."""
        orders = self._roster.orders
        side = np.maximum(view.pinged, 0)
        mine = np.arange(len(view.rows))
        victim, aggressor = view.victim, view.aggressor
        hot = orders.on.take(view.rows, axis=0)[:, 1] | orders.predicted.take(view.rows)
        zones = self._roster.zones
        if zones.in_use:
            watched = np.flatnonzero(orders.zone.take(view.rows) >= 0)
            zone_rows, whose = trespass.zones_of(orders, zones, view.rows[watched])
            if zone_rows.size:
                within = zones.on[zone_rows].any(axis=1)
                hot[watched[whose[within]]] = True
        if view.doubted_m is not None:
            hot |= view.doubted_m <= orders.limits[view.rows, 1]
        self._asking.judged(
            self._roster,
            view.rows,
            view.pinged,
            view.best[mine, side],
            np.where((side == 1)[:, None], aggressor[:, PLACE], victim[:, PLACE]),
            view.distance_m,
            RADIUS_68_SIGMA * victim[:, SIGMA],
            RADIUS_68_SIGMA * aggressor[:, SIGMA],
            (view.now_ms - victim[:, LIVE]) / 1000.0,
            (view.now_ms - aggressor[:, LIVE]) / 1000.0,
            view.now_ms,
            hot,
        )

    @staticmethod
    def _write_rings(table: Any, verdict: Verdict) -> None:
        changed = (verdict.on != verdict.on_before) | (verdict.out_ms != verdict.out_before_ms)
        some = np.flatnonzero(changed.any(axis=1))
        if some.size:
            rows = verdict.rows[some]
            table.on[rows] = verdict.on[some]
            table.out_ms[rows] = verdict.out_ms[some]
            table.dirty[rows] = True

    def _write_legal(self, verdict: Verdict) -> None:
        """Keep the greatest probability of being within the order's own distance while a breach lasts."""
        orders = self._roster.orders
        inside = np.flatnonzero(verdict.on[:, 0])
        if not inside.size:
            return
        rows = verdict.rows[inside]
        p = separation.p_within(orders.legal_m[rows], verdict.distance_m[inside], verdict.sigma_m[inside])
        held = np.where(verdict.on_before[inside, 0], orders.p_legal[rows], -1.0)
        more = p > held
        if np.count_nonzero(more):
            orders.p_legal[rows[more]] = p[more]
            orders.p_legal_ms[rows[more]] = verdict.at_ms[inside][more].astype(np.int64)
            orders.dirty[rows[more]] = True

    def _write_prediction(self, prediction: proximity.Prediction) -> None:
        orders = self._roster.orders
        changed = (prediction.after != prediction.before) | (prediction.away_ms != prediction.away_before_ms)
        changed |= prediction.coming_ms != prediction.coming_before_ms
        some = changed.nonzero()[0]
        if some.size:
            rows = prediction.view.rows[some]
            orders.predicted[rows] = prediction.after[some]
            orders.away_ms[rows] = prediction.away_ms[some]
            orders.coming_ms[rows] = prediction.coming_ms[some]
            orders.dirty[rows] = True

    def _write_assurance(self, assured: proximity.Assurance) -> None:
        orders = self._roster.orders
        changed = (
            (assured.after != assured.before)
            | (assured.sure_ms != assured.sure_before_ms)
            | (assured.poor_ms != assured.poor_before_ms)
        )
        some = changed.nonzero()[0]
        if some.size:
            rows = assured.view.rows[some]
            orders.assured[rows] = assured.after[some]
            orders.sure_ms[rows] = assured.sure_ms[some]
            orders.poor_ms[rows] = assured.poor_ms[some]
            orders.dirty[rows] = True
        told = np.flatnonzero(orders.silent.take(assured.view.rows))
        if told.size:
            self._end_silence(assured.view.take(told), assured.after[told] == assurance.UNKNOWN)

    def _end_silence(self, view: View, unknown: Bools) -> None:
        """Whose silence was told, and who is heard again, may fall silent anew: that is told anew."""
        orders = self._roster.orders
        last_ms = np.column_stack([view.victim[:, LIVE], view.aggressor[:, LIVE]])
        lasts = ((view.now_ms[:, None] - last_ms > view.good_ms) & unknown[:, None]) @ SIDES
        for row, before, after in zip(
            view.rows.tolist(), orders.silent[view.rows].tolist(), lasts.tolist(), strict=True
        ):
            if before & ~after:
                orders.silent[row] = before & after
                orders.dirty[row] = True
                for person in orders.party[row].tolist():
                    self._roster.set_hot(person)
