"""`/v1/me/contacts`: the contacts of whoever wears the device that asks."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request

from api.auth import ProtectedDevice
from api.deps import Context
from api.routes.erasure import wearer_of
from api.schemas.contacts import OwnContact, OwnContacts, OwnContactView, own_view
from core.actions import contacts as actions
from core.actions.unit_of_work import act
from core.ids import new_id

router = APIRouter(prefix="/v1/me/contacts", tags=["me"])


@router.get("", response_model=OwnContacts)
async def list_own_contacts(device: ProtectedDevice, request: Request, context: Context) -> dict[str, Any]:
    """Your contacts and where each stands; their addresses are not shown whole."""
    _, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        found = await actions.own(unit, device.agency_id, person_id)
    return {"items": [own_view(contact) for contact in found]}


@router.post("", status_code=201, response_model=OwnContactView)
async def add_own_contact(
    body: OwnContact, device: ProtectedDevice, request: Request, context: Context
) -> dict[str, Any]:
    """Ask somebody to be told when you raise the alarm. Until he has consented he is told nothing."""
    who, person_id = wearer_of(device, request)
    values = {**body.values(), "id": body.id or new_id(), "person_id": person_id}
    as_name = values.pop("as_name", None)
    async with act(context.device_database, context.clock()) as unit:
        contact = await actions.add_own(unit, who, device.agency_id, values, as_name)
    return own_view(contact)


@router.delete("/{contact_id}", status_code=204)
async def revoke_own_contact(
    contact_id: uuid.UUID, device: ProtectedDevice, request: Request, context: Context
) -> None:
    """Take a contact back: from now on he is told nothing, nor what is queued already, and his links show nothing."""
    who, person_id = wearer_of(device, request)
    async with act(context.device_database, context.clock()) as unit:
        await actions.revoke_own(unit, who, device.agency_id, person_id, contact_id)
