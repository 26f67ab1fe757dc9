"""Provisional incidents: what consoles are shown while PostgreSQL is away, under the ids the rows will have.

They carry no cursor and promise nothing; once a `health` frame says that PostgreSQL is up, the feed tells the truth
and screens drop them.
"""

from __future__ import annotations

import uuid
from typing import Any

from core.clock import from_ms
from core.domain.alarm import Surroundings, alarm_of, is_past, past_end_ms, past_severity, place_of
from core.domain.panic import PanicIn, incident_id_of
from core.domain.transition import Transition
from core.ids import timed_id
from core.postgres.incidents import incident_json, new_row


def provisional_panic(panic: PanicIn, agency_id: uuid.UUID) -> dict[str, Any]:
    """The incident that a panic will open."""
    incident_id = incident_id_of(panic.id, panic.received_ms)
    moment = from_ms(panic.received_ms)
    detail: dict[str, Any] = {"panic_id": str(panic.id), "verified": not panic.doubts}
    if panic.doubts:
        detail["doubt"] = ",".join(panic.doubts)
    if panic.mode is not None:
        detail["mode"] = panic.mode
    row = new_row(
        id=incident_id, type="panic", family="panic", severity="critical", version=0, episode_id=incident_id,
        agency_id=agency_id, jurisdiction_agency_id=agency_id, victim_id=panic.person_id, device_id=panic.device_id,
        occurred_at=moment, opened_at=moment, updated_at=moment, provisional=True, do_not_call=panic.mode != "audible",
        detail=detail,
    )  # fmt: skip
    if panic.lat is not None and panic.lon is not None:
        row["place"] = {"lat": panic.lat, "lon": panic.lon, "accuracy_m": panic.accuracy_m, "at": None}
    return incident_json(row)


def provisional_transition(item: Transition) -> dict[str, Any] | None:
    """The incident that a transition will open or fold into; None when it raises nothing."""
    alarm = alarm_of(item, Surroundings(case_in_trouble=True))  # nobody can say now that nothing is going on
    if alarm is None or not alarm.raised:
        return None
    incident_id = timed_id(item.evaluated_ms, "incident", item.id)
    moment = from_ms(item.evaluated_ms)
    severity = past_severity(past_end_ms(item), item.evaluated_ms) if is_past(item) else alarm.severity
    row = new_row(
        id=incident_id, type=alarm.type, family=alarm.family, severity=str(severity), version=0,
        episode_id=incident_id, agency_id=item.agency_id, jurisdiction_agency_id=item.agency_id, case_id=item.case_id,
        order_id=item.order_id, victim_id=item.victim_id, aggressor_id=item.aggressor_id, device_id=item.device_id,
        occurred_at=from_ms(item.at_ms), opened_at=moment, updated_at=moment, provisional=True,
        inside=item.kind in {"proximity", "zone"} and not item.retrospective, retrospective=item.retrospective,
        distance_m=item.distance_m, p_within=item.p_within,
        closing_mps=item.closing_mps, time_to_zone_s=item.time_to_zone_s, attribution=item.attribution,
        assurance=item.assurance, place=place_of(item.victim_position), detail=dict(item.detail),
    )  # fmt: skip
    return incident_json(row)
