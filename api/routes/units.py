"""`/v1/units`: whom a dispatcher can send, and where they are."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Response

from api.auth import Dispatch, FieldReader, Supervisor
from api.deps import Context
from api.schemas.base import Page, Paging, page_of
from api.schemas.people import NewUnit, UnitChange, UnitView
from core.actions import records, units
from core.actions.unit_of_work import act
from core.errors import InvalidInput
from core.postgres.database import Connection
from core.postgres.table import Record
from core.postgres.units import UNITS, as_told

router = APIRouter(prefix="/v1/units", tags=["units"])


def check_position(body: NewUnit | UnitChange) -> bool:
    """Whether a position was sent; raises InvalidInput when it was sent by half."""
    if (body.lat is None) != (body.lon is None):
        raise InvalidInput("Send lat and lon together.", code="position_invalid")
    return body.lat is not None


async def _told(connection: Connection, record: Record) -> Record:
    return (await as_told(connection, [record]))[0]


@router.post("", status_code=201, response_model=UnitView)
async def create_unit(body: NewUnit, actor: Supervisor, context: Context, response: Response) -> Record:
    """Enter a unit."""
    now, values = context.clock(), body.values()
    stamp = {"position_at": now} if check_position(body) else {}
    async with act(context.database, now, actor.scope) as unit:
        if not await records.claim(unit, actor, UNITS, body.id, values):
            assert body.id is not None
            response.status_code = 200
            return await _told(unit.connection, await UNITS.get(unit.connection, actor.agency_id, body.id))
        return await units.add(unit, actor, body.id, {**values, **stamp})


@router.get("", response_model=Page[UnitView])
async def list_units(actor: FieldReader, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's units."""
    async with context.database.connection(actor.scope) as connection:
        found = await UNITS.page(connection, actor.agency_id, after=paging.after, limit=paging.limit)
        found = await as_told(connection, found)
    return page_of(found, paging.limit)


@router.get("/{unit_id}", response_model=UnitView)
async def read_unit(unit_id: uuid.UUID, actor: FieldReader, context: Context) -> Record:
    """One unit."""
    async with context.database.connection(actor.scope) as connection:
        return await _told(connection, await UNITS.get(connection, actor.agency_id, unit_id))


@router.patch("/{unit_id}", response_model=UnitView)
async def update_unit(unit_id: uuid.UUID, body: UnitChange, actor: Dispatch, context: Context) -> Record:
    """Change a unit; a position is dated by its arrival."""
    now, values = context.clock(), body.values()
    if check_position(body):
        values["position_at"] = now
    async with act(context.database, now, actor.scope) as unit:
        return await _told(unit.connection, await units.change(unit, actor, unit_id, values))
