"""`…/erasure`: a person asks to be erased, on her own device or through a caseworker; it waits fourteen days."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from api.auth import Actor, Manager, ProtectedDevice, client_address
from api.deps import Context
from api.schemas.base import Body, View
from core.actions import erasure
from core.actions.erasure import TOLD_ON_DEVICES, Who
from core.actions.unit_of_work import act
from core.errors import NotAllowed

router = APIRouter(prefix="/v1", tags=["erasure"])


class ErasureView(View):
    """A request to be erased, and how far it is."""

    id: uuid.UUID
    state: Literal["asked", "confirmed", "held", "erased", "withdrawn", "lapsed"]
    asked_at: datetime
    due_at: datetime = Field(description="When it is carried out, if it is confirmed by then and nothing is held.")
    confirmed_at: datetime | None
    held_for: Literal["legal_hold", "order", "incident", "other"] | None = Field(
        default=None,
        description="Why it waits though it is due: a court's hold, an order that keeps this person away, an incident"
        " that is not over. A person's own device is told of a hold, else `other`.",
    )


class Confirmation(Body):
    """The code that reached her safe contact."""

    code: Annotated[str, Field(min_length=1, max_length=20)]


def user_of(actor: Actor) -> Who:
    """The user who asks, as the audit names her."""
    return Who("user", actor.user_id, actor.address, actor.role, actor.session_id, actor.purpose)


def wearer_of(device: Any, request: Request) -> tuple[Who, uuid.UUID]:
    """The device that asks and whom it is worn by. Raises NotAllowed for nobody's."""
    if device.person_id is None:
        raise NotAllowed("This device has no such page.", code="device_forbidden")
    return Who("device", device.id, client_address(request)), device.person_id


@router.post("/me/erasure", status_code=202, response_model=ErasureView)
async def ask_own(device: ProtectedDevice, request: Request, context: Context) -> dict[str, Any]:
    """Ask to be erased: a code goes to your safe contact. Asked again, a new code goes, at most every ten minutes."""
    who, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        return await erasure.ask(unit, who, device.agency_id, person_id)


@router.get("/me/erasure", response_model=ErasureView)
async def read_own(device: ProtectedDevice, request: Request, context: Context) -> dict[str, Any]:
    """Your latest request to be erased."""
    _, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        return await erasure.state_of(unit, device.agency_id, person_id, TOLD_ON_DEVICES)


@router.post("/me/erasure/confirm", response_model=ErasureView)
async def confirm_own(
    body: Confirmation, device: ProtectedDevice, request: Request, context: Context
) -> dict[str, Any]:
    """Confirm it with the code that reached your safe contact; five tries a code."""
    who, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        held = await erasure.confirm(unit, who, device.agency_id, person_id, body.code)
        state = await erasure.state_of(unit, device.agency_id, person_id, TOLD_ON_DEVICES)
    erasure.check_confirmed(held)
    return state


@router.delete("/me/erasure", status_code=204)
async def withdraw_own(device: ProtectedDevice, request: Request, context: Context) -> None:
    """Withdraw it."""
    who, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        await erasure.withdraw(unit, who, device.agency_id, person_id)


@router.post("/people/{person_id}/erasure", status_code=202, response_model=ErasureView)
async def ask_for(person_id: uuid.UUID, actor: Manager, context: Context) -> dict[str, Any]:
    """Ask on a person's behalf: a code goes to her safe contact, and she tells it to you."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await erasure.ask(unit, user_of(actor), actor.agency_id, person_id)


@router.get("/people/{person_id}/erasure", response_model=ErasureView)
async def read_for(person_id: uuid.UUID, actor: Manager, context: Context) -> dict[str, Any]:
    """A person's latest request to be erased."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await erasure.state_of(unit, actor.agency_id, person_id)


@router.post("/people/{person_id}/erasure/confirm", response_model=ErasureView)
async def confirm_for(person_id: uuid.UUID, body: Confirmation, actor: Manager, context: Context) -> dict[str, Any]:
    """Confirm it with the code that she was sent."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        held = await erasure.confirm(unit, user_of(actor), actor.agency_id, person_id, body.code)
        state = await erasure.state_of(unit, actor.agency_id, person_id)
    erasure.check_confirmed(held)
    return state


@router.delete("/people/{person_id}/erasure", status_code=204)
async def withdraw_for(person_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Withdraw it, as she wishes."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await erasure.withdraw(unit, user_of(actor), actor.agency_id, person_id)
