"""What the page behind an invitation asks; the page itself is `api.contact_page`.

The token comes in the body of a request, never in an address, so that no log, no proxy and no history of requests has
it. Whatever it does not hold for, the answer is one and the same.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api.auth import client_address
from api.deps import Context
from api.schemas.contacts import InvitationCode, InvitationConsent, InvitationOpening, InvitationView, InvitationWay
from api.static_page import HEADERS
from api.who_may import ANYONE
from core.actions import contacts as actions
from core.actions.unit_of_work import act
from core.ids import token_digest

router = APIRouter(prefix="/v1/contact-invitation", tags=["contacts"])


def _gate(body: InvitationOpening, request: Request, response: Response, context: Context) -> str:
    """Where the request comes from; raises TooMany when too much comes from there, or for one link."""
    address = client_address(request)
    context.links.check(address, token_digest(body.token))
    response.headers.update(HEADERS)
    return address


@router.post("", response_model=InvitationView, openapi_extra=ANYONE)
async def open_invitation(
    body: InvitationOpening, request: Request, response: Response, context: Context
) -> dict[str, Any]:
    """What an invitation asks, and where it stands."""
    address = _gate(body, request, response, context)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.open_page(unit, body.token, address)


@router.post("/code", response_model=InvitationView, openapi_extra=ANYONE)
async def ask_invitation_code(
    body: InvitationWay, request: Request, response: Response, context: Context
) -> dict[str, Any]:
    """Send a code to one of his addresses: at most one a minute, and five to each."""
    address = _gate(body, request, response, context)
    context.links.check_code(address)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.send_code(unit, body.token, body.way, address)


@router.post("/verify", response_model=InvitationView, openapi_extra=ANYONE)
async def verify_invitation(
    body: InvitationCode, request: Request, response: Response, context: Context
) -> dict[str, Any]:
    """Confirm an address by its code; five tries a code, for ten minutes."""
    address = _gate(body, request, response, context)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.check_code(unit, body.token, body.way, body.code, address)


@router.post("/consent", response_model=InvitationView, openapi_extra=ANYONE)
async def consent_to_invitation(
    body: InvitationConsent, request: Request, response: Response, context: Context
) -> dict[str, Any]:
    """Consent to be told, over the addresses that were confirmed and no other."""
    address = _gate(body, request, response, context)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.consent(unit, body.token, body.language, address)


@router.post("/refuse", response_model=InvitationView, openapi_extra=ANYONE)
async def refuse_invitation(
    body: InvitationOpening, request: Request, response: Response, context: Context
) -> dict[str, Any]:
    """Refuse, or be told no more from now on."""
    address = _gate(body, request, response, context)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.refuse(unit, body.token, address)
