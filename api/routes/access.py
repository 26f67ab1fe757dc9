"""`/v1/conflicts`, `/v1/orders/{id}/named-users`, `/v1/break-glass`: who may open what within an agency."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field, model_validator

from api.auth import Actor, FieldReader, Manager, Supervisor, require
from api.deps import Context
from api.schemas.base import Body, Page, PageQuery, View, page_of
from core.actions import access as actions
from core.actions.unit_of_work import act
from core.postgres import access
from core.postgres.orders import ORDERS
from core.postgres.table import Record

router = APIRouter(prefix="/v1", tags=["access"])

Relation = Literal["self", "relative", "partner", "friend", "colleague", "other"]
Reviewer = Annotated[Actor, Depends(require("admin", "supervisor", "auditor"))]
"""Reads who broke the glass."""


class NewConflict(Body):
    """That a user is related to a person."""

    user_id: uuid.UUID
    person_id: uuid.UUID
    relation: Relation


class ConflictView(View):
    """A user who may open nothing of a person."""

    user_id: uuid.UUID
    person_id: uuid.UUID
    relation: Relation
    noted_by: uuid.UUID
    noted_at: datetime


class Conflicts(View):
    """Conflicts, newest first."""

    items: list[ConflictView]


class NewNamedUser(Body):
    """Who may open the case."""

    user_id: uuid.UUID


class NamedUser(View):
    """Who may open a case of which an order is sealed."""

    user_id: uuid.UUID
    named_by: uuid.UUID | None = Field(description="null: could open it before it was sealed.")
    named_at: datetime


class NamedUsers(View):
    """Everyone who may open a sealed case."""

    items: list[NamedUser]


class BreakGlass(Body):
    """What is to be opened, and why. Name nobody in the reason: reviewers of other cases read it."""

    person_id: uuid.UUID | None = None
    case_id: uuid.UUID | None = None
    incident_id: uuid.UUID | None = None
    reason_code: Literal["emergency", "handover", "supervision", "court", "complaint", "technical"]
    reason: Annotated[str, Field(min_length=10, max_length=1000)]

    @model_validator(mode="after")
    def _one_thing(self) -> BreakGlass:
        if sum(one is not None for one in (self.person_id, self.case_id, self.incident_id)) != 1:
            raise ValueError("send one of person_id, case_id and incident_id")
        return self

    @property
    def asked(self) -> tuple[str, uuid.UUID]:
        """What is to be opened: its kind and id."""
        for kind, asked_id in (("person", self.person_id), ("case", self.case_id), ("incident", self.incident_id)):
            if asked_id is not None:
                return kind, asked_id
        raise AssertionError


class GlassView(View):
    """One time that somebody opened what was sealed."""

    id: uuid.UUID
    user_id: uuid.UUID
    asked_kind: Literal["person", "case", "incident"]
    asked_id: uuid.UUID
    case_ids: list[uuid.UUID]
    reason_code: str
    reason: str
    from_at: datetime
    until_at: datetime
    reviewed_by: uuid.UUID | None
    reviewed_at: datetime | None
    verdict: Literal["justified", "unjustified"] | None
    review_note: str | None
    username: str | None = Field(None, description="Whose it was, in the list.")


class GlassQuery(PageQuery):
    """Reviewed, still to review, or all."""

    reviewed: bool | None = None


class Review(Body):
    """What a reviewer found; what was not justified is shut at once."""

    verdict: Literal["justified", "unjustified"]
    note: Annotated[str, Field(max_length=1000)] | None = None


@router.post("/conflicts", status_code=201)
async def note_conflict(body: NewConflict, actor: Supervisor, context: Context, response: Response) -> None:
    """Note that a user is related to a person: she may open nothing of that person from now on, whatever her role."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        new = await actions.note_conflict(unit, actor, body.model_dump())
    response.status_code = 201 if new else 200


@router.get("/conflicts", response_model=Conflicts)
async def list_conflicts(
    actor: Supervisor,
    context: Context,
    user_id: uuid.UUID | None = None,
    person_id: uuid.UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Which users are related to which people, newest first."""
    async with context.database.connection(actor.scope) as connection:
        return {"items": await access.conflicts(connection, user_id, person_id, limit)}


@router.delete("/conflicts/{user_id}/{person_id}", status_code=204)
async def remove_conflict(user_id: uuid.UUID, person_id: uuid.UUID, actor: Supervisor, context: Context) -> None:
    """Take a conflict back; nobody takes back her own."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.take_conflict_back(unit, actor, user_id, person_id)


@router.get("/orders/{order_id}/named-users", response_model=NamedUsers)
async def list_named_users(order_id: uuid.UUID, actor: Manager, context: Context) -> dict[str, Any]:
    """Who may open this order's case while an order of it is sealed."""
    async with context.database.connection(actor.scope) as connection:
        order = await ORDERS.get(connection, actor.agency_id, order_id)
        return {"items": await access.named_users(connection, order["case_id"])}


@router.post("/orders/{order_id}/named-users", status_code=201)
async def name_user(
    order_id: uuid.UUID, body: NewNamedUser, actor: Manager, context: Context, response: Response
) -> None:
    """Let a user open this order's case although it is sealed."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        new = await actions.name_user(unit, actor, order_id, body.user_id)
    response.status_code = 201 if new else 200


@router.delete("/orders/{order_id}/named-users/{user_id}", status_code=204)
async def unname_user(order_id: uuid.UUID, user_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Let a user open this sealed case no longer; the last one stays."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.unname_user(unit, actor, order_id, user_id)


@router.post("/break-glass", status_code=201, response_model=GlassView)
async def break_glass(body: BreakGlass, actor: FieldReader, context: Context) -> Record:
    """Open a sealed case for an hour, for a reason: the supervisors are told at once, and somebody reviews it.

    Who is related to somebody in the case is answered as if there were none.
    """
    kind, asked_id = body.asked
    life_s = context.settings.break_glass_s
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.break_glass(unit, actor, kind, asked_id, body.reason_code, body.reason, life_s)


@router.get("/break-glass", response_model=Page[GlassView])
async def list_broken_glass(
    actor: Reviewer, context: Context, paging: Annotated[GlassQuery, Query()]
) -> dict[str, Any]:
    """Who opened what was sealed, when and why."""
    async with context.database.connection(actor.scope) as connection:
        found = await access.broken_glass(connection, paging.reviewed, paging.after, paging.limit)
    return page_of(found, paging.limit)


@router.post("/break-glass/{glass_id}/review", response_model=GlassView)
async def review_broken_glass(glass_id: uuid.UUID, body: Review, actor: Supervisor, context: Context) -> Record:
    """Keep whether it was justified; nobody reviews her own."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.review_glass(unit, actor, glass_id, body.verdict, body.note)
