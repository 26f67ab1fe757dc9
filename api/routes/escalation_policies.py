"""`/v1/escalation-policies` and `/v1/on-call`: who is told while nobody acts, and who is on call."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.auth import Dispatch, Supervisor
from api.deps import ApiContext, Context
from api.schemas.base import Moment, Page
from api.schemas.escalation import (
    EscalationPolicyBody,
    EscalationPolicyView,
    OnCallView,
    RotaBody,
    Severity,
    StandInBody,
    StandInView,
)
from core.actions import escalation_policies as actions
from core.actions.reach import unreached
from core.actions.unit_of_work import act
from core.domain.escalation import ANY_TYPE
from core.domain.on_call import DUTIES
from core.errors import InvalidInput, NotFound
from core.postgres import agencies, jurisdictions
from core.working_channels import working_channels

router = APIRouter(prefix="/v1", tags=["escalation"])

Kind = Annotated[str, Query(alias="type", max_length=50, description="A type of incident, or any.")]


@router.get("/escalation-policies", response_model=Page[EscalationPolicyView])
async def list_policies(actor: Dispatch, context: Context) -> dict[str, Any]:
    """Every policy in force, your own and the defaults, with whom each would miss now."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await actions.policies_view(unit, actor.agency_id, working_channels(context.settings))
    return {"items": found, "next": None}


@router.put("/escalation-policies/{severity}", response_model=EscalationPolicyView)
async def put_policy(
    severity: Severity, body: EscalationPolicyBody, actor: Supervisor, context: Context, kind: Kind = ANY_TYPE
) -> dict[str, Any]:
    """Set who is told for a severity, and a type if one is named; refused when a step could reach nobody."""
    await _check_neighbour(context, actor.agency_id, body, severity)
    values = body.model_dump(mode="json")
    async with act(context.database, context.clock(), actor.scope) as unit:
        row = await actions.set_policy(unit, actor, kind, severity, values, working_channels(context.settings))
    return {"type": kind, "severity": severity, "set_at": row["updated_at"], "policy": row["body"], "problems": []}


@router.delete("/escalation-policies/{severity}", status_code=204)
async def drop_policy(severity: Severity, actor: Supervisor, context: Context, kind: Kind = ANY_TYPE) -> None:
    """Take your policy back: the default stands again."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.drop_policy(unit, actor, kind, severity)


@router.get("/on-call", response_model=Page[OnCallView])
async def read_on_call(
    actor: Dispatch, context: Context, at: Annotated[Moment | None, Query()] = None
) -> dict[str, Any]:
    """Who is on call now, or at a moment; the rotas and who stands in."""
    moment: datetime = at or context.clock()
    async with act(context.database, context.clock(), actor.scope) as unit:
        return {"items": await actions.on_call_view(unit, actor.agency_id, moment), "next": None}


@router.put("/on-call/{duty}", response_model=OnCallView)
async def put_rota(duty: str, body: RotaBody, actor: Supervisor, context: Context) -> dict[str, Any]:
    """Set the rota of a duty; refused with a gap in it, or with somebody on it who cannot be told."""
    values = body.model_dump(mode="json")
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.set_rota(unit, actor, duty, values, working_channels(context.settings))
        found = await actions.on_call_view(unit, actor.agency_id, unit.now)
    return found[list(DUTIES).index(duty)]


@router.delete("/on-call/{duty}", status_code=204)
async def drop_rota(duty: str, actor: Supervisor, context: Context) -> None:
    """Take a rota back: every supervisor is on call then."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.drop_rota(unit, actor, duty, working_channels(context.settings))


@router.post("/on-call/{duty}/stand-ins", status_code=201, response_model=StandInView)
async def add_stand_in(duty: str, body: StandInBody, actor: Supervisor, context: Context) -> dict[str, Any]:
    """Have somebody stand in: an override, or with `instead_of` a hand-over."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await actions.stand_in(unit, actor, duty, body.model_dump(), working_channels(context.settings))


@router.delete("/on-call/stand-ins/{stand_in_id}", status_code=204)
async def drop_stand_in(stand_in_id: uuid.UUID, actor: Supervisor, context: Context) -> None:
    """Take a stand-in back."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await actions.end_stand_in(unit, actor, stand_in_id)


async def _check_neighbour(context: ApiContext, own_id: uuid.UUID, body: EscalationPolicyBody, severity: str) -> None:
    """Raise InvalidInput for a neighbour that is not there, or has nobody who can be told.

    Where none is named and a step tells a neighbour alone, there has to be one at all.
    """
    agency_id = body.neighbour_agency_id
    alone = any(step.to == ["neighbour"] for step in (*body.unacknowledged, *body.undispatched))
    if agency_id is None and not alone:
        return
    async with act(context.device_database, context.clock()) as unit:
        if agency_id is None:
            if not any(other != own_id for other, _ in await jurisdictions.polygons(unit.connection)):
                raise InvalidInput(
                    "A step tells the neighbour alone, and no other police agency has a jurisdiction here.",
                    code=actions.REACHES_NOBODY,
                )
            return
        try:
            await agencies.get(unit.connection, agency_id)
        except NotFound:
            raise InvalidInput("There is no agency with the id neighbour_agency_id.") from None
        working = working_channels(context.settings)
        if await unreached(unit, agency_id, [("neighbour", ["dispatchers"], (), severity)], working):
            raise InvalidInput(
                "The neighbouring agency has no dispatcher and no route that can be told.", code=actions.REACHES_NOBODY
            )
