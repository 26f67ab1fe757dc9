"""`/v1/suspensions`: hours in which an order does not hold, asked by one person and confirmed by another."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.auth import Manager, Reader
from api.deps import Context
from api.schemas.base import Page, PageQuery, page_of
from api.schemas.orders import NewSuspension, SuspensionView
from core.actions import suspensions
from core.actions.unit_of_work import act
from core.postgres.suspensions import SUSPENSIONS
from core.postgres.table import Record

router = APIRouter(prefix="/v1/suspensions", tags=["suspensions"])


class SuspensionQuery(PageQuery):
    """Of one order or of all."""

    order_id: uuid.UUID | None = None


@router.post("", status_code=201, response_model=SuspensionView)
async def ask_suspension(body: NewSuspension, actor: Manager, context: Context, response: Response) -> Record:
    """Ask for a suspension of at most eight hours; nothing changes until somebody else confirms it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        record, new = await suspensions.ask(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return record


@router.get("", response_model=Page[SuspensionView])
async def list_suspensions(
    actor: Reader, context: Context, paging: Annotated[SuspensionQuery, Query()]
) -> dict[str, Any]:
    """Suspensions, of one order or of all."""
    async with context.database.connection(actor.scope) as connection:
        found = await SUSPENSIONS.page(
            connection, actor.agency_id, after=paging.after, limit=paging.limit, where={"order_id": paging.order_id}
        )
    return page_of(found, paging.limit)


@router.get("/{suspension_id}", response_model=SuspensionView)
async def read_suspension(suspension_id: uuid.UUID, actor: Reader, context: Context) -> Record:
    """One suspension."""
    async with context.database.connection(actor.scope) as connection:
        return await SUSPENSIONS.get(connection, actor.agency_id, suspension_id)


@router.post("/{suspension_id}/confirm", response_model=SuspensionView)
async def confirm_suspension(suspension_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """Let what somebody else asked for take effect."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await suspensions.confirm(unit, actor, suspension_id)


@router.post("/{suspension_id}/end", response_model=SuspensionView)
async def end_suspension(suspension_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """End a suspension before its time, or take it back."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await suspensions.end(unit, actor, suspension_id)
