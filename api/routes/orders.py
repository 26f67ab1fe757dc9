"""`/v1/orders`: protection orders."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from api.auth import FieldReader, Manager
from api.deps import Context
from api.schemas.base import Page, PageQuery, page_of
from api.schemas.orders import (
    Extension,
    NewOrder,
    OrderChange,
    OrderDetail,
    OrderHistory,
    OrderView,
    Revocation,
    Service,
)
from core.actions import order_life, records
from core.actions.orders import change_order, create_order, with_overlaps
from core.actions.unit_of_work import act
from core.errors import NotFound
from core.postgres import orders
from core.postgres.orders import ORDERS
from core.postgres.table import Record

router = APIRouter(prefix="/v1/orders", tags=["orders"])


class OrderQuery(PageQuery):
    """Orders by whom they are about and how they stand."""

    victim_id: uuid.UUID | None = None
    aggressor_id: uuid.UUID | None = None
    status: Literal["issued", "in_force", "suspended", "expired", "revoked"] | None = None


@router.post("", status_code=201, response_model=OrderDetail)
async def enter_order(body: NewOrder, actor: Manager, context: Context, response: Response) -> Record:
    """Enter an order; it is watched within a second. Others between the same two are told in `overlaps`."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        order, new = await create_order(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return order


@router.get("", response_model=Page[OrderView])
async def list_orders(actor: FieldReader, context: Context, paging: Annotated[OrderQuery, Query()]) -> dict[str, Any]:
    """Your agency's orders; sealed ones are kept from officers."""
    where = {
        **paging.model_dump(include={"victim_id", "aggressor_id", "status"}),
        "sealed": False if actor.role == "officer" else None,
    }
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await ORDERS.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit, where=where)
        await records.note(unit, actor, "order.listed", "order", people=records.whose(*found), count=len(found))
    return page_of(found, paging.limit)


@router.get("/{order_id}", response_model=OrderDetail)
async def read_order(order_id: uuid.UUID, actor: FieldReader, context: Context) -> Record:
    """One order."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        order = await ORDERS.get(unit.connection, actor.agency_id, order_id)
        if order["sealed"] and actor.role == "officer":
            raise NotFound("There is no order with this id.")
        await records.note(unit, actor, "order.read", "order", order_id, people=records.whose(order))
        return await with_overlaps(unit, order)


@router.patch("/{order_id}", response_model=OrderDetail)
async def update_order(order_id: uuid.UUID, body: OrderChange, actor: Manager, context: Context) -> Record:
    """Change an order; `status: revoked` ends it for good."""
    values = body.values()
    version = values.pop("version", None)
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await change_order(unit, actor, order_id, values, version)


@router.post("/{order_id}/serve", response_model=OrderDetail)
async def serve_order(order_id: uuid.UUID, body: Service, actor: Manager, context: Context) -> Record:
    """Say that the order was served on him: it is in force, and its term runs."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await order_life.serve(unit, actor, order_id, body.served_at, body.version)


@router.post("/{order_id}/extend", response_model=OrderDetail)
async def extend_order(order_id: uuid.UUID, body: Extension, actor: Manager, context: Context) -> Record:
    """Let the order end later."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await order_life.extend(
            unit,
            actor,
            order_id,
            valid_until=body.valid_until,
            term=None if body.term is None else body.term.value(),
            reference=body.reference,
            version=body.version,
        )


@router.post("/{order_id}/revoke", response_model=OrderDetail)
async def revoke_order(order_id: uuid.UUID, body: Revocation, actor: Manager, context: Context) -> Record:
    """End the order for good. Its open incidents stay open."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await order_life.revoke(
            unit, actor, order_id, body.reason, reference=body.reference, version=body.version
        )


@router.get("/{order_id}/versions", response_model=OrderHistory)
async def read_versions(order_id: uuid.UUID, actor: FieldReader, context: Context) -> dict[str, Any]:
    """What the order was at each of its versions, who made it so, and when."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        order = await ORDERS.get(unit.connection, actor.agency_id, order_id)
        if order["sealed"] and actor.role == "officer":
            raise NotFound("There is no order with this id.")
        await records.note(unit, actor, "order.history_read", "order", order_id, people=records.whose(order))
        return {"versions": await orders.versions(unit.connection, actor.agency_id, order_id)}
