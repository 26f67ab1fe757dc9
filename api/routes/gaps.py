"""`/v1/reports/gaps`: how long orders left her alone, from the promise until both devices worked."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api.auth import Actor, require
from api.deps import Context
from api.routes.reports import span
from api.schemas.base import Moment, View
from core.actions.orders import gap_of
from core.actions.unit_of_work import act
from core.domain.policy import read_policy
from core.postgres import agencies, protection

router = APIRouter(prefix="/v1/reports", tags=["reports"])

GapReader = Annotated[Actor, Depends(require("admin", "supervisor", "auditor", "caseworker"))]


class GapLine(View):
    """One order's gap."""

    order_id: uuid.UUID
    reference: str | None
    region: str | None
    status: str
    since: datetime
    served_at: datetime | None
    victim_fix_at: datetime | None = Field(description="First accepted fix of a device of hers; null: none yet.")
    aggressor_fix_at: datetime | None = Field(description="First accepted fix of his bracelet; null: none yet.")
    protected_at: datetime | None
    from_issue_s: float = Field(description="Until both worked, or the order was over, or now.")
    from_service_s: float | None
    over_limit: bool


class GapFigures(View):
    """Of all orders of the span."""

    orders: int
    protected: int
    unprotected: int
    over_limit: int
    median_s: float | None = Field(description="Of those that protect now.")
    p90_s: float | None
    longest_s: float | None


class GapReport(View):
    """Orders promised in a span, the longest unprotected first."""

    since: datetime
    until: datetime
    limit_s: float = Field(description="`gap_limit_s` of the agency's policy.")
    all: GapFigures
    orders: list[GapLine]


@router.get("/gaps", response_model=GapReport)
async def report_gaps(
    actor: GapReader,
    context: Context,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """How long orders left her alone, order by order and together."""
    start, end = span(context, since, until)
    async with act(context.database, context.clock(), actor.scope) as unit:
        policy = read_policy((await agencies.get(unit.connection, actor.agency_id))["policy"])
        found = await protection.gaps(unit.connection, actor.agency_id, start, end, limit)
        figures = await protection.gap_figures(
            unit.connection, actor.agency_id, start, end, unit.now, policy.gap_limit_s
        )
    lines = [{**order, **gap_of(order, unit.now)} for order in found]
    return {
        "since": start,
        "until": end,
        "limit_s": policy.gap_limit_s,
        "all": figures,
        "orders": [{**line, "over_limit": line["from_issue_s"] > policy.gap_limit_s} for line in lines],
    }
