"""Where a person is, and reasoned looks: `/v1/people/{id}/position`, `/v1/people/{id}/look`, `/v1/looks`."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api import seen
from api.auth import Actor, Supervisor, require
from api.deps import Context
from api.routes.access import GlassQuery, Review, Reviewer
from api.schemas.base import Body, Page, View, page_of
from core.actions import records
from core.actions import sight as actions
from core.actions.unit_of_work import Unit, act
from core.domain import sight
from core.domain.sight import Sight
from core.postgres import sight as store
from core.postgres.people import PEOPLE
from core.postgres.table import Record

router = APIRouter(prefix="/v1", tags=["access"])

Watcher = Annotated[Actor, Depends(require(*sorted(sight.COARSE_ROLES)))]
Looker = Annotated[Actor, Depends(require(*sorted(sight.EXACT_ROLES)))]
ReasonCode = Literal["welfare_check", "threat_reported", "medical", "missing", "device_fault", "other"]


class NewLook(Body):
    """Why you look. Name nobody in the reason."""

    reason_code: ReasonCode | None = None
    reason: Annotated[str, Field(max_length=1000)] | None = Field(None, description="Some words; wanted.")


class Cell(View):
    """The edges of a cell of about two kilometres, degrees (WGS84)."""

    south: float
    north: float
    west: float
    east: float


class PlaceView(View):
    """Where somebody is: exactly, or in which cell."""

    precision: Literal["exact", "coarse"]
    lat: float | None = None
    lon: float | None = None
    accuracy_m: float | None = None
    cell: Cell | None = None
    at: datetime | None = None


class PositionView(View):
    """Where a person is as you see it; no place: nothing is known of the last day."""

    person_id: uuid.UUID
    place: PlaceView | None


class LookView(View):
    """One time that somebody looked at where a person is, for a reason."""

    id: uuid.UUID
    user_id: uuid.UUID
    person_id: uuid.UUID
    reason_code: str
    reason: str
    from_at: datetime
    until_at: datetime
    reviewed_by: uuid.UUID | None
    reviewed_at: datetime | None
    verdict: Literal["justified", "unjustified"] | None
    review_note: str | None
    username: str | None = Field(None, description="Whose it was, in the list.")


class NewLookView(LookView):
    """A look that has just begun, and what it shows."""

    place: PlaceView | None


@router.get("/people/{person_id}/position", response_model=PositionView)
async def read_position(person_id: uuid.UUID, actor: Watcher, context: Context) -> dict[str, Any]:
    """Where a person is: exactly while an incident of hers unlocks it or you look for a reason, else coarsely."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await PEOPLE.get(unit.connection, actor.agency_id, person_id)
        how = await _sight(unit, actor, person_id)
        await records.note(unit, actor, "person.position_read", "person", person_id, precision=str(how))
        return {"person_id": person_id, "place": await seen.place_now(unit, actor, person_id, how)}


async def _sight(unit: Unit, actor: Actor, person_id: uuid.UUID) -> Sight:
    looked = str(person_id) in await seen.looks_of(unit, actor)
    standing = await store.standing(unit.connection, person_id)
    if standing.protected or not standing.involved:
        return sight.of_her(actor.role, unlocked=standing.unlocked, looked=looked)
    return sight.of_him(actor.role, open_incident=standing.involved, looked=looked)


@router.post("/people/{person_id}/look", status_code=201, response_model=NewLookView)
async def look(person_id: uuid.UUID, body: NewLook, actor: Looker, context: Context) -> Record:
    """Look at where a person is for ten minutes, for a reason: supervisors are told, somebody reviews it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        made = await actions.look(unit, actor, person_id, body.reason_code, body.reason)
        return {**made, "place": await seen.place_now(unit, actor, person_id, Sight.EXACT)}


@router.get("/looks", response_model=Page[LookView])
async def list_looks(actor: Reviewer, context: Context, paging: Annotated[GlassQuery, Query()]) -> dict[str, Any]:
    """Who looked at where whom was, when and why."""
    async with context.database.connection(actor.scope) as connection:
        found = await store.looks(connection, paging.reviewed, paging.after, paging.limit)
    return page_of(found, paging.limit)


@router.post("/looks/{look_id}/review", response_model=LookView)
async def review_look(look_id: uuid.UUID, body: Review, actor: Supervisor, context: Context) -> Record:
    """Keep whether a look was justified; nobody reviews her own."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.review(unit, actor, look_id, body.verdict, body.note)
