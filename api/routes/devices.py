"""`/v1/devices`: registered, enrolled by a one-time code, fitted, returned, revoked."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import Manager, Reader, client_address
from api.deps import ApiContext, Context
from api.schemas.base import Page, PageQuery, View, page_of
from api.schemas.devices import (
    CodeView,
    DeviceChange,
    DeviceView,
    EnrolmentView,
    Fitting,
    NewDevice,
    RegisteredDevice,
)
from api.schemas.panic_timers import NewPins
from api.who_may import ANYONE
from core.actions import devices, pins, records
from core.actions.unit_of_work import act
from core.domain.pins import check as check_pins
from core.domain.signing_key import ED25519, HMAC, PUBLIC_KEY_BYTES, hmac_key
from core.errors import InvalidInput
from core.postgres import pins as pin_store
from core.postgres.devices import DEVICES
from core.postgres.table import Record

router = APIRouter(prefix="/v1/devices", tags=["devices"])


class SignatureOffer(View):
    """How the device will sign each of its pings from now on."""

    kind: Literal["ed25519", "hmac"]
    public_key: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Ed25519: the public key, 32 bytes in base64url. The device keeps the private one."
    )

    def offer(self) -> devices.KeyOffer:
        """The same in bytes; raises InvalidInput `validation_failed`."""
        if self.kind == HMAC:
            return devices.KeyOffer(HMAC, None)
        try:
            key = base64.urlsafe_b64decode((self.public_key or "").rstrip("=") + "=")
        except (ValueError, binascii.Error):
            key = b""
        if len(key) != PUBLIC_KEY_BYTES:
            raise InvalidInput("signature.public_key: send the 32 bytes of the public key in base64url.")
        return devices.KeyOffer(ED25519, key)


class Enrolment(View):
    """The code that an agency handed out with the device; a device may send more, which is ignored."""

    code: Annotated[str, Field(min_length=1, max_length=100)]
    signature: SignatureOffer | None = None
    pins: NewPins | None = Field(None, description="The wearer's PINs, where she has none yet; hers stay otherwise.")


class DeviceQuery(PageQuery):
    """Devices by who wears them, how they stand and what they are."""

    person_id: uuid.UUID | None = None
    status: Literal["registered", "active", "returned", "revoked", "lost"] | None = None
    kind: Literal["bracelet", "phone", "victim_unit", "tracker"] | None = None


@router.post("", status_code=201, response_model=RegisteredDevice)
async def register_device(body: NewDevice, actor: Manager, context: Context, response: Response) -> Record:
    """Register a device; the answer bears the code that enrols it, this once."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        device, new = await devices.register(unit, actor, body.id, body.values(), context.settings.enrolment_code_s)
    response.status_code = 201 if new else 200
    return device


@router.post("/enrol", response_model=EnrolmentView, openapi_extra=ANYONE)
async def enrol_device(body: Enrolment, request: Request, context: Context) -> Record:
    """Exchange an enrolment code for the device's token; a code works once."""
    address = client_address(request)
    context.logins.check(address, "enrol")
    offer = body.signature.offer() if body.signature is not None else None
    hashes, pins_set = None, False
    if body.pins is not None:
        check_pins(body.pins.pin, body.pins.duress_pin)
        hashes = await context.pins.hash(body.pins.pin, body.pins.duress_pin)
    async with act(context.device_database, context.clock()) as unit:
        enrolled = await devices.enrol(unit, body.code, address or None, offer)
        holder = await pin_store.of_device(unit.connection, enrolled.device_id)
        if holder is not None:
            pins_set = holder.is_set or (hashes is not None and await pins.set_first(unit, holder, hashes))
    await context.registry.known(enrolled.token)
    key = None
    if offer is not None and offer.kind == HMAC:
        secret = hmac_key(context.token_key, enrolled.device_id, enrolled.signature_generation)
        key = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return {
        "device_id": enrolled.device_id,
        "token": enrolled.token,
        "api_url": api_url(context, request),
        "stream_url": stream_url(context, request),
        "signature_key": key,
        "pins_set": pins_set,
    }


def api_url(context: ApiContext, request: Request) -> str:
    """The API's address as clients see it: as set, else as this request reached it."""
    return context.settings.public_url or str(request.base_url).rstrip("/")


def stream_url(context: ApiContext, request: Request) -> str:
    """The device stream's address as clients see it."""
    settings = context.settings
    if settings.public_stream_url is not None:
        return settings.public_stream_url
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{request.url.hostname}:{settings.resolved_stream_port}/v1/pings/stream"


@router.get("", response_model=Page[DeviceView])
async def list_devices(actor: Reader, context: Context, paging: Annotated[DeviceQuery, Query()]) -> dict[str, Any]:
    """Your agency's devices."""
    where = paging.model_dump(include={"person_id", "status", "kind"})
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await DEVICES.page(
            unit.connection, actor.agency_id, after=paging.after, limit=paging.limit, where=where
        )
        await records.note(unit, actor, "device.listed", "device", people=records.whose(*found), count=len(found))
    return page_of(found, paging.limit)


@router.get("/{device_id}", response_model=DeviceView)
async def read_device(device_id: uuid.UUID, actor: Reader, context: Context) -> Record:
    """One device."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        device = await DEVICES.get(unit.connection, actor.agency_id, device_id)
        await records.note(unit, actor, "device.read", "device", device_id, people=records.whose(device))
    return device


@router.patch("/{device_id}", response_model=DeviceView)
async def update_device(device_id: uuid.UUID, body: DeviceChange, actor: Manager, context: Context) -> Record:
    """Change a device."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await devices.change_device(unit, actor, device_id, body.values())


@router.post("/{device_id}/enrolment-code", status_code=201, response_model=CodeView)
async def make_enrolment_code(device_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """A new one-time code, for a device whose code was lost or that is set up anew; earlier ones hold no more."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await devices.renew_code(unit, actor, device_id, context.settings.enrolment_code_s)


@router.post("/{device_id}/fit", response_model=DeviceView)
async def fit_device(device_id: uuid.UUID, body: Fitting, actor: Manager, context: Context) -> Record:
    """Put a device on a person."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await devices.fit(unit, actor, device_id, body.person_id)


@router.post("/{device_id}/return", response_model=DeviceView)
async def return_device(device_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """Take a device back: its token ends and its silence is nobody's alarm."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await devices.take_back(unit, actor, device_id)


@router.post("/{device_id}/revoke", response_model=DeviceView)
async def revoke_device(device_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """End a device's token at once; its open connection closes within a second."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await devices.revoke(unit, actor, device_id)
