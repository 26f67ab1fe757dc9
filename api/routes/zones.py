"""`/v1/zones`: places of an order, as GeoJSON Features."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.auth import FieldReader, Manager
from api.deps import Context
from api.schemas.base import Page, PageQuery
from api.schemas.orders import Window, ZoneChange, ZoneFeature, ZoneView
from core.actions import records
from core.actions.orders import change_zone, create_zone, remove_zone
from core.actions.unit_of_work import act
from core.errors import NotFound
from core.postgres.audit import people_of_orders
from core.postgres.orders import ORDERS
from core.postgres.table import Record
from core.postgres.zones import ZONES
from geo.zones import validate_geometry

router = APIRouter(prefix="/v1/zones", tags=["zones"])

PROPERTIES = (
    "order_id", "kind", "name", "radius_m", "warning_m", "schedule", "disclosed", "valid_from", "valid_until",
    "removed_at",
)  # fmt: skip


def as_feature(zone: Record) -> Record:
    """A zone's row as a GeoJSON Feature."""
    return {
        "type": "Feature",
        "id": zone["id"],
        "geometry": zone["geometry"],
        "properties": {name: zone[name] for name in PROPERTIES},
    }


def as_stored(schedule: list[Window] | None) -> list[dict[str, Any]] | None:
    """A schedule as the engine reads it."""
    return None if schedule is None else [window.model_dump(by_alias=True) for window in schedule]


class ZoneQuery(PageQuery):
    """Of one order or of all."""

    order_id: uuid.UUID | None = None


@router.post("", status_code=201, response_model=ZoneView)
async def enter_zone(body: ZoneFeature, actor: Manager, context: Context, response: Response) -> Record:
    """Enter a zone; its geometry is checked and mended (closed, winding), and refused with words that say where."""
    values = body.properties.model_dump(exclude={"schedule"}, exclude_none=True)
    values["geometry"] = validate_geometry(body.geometry, body.properties.radius_m)
    if body.properties.schedule is not None:
        values["schedule"] = as_stored(body.properties.schedule)
    async with act(context.database, context.clock(), actor.scope) as unit:
        zone, new = await create_zone(unit, actor, body.id, values)
    response.status_code = 201 if new else 200
    return as_feature(zone)


@router.get("", response_model=Page[ZoneView])
async def list_zones(actor: FieldReader, context: Context, paging: Annotated[ZoneQuery, Query()]) -> dict[str, Any]:
    """Zones, of one order or of all, with those that were removed."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        connection = unit.connection
        found = await ZONES.page(
            connection, actor.agency_id, after=paging.after, limit=paging.limit, where={"order_id": paging.order_id}
        )
        shown = []
        for zone in found:
            if actor.role == "officer":
                order = await ORDERS.get(connection, actor.agency_id, zone["order_id"])
                if order["sealed"]:
                    continue
            shown.append(as_feature(zone))
        people = await people_of_orders(connection, {zone["properties"]["order_id"] for zone in shown})
        await records.note(unit, actor, "zone.listed", "order", paging.order_id, people=people, count=len(shown))
    return {"items": shown, "next": found[-1]["id"] if len(found) == paging.limit else None}


@router.get("/{zone_id}", response_model=ZoneView)
async def read_zone(zone_id: uuid.UUID, actor: FieldReader, context: Context) -> Record:
    """One zone."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        zone = await ZONES.get(unit.connection, actor.agency_id, zone_id)
        order = await ORDERS.get(unit.connection, actor.agency_id, zone["order_id"])
        if order["sealed"] and actor.role == "officer":
            raise NotFound("There is no zone with this id.")
        await records.note(unit, actor, "zone.read", "zone", zone_id, people=records.whose(order))
    return as_feature(zone)


@router.patch("/{zone_id}", response_model=ZoneView)
async def update_zone(zone_id: uuid.UUID, body: ZoneChange, actor: Manager, context: Context) -> Record:
    """Change a zone's geometry or properties."""
    values = body.properties.model_dump(exclude_unset=True, exclude={"schedule"})
    if "schedule" in body.properties.model_fields_set:
        values["schedule"] = as_stored(body.properties.schedule)
    async with act(context.database, context.clock(), actor.scope) as unit:
        before = await ZONES.get(unit.connection, actor.agency_id, zone_id, lock=True)
        if body.geometry is not None or "radius_m" in values:
            radius_m = values.get("radius_m", before["radius_m"])
            values["geometry"] = validate_geometry(body.geometry or before["geometry"], radius_m)
        return as_feature(await change_zone(unit, actor, zone_id, values))


@router.delete("/{zone_id}", status_code=204)
async def delete_zone(zone_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Let a zone hold no longer."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await remove_zone(unit, actor, zone_id)
