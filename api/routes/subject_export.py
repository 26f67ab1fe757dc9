"""`…/export`: what is held on a person, as a zip for that person: through a caseworker, or on her device by a code."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.auth import Manager, ProtectedDevice
from api.deps import Context
from api.routes.erasure import Confirmation, user_of
from api.routes.erasure import wearer_of as wearer
from api.schemas.base import Body, Moment, View
from core.actions import subject_export as actions
from core.actions.erasure import check_confirmed
from core.actions.unit_of_work import act

router = APIRouter(prefix="/v1", tags=["export"])

ZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/zip": {}}, "description": "What is held on the person."}
}


class Ask(Body):
    """Why, and from when on positions are wanted; `about.json` of an earlier zip says from when there is more."""

    reason: Literal["own_request", "representative", "court", "oversight"]
    since: Moment | None = None


class Fetch(Confirmation):
    """The code that reached your safe contact, and from when on positions are wanted."""

    since: Moment | None = None


class Asked(View):
    """A code is on its way to your safe contact."""

    expires_at: datetime = Field(description="Until then the code holds, once.")


def _zip(content: bytes) -> Response:
    headers = {"content-disposition": 'attachment; filename="held.zip"', "cache-control": "no-store"}
    return Response(content, media_type="application/zip", headers=headers)


@router.post("/people/{person_id}/export", response_class=Response, responses=ZIP)
async def export_person(person_id: uuid.UUID, body: Ask, actor: Manager, context: Context) -> Response:
    """Everything held on a person and nothing of anybody else. For admin, supervisor, caseworker. Audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        held = await actions.read(unit, actor.agency_id, person_id, body.since, consents=True)
        await actions.note(unit, user_of(actor), actor.agency_id, person_id, "person.exported", reason=body.reason)
    return _zip(await actions.make(held))


@router.post("/me/export", status_code=202, response_model=Asked)
async def ask_own_export(device: ProtectedDevice, request: Request, context: Context) -> dict[str, Any]:
    """Ask for everything held on you: a code goes to your safe contact, at most every ten minutes."""
    who, person_id = wearer(device, request)
    async with act(context.device_database, context.clock()) as unit:
        return {"expires_at": await actions.ask_own(unit, who, device.agency_id, person_id)}


@router.post("/me/export/fetch", response_class=Response, responses=ZIP)
async def fetch_own_export(body: Fetch, device: ProtectedDevice, request: Request, context: Context) -> Response:
    """The zip, for the code; it holds once, for an hour and five tries."""
    who, person_id = wearer(device, request)
    async with act(context.device_database, context.clock()) as unit:
        right = await actions.spend_code(unit, who, device.agency_id, person_id, body.code)
    check_confirmed(right)
    async with act(context.device_database, context.clock()) as unit:
        held = await actions.read(unit, device.agency_id, person_id, body.since, consents=False)
    return _zip(await actions.make(held))
