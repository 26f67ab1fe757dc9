"""`/v1/reports`: figures over an agency's work; no names, no places."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter

from api.auth import Reporter
from api.deps import ApiContext, Context
from api.schemas.base import Moment, View
from core.errors import InvalidInput
from core.postgres import reports

router = APIRouter(prefix="/v1/reports", tags=["reports"])

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
    """Incidents by type, severity, state and outcome, with median times to each step."""
    start, end = span(context, since, until)
    async with context.database.connection() as connection:
        lines = await reports.incidents(connection, actor.agency_id, start, end)
    return {"since": start, "until": end, "lines": lines}


@router.get("/deliveries", response_model=DeliveryReport)
async def report_deliveries(
    actor: Reporter, context: Context, since: Moment | None = None, until: Moment | None = None
) -> dict[str, Any]:
    """Deliveries by channel, audience and state."""
    start, end = span(context, since, until)
    async with context.database.connection() as connection:
        lines = await reports.deliveries(connection, actor.agency_id, start, end)
    return {"since": start, "until": end, "lines": lines}


@router.get("/devices", response_model=DeviceReport)
async def report_devices(actor: Reporter, context: Context) -> dict[str, Any]:
    """Devices by kind and status, with how many are silent or low."""
    now = context.clock()
    async with context.database.connection() as connection:
        lines = await reports.devices(connection, actor.agency_id, now)
    return {"at": now, "lines": lines}
