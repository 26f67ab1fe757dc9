"""`/v1/retention`, `/v1/holds`, `/v1/me/hold`: how long what is kept of people is kept, and what stops that."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field, create_model, model_validator

from api.auth import ProtectedDevice, Reporter, Supervisor
from api.deps import ApiContext, Context
from api.routes.erasure import wearer_of as wearer
from api.schemas.base import Body, Moment, Page, Paging, View, page_of
from core.actions import holds as actions
from core.actions import records, retention
from core.actions.retention import Room
from core.actions.unit_of_work import act
from core.domain.retention import BOUNDS, Periods, read_periods
from core.errors import InvalidInput
from core.postgres import retention as store
from core.postgres.holds import LEGAL_HOLDS
from core.postgres.table import Record

router = APIRouter(prefix="/v1", tags=["retention"])

ERASED_MAX: Final = 500
DEFAULT_SPAN: Final = timedelta(days=30)
LiftReason = Literal["judgment_final", "proceedings_ended", "placed_in_error", "other"]

_FIELDS: Final[dict[str, Any]] = {
    name: (int | None, Field(None, ge=least, le=most, description=f"Days, {least} to {most}."))
    for name, (least, most) in BOUNDS.items()
}
PeriodsBody = create_model("PeriodsBody", __base__=Body, **_FIELDS)
PeriodsBody.__doc__ = "The whole set of an agency's periods; what is left out stands at its default."


class Bound(View):
    """Fewest and most days a period may have."""

    least: int
    most: int


class RetentionView(View):
    """An agency's periods in force, in days; what of them it set, the defaults and the bounds."""

    periods: dict[str, int]
    set: dict[str, int]
    defaults: dict[str, int]
    bounds: dict[str, Bound]


class NewLegalHold(Body):
    """What a court or an inquiry wants kept: one of a person, a case, an incident. Name nobody in the reference."""

    person_id: uuid.UUID | None = None
    case_id: uuid.UUID | None = None
    incident_id: uuid.UUID | None = None
    reason: Literal["criminal_case", "administrative_case", "civil_case", "appeal", "inquiry", "other"]
    reference: str = Field(min_length=1, max_length=200, description="The file's number.")

    @model_validator(mode="after")
    def _one(self) -> NewLegalHold:
        if [self.person_id, self.case_id, self.incident_id].count(None) != 2:
            raise ValueError("name one of person_id, case_id, incident_id")
        return self


class LegalHoldView(View):
    """Something that is kept from being erased until the hold is lifted."""

    id: uuid.UUID
    person_id: uuid.UUID | None
    case_id: uuid.UUID | None
    incident_id: uuid.UUID | None
    reason: str
    reference: str | None
    placed_by: uuid.UUID | None
    placed_at: datetime
    lifted_by: uuid.UUID | None
    lifted_at: datetime | None
    lift_reason: str | None


class Lift(Body):
    """Why a hold is lifted."""

    reason: LiftReason


class OwnHoldView(View):
    """The stretch of your own positions that you hold, and until when."""

    fixes_from: datetime
    fixes_until: datetime
    ends_at: datetime


class RunView(View):
    """A run of the rules."""

    started_by: Literal["service", "command"]
    started_at: datetime
    finished_at: datetime | None = Field(description="null: under way, or it died; the next goes on.")


class ErasedView(View):
    """What a run erased of an agency's by one rule."""

    run_id: uuid.UUID
    rule: str
    kind: str
    count: int
    held: int = Field(description="Rows of them that were copied under a hold.")
    from_at: datetime | None
    until_at: datetime | None
    at: datetime


class RetentionReport(View):
    """What was erased of your agency's, newest first, at most 500 lines; nobody's id."""

    model_config = ConfigDict(extra="ignore")

    since: datetime
    until: datetime
    last_run: RunView | None
    erased: list[ErasedView]


def room_of(context: ApiContext) -> Room:
    """For how long the installation has room for positions."""
    return Room(context.settings.victim_ping_days, context.settings.aggressor_ping_days)


def _view(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "periods": msgspec.structs.asdict(read_periods(values)),
        "set": values,
        "defaults": msgspec.structs.asdict(Periods()),
        "bounds": {name: {"least": least, "most": most} for name, (least, most) in BOUNDS.items()},
    }


@router.get("/retention", response_model=RetentionView)
async def read_retention(actor: Reporter, context: Context) -> dict[str, Any]:
    """How long your agency keeps what. For admin, supervisor, auditor."""
    async with context.database.connection(actor.scope) as connection:
        return _view(await store.policy_of(connection, actor.agency_id))


@router.put("/retention", response_model=RetentionView)
async def put_retention(body: PeriodsBody, actor: Supervisor, context: Context) -> dict[str, Any]:
    """Set all periods at once; a shorter one hides and erases at the next run, without return. Audited."""
    values = body.model_dump(exclude_none=True)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await retention.set_periods(unit, actor, values, room_of(context))
    return _view(values)


@router.post("/holds", status_code=201, response_model=LegalHoldView)
async def place_legal_hold(body: NewLegalHold, actor: Reporter, context: Context) -> Record:
    """Keep everything of a person, a case or an incident from being erased. For admin, supervisor, auditor. Audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.place(unit, actor, body.model_dump(exclude_none=True))


@router.get("/holds", response_model=Page[LegalHoldView])
async def list_legal_holds(actor: Reporter, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's legal holds, those that were lifted among them."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await LEGAL_HOLDS.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit)
        await records.note(unit, actor, "legal_hold.listed", "legal_hold", people=records.whose(*found))
    return page_of(found, paging.limit)


@router.post("/holds/{legal_hold_id}/lift", response_model=LegalHoldView)
async def lift_legal_hold(legal_hold_id: uuid.UUID, body: Lift, actor: Reporter, context: Context) -> Record:
    """Let the rules go on with what was held; copies of fixes whose time is over go with the next run. Audited."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.lift(unit, actor, legal_hold_id, body.reason)


@router.post("/me/hold", response_model=OwnHoldView)
async def hold_own(device: ProtectedDevice, request: Request, context: Context) -> Record:
    """Keep your own positions that are there now, from now back; again, up to the new now."""
    who, person_id = wearer(device, request)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.place_own(unit, who, device.agency_id, person_id)


@router.get("/me/hold", response_model=OwnHoldView)
async def read_own_hold(device: ProtectedDevice, request: Request, context: Context) -> Record:
    """What you hold of your own positions."""
    _, person_id = wearer(device, request)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.own_of(unit, person_id)


@router.delete("/me/hold", status_code=204)
async def lift_own_hold(device: ProtectedDevice, request: Request, context: Context) -> None:
    """Let it go."""
    who, person_id = wearer(device, request)
    async with act(context.device_database, context.clock()) as unit:
        await actions.lift_own(unit, who, device.agency_id, person_id)


@router.get("/reports/retention", response_model=RetentionReport)
async def report_retention(
    actor: Reporter,
    context: Context,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
) -> dict[str, Any]:
    """What was erased of your agency's and by which rule, of the last 30 days unless you ask otherwise."""
    end = until or context.clock()
    start = since or end - DEFAULT_SPAN
    if start > end:
        raise InvalidInput("since is after until.", code="time_invalid")
    async with context.database.connection(actor.scope) as connection:
        return {
            "since": start,
            "until": end,
            "last_run": await store.last_run_of(connection, actor.agency_id),
            "erased": await store.erased_of(connection, actor.agency_id, start, end, ERASED_MAX),
        }
