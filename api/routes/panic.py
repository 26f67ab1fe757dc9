"""`/v1/panic`: the button. Never refused for its content, its rate or its token."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from api.auth import Device
from api.deps import ApiContext, Context
from api.even_time import evenly
from api.live.own_view import panic_json
from api.who_may import ANYONE
from core.clock import from_ms, rfc3339, to_ms
from core.domain.panic import (
    CANCELLED,
    TEXT_CHARS,
    CancelIn,
    PanicIn,
    panic_id,
    read_body,
    read_fields,
    read_pin,
)
from core.errors import NotAllowed, NotFound, StoreUnavailable
from core.ids import new_id, token_digest
from core.metrics import PANIC_SECONDS

router = APIRouter(prefix="/v1/panic", tags=["panic"])

CANCEL_ANSWER = {"state": CANCELLED}
"""The same for the right PIN, for the duress PIN, for one nobody can check, and for a panic that is not there."""

PANIC_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "Only `id` is wanted; whatever else comes, the panic is taken.",
                    "properties": {
                        "id": {"type": "string", "format": "uuid"},
                        "at": {"type": "string", "format": "date-time"},
                        "mode": {"enum": ["silent", "audible"]},
                        "trigger": {"enum": ["button", "hardware", "timer", "sms", "widget"]},
                        "lat": {"type": "number"},
                        "lon": {"type": "number"},
                        "accuracy_m": {"type": "number"},
                        "note": {"type": "string"},
                    },
                }
            }
        }
    }
}


@router.post("", status_code=201, openapi_extra=PANIC_BODY | ANYONE, responses={200: {"description": "Taken before."}})
async def press(request: Request, context: Context) -> JSONResponse:
    """Take a panic: 201, or 200 for one that was taken before. An aggressor's device gets 403."""
    started = time.perf_counter()
    received_ms = to_ms(context.clock())
    raw = await _body(request)
    answer = await context.panic_desk.take(_read(request, context, raw, received_ms))
    PANIC_SECONDS.observe(time.perf_counter() - started)
    return JSONResponse(
        {
            "panic_id": str(answer.panic_id),
            "incident_id": str(answer.incident_id) if answer.incident_id is not None else None,
            "state": answer.state,
            "received_at": rfc3339(answer.received_at),
        },
        status_code=201 if answer.created else 200,
    )


async def _body(request: Request) -> bytes:
    """What came of the body. A phone whose connection broke in the middle has pressed all the same."""
    raw = bytearray()
    try:
        async for part in request.stream():
            raw += part
    except ClientDisconnect:
        if _token(request) is None:
            raise
    return bytes(raw)


def _read(request: Request, context: ApiContext, raw: bytes, received_ms: int) -> PanicIn:
    body, doubts = read_body(raw)
    token = _token(request)
    digest = token_digest(token).hex() if token else None
    source = hashlib.sha256((request.client.host if request.client else "").encode()).hexdigest()[:16]
    device, token_doubts, agency_id = _who(context, token, body)
    if device is not None and device.role == "aggressor":
        raise NotAllowed("This device has no panic button.", code="device_forbidden")
    chosen_id, client_id, id_doubts = panic_id(body, digest or source, raw, received_ms)
    return PanicIn(
        id=chosen_id,
        client_id=client_id,
        received_ms=received_ms,
        token_digest=digest,
        source=source,
        device_id=device.id if device is not None else None,
        person_id=device.person_id if device is not None else None,
        agency_id=device.agency_id if device is not None else agency_id,
        doubts=[*token_doubts, *doubts, *(id_doubts if not doubts else [])],
        body=body,
        **read_fields(body),
    )


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _who(context: ApiContext, token: str | None, body: dict[str, Any]) -> tuple[Any, list[str], uuid.UUID | None]:
    """The device that pressed, doubts about its token, and the agency of a gateway that names none."""
    if token is None:
        return None, ["no_token"], None
    registry = context.registry
    if (device := registry.device_by_token(token)) is not None:
        return device, [], None
    if (gateway := registry.gateway_by_token(token)) is not None:
        named = registry.device_by_text(str(body.get("device_id", "")))
        if named is not None and named.agency_id == gateway.agency_id:
            return named, [], None
        return None, ["unknown_token"], gateway.agency_id
    return registry.owner_of(token), [f"{registry.why_unknown(token)}_token"], None


@router.post(
    "/{panic_id}/cancel",
    openapi_extra={
        "requestBody": {
            "content": {"application/json": {"schema": {"type": "object", "properties": {"pin": {"type": "string"}}}}}
        }
    },
)
async def cancel(panic_id: str, request: Request, context: Context, device: Device) -> dict[str, str]:
    """Ask to cancel a panic: a dispatcher decides. Only a PIN that is wrong, and not yet for the third time, is
    answered otherwise (`wrong_pin`); body, headers and time of the others are the same.

    An answer takes half a second, or a multiple of it.
    """
    wish = CancelIn(
        id=new_id(),
        panic_id=panic_id[:TEXT_CHARS].replace("\x00", ""),
        device_id=device.id,
        received_ms=to_ms(context.clock()),
        pin=read_pin(await request.body()),
    )
    async with evenly():
        if device.role != "aggressor" and not await context.panic_desk.cancel(wish):
            raise wrong_pin()
    return CANCEL_ANSWER


def wrong_pin() -> NotAllowed:
    """What a wrong PIN is answered; how many tries are left is nobody's business."""
    return NotAllowed("This is not the PIN.", code="wrong_pin")


@router.get("/{panic_id}")
async def status(panic_id: str, context: Context, device: Device) -> dict[str, Any]:
    """What became of this device's panic: who has been told, seen, acknowledged and dispatched, and when."""
    try:
        found = await context.panic_desk.find(panic_id.replace("\x00", ""), device.id)
    except StoreUnavailable:
        found = None
        if context.panic_desk.waiting(panic_id, device.id) is None:
            raise
    if found is not None:
        return panic_json(*found)
    waiting = context.panic_desk.waiting(panic_id, device.id)
    if waiting is None:
        raise NotFound("This device has sent no such panic.")
    return {
        "panic_id": str(waiting.id),
        "incident_id": None,
        "state": CANCELLED if context.panic_desk.cancels_waiting(waiting) else "received",
        "received_at": rfc3339(from_ms(waiting.received_ms)),
        "told": [],
        "told_at": None,
        "seen_at": None,
        "acknowledged_at": None,
        "dispatched_at": None,
        "resolved_at": None,
    }
