"""How a transition becomes a row of an incident and a line of its timeline; values in, values out."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.actions.fold_facts import Facts, Judgement
from core.clock import from_ms, to_ms
from core.domain.alarm import place_of, signal_of
from core.domain.incident import Severity, escalated_type, more_severe
from core.domain.transition import Transition
from core.ids import derived_id, timed_id
from core.postgres import incidents as store
from core.postgres.incidents import Line, Row

FIGURES: Final = ("distance_m", "p_within", "closing_mps", "time_to_zone_s", "attribution", "assurance")
UNTOLD: Final = frozenset({"policy"})
"""Facts of a transition that stay with it: the values the rules used."""


def opening_row(facts: Facts, judgement: Judgement, now: datetime, again: uuid.UUID | None = None) -> Row:
    """The incident a raised alarm opens. `again`: why one transition opens a second incident."""
    item, alarm = judgement.item, judgement.alarm
    if again is None:
        incident_id = timed_id(item.evaluated_ms, "incident", item.id)
    else:
        incident_id = timed_id(to_ms(now), "incident", item.id, again)
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
        opened_at=now,
        updated_at=now,
        retrospective=item.retrospective,
        language=order.language if order else None,
        hazards=order.hazards if order else {},
        do_not_call=bool(order and "deaf" in order.needs),
        detail={"rule_version": item.rule_version},
    )
    if order and order.reference:
        row["detail"]["order_reference"] = order.reference
    if order and alarm.type == "approach" and (probing := facts.probing.get(order.id)) is not None:
        row["detail"]["probing"] = probing.told()
        row["severity"] = str(Severity.CRITICAL)  # who has tested the edge comes knowing where it is
    take(row, judgement)
    return row


def fold_into(row: Row, judgement: Judgement) -> tuple[str, bool]:
    """Fold an alarm into an open incident; returns what happened and whether the severity rose."""
    alarm = judgement.alarm
    what, rose = alarm.way_back, False
    if alarm.raised:
        kind = escalated_type(row["type"], alarm.type)
        severity = more_severe(row["severity"], str(alarm.severity))
        rose = severity != row["severity"]
        what = "again"
        if rose or kind != row["type"]:
            what = "escalated"
            row["type"], row["severity"], row["version"] = kind, severity, row["version"] + 1
    if judgement.own:
        take(row, judgement)
    return what, rose


def take(row: Row, judgement: Judgement) -> None:
    """The latest of what a transition tells: figures, places, whether he is inside, which signals are on."""
    _take_figures(row, judgement.item)
    _take_inside(row, judgement)
    if judgement.alarm.family == "tamper":
        signals = set(row["detail"].get("signals_on", ()))
        signal = signal_of(judgement.item)
        signals = signals | {signal} if judgement.alarm.raised else signals - {signal}
        row["detail"] = {**row["detail"], "signals_on": sorted(signals)}


def _take_figures(row: Row, item: Transition) -> None:
    """The latest distances, ages and places; what the transition does not know stays."""
    for name in FIGURES:
        if (value := getattr(item, name)) is not None:
            row[name] = value
    if item.kind == "assurance":
        row["assurance"] = item.to_state
    if item.victim_fix_age_s is not None or item.aggressor_fix_age_s is not None:
        row["fix_age_s"] = {"victim": item.victim_fix_age_s, "aggressor": item.aggressor_fix_age_s}
    if (place := place_of(item.victim_position)) is not None:
        row["place"] = place
    detail = {**row["detail"], **{name: value for name, value in item.detail.items() if name not in UNTOLD}}
    if (place := place_of(item.aggressor_position)) is not None:
        detail["aggressor_place"] = place
    row["detail"] = detail


def _take_inside(row: Row, judgement: Judgement) -> None:
    """Whether he is inside now, and since when: the order's radius, or any of its zones."""
    item = judgement.item
    if item.retrospective or item.kind not in {"proximity", "zone"}:
        return
    if item.kind == "proximity":
        inside = item.to_state == "breach"
    else:
        row["detail"] = {**row["detail"], "zones_inside": list(judgement.zones_inside)}
        inside = bool(judgement.zones_inside)
    if inside and not row["inside"]:
        row["inside_since"] = from_ms(item.at_ms)
    elif not inside:
        row["inside_since"] = None
    row["inside"] = inside


def line_of(row: Row, judgement: Judgement, what: str, *, again: bool = False) -> Line:
    """The line a transition adds; a repeat of it adds none. `again`: it has a line on another incident already."""
    item = judgement.item
    data: dict[str, Any] = {
        "what": what,
        "transition_id": str(item.id),
        "from": item.from_state,
        "to": item.to_state,
        "type": row["type"],
        "severity": row["severity"],
        "distance_m": item.distance_m,
        "p_within": item.p_within,
        "silent": item.detail.get("silent"),
    }
    if item.zone_id is not None:
        data["zone_id"] = str(item.zone_id)
    if item.retrospective:
        data["until"] = item.detail.get("until")
    elsewhere = again or not judgement.own
    return (
        derived_id("timeline", item.id, row["id"]) if elsewhere else derived_id("timeline", item.id),
        row["id"],
        from_ms(item.evaluated_ms),
        signal_of(item),
        None,
        {name: value for name, value in data.items() if value is not None},
    )
