"""`/v1/agencies` and `/v1/notification-routes`: your own agency, and how it wants to be told."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Response

from api.auth import Admin, User
from api.deps import Context
from api.schemas.access import (
    AgencyChange,
    AgencyView,
    NewRoute,
    RotatedSecret,
    RouteChange,
    RouteView,
    SecretRotation,
)
from api.schemas.base import Page, Paging, page_of
from core.actions import records
from core.actions.orders import check_time_zone
from core.actions.unit_of_work import act
from core.domain.webhook_secret import new_secret, rotated
from core.errors import Conflict, NotFound
from core.postgres import agencies
from core.postgres.agencies import ROUTES
from core.postgres.table import Record
from geo.zones import validate_geometry

router = APIRouter(prefix="/v1", tags=["agencies"])


@router.get("/agencies", response_model=Page[AgencyView])
async def list_agencies(actor: User, context: Context) -> dict[str, Any]:
    """The agencies you belong to: one."""
    async with context.database.connection(actor.scope) as connection:
        return {"items": [await agencies.get(connection, actor.agency_id)], "next": None}


@router.get("/agencies/{agency_id}", response_model=AgencyView)
async def read_agency(agency_id: uuid.UUID, actor: User, context: Context) -> Record:
    """Your agency."""
    if agency_id != actor.agency_id:
        raise NotFound("There is no agency with this id.")
    async with context.database.connection(actor.scope) as connection:
        return await agencies.get(connection, agency_id)


@router.patch("/agencies/{agency_id}", response_model=AgencyView)
async def update_agency(agency_id: uuid.UUID, body: AgencyChange, actor: Admin, context: Context) -> Record:
    """Change your agency."""
    if agency_id != actor.agency_id:
        raise NotFound("There is no agency with this id.")
    values = body.values()
    if "time_zone" in values:
        check_time_zone(values["time_zone"])
    if values.get("jurisdiction") is not None:
        values["jurisdiction"] = validate_geometry(values["jurisdiction"])
    async with act(context.database, context.clock(), actor.scope) as unit:
        agency = await agencies.update(unit.connection, agency_id, values)
        await records.note(unit, actor, "agency.changed", "agency", agency_id, fields=sorted(values))
    return agency


@router.post("/notification-routes", status_code=201, response_model=RouteView)
async def create_route(body: NewRoute, actor: Admin, context: Context, response: Response) -> Record:
    """Add a way to be told: a desk's e-mail, a dispatch system's webhook, a log."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        record, new = await records.create(unit, actor, ROUTES, body.id, body.values())
    response.status_code = 201 if new else 200
    return record


@router.get("/notification-routes", response_model=Page[RouteView])
async def list_routes(actor: Admin, context: Context, paging: Paging) -> dict[str, Any]:
    """How your agency is told."""
    async with context.database.connection(actor.scope) as connection:
        found = await ROUTES.page(connection, actor.agency_id, after=paging.after, limit=paging.limit)
    return page_of(found, paging.limit)


@router.post("/notification-routes/{route_id}/rotate-secret", response_model=RotatedSecret)
async def rotate_route_secret(
    route_id: uuid.UUID, body: SecretRotation, actor: Admin, context: Context
) -> dict[str, Any]:
    """A new signing secret for a webhook, told only now; until the earlier one ends, messages bear both signatures."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        route = await ROUTES.get(unit.connection, actor.agency_id, route_id, lock=True)
        if route["channel"] != "webhook":
            raise Conflict("Only a webhook has a signing secret.", code="state_forbids")
        secret, ends_at = new_secret(), unit.now + timedelta(seconds=body.overlap_s)
        values = {"secret": rotated(route["secret"], secret, unit.now, ends_at)}
        await records.change(unit, actor, ROUTES, route_id, values, "secret_rotated")
    return {"id": route_id, "secret": secret, "earlier_until": ends_at}


@router.patch("/notification-routes/{route_id}", response_model=RouteView)
async def update_route(route_id: uuid.UUID, body: RouteChange, actor: Admin, context: Context) -> Record:
    """Change a way to be told, or switch it off."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await records.change(unit, actor, ROUTES, route_id, body.values())
