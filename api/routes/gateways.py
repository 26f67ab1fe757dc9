"""`/v1/gateways`: tokens for what sends on behalf of many devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import APIRouter

from api.auth import Admin
from api.deps import Context
from api.schemas.access import GatewayRotation, GatewayToken, GatewayView, NewGateway, RotatedGateway
from api.schemas.base import Page
from core.actions import devices
from core.actions.unit_of_work import act
from core.postgres import tokens
from core.postgres.table import MAX_PAGE

router = APIRouter(prefix="/v1/gateways", tags=["devices"])


@router.post("", status_code=201, response_model=GatewayToken)
async def add_gateway(body: NewGateway, actor: Admin, context: Context) -> dict[str, str]:
    """Let a gateway in; its token is told only now."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        token = await devices.add_gateway(unit, actor, body.name, body.expires_at)
    await context.registry.known(token)
    return {"name": body.name, "token": token}


@router.get("", response_model=Page[GatewayView])
async def list_gateways(actor: Admin, context: Context) -> dict[str, Any]:
    """Your agency's gateways."""
    async with context.database.connection(actor.scope) as connection:
        return {"items": await tokens.gateways(connection, actor.agency_id, MAX_PAGE), "next": None}


@router.post("/{name}/rotate", response_model=RotatedGateway)
async def rotate_gateway(name: str, body: GatewayRotation, actor: Admin, context: Context) -> dict[str, Any]:
    """A new token for a gateway, told only now; the earlier ones hold for the overlap, so that no ping is lost."""
    overlap = timedelta(seconds=body.overlap_s)
    async with act(context.database, context.clock(), actor.scope) as unit:
        token, until = await devices.rotate_gateway(unit, actor, name, overlap)
    await context.registry.known(token)
    return {"name": name, "token": token, "earlier_until": until}


@router.delete("/{name}", status_code=204)
async def revoke_gateway(name: str, actor: Admin, context: Context) -> None:
    """End a gateway's tokens at once."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await devices.revoke_gateway(unit, actor, name)
