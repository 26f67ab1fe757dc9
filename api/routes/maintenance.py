"""`/v1/reports/maintenance`: pairs whose incidents keep being false, so that somebody looks at their devices."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from api.auth import Reporter
from api.deps import Context
from api.routes.reports import span
from api.schemas.base import Moment, View
from core.postgres import maintenance

router = APIRouter(prefix="/v1/reports", tags=["reports"])


class MaintenanceTask(View):
    """One pair to look at. A task suppresses no alarm."""

    id: uuid.UUID
    case_id: uuid.UUID
    order_id: uuid.UUID | None = Field(description="null: the incidents could not be told to one order of the case.")
    incident_ids: list[uuid.UUID] = Field(description="The incidents that were resolved as false alarm or technical.")
    causes: dict[str, int] = Field(description="What they were resolved with, and how often.")
    opened_at: datetime
    done_at: datetime | None = Field(description="When somebody said so by `POST /v1/tasks/{id}/done`.")
    done_by: uuid.UUID | None
    outcome: str | None


class MaintenanceReport(View):
    """Tasks opened in a span, newest first."""

    since: datetime
    until: datetime
    tasks: list[MaintenanceTask]


@router.get("/maintenance", response_model=MaintenanceReport)
async def report_maintenance(
    actor: Reporter,
    context: Context,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Pairs with more than three false incidents within seven days."""
    start, end = span(context, since, until)
    async with context.database.connection(actor.scope) as connection:
        tasks = await maintenance.listing(connection, actor.agency_id, start, end, limit)
    return {"since": start, "until": end, "tasks": tasks}
