"""Late fixes: what they ask of history, and what history then tells of stays that nobody saw at the time.

The engine keeps no history. A fix that comes late (of an uploaded backlog, or older than the live one) is noted; the
next tick turns notes into *wants*, one an order that the fix could matter to; who owns the shard answers a want with
an entry of kind PAST, and the stays found in it are told once, as retrospective transitions. All of that is state, so
any cut of the log, and any restart, gives the same.

State fields: those of `geo.late`; wo <case> <order>: what is wanted; wt <order or zone id>: stays told, live or not;
wi <order id>: when it was not in force.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.clock import from_ms, rfc3339
from core.domain.case import Case, CaseOrder, CaseZone
from core.domain.log import Entry
from core.domain.past import MARGIN_MS, Past, Want, decode_past, ms_of, serial_of
from core.domain.policy import used_by
from core.domain.transition import Position, Transition, transition_id
from geo import hindsight
from geo.frame import to_degrees
from geo.hindsight import Events, Rule, Stay, Track
from geo.late import SIGMA_SHARE, Late
from geo.roster import Roster
from geo.separation import p_within
from geo.track import Bools, Times
from geo.zones import holds_at

KEPT_MS: Final = 8 * 86_400_000
"""How long it is remembered what was told."""
WANTS_MAX: Final = 10_000
"""Orders of a shard about which something is wanted at a time; beyond it those of the oldest time are dropped."""
PIECES_MAX: Final = 8
STAYS_MAX: Final = 32
"""Stays remembered a subject, the newest."""
OPEN: Final = 1 << 62
"""End of a stay that goes on."""
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000

_PIECE: Final = struct.Struct("<qqq")
_STAY: Final = struct.Struct("<qq")
_PAIR: Final = struct.Struct("<II")

Key = tuple[int, int]
Piece = tuple[int, int, int]
"""(serial of the tick that asked, from ms, to ms)."""


class Retrospect:
    """Notes, wants and told stays of a shard. Part of the engine's state."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.dropped_total = 0
        """Wants given up because there were too many, since the engine was made."""
        self.late = Late()
        self._wants: dict[Key, list[Piece]] = {}
        self._told: dict[bytes, list[tuple[int, int]]] = {}
        self._idle: dict[bytes, list[tuple[int, int]]] = {}
        self._changed: set[bytes] = set()

    @property
    def has_notes(self) -> bool:
        """Whether late fixes wait for the next tick."""
        return self.late.any

    def note(self, records: NDArray[np.void], now_ms: Times, late: Bools) -> None:
        """Note those of the records, (n,), received at `now_ms`, (n,), that are `late` and tell a place."""
        self.late.note(records, now_ms, late)

    # --- what is wanted

    def tick(self, entry: Entry, before_ms: int, roster: Roster) -> None:
        """Turn notes into wants; each hour (`before_ms`: the tick before), forget what is too old to matter."""
        if self.late.any:
            for key, first_ms, last_ms in self.late.take(roster):
                self._ask(key, (serial_of(entry.ms, entry.n), first_ms, last_ms))
            self._drop_excess()
        if entry.ms // HOUR_MS != before_ms // HOUR_MS:
            self._forget(entry.ms - KEPT_MS)

    def _ask(self, key: Key, piece: Piece) -> None:
        pieces = self._wants.setdefault(key, [])
        pieces.append(piece)
        if len(pieces) > 1 and (pieces[-2][0] == piece[0] or len(pieces) > PIECES_MAX):
            at = -2 if pieces[-2][0] == piece[0] else 0
            one, two = pieces[at], pieces[at + 1]
            pieces[at : at + 2 or None] = [(two[0], min(one[1], two[1]), max(one[2], two[2]))]
        self._changed.add(_want_field(key))

    def _drop_excess(self) -> None:
        excess = len(self._wants) - WANTS_MAX
        if excess <= 0:
            return
        for key in heapq.nsmallest(excess, self._wants, key=lambda key: (max(p[2] for p in self._wants[key]), key)):
            self._remove(key)
        self.dropped_total += excess

    def _remove(self, key: Key) -> None:
        del self._wants[key]
        self._changed.add(_want_field(key))

    def _forget(self, before_ms: int) -> None:
        for key in [key for key, pieces in self._wants.items() if max(piece[2] for piece in pieces) < before_ms]:
            self._remove(key)
        for subject, stays in list(self._told.items()):
            if stays[0][1] < before_ms:
                self._remember(subject, [stay for stay in stays if stay[1] >= before_ms])
        for order_id, spans in list(self._idle.items()):
            if spans[0][1] < before_ms:
                self._suspend(order_id, [span for span in spans if span[1] >= before_ms])

    def wants(self, roster: Roster, limit: int) -> list[Want]:
        """What is wanted, the longest waiting first, at most `limit`."""
        keys = heapq.nsmallest(limit, self._wants, key=lambda key: (self._wants[key][0][0], key))
        out = []
        for key in keys:
            pieces = self._wants[key]
            row = _order_row(roster, key)
            victim, aggressor = [() if row is None else tuple(_ranks(roster, row, side)) for side in (0, 1)]
            out.append(
                Want(
                    case=key[0],
                    order=key[1],
                    from_ms=min(piece[1] for piece in pieces),
                    to_ms=max(piece[2] for piece in pieces),
                    serial=pieces[-1][0],
                    since_ms=ms_of(pieces[0][0]),
                    victim=victim,
                    aggressor=aggressor,
                )
            )
        return out

    # --- what was so then

    def configured(self, case: Case, now_ms: int) -> None:
        """Remember when the orders of a new configuration were not in force: what was allowed then is not told now."""
        for order in case.orders:
            spans = self._idle.get(order.id.bytes, [])
            idle = bool(spans) and spans[-1][1] == OPEN
            if not order.active and not idle:
                self._suspend(order.id.bytes, [*spans, (now_ms, OPEN)])
            elif order.active and idle:
                self._suspend(order.id.bytes, [*spans[:-1], (spans[-1][0], now_ms)])

    def _suspend(self, order_id: bytes, spans: Sequence[tuple[int, int]]) -> None:
        if spans:
            self._idle[order_id] = list(spans)[-STAYS_MAX:]
        else:
            self._idle.pop(order_id, None)
        self._changed.add(b"wi" + order_id)

    def heed(self, transitions: list[Transition]) -> list[Transition]:
        """Remember the live breaches among transitions, which are given back: they are not told again."""
        for each in transitions:
            if each.kind not in ("proximity", "zone") or each.retrospective:
                continue
            subject = each.zone_id if each.kind == "zone" else each.order_id
            assert subject is not None
            stays = self._told.get(subject.bytes, [])
            if each.to_state == "breach":
                self._remember(subject.bytes, [*stays, (each.at_ms, OPEN)])
            elif each.from_state == "breach":
                ended = [(a, max(a, each.at_ms)) if b == OPEN else (a, b) for a, b in stays]
                self._remember(subject.bytes, ended)
        return transitions

    def _remember(self, subject: bytes, stays: Sequence[tuple[int, int]]) -> None:
        if stays:
            self._told[subject] = sorted(stays, key=lambda stay: (stay[1], stay[0]))[-STAYS_MAX:]
        else:
            self._told.pop(subject, None)
        self._changed.add(b"wt" + subject)

    def _is_told(self, subject: bytes, stay: Stay, hold_ms: float) -> bool:
        return any(
            stay.from_ms <= until + hold_ms and stay.until_ms >= since - hold_ms
            for since, until in self._told.get(subject, ())
        )

    # --- what history answers

    def take(self, entry: Entry, roster: Roster) -> list[Transition] | None:
        """Judge a PAST entry; the transitions it tells, in order of its parts. None: it cannot be read."""
        try:
            parts = decode_past(entry.payload)
        except ValueError:
            return None
        out: list[Transition] = []
        for part in parts:
            key = (part.case, part.order)
            pieces = self._wants.get(key, [])
            answered = [piece for piece in pieces if piece[0] <= part.serial]
            if not answered:
                continue
            row = _order_row(roster, key)
            if row is not None and roster.orders.about[row][1].active:
                span = min(piece[1] for piece in answered), max(piece[2] for piece in answered)
                self._judge(part, row, span, entry, roster, out)
            if len(answered) == len(pieces):
                self._remove(key)
            else:
                self._wants[key] = pieces[len(answered) :]
                self._changed.add(_want_field(key))
        return out

    def _judge(
        self, part: Past, row: int, span: tuple[int, int], entry: Entry, roster: Roster, out: list[Transition]
    ) -> None:
        case, order = roster.orders.about[row]
        sigma_max = SIGMA_SHARE * order.alert_m
        hers = hindsight.track_of(part.victim, _ranks(roster, row, 0), sigma_max)
        his = hindsight.track_of(part.aggressor, _ranks(roster, row, 1), sigma_max)
        first_ms, last_ms = _reach(span, hers, his)
        end_ms = entry.ms if order.valid_until_ms is None else min(entry.ms, order.valid_until_ms - 1)
        from_ms_, to_ms = max(first_ms - MARGIN_MS, order.valid_from_ms), min(last_ms + MARGIN_MS, end_ms)
        rule = Rule(order.alert_m, order.p_enter, order.exit_margin_m, order.p_exit, order.hold_s)
        parties = roster.parties(row)

        def tell(zone: CaseZone | None, events: Events, rule: Rule, facts: dict[str, Any]) -> None:
            subject = order.id if zone is None else zone.id
            for stay in hindsight.stays(events, first_ms, last_ms, rule):
                if self._is_told(subject.bytes, stay, 1000.0 * order.hold_s):
                    continue
                self._remember(subject.bytes, [*self._told.get(subject.bytes, ()), (stay.from_ms, stay.until_ms)])
                index = len(out)
                out.append(
                    Transition(
                        id=transition_id(self.shard, entry.id, index, subject, "proximity" if zone is None else "zone"),
                        shard=self.shard,
                        entry=entry.id,
                        kind="proximity" if zone is None else "zone",
                        from_state="clear",
                        to_state="breach",
                        at_ms=stay.from_ms,
                        evaluated_ms=entry.ms,
                        agency_id=case.agency_id,
                        case_id=case.id,
                        order_id=order.id,
                        zone_id=None if zone is None else zone.id,
                        victim_id=parties[0].id,
                        aggressor_id=parties[1].id,
                        distance_m=round(float(events.beyond_m[stay.closest]) + rule.radius_m, 2),
                        p_within=round(float(events.p[stay.first : stay.last + 1].max()), 6),
                        victim_position=None if zone is not None else _position(hers, events, stay),
                        aggressor_position=_position(his, events, stay),
                        retrospective=True,
                        detail=_detail(events, stay, order, rule) | facts,
                    )
                )

        idle = self._idle.get(order.id.bytes, ())
        met = _but_for(hindsight.encounters(hers, his, from_ms_, to_ms, rule), idle)
        tell(None, met, rule, {"alert_m": order.alert_m, "warning_m": max(order.warning_m, order.alert_m)})
        for zone_row in _zone_rows(roster, row):
            zone = roster.zones.about[zone_row][2]
            shape, edge = roster.zones.shape[zone_row], roster.zones.edge[zone_row]
            if shape is None:
                continue
            margin_m = float(roster.zones.limits[zone_row, 2])
            rule = Rule(0.0, order.p_enter, margin_m, order.p_exit, order.hold_s)
            events = hindsight.trespasses(
                his, roster.zones.plane[zone_row], shape, edge, zone.kind == "inclusion", from_ms_, to_ms, rule
            )
            events = _but_for(_in_force(events, zone, order.time_zone), idle)
            tell(zone, events, rule, {"zone_kind": zone.kind, "warning_m": zone.warning_m})

    # --- state

    def take_changes(self) -> dict[bytes, bytes | None]:
        """State fields that changed since the last call."""
        changes = self.late.take_changes() | {field: self._field(field) for field in sorted(self._changed)}
        self._changed.clear()
        return changes

    def _field(self, field: bytes) -> bytes | None:
        kind, name = field[:2], field[2:]
        if kind == b"wo":
            pieces = self._wants.get(_PAIR.unpack(name))
            return None if pieces is None else b"".join(_PIECE.pack(*piece) for piece in pieces)
        stays = (self._idle if kind == b"wi" else self._told).get(name)
        return None if stays is None else b"".join(_STAY.pack(*stay) for stay in stays)

    @classmethod
    def restored(cls, shard: int, fields: Mapping[bytes, bytes]) -> Retrospect:
        """That of a state hash."""
        past = cls(shard)
        past.late = Late.restored(fields)
        for field, value in fields.items():
            kind, name = field[:2], field[2:]
            if kind == b"wo" and value:
                past._wants[_PAIR.unpack(name)] = [(a, b, c) for a, b, c in _PIECE.iter_unpack(value)]
            elif kind in (b"wt", b"wi") and value:
                (past._told if kind == b"wt" else past._idle)[name] = [(a, b) for a, b in _STAY.iter_unpack(value)]
        return past


def _want_field(key: Key) -> bytes:
    return b"wo" + _PAIR.pack(*key)


def _order_row(roster: Roster, key: Key) -> int | None:
    entry = roster.cases.get(key[0])
    rows = () if entry is None else entry.orders
    return next((row for row in rows if roster.orders.about[row][1].number == key[1]), None)


def _ranks(roster: Roster, order_row: int, side: int) -> dict[int, int]:
    """Device number → rank of a party's devices."""
    rows = roster.people.about[int(roster.orders.party[order_row, side])][1]
    return {int(roster.devices.number[row]): int(roster.devices.rank[row]) for row in rows}


def _zone_rows(roster: Roster, order_row: int) -> Iterator[int]:
    row = int(roster.orders.zone[order_row])
    while row >= 0:
        yield row
        row = int(roster.zones.next[row])


def _reach(span: tuple[int, int], *tracks: Track) -> tuple[int, int]:
    """The span with the ways that lead into it and out of it."""
    first_ms, last_ms = span
    for track in tracks:
        at = int(np.searchsorted(track.at_ms, span[0]))
        if at > 0:
            first_ms = min(first_ms, max(int(track.at_ms[at - 1]), span[0] - hindsight.WAY_MAX_MS))
        at = int(np.searchsorted(track.at_ms, span[1], side="right"))
        if at < len(track.at_ms):
            last_ms = max(last_ms, min(int(track.at_ms[at]), span[1] + hindsight.WAY_MAX_MS))
    return first_ms, last_ms


def _in_force(events: Events, zone: CaseZone, time_zone: str) -> Events:
    """The events with those left out that lie outside the zone's validity and schedule."""
    holds: dict[int, bool] = {}
    for minute in np.unique(events.at_ms[events.inside] // MINUTE_MS).tolist():
        holds[int(minute)] = holds_at(zone, time_zone, int(minute) * MINUTE_MS)
    force = np.asarray([holds.get(int(at_ms // MINUTE_MS), True) for at_ms in events.at_ms], dtype=np.bool_)
    return replace(events, inside=events.inside & force, out=events.out | ~force)


def _but_for(events: Events, idle: Sequence[tuple[int, int]]) -> Events:
    """The events, nobody being inside in the spans in which the order was not in force."""
    force = np.ones(len(events.at_ms), dtype=np.bool_)
    for since, until in idle:
        force &= (events.at_ms < since) | (events.at_ms >= until)
    return replace(events, inside=events.inside & force, out=events.out | ~force)


def _detail(events: Events, stay: Stay, order: CaseOrder, rule: Rule) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "until": rfc3339(from_ms(stay.until_ms)),
        "closest_m": round(float(events.beyond_m[stay.closest]) + rule.radius_m, 1),
        "moments": stay.moments,
        "policy": used_by(order),
    }
    if events.sigma_m is not None and order.legal_m > 0:
        some = slice(stay.first, stay.last + 1)
        distance = events.beyond_m[some] + rule.radius_m
        p_legal = p_within(np.asarray(order.legal_m), distance, events.sigma_m[some])
        best = int(np.argmax(p_legal))
        detail["p_legal"] = round(float(p_legal[best]), 6)
        detail["p_legal_at"] = rfc3339(from_ms(round(float(events.at_ms[stay.first + best]))))
    return detail


def _position(track: Track, events: Events, stay: Stay) -> Position:
    """Where somebody was when the two were nearest."""
    at_ms = round(float(events.at_ms[stay.closest]))
    where = hindsight.whereabouts(track, np.asarray([at_ms], dtype=np.int64))
    lat, lon = to_degrees(where.place[0])
    return Position(
        lat=round(float(lat), 7),
        lon=round(float(lon), 7),
        accuracy_m=round(float(np.sqrt(where.variance[0])) * hindsight.RADIUS_68_SIGMA, 1),
        at_ms=at_ms,
    )
