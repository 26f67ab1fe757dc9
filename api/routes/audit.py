"""`/v1/audit`: who did or saw what, and the proof that it is as it was written; reading it is itself audited."""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Auditor, Reporter, Supervisor
from api.deps import Context
from api.routes.reports import span
from api.schemas.audit import AuditView, CheckpointPage, HoldView, NewHold, PersonReaders, Publication
from api.schemas.base import Moment, Page, PageQuery, Paging, page_of
from api.who_may import ANYONE
from core.actions import audit as actions
from core.actions import records
from core.actions.unit_of_work import act
from core.postgres import audit, chain, looks
from core.postgres.table import Record
from core.signing import key_id_of

router = APIRouter(prefix="/v1/audit", tags=["audit"])

PUBLISHED_DAYS: Final = 31
"""Days published when nothing is asked for."""
PUBLISHED_MAX: Final = 10_000
LINES_MAX: Final = 1_000


class AuditQuery(PageQuery):
    """Lines about one subject or person, by one user, of one action, in a span."""

    subject_id: uuid.UUID | None = None
    person_id: uuid.UUID | None = None
    actor_id: uuid.UUID | None = None
    action: Annotated[str | None, Field(max_length=100)] = None
    since: Moment | None = None
    until: Moment | None = None


class SpanQuery(BaseModel):
    """A span; the last 30 days when nothing is said."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = None
    until: Moment | None = None


@router.get("", response_model=Page[AuditView])
async def read_audit(actor: Auditor, context: Context, paging: Annotated[AuditQuery, Query()]) -> dict[str, Any]:
    """Your agency's audit, oldest first."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await audit.page(unit.connection, actor.agency_id, **paging.model_dump())
        people = [] if paging.person_id is None else [paging.person_id]
        await records.note(unit, actor, "audit.read", "audit", paging.subject_id, people=people, count=len(found))
    return page_of(found, paging.limit)


@router.get("/people/{person_id}/readers", response_model=PersonReaders)
async def read_readers(
    person_id: uuid.UUID, actor: Reporter, context: Context, asked: Annotated[SpanQuery, Query()]
) -> dict[str, Any]:
    """Who of your agency looked at this person, how often, as what, why and from where."""
    start, end = span(context, asked.since, asked.until)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await records.check_people(unit, actor.agency_id, [person_id])
        found = await looks.readers_of(unit.connection, actor.agency_id, person_id, start, end)
        await records.note(unit, actor, "audit.readers_read", "person", person_id, count=len(found))
    return {"person_id": person_id, "since": start, "until": end, "readers": found}


@router.get("/checkpoints", response_model=Publication, openapi_extra=ANYONE)
async def read_publication(
    context: Context,
    since: date | None = None,
    until: date | None = None,
    limit: Annotated[int, Query(ge=1, le=PUBLISHED_MAX)] = 1000,
) -> dict[str, Any]:
    """Hashes of the signed checkpoints that closed each day, for anybody to copy and keep; of nobody, of no amount.

    Who keeps them can later tell whether an agency's checkpoints, and the audit behind them, are still the same.
    """
    last = until or context.clock().date()
    first = since or last - timedelta(days=PUBLISHED_DAYS)
    async with context.database.connection() as connection:
        keys = await chain.known_keys(connection)
        items = await chain.published(connection, first, last, limit)
    return {"keys": [{"key_id": key_id_of(key), "public_key": key.hex()} for key in keys], "items": items}


@router.get("/chain", response_model=CheckpointPage)
async def read_chain(
    actor: Auditor,
    context: Context,
    after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=LINES_MAX)] = 100,
) -> dict[str, Any]:
    """Your agency's signed checkpoints, to be kept where nobody of the agency can change them."""
    async with context.database.connection(actor.scope) as connection:
        lines = await chain.checkpoint_lines(connection, actor.agency_id, after, limit)
    return {"lines": lines, "next": after + len(lines) if len(lines) == limit else None}


@router.post("/holds", status_code=201, response_model=HoldView)
async def place_hold(body: NewHold, actor: Supervisor, context: Context) -> Record:
    """Defer what a person is told of who looked at her data, for an inquiry; audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.place_hold(unit, actor, body.values())


@router.get("/holds", response_model=Page[HoldView])
async def list_holds(actor: Supervisor, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's holds, those that ended among them."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await audit.HOLDS.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit)
        await records.note(unit, actor, "audit_hold.listed", "audit_hold", people=records.whose(*found))
    return page_of(found, paging.limit)


@router.post("/holds/{hold_id}/release", response_model=HoldView)
async def release_hold(hold_id: uuid.UUID, actor: Supervisor, context: Context) -> Record:
    """Let the person be told now."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.release_hold(unit, actor, hold_id)
