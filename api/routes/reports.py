"""`/v1/reports`: figures over an agency's work, and what is found of one incident; no names, no places."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.auth import Reporter
from api.deps import ApiContext, Context
from api.schemas.audit import LooksReport
from api.schemas.base import Moment, View
from core.actions import records
from core.actions.unit_of_work import act
from core.domain.looks import Judged, Reader, judge_readers
from core.domain.violation import P_VIOLATION
from core.errors import InvalidInput, NotFound
from core.postgres import looks, reports
from core.postgres.audit import people_of_orders
from core.postgres.table import Record

router = APIRouter(prefix="/v1/reports", tags=["reports"])

Reason = Literal["proved", "not_served", "probability", "radius_unknown", "probability_unknown", "not_proximity"]
"""The reasons of `core.domain.violation`, for the description of the API."""
FINDING_EXAMPLE: Final[dict[str, Any]] = {
    "incident_id": "01980000-0000-7000-8000-000000000001",
    "type": "proximity",
    "state": "resolved",
    "occurred_at": "2026-05-01T12:00:00Z",
    "opened_at": "2026-05-01T12:00:01Z",
    "retrospective": False,
    "exercise": False,
    "order_id": "01980000-0000-7000-8000-000000000002",
    "order_reference": "2026/114",
    "served_at": "2026-04-20T09:00:00Z",
    "legal_m": 100,
    "p_legal": 0.998,
    "p_legal_at": "2026-05-01T12:07:30Z",
    "p_least": 0.99,
    "violation": True,
    "reason": "proved",
    "rule_version": "2026.3",
    "policy": {"alert_m": 500, "legal_m": 100, "p_enter": 0.5},
}
DEFAULT_SPAN: Final = timedelta(days=30)
MAX_SPAN: Final = timedelta(days=400)


class IncidentLine(View):
    """Incidents of one sort."""

    type: str
    severity: str
    state: str
    outcome: str | None
    false_alarm_cause: str | None
    count: int
    violations: int = Field(description="How many of them are found to be violations of their order.")
    median_acknowledge_s: float | None
    median_dispatch_s: float | None
    median_resolve_s: float | None


class DeliveryLine(View):
    """Deliveries of one sort."""

    channel: str
    audience: str
    state: str
    count: int
    median_sent_s: float | None


class DeviceLine(View):
    """Devices of one sort."""

    kind: str
    status: str
    count: int
    silent: int
    low_battery: int


class IncidentReport(View):
    """Incidents opened in a span."""

    since: datetime
    until: datetime
    lines: list[IncidentLine]


class IncidentFinding(View):
    """Whether an incident was a violation of its order, and by what that is said."""

    model_config = ConfigDict(json_schema_extra={"examples": [FINDING_EXAMPLE]})

    incident_id: uuid.UUID
    type: str
    state: str
    occurred_at: datetime
    opened_at: datetime
    retrospective: bool
    exercise: bool
    order_id: uuid.UUID | None
    order_reference: str | None
    served_at: datetime | None = Field(description="When the order was served on him; null: not that we know.")
    legal_m: float | None = Field(description="The order's legal distance when it happened; 0: it names none.")
    p_legal: float | None = Field(description="Greatest probability of being within it while the order was served.")
    p_legal_at: datetime | None = Field(description="When that was.")
    p_least: float = Field(P_VIOLATION, description="Least probability by which a violation is said.")
    violation: bool | None = Field(description="null: it cannot be said.")
    reason: Reason
    rule_version: str | None
    policy: dict[str, float] | None = Field(description="The values by which it was judged.")


class DeliveryReport(View):
    """Deliveries made in a span."""

    since: datetime
    until: datetime
    lines: list[DeliveryLine]


class DeviceReport(View):
    """Devices now."""

    at: datetime
    lines: list[DeviceLine]


def span(context: ApiContext, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The span asked for: the last 30 days when nothing is said; raises InvalidInput."""
    end = until or context.clock()
    start = since or end - DEFAULT_SPAN
    if start >= end or end - start > MAX_SPAN:
        raise InvalidInput(f"since must be before until, by at most {MAX_SPAN.days} days.", code="time_invalid")
    return start, end


@router.get("/incidents", response_model=IncidentReport)
async def report_incidents(
    actor: Reporter, context: Context, since: Moment | None = None, until: Moment | None = None
) -> dict[str, Any]:
    """Incidents by type, severity, state and outcome: how many were violations, median times to each step."""
    start, end = span(context, since, until)
    async with context.database.connection(actor.scope) as connection:
        lines = await reports.incidents(connection, actor.agency_id, start, end)
    return {"since": start, "until": end, "lines": lines}


@router.get("/incidents/{incident_id}", response_model=IncidentFinding)
async def report_incident(incident_id: uuid.UUID, actor: Reporter, context: Context) -> Record:
    """Whether one incident was a violation of its order, with the reason; audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await reports.finding(unit.connection, actor.agency_id, incident_id)
        if found is None:
            raise NotFound("There is no incident with this id.")
        people = await people_of_orders(unit.connection, [found["order_id"]] if found["order_id"] is not None else [])
        await records.note(unit, actor, "incident.reported", "incident", incident_id, people=people)
    return found


@router.get("/deliveries", response_model=DeliveryReport)
async def report_deliveries(
    actor: Reporter, context: Context, since: Moment | None = None, until: Moment | None = None
) -> dict[str, Any]:
    """Deliveries by channel, audience and state."""
    start, end = span(context, since, until)
    async with context.database.connection(actor.scope) as connection:
        lines = await reports.deliveries(connection, actor.agency_id, start, end)
    return {"since": start, "until": end, "lines": lines}


@router.get("/looks", response_model=LooksReport)
async def report_looks(
    actor: Reporter, context: Context, since: Moment | None = None, until: Moment | None = None
) -> dict[str, Any]:
    """Who of your agency looked at how many people; far more than her peers, or outside her cases, comes first."""
    start, end = span(context, since, until)
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await looks.readers(unit.connection, actor.agency_id, start, end)
        await records.note(unit, actor, "looks.reported", "agency", actor.agency_id, count=len(found))
    judged = judge_readers([Reader(**{**line, "outside": tuple(line["outside"])}) for line in found])
    return {"since": start, "until": end, "readers": [reader_json(one) for one in judged]}


def reader_json(one: Judged) -> dict[str, Any]:
    """A reader as the report shows her."""
    reader = one.reader
    return {
        "user_id": reader.user_id,
        "role": reader.role,
        "looks": reader.looks,
        "people": reader.people,
        "peer_median": one.peer_median,
        "outside_people": list(reader.outside),
        "reasons": list(one.reasons),
    }


@router.get("/devices", response_model=DeviceReport)
async def report_devices(actor: Reporter, context: Context) -> dict[str, Any]:
    """Devices by kind and status, with how many are silent or low."""
    now = context.clock()
    async with context.database.connection(actor.scope) as connection:
        lines = await reports.devices(connection, actor.agency_id, now)
    return {"at": now, "lines": lines}
