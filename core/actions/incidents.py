"""Incidents out of transitions: the idempotent fold.

Raw alarms fold into one open incident per subject (order or device) and family. A transition that was applied
before does nothing; two transactions that open the same incident at the same moment end with one of them. All of a
batch takes about a dozen statements, however long it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from core.actions.notices import Notice, notice_of, tell
from core.actions.unit_of_work import Unit
from core.clock import from_ms
from core.domain.alarm import Alarm, Surroundings, alarm_of, needs_separation, place_of, signal_of
from core.domain.incident import escalated_type, more_severe
from core.domain.transition import Transition
from core.errors import Conflict
from core.ids import derived_id, timed_id
from core.metrics import INCIDENTS_OPENED
from core.postgres import incidents as store
from core.postgres import transitions as records
from core.postgres.incidents import Line, Row

CLAIM_ROUNDS: Final = 5
"""Tries to open or find an incident that others open and resolve at the same moment."""
SEPARATION_FAMILIES: Final = frozenset({"proximity", "zone", "tamper", "panic"})
"""Families whose open incident makes a victim's silence urgent."""
SEPARATION_KINDS: Final = frozenset({"proximity", "assurance"})

Key = tuple[str, str]
"""Subject and family: what incidents fold by."""


async def apply_transitions(unit: Unit, transitions: Sequence[Transition]) -> None:
    """Take transitions in order: their rows, the incidents they open, escalate or ease, and who is told.

    Idempotent by the transitions' ids. Raises only when nothing of it must be committed.
    """
    if not transitions:
        return
    new = await records.add_new(unit.connection, transitions)
    fresh = list({item.id: item for item in reversed(transitions) if item.id in new}.values())[::-1]
    if not fresh:
        return
    facts = await _gather(unit, fresh)
    judged = [(item, alarm) for item in fresh if (alarm := facts.judge(item)) is not None]
    if judged:
        await _fold(unit, facts, judged)


@dataclass
class _Facts:
    """What the database says about the cases of a batch, kept current while the batch is judged."""

    orders: dict[uuid.UUID, records.OrderParties]
    wearers: dict[uuid.UUID, tuple[uuid.UUID | None, str]]
    recent: dict[uuid.UUID, list[Row]]
    separations: dict[tuple[uuid.UUID, str], str]
    troubled: set[uuid.UUID] = field(default_factory=set)

    def judge(self, item: Transition) -> Alarm | None:
        """The alarm of a transition, in the light of everything before it."""
        if item.kind in SEPARATION_KINDS and item.order_id is not None:
            self.separations[item.order_id, item.kind] = item.to_state
        person, role = self.wearer(item)
        states = {
            state
            for order in self.orders_of(item, person)
            for kind in SEPARATION_KINDS
            if (state := self.separations.get((order.id, kind))) is not None
        }
        alarm = alarm_of(
            item,
            Surroundings(
                separations=frozenset(states),
                by_victim=role == "victim",
                case_in_trouble=item.case_id in self.troubled,
            ),
        )
        if alarm is not None and alarm.raised and alarm.family in SEPARATION_FAMILIES:
            self.troubled.add(item.case_id)
        return alarm

    def wearer(self, item: Transition) -> tuple[uuid.UUID | None, str]:
        """Who carries the transition's device and in which role; (None, "other") when it has none."""
        if item.device_id is None:
            return None, "other"
        person, role = self.wearers.get(item.device_id, (None, "other"))
        return person or item.victim_id or item.aggressor_id, role

    def orders_of(self, item: Transition, person: uuid.UUID | None) -> list[records.OrderParties]:
        """The orders of the transition's case that it concerns."""
        if item.order_id is not None:
            return [self.orders[item.order_id]] if item.order_id in self.orders else []
        return [
            order
            for order in self.orders.values()
            if order.case_id == item.case_id and person in {order.victim_id, order.aggressor_id}
        ]

    def episode(self, item: Transition, fallback: uuid.UUID) -> uuid.UUID:
        """The episode of the case's latest incident, if recent; else a new one."""
        for row in self.recent.get(item.case_id, ()):
            found: uuid.UUID = row["episode_id"]
            return found
        return fallback


async def _gather(unit: Unit, items: Sequence[Transition]) -> _Facts:
    connection = unit.connection
    case_ids = sorted({item.case_id for item in items})
    device_ids = sorted({item.device_id for item in items if item.device_id is not None})
    recent = await store.recent_of_cases(connection, case_ids, unit.now - store.EPISODE_GAP)
    separations: dict[tuple[uuid.UUID, str], str] = {}
    if any(needs_separation(item) for item in items):
        separations = await records.last_separations(connection, case_ids, [item.id for item in items])
    return _Facts(
        orders=await records.orders_of_cases(connection, case_ids),
        wearers=await records.wearers(connection, device_ids) if device_ids else {},
        recent={
            case_id: [row for row in rows if row["updated_at"] >= unit.now - store.EPISODE_GAP]
            for case_id, rows in recent.items()
        },
        separations=separations,
        troubled={
            case_id
            for case_id, rows in recent.items()
            if any(row["state"] != "resolved" and row["family"] in SEPARATION_FAMILIES for row in rows)
        },
    )


async def _fold(unit: Unit, facts: _Facts, judged: Sequence[tuple[Transition, Alarm]]) -> None:
    openings: dict[Key, tuple[Transition, Row]] = {}
    for item, alarm in judged:
        key = (alarm.subject, alarm.family)
        if alarm.raised and key not in openings:
            openings[key] = (item, _opening_row(unit, facts, item, alarm))
    keys = {(alarm.subject, alarm.family) for _, alarm in judged}
    found, opened = await claim(unit, keys, {key: row for key, (_, row) in openings.items()})

    lines: list[Line] = []
    notices: list[Notice] = []
    incident_of: dict[uuid.UUID, uuid.UUID] = {}
    changed: dict[uuid.UUID, Row] = {}
    for item, alarm in judged:
        key = (alarm.subject, alarm.family)
        row = found.get(key)
        if row is None:
            continue
        incident_of[item.id] = row["id"]
        if key in opened and item is openings[key][0]:
            what = "opened"
            notices.append(notice_of(row, item.id))
        else:
            what, rose = _fold_one(row, item, alarm)
            row["updated_at"] = unit.now
            changed[row["id"]] = row
            if rose:
                notices.append(notice_of(row, item.id))
        lines.append(_line(row, item, what))
    await _write(unit, found, opened, changed, lines, incident_of)
    await tell(unit, notices)


async def _write(
    unit: Unit,
    found: dict[Key, Row],
    opened: set[Key],
    changed: dict[uuid.UUID, Row],
    lines: Sequence[Line],
    incident_of: dict[uuid.UUID, uuid.UUID],
) -> None:
    if changed:
        await store.update_many(unit.connection, list(changed.values()))
    if lines:
        await store.add_lines(unit.connection, lines)
        await records.link(unit.connection, incident_of)
    for key, row in found.items():
        if key in opened:
            unit.emit(row["agency_id"], "incident.opened", store.incident_json(row))
            counter = INCIDENTS_OPENED.labels(row["type"], row["severity"])
            unit.after_commit(counter.inc)
        elif row["id"] in changed:
            unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))


async def claim(unit: Unit, keys: set[Key], openings: dict[Key, Row]) -> tuple[dict[Key, Row], set[Key]]:
    """Lock the open incidents of `keys` and open the missing ones that `openings` has a row for.

    Returns all of them by key, and which were opened here. Rivals in other transactions are waited for, in one order.
    """
    opened: set[Key] = set()
    found = await store.lock_open(unit.connection, keys)
    for _ in range(CLAIM_ROUNDS):
        lost: set[Key] = set()
        for key in sorted(openings.keys() - found.keys()):
            if await store.insert_open(unit.connection, openings[key]):
                found[key] = openings[key]
                opened.add(key)
            else:
                lost.add(key)
        if not lost:
            return found, opened
        found |= await store.lock_open(unit.connection, lost)
    raise Conflict("An incident is being opened and resolved by others at the same moment; try again.")


def _opening_row(unit: Unit, facts: _Facts, item: Transition, alarm: Alarm) -> Row:
    incident_id = timed_id(item.evaluated_ms, "incident", item.id)
    person, role = facts.wearer(item)
    orders = facts.orders_of(item, person)
    order = orders[0] if len(orders) == 1 else None
    victim_id = order.victim_id if order else item.victim_id or (person if role == "victim" else None)
    aggressor_id = order.aggressor_id if order else item.aggressor_id or (person if role == "aggressor" else None)
    row = store.new_row(
        id=incident_id,
        type=alarm.type,
        family=alarm.family,
        severity=str(alarm.severity),
        episode_id=facts.episode(item, incident_id),
        agency_id=item.agency_id,
        jurisdiction_agency_id=item.agency_id,
        case_id=item.case_id,
        order_id=order.id if order else item.order_id,
        victim_id=victim_id,
        aggressor_id=aggressor_id,
        device_id=item.device_id,
        subject=alarm.subject,
        occurred_at=from_ms(item.at_ms),
        opened_at=unit.now,
        updated_at=unit.now,
        retrospective=item.retrospective,
        language=order.language if order else None,
        hazards=order.hazards if order else {},
        do_not_call=bool(order and "deaf" in order.needs),
        detail={"rule_version": item.rule_version},
    )
    if order and order.reference:
        row["detail"]["order_reference"] = order.reference
    _take_figures(row, item)
    _take_inside(row, item, alarm)
    facts.recent.setdefault(item.case_id, []).insert(0, {"episode_id": row["episode_id"]})
    return row


def _fold_one(row: Row, item: Transition, alarm: Alarm) -> tuple[str, bool]:
    """Fold a transition into an open incident; returns what happened and whether the severity rose."""
    what, rose = "eased", False
    if alarm.raised:
        kind = escalated_type(row["type"], alarm.type)
        severity = more_severe(row["severity"], str(alarm.severity))
        rose = severity != row["severity"]
        what = "again"
        if rose or kind != row["type"]:
            what = "escalated"
            row["type"], row["severity"], row["version"] = kind, severity, row["version"] + 1
    _take_figures(row, item)
    _take_inside(row, item, alarm)
    return what, rose


def _take_figures(row: Row, item: Transition) -> None:
    """The latest distances, ages and places; what the transition does not know stays."""
    for name in ("distance_m", "p_within", "closing_mps", "time_to_zone_s", "attribution", "assurance"):
        if (value := getattr(item, name)) is not None:
            row[name] = value
    if item.kind == "assurance":
        row["assurance"] = item.to_state
    if item.victim_fix_age_s is not None or item.aggressor_fix_age_s is not None:
        row["fix_age_s"] = {"victim": item.victim_fix_age_s, "aggressor": item.aggressor_fix_age_s}
    if (place := place_of(item.victim_position)) is not None:
        row["place"] = place
    detail = {**row["detail"], **item.detail}
    if (place := place_of(item.aggressor_position)) is not None:
        detail["aggressor_place"] = place
    row["detail"] = detail


def _take_inside(row: Row, item: Transition, alarm: Alarm) -> None:
    """Whether he is inside now: the order's radius, or any of its zones."""
    if item.retrospective:
        return
    if item.kind == "proximity":
        row["inside"] = alarm.raised
    elif item.kind == "zone":
        zones = set(row["detail"].get("zones_inside", ()))
        zone = str(item.zone_id)
        zones = zones | {zone} if alarm.raised else zones - {zone}
        row["detail"] = {**row["detail"], "zones_inside": sorted(zones)}
        row["inside"] = bool(zones)


def _line(row: Row, item: Transition, what: str) -> Line:
    data: dict[str, Any] = {
        "what": what,
        "transition_id": str(item.id),
        "from": item.from_state,
        "to": item.to_state,
        "type": row["type"],
        "severity": row["severity"],
        "distance_m": item.distance_m,
        "p_within": item.p_within,
    }
    if item.zone_id is not None:
        data["zone_id"] = str(item.zone_id)
    return (
        derived_id("timeline", item.id), row["id"], from_ms(item.evaluated_ms), signal_of(item), None,
        {name: value for name, value in data.items() if value is not None},
    )  # fmt: skip
