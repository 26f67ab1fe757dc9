"""Configuration → rows: a case replaces all that was known of it, and keeps what was felt about what remains."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from core.domain.case import Case, CaseOrder, CasePerson, CaseZone
from core.domain.ping import SHIFT_CASING, SHIFT_STRAP
from geo import zones as places
from geo.assurance import UNKNOWN
from geo.doubts import GATE
from geo.fix_filter import is_at_rest, suspected, variance
from geo.rows import HEARD_BIT, LATE_BIT, NEVER, SERVICE, SILENT_BIT, WORD, Rows, Tables
from geo.track import LIVE, PLACE, PP, Bools, Times

SILENCE_INTERVALS: Final = 30
SILENCE_BOUNDS_MS: Final = (180_000, 1_800_000)
"""A device that is merely not heard is called silent after so many intervals, within these bounds: what its silence
makes of the separation is told sooner, by assurance."""
SILENCE_INTERVALS_HOT: Final = 2
SILENCE_LEAST_HOT_MS: Final = 30_000
"""So that a device asked every few seconds is not called silent for a tunnel."""
LATE_INTERVALS: Final = 2
LATE_LEAST_MS: Final = 120_000
"""Silence after which the wearer is prompted."""
FRESH_INTERVALS: Final = 2
FRESH_LEAST_MS: Final = 10_000
DEVICE_NUMBER_MAX: Final = 1 << 26
"""Numbers are dense; a greater one is a fault, not a device."""

FELT_BY_DEVICES: Final = ("fix", "pulse", "asked_s", "judged_ms", "rest_ms", "rest_place")
FELT_BY_ORDERS: Final = (
    "on", "out_ms", "predicted", "away_ms", "coming_ms", "assured", "silent", "sure_ms", "poor_ms", "p_legal",
    "p_legal_ms",
)  # fmt: skip
"""Columns that outlive a new configuration of their order."""

NOT_WORN_BITS: Final = 1 << SHIFT_STRAP | 1 << SHIFT_CASING
WORN: Final[dict[str, int]] = {"bracelet": 2, "victim_unit": 1, "phone": 1, "tracker": 0}


@dataclass(frozen=True, slots=True)
class Ended:
    """A state that was on when its order or zone left the configuration."""

    case: Case
    order: CaseOrder
    zone: CaseZone | None
    level: int
    parties: tuple[Any, Any]
    predicted: bool = False
    unknown: bool = False


@dataclass(slots=True)
class Entry:
    """A case and the rows it has."""

    case: Case
    devices: list[int] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    zones: list[int] = field(default_factory=list)


class Roster:
    """A shard's rows in the tables, and who is who in them."""

    def __init__(self, tables: Tables | None = None, slot: int = 0) -> None:
        """`tables`: those that its rows are in, marked with its `slot`; None: its own."""
        self.tables = tables or Tables()
        self.slot = slot
        self.devices, self.people = self.tables.devices, self.tables.people
        self.orders, self.zones = self.tables.orders, self.tables.zones
        self.cases: dict[int, Entry] = {}
        self.changed: dict[int, Case | None] = {}
        """Cases to be written (None: deleted) since the state was last taken."""
        self.gone: list[tuple[str, int, object]] = []
        """What else left: ("device" | "order" | "zone", case number, number or id)."""
        self.shapes_refused = 0
        self.lookup = np.full(1024, -1, dtype=np.int32)
        """Device number → its first row; the last element is always -1 and stands for all that are greater."""

    def apply(self, case: Case, service_ms: int) -> list[Ended] | None:
        """Take over a configuration; None when it is not newer than what is known.

        What depends on the time, and the silence allowed (`set_hot`), are the caller's to set.
        `service_ms`: from when the silence of devices never heard is counted.
        """
        old = self.cases.get(case.number)
        if old is not None and case.version <= old.case.version:
            return None
        kept = self._set_aside(old) if old is not None else _Kept()
        ended = self._ended(old, case) if old is not None else []
        felt = {
            device.number: self._felt_elsewhere(device.number)
            for person in case.people
            for device in person.devices
            if device.number not in kept.devices
        }
        if old is not None:
            self._remove(old)
        self.changed[case.number] = case
        entry = Entry(case)
        self.cases[case.number] = entry
        person_rows = {person.number: self._add_person(entry, person, kept, felt, service_ms) for person in case.people}
        for order in case.orders:
            if order.victim in person_rows and order.aggressor in person_rows:
                self._add_order(entry, order, person_rows, kept)
        self._forget(old, entry)
        return ended

    def knows(self, number: int) -> bool:
        """Whether a device of this number is somebody's here."""
        return 0 <= number < len(self.lookup) and bool(self.lookup[number] >= 0)

    def clear(self) -> None:
        """Give all rows back."""
        for table, name in (
            (self.devices, "devices"), (self.people, "people"), (self.orders, "orders"), (self.zones, "zones")
        ):  # fmt: skip
            table.release_many([row for entry in self.cases.values() for row in getattr(entry, name)])
        self.cases.clear()

    def set_hot(self, person: int) -> None:
        """Set the silence allowed to a person's devices: less in breach or approach, and to him within a zone."""
        hot = False
        link = int(self.people.link[person])
        while link >= 0:
            hot |= bool(self.orders.on[link >> 1, 0] or self.orders.predicted[link >> 1])
            zone = int(self.orders.zone[link >> 1]) if link & 1 else -1
            while zone >= 0:
                hot |= bool(self.zones.on[zone, 0])
                zone = int(self.zones.next[zone])
            link = int(self.orders.next[link >> 1, link & 1])
        for row in self.people.about[person][1]:
            interval_ms = int(self.devices.about[row][2].interval_s * 1000)
            if hot:
                limit = max(SILENCE_INTERVALS_HOT * interval_ms, SILENCE_LEAST_HOT_MS)
            else:
                limit = min(max(SILENCE_INTERVALS * interval_ms, SILENCE_BOUNDS_MS[0]), SILENCE_BOUNDS_MS[1])
                limit = max(limit, SILENCE_INTERVALS_HOT * interval_ms)
            self.devices.limit_ms[row] = limit
            self.devices.late_ms[row] = min(limit, max(LATE_INTERVALS * interval_ms, LATE_LEAST_MS))
            self.set_due(row)

    def set_due(self, row: int) -> None:
        """Set when a device counts as late, or silent, from what it is allowed and when it was last heard."""
        devices = self.devices
        word = int(devices.pulse[row, WORD])
        waits = word & HEARD_BIT and not word & SILENT_BIT and devices.primary[row]
        allowed_ms = devices.limit_ms[row] if word & LATE_BIT else devices.late_ms[row]
        devices.due[row] = devices.pulse[row, SERVICE] + allowed_ms if waits else NEVER

    def refresh_order(self, row: int, now_ms: int) -> None:
        """Set whether an order holds now, and when that may change."""
        order = self.orders.about[row][1]
        until = NEVER if order.valid_until_ms is None else order.valid_until_ms
        self.orders.live[row] = order.active and order.valid_from_ms <= now_ms < until
        moments = (order.valid_from_ms, until) if order.active else ()
        self.orders.due[row] = min((moment for moment in moments if moment > now_ms), default=NEVER)

    def refresh_zone(self, row: int, now_ms: int) -> None:
        """Set whether a zone holds now, and when that may change."""
        _, order, zone = self.zones.about[row]
        self.zones.live[row] = places.holds_at(zone, order.time_zone, now_ms)
        change = places.next_change_ms(zone, order.time_zone, now_ms)
        self.zones.due[row] = NEVER if change is None else change

    def takes_over(self, rows: Rows, best: Rows, now_ms: Times) -> Bools:
        """Whether devices (n,) with a new fix become their person's best in place of `best` (-1: none yet).

        The best itself does; so does one worn rather than carried, and any once the best is stale. Of equals it is the
        surer, while they agree on the place or both move; else the one that moves: who has gone left the other lying.
        A bracelet whose strap or casing is open is no longer worn.
        """
        devices = self.devices
        held = np.maximum(best, 0)
        mine, theirs = devices.fix.take(rows, axis=0), devices.fix.take(held, axis=0)
        worn = np.where(devices.pulse[rows, WORD] & NOT_WORN_BITS, -1, devices.rank.take(rows))
        worn_best = np.where(devices.pulse[held, WORD] & NOT_WORN_BITS, -1, devices.rank.take(held))
        # of one that is doubted the estimate is as old as before
        own = np.where(suspected(mine)[0], variance(mine, now_ms), mine[:, PP])
        other = variance(theirs, now_ms)
        apart = mine[:, PLACE] - theirs[:, PLACE]
        elsewhere = np.einsum("ij,ij->i", apart, apart) > GATE * (own + other)
        lies, lies_best = is_at_rest(mine), is_at_rest(theirs)
        left = elsewhere & lies_best & ~lies
        surer = (worn == worn_best) & (left | ((own <= other) & ~(elsewhere & (lies | lies_best))))
        stale = now_ms - theirs[:, LIVE] > devices.fresh_ms.take(held)
        wins: Bools = (best < 0) | (best == rows) | (worn > worn_best) | surer | stale
        return wins

    def _add_person(self, entry: Entry, person: CasePerson, kept: _Kept, felt: dict[int, Any], service_ms: int) -> int:
        people, devices = self.people, self.devices
        row = people.take()
        entry.people.append(row)
        rows: list[int] = []
        people.about[row] = (person, rows)
        for device in person.devices:
            if not 0 <= device.number < DEVICE_NUMBER_MAX:
                continue
            own = devices.take()
            rows.append(own)
            entry.devices.append(own)
            devices.slot[own] = self.slot
            devices.number[own] = device.number
            devices.case[own] = entry.case.number
            devices.person[own] = row
            devices.alone[own] = len(person.devices) == 1
            devices.primary[own] = person.primary
            devices.rank[own] = WORN.get(device.kind, 0)
            devices.fresh_ms[own] = max(FRESH_INTERVALS * device.interval_s * 1000, FRESH_LEAST_MS)
            devices.expected_s[own] = device.interval_s
            devices.about[own] = (entry.case, person, device)
            self._enrol(device.number, own)
            before = kept.devices.get(device.number) or felt.get(device.number)
            if before is not None:
                for name, value in zip(FELT_BY_DEVICES, before[0], strict=True):
                    getattr(devices, name)[own] = value
                if before[1]:
                    people.best[row] = own
            elif device.since_ms > 0:
                devices.pulse[own, SERVICE] = max(service_ms, device.since_ms)
                devices.pulse[own, WORD] = HEARD_BIT
            devices.dirty[own] = before is not None or device.since_ms > 0
        if people.best[row] < 0 and rows:
            newest = max(rows, key=lambda own: float(devices.fix[own, LIVE]))
            if devices.fix[newest, LIVE] > 0:
                people.best[row] = newest
        return row

    def _add_order(self, entry: Entry, order: CaseOrder, person_rows: dict[int, int], kept: _Kept) -> None:
        orders = self.orders
        row = orders.take()
        entry.orders.append(row)
        orders.slot[row] = self.slot
        orders.about[row] = (entry.case, order)
        outer = max(order.warning_m, order.alert_m)
        orders.limits[row] = (order.alert_m, outer, order.alert_m + order.exit_margin_m, outer + order.exit_margin_m)
        orders.p_enter[row], orders.p_exit[row] = order.p_enter, order.p_exit
        orders.hold_ms[row] = int(order.hold_s * 1000)
        orders.legal_m[row] = order.legal_m or order.alert_m
        orders.horizon_s[row], orders.p_approach[row] = order.horizon_s, order.p_approach
        orders.p_unknown[row], orders.grace_ms[row] = order.p_unknown, order.grace_s * 1000.0
        for side, number in enumerate((order.victim, order.aggressor)):
            person = person_rows[number]
            orders.party[row, side] = person
            orders.next[row, side] = self.people.link[person]
            self.people.link[person] = 2 * row + side
        if (felt := kept.orders.get(order.id)) is not None:
            for name, value in zip(FELT_BY_ORDERS, felt, strict=True):
                getattr(orders, name)[row] = value
            orders.dirty[row] = True
        for zone in reversed(order.zones):
            self._add_zone(entry, order, row, zone, kept)

    def _add_zone(self, entry: Entry, order: CaseOrder, order_row: int, zone: CaseZone, kept: _Kept) -> None:
        zones = self.zones
        try:
            survey = places.survey(zone, order.exit_margin_m)
        except ValueError:
            self.shapes_refused += 1
            return
        row = zones.take()
        entry.zones.append(row)
        zones.slot[row] = self.slot
        zones.about[row] = (entry.case, order, zone)
        zones.limits[row] = survey.limits
        zones.p_enter[row], zones.p_exit[row] = order.p_enter, order.p_exit
        zones.hold_ms[row] = int(order.hold_s * 1000)
        zones.order[row] = order_row
        zones.next[row] = self.orders.zone[order_row]
        self.orders.zone[order_row] = row
        zones.plane[row], zones.reach_m[row], zones.size_m[row] = survey.plane, survey.reach_m, survey.size_m
        zones.inclusion[row] = zone.kind == "inclusion"
        zones.shape[row], zones.edge[row] = survey.shape, survey.edge
        if (before := kept.rings.get(zone.id)) is not None:
            zones.on[row], zones.out_ms[row] = before
            zones.dirty[row] = True

    def _enrol(self, number: int, row: int) -> None:
        if number >= len(self.lookup) - 1:
            grown = np.full(max(2 * len(self.lookup), number + 2), -1, dtype=np.int32)
            grown[: len(self.lookup)] = self.lookup
            self.lookup = grown
        self.devices.next[row] = self.lookup[number]
        self.lookup[number] = row

    def _withdraw(self, row: int) -> None:
        number = int(self.devices.number[row])
        link = int(self.lookup[number])
        if link == row:
            self.lookup[number] = self.devices.next[row]
            return
        while link >= 0:
            if self.devices.next[link] == row:
                self.devices.next[link] = self.devices.next[row]
                return
            link = int(self.devices.next[link])

    def _felt_elsewhere(self, number: int) -> Any:
        """What another case of this shard knows of a device that is new to a case."""
        row = int(self.lookup[number]) if 0 <= number < len(self.lookup) else -1
        return self._feelings(row) if row >= 0 else None

    def _feelings(self, row: int) -> tuple[tuple[Any, ...], bool]:
        devices = self.devices
        best = bool(self.people.best[devices.person[row]] == row)
        return tuple(getattr(devices, name)[row].copy() for name in FELT_BY_DEVICES), best

    def _set_aside(self, old: Entry) -> _Kept:
        kept = _Kept()
        for row in old.devices:
            kept.devices[int(self.devices.number[row])] = self._feelings(row)
        for row in old.orders:
            felt = tuple(getattr(self.orders, name)[row].copy() for name in FELT_BY_ORDERS)
            kept.orders[self.orders.about[row][1].id] = felt
        for row in old.zones:
            kept.rings[self.zones.about[row][2].id] = (self.zones.on[row].copy(), self.zones.out_ms[row].copy())
        return kept

    def _ended(self, old: Entry, new: Case) -> list[Ended]:
        people = {person.number for person in new.people}
        staying = {order.id for order in new.orders if order.victim in people and order.aggressor in people}
        zones_staying = {zone.id for order in new.orders if order.id in staying for zone in order.zones}
        out = []
        for row in old.orders:
            _, order = self.orders.about[row]
            if order.id not in staying and self.is_telling(row):
                out.append(self.ended_order(row))
        for row in old.zones:
            case, order, zone = self.zones.about[row]
            if zone.id not in zones_staying and self.zones.on[row].any():
                parties = self.parties(int(self.zones.order[row]))
                out.append(Ended(case, order, zone, 2 if self.zones.on[row, 0] else 1, parties))
        return out

    def is_telling(self, order_row: int) -> bool:
        """Whether an order's state is other than at peace: a ring on, an approach, separation unknown."""
        orders = self.orders
        return bool(orders.on[order_row].any() or orders.predicted[order_row] or orders.assured[order_row] == UNKNOWN)

    def ended_order(self, order_row: int) -> Ended:
        """What an order was at its end."""
        orders = self.orders
        case, order = orders.about[order_row]
        on = orders.on[order_row]
        return Ended(
            case,
            order,
            None,
            2 if on[0] else 1 if on[1] else 0,
            self.parties(order_row),
            bool(orders.predicted[order_row]),
            bool(orders.assured[order_row] == UNKNOWN),
        )

    def parties(self, order_row: int) -> tuple[CasePerson, CasePerson]:
        """The victim and the aggressor of an order."""
        victim, aggressor = self.orders.party[order_row].tolist()
        return self.people.about[victim][0], self.people.about[aggressor][0]

    def _remove(self, old: Entry) -> None:
        for row in old.devices:
            self._withdraw(row)
            self.devices.release(row)
        for table, rows in ((self.people, old.people), (self.orders, old.orders), (self.zones, old.zones)):
            for row in rows:
                table.release(row)

    def _forget(self, old: Entry | None, new: Entry) -> None:
        """Note what left, so that its state is deleted."""
        number = new.case.number
        if old is not None:
            before, now = old.case, new.case
            devices = {device.number for person in now.people for device in person.devices}
            self.gone += [("device", number, device.number) for person in before.people for device in person.devices
                          if device.number not in devices]  # fmt: skip
            orders = {order.number for order in now.orders}
            self.gone += [("order", number, order.number) for order in before.orders if order.number not in orders]
            zones = {zone.id for order in now.orders for zone in order.zones}
            self.gone += [("zone", number, zone.id) for order in before.orders for zone in order.zones
                          if zone.id not in zones]  # fmt: skip


@dataclass(slots=True)
class _Kept:
    """What was felt about the rows of a case while they are made anew."""

    devices: dict[int, tuple[tuple[Any, ...], bool]] = field(default_factory=dict)
    orders: dict[uuid.UUID, tuple[Any, ...]] = field(default_factory=dict)
    rings: dict[uuid.UUID, tuple[Any, Any]] = field(default_factory=dict)
