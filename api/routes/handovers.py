"""`/v1/consents` and `/v1/handovers`: handing her matter on with what she consents to, and no more."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from api.auth import Actor, Manager, require
from api.deps import Context
from api.schemas.base import Moment, New, Page, PageQuery, View, page_of
from core.actions import handovers, records
from core.actions.unit_of_work import act
from core.domain.consent import FIELDS, RECIPIENTS
from core.postgres import handovers as store
from core.postgres.handovers import CONSENTS
from core.postgres.table import Record

router = APIRouter(tags=["handovers"])

FieldName = Literal[
    "name", "phone", "address", "safe_contact", "language", "needs", "children", "medical", "order", "incidents",
    "position",
]  # fmt: skip
Recipient = Literal["contact_centre", "caseworker", "crisis_centre", "prosecutor", "medical", "other"]
assert set(FieldName.__args__) == FIELDS.keys()  # type: ignore[attr-defined]
assert Recipient.__args__ == RECIPIENTS  # type: ignore[attr-defined]
Fields = Annotated[list[FieldName], Field(min_length=1, max_length=len(FIELDS))]
Opener = Annotated[Actor, Depends(require("admin", "supervisor", "caseworker", "dispatcher"))]


class NewConsent(New):
    """What she allows to be told of her, to whom, until when."""

    person_id: uuid.UUID
    recipient: Recipient = Field(description="contact_centre: 111, and its like elsewhere.")
    to_agency_id: uuid.UUID | None = Field(None, description="An agency of this service; absent: outside it.")
    fields: Fields
    manner: Literal["written", "spoken", "own_device"]
    given_at: Moment | None = Field(None, description="Absent: now.")
    valid_until: Moment


class ConsentView(View):
    """A consent as recorded."""

    id: uuid.UUID
    person_id: uuid.UUID
    recipient: str
    to_agency_id: uuid.UUID | None
    fields: list[str]
    manner: str
    given_at: datetime
    valid_until: datetime
    recorded_by: uuid.UUID
    withdrawn_at: datetime | None
    created_at: datetime


class ConsentQuery(PageQuery):
    """Of one person or of all."""

    person_id: uuid.UUID | None = None


class NewHandover(New):
    """A package under a consent."""

    consent_id: uuid.UUID
    fields: Fields | None = Field(None, description="Fewer than she allows; absent: all she allows.")
    order_id: uuid.UUID | None = Field(None, description="Which order `order` tells of.")
    expires_at: Moment | None = Field(None, description="Absent: in seven days; never after the consent's end.")


class HandoverView(View):
    """A hand-over: which fields, never their values."""

    id: uuid.UUID
    agency_id: uuid.UUID
    to_agency_id: uuid.UUID | None
    consent_id: uuid.UUID
    fields: list[str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    first_opened_at: datetime | None


class HandoverMade(HandoverView):
    """A hand-over with what was handed over."""

    package: dict[str, Any]


class Package(View):
    """What was handed over, as it is now: exactly the fields she consented to."""

    handover_id: uuid.UUID
    expires_at: datetime
    package: dict[str, Any]


class HandoverQuery(PageQuery):
    """Those your agency gave, or was given."""

    side: Literal["given", "received"] = "given"


@router.post("/v1/consents", status_code=201, response_model=ConsentView)
async def record_consent(body: NewConsent, actor: Manager, context: Context, response: Response) -> Record:
    """Record what she consents to."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        consent, new = await handovers.give_consent(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return consent


@router.get("/v1/consents", response_model=Page[ConsentView])
async def list_consents(actor: Manager, context: Context, paging: Annotated[ConsentQuery, Query()]) -> dict[str, Any]:
    """Consents, of one person or of all."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await CONSENTS.page(
            unit.connection,
            actor.agency_id,
            after=paging.after,
            limit=paging.limit,
            where={"person_id": paging.person_id},
        )
        await records.note(unit, actor, "consent.listed", "consent", count=len(found))
    return page_of(found, paging.limit)


@router.post("/v1/consents/{consent_id}/withdraw", response_model=ConsentView)
async def withdraw_consent(consent_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """End a consent, and with it every hand-over under it, at once."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await handovers.withdraw(unit, actor, consent_id)


@router.post("/v1/handovers", status_code=201, response_model=HandoverMade)
async def make_handover(body: NewHandover, actor: Manager, context: Context, response: Response) -> Record:
    """Hand over what she consents to; to whom and for how long its consent says."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        made, new = await handovers.hand_over(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return made


@router.get("/v1/handovers", response_model=Page[HandoverView])
async def list_handovers(actor: Opener, context: Context, paging: Annotated[HandoverQuery, Query()]) -> dict[str, Any]:
    """Hand-overs your agency gave, or was given."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await store.listing(
            unit.connection,
            actor.agency_id,
            received=paging.side == "received",
            after=paging.after,
            limit=paging.limit,
        )
    return page_of(found, paging.limit)


@router.get("/v1/handovers/{handover_id}", response_model=Package)
async def open_handover(handover_id: uuid.UUID, actor: Opener, context: Context) -> dict[str, Any]:
    """What was handed over, as it is now; while it holds. Her own agency's audit says that you opened it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        handover = await handovers.find(unit, actor, handover_id)
        await records.note(unit, actor, "handover.opened", "handover", handover_id)
    async with act(context.database, context.clock(), handovers.scope_of_giver(handover, actor)) as unit:
        package = await handovers.open_package(unit, actor, handover)
    return {"handover_id": handover_id, "expires_at": handover["expires_at"], "package": package}


@router.post("/v1/handovers/{handover_id}/revoke", response_model=HandoverView)
async def revoke_handover(handover_id: uuid.UUID, actor: Manager, context: Context) -> Record:
    """Take a hand-over back; it can be opened no longer."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await handovers.revoke(unit, actor, handover_id)
