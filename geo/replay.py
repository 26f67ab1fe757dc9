"""`qorgan replay`: the same engine over files of orders and pings, clock and all.

The clock is the pings' `received_at`; ticks fall on whole seconds, and where nothing can fire none is made, so a gap
of a week costs nothing and is no outage. Pings of a device received in the same millisecond are one upload. History is
what was read so far: late pings are looked at again by it within a second. Ids in the files may be any text: UUIDs are
derived from them, and the lines that come out bear them as they were given.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from core.clock import from_ms, rfc3339, to_ms
from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, CaseZone, encode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.transition import Transition
from core.errors import InvalidInput
from core.ids import derived_id
from geo.annals import Annals
from geo.engine import Engine
from geo.replay_files import Policy, ReplayOrder, ReplayPing, judged_by, pack, read_orders, read_pings, read_policy
from geo.zones import validate_geometry

ENTRY_RECORDS_MAX: Final = 1_000
SECOND_MS: Final = 1_000
WANTS_MAX: Final = 100
"""Stretches of history that one entry answers."""


def replay(orders_path: Path, pings_path: Path, policy_path: Path | None = None) -> Iterator[dict[str, Any]]:
    """The contract's output lines, in order. Raises InvalidInput that names the file and the line at fault."""
    policy = read_policy(policy_path)
    orders = read_orders(orders_path)
    book = _Book(orders, policy, orders_path)
    book.enrol(read_pings(pings_path))
    tape = _Tape(Engine(0, outage_after_ms=None))
    clock_ms = -1
    for second, pings in _by_second(read_pings(pings_path)):
        if clock_ms < 0:
            clock_ms = pings[0].received_ms
            yield from book.lines(tape.take(tape.entry(clock_ms, CONFIGURATION, encode_cases(book.cases()))))
        yield from book.lines(tape.pass_time(clock_ms, (second - 1) * SECOND_MS))
        backlog = _older_of_uploads(pings)
        entries = []
        for received_ms, part in _by_moment(pings):
            payload = b"".join(pack(ping, book.number(ping), id(ping) in backlog) for ping in part)
            entries.append(tape.entry(received_ms, PINGS, payload, book.heard(part)))
            clock_ms = received_ms
        yield from book.lines(tape.take(*entries))
    if clock_ms >= 0:
        yield from book.lines(tape.pass_time(clock_ms, -(-clock_ms // SECOND_MS) * SECOND_MS))


class _Tape:
    """The log of a replay as it is written: entries in order, and what they decide."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._annals = Annals()
        self._n = 0

    def entry(self, ms: int, kind: str, payload: bytes, extras: bytes | None = None) -> Entry:
        """The next entry."""
        self._n += 1
        return Entry(ms, self._n, kind, payload, extras)

    def take(self, *entries: Entry) -> list[Transition]:
        """Have the engine process entries."""
        for entry in entries:
            self._annals.add(entry)
        return self._engine.process(entries)

    def pass_time(self, clock_ms: int, until_ms: int) -> list[Transition]:
        """Tick where something is due, up to a moment, and answer what is wanted of the past."""
        out: list[Transition] = []
        while (deadline := self._engine.next_deadline_ms) is not None:
            clock_ms = -(-max(deadline, clock_ms) // SECOND_MS) * SECOND_MS
            if clock_ms > until_ms:
                break
            out += self.take(self.entry(clock_ms, TICK, b""))
            while wants := self._engine.wants(WANTS_MAX):
                out += self.take(self.entry(clock_ms, PAST, self._annals.answer(wants)))
        return out


def _older_of_uploads(pings: list[ReplayPing]) -> set[int]:
    """Identities of the pings that are not their upload's newest: they are history, as ingest marks them."""
    newest: dict[tuple[int, str, str], ReplayPing] = {}
    older = set()
    for ping in pings:
        upload = (ping.received_ms, ping.person_id, ping.device_id)
        before = newest.setdefault(upload, ping)
        if before is not ping:
            newest[upload], left = (ping, before) if ping.at_ms >= before.at_ms else (before, ping)
            older.add(id(left))
    return older


def _by_second(pings: Iterator[ReplayPing]) -> Iterator[tuple[int, list[ReplayPing]]]:
    """Pings by the second that ends at or after their reception; they come in order."""
    second, group = -1, list[ReplayPing]()
    for ping in pings:
        own = -(-ping.received_ms // SECOND_MS)
        if group and own != second:
            yield second, group
            group = []
        second = own
        group.append(ping)
    if group:
        yield second, group


def _by_moment(pings: list[ReplayPing]) -> Iterator[tuple[int, list[ReplayPing]]]:
    """Pings received in the same millisecond, at most an entry's worth."""
    part: list[ReplayPing] = []
    for ping in pings:
        if part and (ping.received_ms != part[0].received_ms or len(part) == ENTRY_RECORDS_MAX):
            yield part[0].received_ms, part
            part = []
        part.append(ping)
    if part:
        yield part[0].received_ms, part


@dataclass(slots=True)
class _Book:
    """Who is who in the files, in numbers and UUIDs for the engine and as given for the reader."""

    orders: list[ReplayOrder]
    policy: Policy
    path: Path
    given: dict[uuid.UUID, str] = field(default_factory=dict)
    devices: dict[str, dict[str, int]] = field(default_factory=dict)
    """Person → device as given → number."""

    def enrol(self, pings: Iterator[ReplayPing]) -> None:
        """Number the devices of the people whom an order names; the whole file is checked on the way."""
        named = {person for order in self.orders for person in (order.victim_id, order.aggressor_id)}
        count = 0
        for ping in pings:
            beacons = [(str(each.beacon), str(each.beacon)) for each in ping.line.heard or ()]
            for person, device in ((ping.person_id, ping.device_id), *beacons):
                held = self.devices.setdefault(person, {}) if person in named else None
                if held is not None and (not held or (person, device) not in beacons) and device not in held:
                    count += 1
                    held[device] = count

    def number(self, ping: ReplayPing) -> int:
        """The device's number; 0, which nobody has, for people whom no order names."""
        return self.devices.get(ping.person_id, {}).get(ping.device_id, 0)

    def heard(self, pings: list[ReplayPing]) -> bytes | None:
        """What stands beside an entry of these pings: which bracelets they heard."""
        beside: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for index, ping in enumerate(pings):
            for each in ping.line.heard or ():
                for number in self.devices.get(str(each.beacon), {}).values():
                    sighting = {"beacon": number, "rssi_dbm": each.rssi_dbm}
                    beside.setdefault(str(index), {"heard": []})["heard"].append(sighting)
        return json.dumps(beside).encode() if beside else None

    def cases(self) -> list[Case]:
        """One case an aggressor, as the database would compile them."""
        people: dict[str, int] = {}
        for order in self.orders:
            for person in (order.aggressor_id, order.victim_id):
                people.setdefault(person, len(people) + 1)
        by_aggressor: dict[str, list[int]] = {}
        for index, order in enumerate(self.orders):
            by_aggressor.setdefault(order.aggressor_id, []).append(index)
        primary: set[str] = set()
        out = []
        for number, (aggressor, indices) in enumerate(by_aggressor.items(), start=1):
            members = list(dict.fromkeys([aggressor, *(self.orders[index].victim_id for index in indices)]))
            case_people = []
            for person in members:
                role = "aggressor" if person == aggressor else "victim"
                case_people.append(self._person(person, people[person], role, person not in primary))
                primary.add(person)
            out.append(
                Case(
                    number=number,
                    id=self._id("case", aggressor),
                    agency_id=derived_id("replay", "agency"),
                    version=1,
                    people=case_people,
                    orders=[self._order(index, people) for index in indices],
                )
            )
        return out

    def lines(self, transitions: list[Transition]) -> Iterator[dict[str, Any]]:
        """Output lines of transitions."""
        for each in transitions:
            yield {
                "order_id": None if each.order_id is None else self.given[each.order_id],
                "kind": each.kind,
                "from": each.from_state,
                "to": each.to_state,
                "at": rfc3339(from_ms(each.at_ms)),
                "evaluated_at": rfc3339(from_ms(each.evaluated_ms)),
                "distance_m": each.distance_m,
                "p_within": each.p_within,
                "closing_mps": each.closing_mps,
                "time_to_zone_s": each.time_to_zone_s,
                "attribution": each.attribution,
                "fix_age_s": {"victim": each.victim_fix_age_s, "aggressor": each.aggressor_fix_age_s},
                "detail": self._detail(each),
                "rule_version": each.rule_version,
            }

    def _detail(self, transition: Transition) -> dict[str, Any]:
        detail = dict(transition.detail)
        for name, value in (
            ("victim_id", transition.victim_id),
            ("aggressor_id", transition.aggressor_id),
            ("device_id", transition.device_id),
            ("zone_id", transition.zone_id),
        ):
            if value is not None:
                detail[name] = self.given[value]
        if "person_id" in detail:
            detail["person_id"] = self.given[uuid.UUID(detail["person_id"])]
        if transition.retrospective:
            detail["retrospective"] = True
        return detail

    def _person(self, person: str, number: int, role: str, primary: bool) -> CasePerson:
        kind = "bracelet" if role == "aggressor" else "phone"
        devices = [
            CaseDevice(
                number=device_number,
                id=self._id("device", device, person),
                kind=kind,
                interval_s=self.policy.interval_s,
            )
            for device, device_number in self.devices.get(person, {}).items()
        ]
        return CasePerson(number=number, id=self._id("person", person), role=role, primary=primary, devices=devices)

    def _order(self, index: int, people: dict[str, int]) -> CaseOrder:
        order = self.orders[index]
        return CaseOrder(
            number=index + 1,
            id=self._id("order", order.order_id),
            victim=people[order.victim_id],
            aggressor=people[order.aggressor_id],
            **judged_by(order, self.policy, self.path),
            valid_from_ms=0 if order.valid_from is None else to_ms(order.valid_from),
            valid_until_ms=None if order.valid_until is None else to_ms(order.valid_until),
            active=True,
            time_zone=order.time_zone,
            zones=[self._zone(order, place) for place in range(len(order.zones))],
        )

    def _zone(self, order: ReplayOrder, place: int) -> CaseZone:
        feature = order.zones[place]
        properties = feature.get("properties") or {}
        where = f"{self.path}: zone {place + 1} of order {order.order_id!r}"
        if feature.get("type") != "Feature" or not isinstance(properties, dict):
            raise InvalidInput(f"{where} is not a GeoJSON Feature.")
        radius_m, warning_m = properties.get("radius_m"), properties.get("warning_m", 0.0)
        kind = properties.get("kind", "exclusion")
        if kind not in ("exclusion", "inclusion"):
            raise InvalidInput(f"{where}: kind has to be exclusion or inclusion.")
        if not all(value is None or _is_length(value) for value in (radius_m, warning_m)):
            raise InvalidInput(f"{where}: radius_m and warning_m have to be metres, not negative.")
        try:
            geometry = validate_geometry(feature.get("geometry") or {}, radius_m)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error.detail}", code="geometry_invalid") from None
        given = str(feature.get("id") or properties.get("id") or place + 1)
        return CaseZone(
            id=self._id("zone", given, order.order_id),
            kind=kind,
            geometry=geometry,
            radius_m=radius_m,
            warning_m=warning_m or 0.0,
            schedule=properties.get("schedule"),
            valid_from_ms=_moment(properties.get("valid_from"), where),
            valid_until_ms=_moment(properties.get("valid_until"), where),
        )

    def _id(self, kind: str, given: str, *within: str) -> uuid.UUID:
        """A UUID for a text that need not be one."""
        own = derived_id("replay", kind, *within, given)
        self.given[own] = given
        return own


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _moment(value: object, where: str) -> int | None:
    if value is None:
        return None
    try:
        return to_ms(msgspec.convert(value, datetime))
    except (msgspec.ValidationError, TypeError):
        raise InvalidInput(f"{where}: {json.dumps(value)} is not an RFC 3339 time with its offset.") from None
