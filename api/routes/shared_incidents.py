"""`/v1/shared-incidents`: other agencies' incidents that are on your ground, or in which your help was asked."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter

from api.auth import Dispatch
from api.deps import Context
from api.schemas.base import Page
from api.schemas.escalation import SharedIncidentView, SharedIncidentWhole
from core.actions import records, shared_incidents
from core.actions.unit_of_work import act
from core.errors import NotFound
from core.postgres import shares

router = APIRouter(prefix="/v1/shared-incidents", tags=["escalation"])


@router.get("", response_model=Page[SharedIncidentView])
async def list_shared(actor: Dispatch, context: Context) -> dict[str, Any]:
    """Those that are not over, the newest first; where they are is told one at a time."""
    async with context.database.connection(actor.scope) as connection:
        return {"items": await shares.shared(connection), "next": None}


@router.get("/{incident_id}", response_model=SharedIncidentWhole)
async def read_shared(incident_id: uuid.UUID, actor: Dispatch, context: Context) -> dict[str, Any]:
    """One, with its place while a panic, a breach or an approach is open; both agencies' audits say that you looked."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await shares.shared(unit.connection, incident_id)
        if not found:
            raise NotFound("There is no such incident.")
        await records.note(unit, actor, "shared_incident.read", "incident", incident_id)
    async with act(context.device_database, context.clock()) as unit:
        await shared_incidents.note_look(unit, actor, incident_id)
    return found[0]


@router.post("/{incident_id}/acknowledge", response_model=SharedIncidentWhole)
async def acknowledge_shared(incident_id: uuid.UUID, actor: Dispatch, context: Context) -> dict[str, Any]:
    """Say that you have taken notice: nobody else is called for it until its own agency has to act."""
    async with act(context.device_database, context.clock()) as unit:
        await shared_incidents.acknowledge(unit, actor, incident_id)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await records.note(unit, actor, "shared_incident.acknowledged", "incident", incident_id)
        found = await shares.shared(unit.connection, incident_id)
    if not found:
        raise NotFound("There is no such incident.")
    return found[0]
