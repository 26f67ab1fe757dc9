"""`/v1/me`: what the one who asks may know of herself."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from api.auth import AnyUser, Device, ProtectedDevice, bearer_token, client_address
from api.deps import ApiContext, Context
from api.ingest.signatures import check_request
from api.live.own_view import SERVICE_DEGRADED, UNFITTED, judge
from api.schemas.audit import OwnLooks
from api.schemas.base import View, page_of
from api.schemas.devices import ProtectionView, RotatedToken
from core.actions import devices as device_actions
from core.actions.unit_of_work import act
from core.errors import StoreUnavailable
from core.ids import token_digest
from core.postgres import devices, drills, looks
from core.postgres.table import MAX_PAGE

router = APIRouter(prefix="/v1/me", tags=["me"])


class MeView(View):
    """The signed-in user."""

    id: uuid.UUID
    agency_id: uuid.UUID
    username: str
    role: str


@router.get("", response_model=MeView)
async def read_me(actor: AnyUser) -> dict[str, Any]:
    """Who you are signed in as."""
    return {"id": actor.user_id, "agency_id": actor.agency_id, "username": actor.username, "role": actor.role}


@router.get("/protection", response_model=ProtectionView)
async def read_protection(device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """Whether the wearer is protected now, and if not wholly, why; no position of anyone."""
    if device.person_id is None:
        return {**UNFITTED, "devices": []}
    now = context.clock()
    try:
        async with context.device_database.connection() as connection:
            own = await devices.of_people(connection, [device.person_id])
            orders = await devices.protection(connection, [device.person_id], now)
            told = await drills.contacts_of(connection, device.person_id)
    except StoreUnavailable:
        return {**SERVICE_DEGRADED, "devices": []}
    own = [record for record in own if record["role"] != "aggressor"]
    return {**judge(own, orders[device.person_id], now), "devices": own, "contacts": told}


@router.get("/audit", response_model=OwnLooks)
async def read_own_looks(
    device: ProtectedDevice,
    context: Context,
    before: uuid.UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> dict[str, Any]:
    """Who looked at the wearer's data: when, in which role, of which agency, why; no position of anyone."""
    if device.person_id is None:
        return {"items": [], "next": None}
    async with context.device_database.connection() as connection:
        found = await looks.at_person(connection, device.person_id, before, limit)
    return page_of(found, limit)


class SignedRequest(View):
    """What a device that signs its pings asks, signed; one without a key sends no body."""

    signed: str = Field(
        max_length=500,
        description="A JSON object as text: `purpose` (rotate_token, confirm_token), `device_id`, and `token_sha256` of"
        " the token asked with, in hexadecimal.",
    )
    signature: str = Field(max_length=200, description="Over the UTF-8 bytes of that very text, in base64url.")


def _check_signed(
    purpose: str, device: Any, body: SignedRequest | None, request: Request, context: ApiContext
) -> bytes:
    """The digest of the token asked with; raises InvalidInput when the device signs and this is not signed."""
    digest = token_digest(bearer_token(request.headers.get("authorization")))
    signed, signature = (body.signed, body.signature) if body is not None else (None, "")
    check_request(context.token_key, device, purpose, digest, signed, signature)
    return digest


@router.post("/token", status_code=201, response_model=RotatedToken)
async def rotate_token(
    device: Device, request: Request, context: Context, body: SignedRequest | None = None
) -> dict[str, Any]:
    """A new token for the device that asks, told only now; confirm it, and the earlier ones end."""
    _check_signed("rotate_token", device, body, request, context)
    async with act(context.device_database, context.clock()) as unit:
        token, until = await device_actions.rotate_token(unit, device.id, device.agency_id, client_address(request))
    await context.registry.known(token)
    return {"token": token, "earlier_until": until}


@router.post("/token/confirm", status_code=204)
async def confirm_token(device: Device, request: Request, context: Context, body: SignedRequest | None = None) -> None:
    """The device has kept the token it asks with: every other of its tokens ends."""
    digest = _check_signed("confirm_token", device, body, request, context)
    async with act(context.device_database, context.clock()) as unit:
        await device_actions.confirm_token(unit, device.id, device.agency_id, digest, client_address(request))
