"""`/v1/dead-letters` and `/v1/incidents/{id}/deliveries`: who was told, how far it got, and what reached nobody."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field

from api.auth import Dispatch, Supervisor
from api.deps import Context
from api.schemas.base import View
from core.actions import dead_letters as actions
from core.actions import records
from core.actions.unit_of_work import act
from core.errors import NotFound
from core.postgres import dead_letters, poison, receipts
from core.postgres.incidents import find as find_incident

router = APIRouter(prefix="/v1", tags=["notifications"])

DELIVERIES_MAX: Final = 500


class DeadLetterView(View):
    """A delivery that reached nobody: what it was, how often it was tried and why it failed; no address, no words."""

    id: uuid.UUID
    incident_id: uuid.UUID | None
    audience: str
    recipient: str
    channel: str
    template: str
    language: str
    priority: int
    state: str = Field(description="dead: no provider took it; failed: one did, and could not deliver it.")
    attempts: int
    reason: str | None
    created_at: datetime
    updated_at: datetime
    dismissed_at: datetime | None


class DeadLettersView(View):
    """Your agency's dead letters, and what the whole installation has set aside."""

    items: list[DeadLetterView]
    poison: dict[str, int] = Field(description="Messages set aside that nobody has looked at, by where they came from.")


class ReceiptView(View):
    """How far a message got, and when."""

    state: str
    at: datetime
    detail: str | None


class DeliveryView(View):
    """One message to one recipient over one channel; no address, no words."""

    id: uuid.UUID
    audience: str
    recipient: str
    channel: str
    template: str
    language: str
    priority: int
    step: int
    state: str
    attempts: int
    reason: str | None
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    seen_at: datetime | None
    receipts: list[ReceiptView]


class DeliveriesView(View):
    """An incident's messages in the order they were queued."""

    items: list[DeliveryView]


@router.get("/dead-letters", response_model=DeadLettersView)
async def list_dead_letters(
    actor: Supervisor,
    context: Context,
    dismissed: bool = False,
    limit: Annotated[int, Query(ge=1, le=dead_letters.MAX_LISTED)] = 100,
) -> dict[str, Any]:
    """What reached nobody, the latest first; `dismissed`: also what somebody has left dead."""
    async with context.database.connection(actor.scope) as connection:
        found = await dead_letters.list_dead(connection, actor.agency_id, limit, dismissed=dismissed)
    async with context.device_database.connection() as connection:
        aside = await poison.unhandled_by_source(connection)
    return {"items": [{**one, "reason": one["last_error"]} for one in found], "poison": aside}


@router.post("/dead-letters/{delivery_id}/retry", status_code=202)
async def retry_dead_letter(delivery_id: uuid.UUID, actor: Supervisor, context: Context) -> None:
    """Have it sent again, with all its attempts, under the same id."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.retry(unit, actor, delivery_id)


@router.post("/dead-letters/{delivery_id}/dismiss", status_code=204)
async def dismiss_dead_letter(delivery_id: uuid.UUID, actor: Supervisor, context: Context) -> None:
    """Leave it dead: it is no longer listed or counted."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.dismiss(unit, actor, delivery_id)


@router.get("/incidents/{incident_id}/deliveries", response_model=DeliveriesView)
async def list_incident_deliveries(incident_id: uuid.UUID, actor: Dispatch, context: Context) -> dict[str, Any]:
    """Who was told of an incident, how far each message got, and why one failed."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        row = await find_incident(unit.connection, actor.agency_id, incident_id)
        if row is None:
            raise NotFound("There is no incident with this id.")
        found = await receipts.of_incident(unit.connection, incident_id, DELIVERIES_MAX)
        noted = await receipts.of_deliveries(unit.connection, [one["id"] for one in found])
        await records.note(unit, actor, "incident.deliveries_read", "incident", incident_id, people=records.whose(row))
    return {"items": [{**one, "reason": one["last_error"], "receipts": noted.get(one["id"], [])} for one in found]}
