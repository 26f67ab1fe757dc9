"""`/v1/outages`: what the service, or many devices at once, are without, and which agencies have heard of it."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from api.auth import Actor, Dispatch, Supervisor, require
from api.deps import Context
from api.schemas.base import View
from core.actions import broadcast, outage_sheet, records
from core.actions.unit_of_work import act
from core.evidence.outage_sheet import as_pdf, as_text
from core.postgres import service_outages as store

router = APIRouter(prefix="/v1/outages", tags=["operations"])

SHOWN: Final = timedelta(days=7)
"""How long after its end an outage is listed."""
Watcher = Annotated[Actor, Depends(require("dispatcher", "supervisor", "admin", "officer"))]


class HeardView(View):
    """An agency that has acknowledged an outage."""

    agency: str
    at: datetime


class OutageView(View):
    """An outage: of the service, or (`devices`) of many devices of yours at once."""

    id: uuid.UUID
    what: Literal["positions", "detection", "database", "devices"]
    started_at: datetime
    ended_at: datetime | None
    incident_id: uuid.UUID | None = Field(description="Of devices: the incident.")
    acknowledged_by: uuid.UUID | None = Field(description="Who of your agency.")
    acknowledged_by_name: str | None = Field(None, description="Her user name.")
    acknowledged_at: datetime | None
    told: int = Field(description="Protected persons of yours who were sent a word.")
    not_told: int = Field(description="Those whom nothing could reach then.")
    heard: list[HeardView]


class OutageList(View):
    """What is on, and what ended within a week, the newest first."""

    items: list[OutageView]


@router.get("", response_model=OutageList)
async def list_outages(actor: Watcher, context: Context) -> dict[str, Any]:
    """What is on, what ended within a week, and which agencies have acknowledged it."""
    async with context.database.connection(actor.scope) as connection:
        found = await store.listing(connection, actor.agency_id, context.clock() - SHOWN)
        heard = await store.heard(connection, [one["id"] for one in found])
    return {"items": [{**one, "heard": heard.get(one["id"], [])} for one in found]}


@router.post("/{outage_id}/acknowledge", status_code=204)
async def acknowledge_outage(outage_id: uuid.UUID, actor: Dispatch, context: Context) -> None:
    """Your agency has heard of an outage and acts by its plan; again changes nothing."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await broadcast.acknowledge(unit, actor, outage_id)


@router.get(
    "/sheet",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}, "text/plain": {}}}},
)
async def read_sheet(
    actor: Supervisor,
    context: Context,
    language: Annotated[Literal["kk", "ru", "en"], Query(description="Of the words.")] = "ru",
    form: Annotated[Literal["pdf", "text"], Query(description="PDF, or plain text.")] = "pdf",
) -> Response:
    """The outage sheet: the riskiest pairs by district, how to reach them, who is on duty. It names people."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        sheet, people = await outage_sheet.make(unit, actor.agency_id, hide_sealed=False)
        await records.note(unit, actor, "outage_sheet.made", "agency", actor.agency_id, people=people)
    if form == "text":
        return Response(as_text(sheet, language), media_type="text/plain; charset=utf-8")
    pdf = await asyncio.to_thread(as_pdf, sheet, language)
    headers = {"Content-Disposition": 'attachment; filename="outage-sheet.pdf"'}
    return Response(pdf, media_type="application/pdf", headers=headers)
