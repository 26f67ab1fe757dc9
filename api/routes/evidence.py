"""Evidence of incidents: asked for with a reason, made in the background, fetched as bundles that anyone can check."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api.auth import Reporter
from api.deps import Context
from api.schemas.base import MAX_LIST_ITEMS, Body, Page, View, page_of
from core.actions import evidence_exports as exports
from core.actions.unit_of_work import act
from core.errors import NotAllowed, NotFound
from core.postgres import evidence_exports as store
from core.postgres import incidents

router = APIRouter(prefix="/v1", tags=["evidence"])

PLACED_ROLES: Final = frozenset({"supervisor", "admin"})
"""Who may have the edition that tells where she was and who she is."""


class Ask(Body):
    """Why an incident's evidence is wanted; it is kept with the export."""

    reason: str = Field(min_length=3, max_length=500)


class Export(View):
    """An export: how far it is, and how long it can be fetched."""

    id: uuid.UUID
    incident_id: uuid.UUID
    reason: str
    asked_by: uuid.UUID | None = Field(description="null: the operator, at the command line.")
    asked_at: datetime
    state: Literal["queued", "running", "done", "failed"]
    progress: float = Field(description="0 to 1.")
    finished_at: datetime | None
    kept_until: datetime | None = Field(description="Until then it can be fetched.")
    failure: str | None
    root: str | None = Field(description="Root of the hash tree that every edition shares, hexadecimal.")


@router.post("/incidents/{incident_id}/evidence", status_code=202, response_model=Export)
async def ask_evidence(incident_id: uuid.UUID, body: Ask, actor: Reporter, context: Context) -> dict[str, Any]:
    """Have an incident's evidence made in every edition; look at its state until it is done. Audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await exports.ask(unit, actor, incident_id, body.reason)


@router.get("/incidents/{incident_id}/evidence", response_model=Page[Export])
async def list_evidence(
    incident_id: uuid.UUID,
    actor: Reporter,
    context: Context,
    limit: Annotated[int, Query(ge=1, le=MAX_LIST_ITEMS)] = 20,
) -> dict[str, Any]:
    """The exports of an incident, newest first."""
    async with context.database.connection(actor.scope) as connection:
        if await incidents.find(connection, actor.agency_id, incident_id) is None:
            raise NotFound("There is no such incident.")
        found = await store.of_incident(connection, actor.agency_id, incident_id, limit)
    return {**page_of(found, limit), "next": None}


@router.get("/evidence/{export_id}", response_model=Export)
async def read_evidence(export_id: uuid.UUID, actor: Reporter, context: Context) -> dict[str, Any]:
    """How far an export is."""
    async with context.database.connection(actor.scope) as connection:
        return await store.get(connection, actor.agency_id, export_id)


@router.get(
    "/evidence/{export_id}/{edition}",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "The bundle."}},
)
async def fetch_evidence(
    export_id: uuid.UUID, edition: Literal["court", "defence", "subject"], actor: Reporter, context: Context
) -> Response:
    """An edition of a finished export, as a zip. The court's only for a supervisor or an administrator. Audited."""
    if edition == "court" and actor.role not in PLACED_ROLES:
        raise NotAllowed("The court's edition tells where she was; it needs the role supervisor or admin.")
    async with act(context.database, context.clock(), actor.scope) as unit:
        bundle = await exports.fetch(unit, actor, export_id, edition)
    headers = {"content-disposition": f'attachment; filename="{export_id}.{edition}.zip"', "cache-control": "no-store"}
    return Response(bundle, media_type="application/zip", headers=headers)
