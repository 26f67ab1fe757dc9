"""Live links: what a trusted contact's page asks, and how she and dispatchers see and take back who has one.

The page's address is `/l#<token>` (`api.link_page`); the token comes in the body of a request, never in an address, so
that no log, no proxy and no history of requests has it.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.auth import Dispatch, ProtectedDevice, client_address
from api.deps import ApiContext, Context
from api.schemas.base import Body, View
from api.sign_in_desk import is_secure
from api.static_page import HEADERS
from api.who_may import ANYONE
from core.actions import live_links as actions
from core.actions import records
from core.actions.unit_of_work import act
from core.clock import from_ms, rfc3339
from core.domain.live_link import LIFE, latest
from core.errors import NotFound, StoreUnavailable
from core.ids import token_digest
from core.postgres import incidents as incident_store
from core.postgres import live_links as store
from core.redis.client import AWAY, RedisError
from core.redis.live import read_live

router = APIRouter(prefix="/v1", tags=["live links"])

COOKIE: Final = "qorgan_link"
COOKIE_PATH: Final = "/v1/live-link"
COOKIE_CHARS_MAX: Final = 100
REDIS_WAIT_S: Final = 0.5
"""How long the page waits for a newer position than the incident's own."""

Token = Annotated[str, Field(min_length=16, max_length=actions.TOKEN_CHARS_MAX)]


class Opening(Body):
    """What the page sends."""

    token: Token | None = Field(None, description="What stands behind # in the link; none: this browser's link.")
    first: bool = Field(False, description="Whether the page was just opened.")
    code: Annotated[str, Field(max_length=20)] | None = Field(None, description="What lets in another browser.")


class CodeWish(Body):
    """For which link a code is wanted."""

    token: Token


class LinkPlace(View):
    """Where she was, and when."""

    lat: float
    lon: float
    accuracy_m: float | None
    at: datetime


class LinkView(View):
    """What the page shows. A link that shows nothing says `ended`, whyever that is."""

    state: Literal["live", "ended", "elsewhere"]
    language: str | None
    started_at: datetime | None
    seen_by_police_at: datetime | None
    position: LinkPlace | None
    refresh_s: int


class LiveLinkView(View):
    """Who has a link, and whether it was opened."""

    id: uuid.UUID
    incident_id: uuid.UUID
    contact_id: uuid.UUID
    channel: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_because: Literal["her", "dispatcher", "contact"] | None
    opened_at: datetime | None
    openings: int


class LiveLinks(View):
    """Links, the newest first."""

    items: list[LiveLinkView]


class Revoked(View):
    """How many links were taken back."""

    revoked: int


@router.post("/live-link", response_model=LinkView, openapi_extra=ANYONE)
async def open_link(body: Opening, request: Request, response: Response, context: Context) -> dict[str, Any]:
    """What a live link shows now; the same answer for every link that shows nothing."""
    browser = request.cookies.get(COOKIE, "")[:COOKIE_CHARS_MAX] or None
    address = client_address(request)
    held = body.token or browser
    context.links.check(address, token_digest(held) if held is not None else None)
    visit = actions.Visit(body.token, browser, address, body.first, body.code)
    phones: list[tuple[int, int]] = []
    async with act(context.device_database, context.clock()) as unit:
        shown = await actions.look(unit, visit)
        if shown.person_id is not None:
            phones = await store.phones(unit.connection, shown.person_id)
    answer = shown.answer
    if phones:
        answer = {**answer, "position": latest([shown.place, *await _live(context, phones)])}
    response.headers.update(HEADERS)
    if shown.browser is not None:
        response.set_cookie(
            COOKIE,
            shown.browser,
            max_age=int(LIFE.total_seconds()),
            path=COOKIE_PATH,
            secure=is_secure(context, request),
            httponly=True,
            samesite="strict",
        )
    return answer


async def _live(context: ApiContext, phones: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The last positions of her devices; none while Redis is away: the incident's own has to do."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in phones:
        by_shard.setdefault(shard, []).append(number)
    try:
        async with asyncio.timeout(REDIS_WAIT_S):
            parts = await asyncio.gather(*(read_live(context.redis, shard, own) for shard, own in by_shard.items()))
    except (RedisError, StoreUnavailable, TimeoutError, *AWAY):
        return []
    return [
        {
            "lat": fix.lat,
            "lon": fix.lon,
            "accuracy_m": fix.accuracy_m if fix.accuracy_m == fix.accuracy_m else None,
            "at": rfc3339(from_ms(min(fix.at_ms, fix.received_ms))),
        }
        for part in parts
        for fix in part.values()
        if fix.has_position
    ]


@router.post("/live-link/code", status_code=202, openapi_extra=ANYONE)
async def ask_code(body: CodeWish, request: Request, response: Response, context: Context) -> dict[str, str]:
    """Send a code for another browser to where the link went; the answer is the same for every token."""
    context.links.check_code(client_address(request))
    async with act(context.device_database, context.clock()) as unit:
        await actions.ask_code(unit, body.token)
    response.headers.update(HEADERS)
    return {"state": "sent_if_it_holds"}


@router.get("/me/live-links", response_model=LiveLinks)
async def list_own_links(device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """Which of her contacts have a link to where the wearer is, and who opened it."""
    if device.person_id is None:
        return {"items": []}
    async with context.device_database.connection() as connection:
        return {"items": await store.of_person(connection, device.person_id)}


@router.delete("/me/live-links", response_model=Revoked)
async def revoke_own_links(device: ProtectedDevice, context: Context) -> dict[str, int]:
    """Take back every link to where the wearer is, at once."""
    if device.person_id is None:
        return {"revoked": 0}
    async with act(context.device_database, context.clock()) as unit:
        count = await actions.revoke_hers(unit, device.agency_id, device.person_id, device.id)
    return {"revoked": count}


@router.get("/incidents/{incident_id}/live-links", response_model=LiveLinks)
async def list_links(incident_id: uuid.UUID, actor: Dispatch, context: Context) -> dict[str, Any]:
    """Which contacts have a link to an incident, and who opened it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        incident = await incident_store.find(unit.connection, actor.agency_id, incident_id)
        if incident is None:
            raise NotFound("There is no such incident.")
        items = await store.of_incident(unit.connection, incident_id)
        await records.note(
            unit, actor, "live_link.listed", "incident", incident_id, people=[incident["victim_id"]], count=len(items)
        )
    return {"items": items}


@router.delete("/incidents/{incident_id}/live-links", response_model=Revoked)
async def revoke_links(incident_id: uuid.UUID, actor: Dispatch, context: Context) -> dict[str, int]:
    """Take back every link to an incident, at once."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        incident = await incident_store.find(unit.connection, actor.agency_id, incident_id)
        if incident is None:
            raise NotFound("There is no such incident.")
        count = await actions.revoke_of_incident(unit, incident_id)
        await records.note(
            unit, actor, "live_link.revoked", "incident", incident_id, people=[incident["victim_id"]], count=count
        )
    return {"revoked": count}
