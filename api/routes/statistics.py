"""`/v1/calls`, `/v1/court-outcomes`, `/v1/reports/statistics`: figures without identities, small counts suppressed."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Actor, Manager, Reporter, require
from api.deps import Context
from api.schemas.base import Body, Moment, Name, New, Page, Paging, View, page_of
from core.actions import records, statistics
from core.actions.unit_of_work import act
from core.domain.statistics import CHANNELS, INJURY, RESULTS, SEXES, VIOLENCE
from core.domain.statistics_sheets import long_csv
from core.errors import InvalidInput
from core.postgres.statistics import CALLS, COURT_OUTCOMES
from core.postgres.table import Record

router = APIRouter(tags=["statistics"])

Channel = Literal["102", "112", "111", "visit", "app", "other"]
Violence = Literal["physical", "psychological", "sexual", "economic", "stalking", "threat", "other", "unknown"]
Injury = Literal["none", "light", "moderate", "serious", "fatal", "unknown"]
Sex = Literal["female", "male", "unknown"]
AgeBand = Literal["0-13", "14-17", "18-24", "25-34", "35-44", "45-59", "60+", "unknown"]
Proceeding = Literal["administrative", "criminal", "civil"]
Result = Literal["arrest", "fine", "restraint", "imprisonment", "other_penalty", "acquitted", "closed", "returned"]
assert (Channel.__args__, Violence.__args__, Injury.__args__) == (CHANNELS, VIOLENCE, INJURY)  # type: ignore[attr-defined]
assert (Sex.__args__, Result.__args__) == (SEXES, RESULTS)  # type: ignore[attr-defined]

Recorder = Annotated[Actor, Depends(require("admin", "supervisor", "caseworker", "dispatcher"))]
Month = Annotated[str, Query(pattern=r"^(19|20|21)\d\d-(0[1-9]|1[0-2])$", description="A whole month, YYYY-MM.")]


class NewCall(New):
    """A call for help as it is counted: no name, no words of hers."""

    person_id: uuid.UUID | None = Field(None, description="Absent: she is not entered.")
    order_id: uuid.UUID | None = Field(None, description="The order that followed.")
    received_at: Moment | None = Field(None, description="Absent: now.")
    channel: Channel
    region: Name | None = Field(None, description="Absent: the agency's.")
    violence: Violence = "unknown"
    injury: Injury = "unknown"
    sex: Sex | None = Field(None, description="Absent: as her record says.")
    age_band: AgeBand | None = None


class CallLink(Body):
    """Which order followed."""

    order_id: uuid.UUID


class CallView(View):
    """A call as it is counted."""

    id: uuid.UUID
    person_id: uuid.UUID | None
    order_id: uuid.UUID | None
    received_at: datetime
    channel: str
    region: str | None
    violence: str
    injury: str
    sex: str
    age_band: str


class NewCourtOutcome(New):
    """What a court decided of a breach of an order."""

    order_id: uuid.UUID
    decided_at: Moment | None = Field(None, description="Absent: now.")
    proceeding: Proceeding
    result: Result
    article: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[\w .,()/§-]+$")] | None = None


class CourtOutcomeView(View):
    """What a court decided, as it is counted."""

    id: uuid.UUID
    order_id: uuid.UUID
    decided_at: datetime
    proceeding: str
    result: str
    article: str | None
    sex: str
    age_band: str


class MeasureView(View):
    """A measure: its total, and by each dimension; null: suppressed."""

    part_of: str | None
    total: int | None
    by: dict[str, dict[str, int | None]]


class MinistryLine(View):
    """A region's line of the table that the ministry prints; region null: all."""

    region: str | None
    calls: int | None
    orders: int | None
    held_liable: int | None


class Statistics(View):
    """Figures of whole months; null: suppressed, since it is of so few, or would tell of so few."""

    model_config = ConfigDict(populate_by_name=True)

    begins: str = Field(alias="from")
    ends: str = Field(alias="to")
    k: int
    measures: dict[str, MeasureView]
    false_alarm_share: float | None
    funnel: dict[str, int | None]
    response_times: list[dict[str, Any]]
    unprotected_gaps: list[dict[str, Any]]
    ministry: list[MinistryLine]


class Months(BaseModel):
    """Which months, the last included."""

    model_config = ConfigDict(extra="forbid")

    since: Month
    until: Month
    form: Literal["json", "csv"] = "json"


@router.post("/v1/calls", status_code=201, response_model=CallView)
async def record_call(body: NewCall, actor: Recorder, context: Context, response: Response) -> Record:
    """Count a call for help."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        call, new = await statistics.record_call(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return call


@router.get("/v1/calls", response_model=Page[CallView])
async def list_calls(actor: Manager, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's calls as they are counted."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await CALLS.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit)
        await records.note(unit, actor, "call_record.listed", "call_record", count=len(found))
    return page_of(found, paging.limit)


@router.post("/v1/calls/{call_id}/order", response_model=CallView)
async def link_call(call_id: uuid.UUID, body: CallLink, actor: Manager, context: Context) -> Record:
    """Say which order followed from a call."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await statistics.link_call(unit, actor, call_id, body.order_id)


@router.post("/v1/court-outcomes", status_code=201, response_model=CourtOutcomeView)
async def record_outcome(body: NewCourtOutcome, actor: Manager, context: Context, response: Response) -> Record:
    """Count what a court decided."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        outcome, new = await statistics.record_outcome(unit, actor, body.id, body.values())
    response.status_code = 201 if new else 200
    return outcome


@router.get("/v1/court-outcomes", response_model=Page[CourtOutcomeView])
async def list_outcomes(actor: Manager, context: Context, paging: Paging) -> dict[str, Any]:
    """What courts decided of your agency's orders."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await COURT_OUTCOMES.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit)
        await records.note(unit, actor, "court_outcome.listed", "court_outcome", count=len(found))
    return page_of(found, paging.limit)


@router.get("/v1/reports/statistics", response_model=Statistics)
async def read_statistics(actor: Reporter, context: Context, months: Annotated[Months, Query()]) -> Any:
    """Your agency's figures of whole months, small counts suppressed; `form=csv` for a spreadsheet."""
    begins, ends = (_first_day(month) for month in (months.since, months.until))
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await statistics.report(unit.connection, begins, ends, actor.agency_id)
        await records.note(unit, actor, "statistics.read", since=months.since, until=months.until)
    if months.form == "csv":
        return Response(long_csv(found), media_type="text/csv; charset=utf-8")
    return found


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError:
        raise InvalidInput("A month is YYYY-MM.", code="time_invalid") from None
