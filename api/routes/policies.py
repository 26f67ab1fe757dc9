"""`/v1/policies`: the radii, probabilities and times an agency sets for itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter

from api.auth import Reader, Supervisor
from api.deps import Context
from api.schemas.access import PolicyBody, PolicyView
from core.actions import records
from core.actions.policies import set_policy
from core.actions.unit_of_work import act
from core.domain.policy import read_policy
from core.postgres import agencies

router = APIRouter(prefix="/v1/policies", tags=["policies"])

PRESETS: Final[dict[str | None, dict[str, float]]] = {
    None: {},
    "standard": {"alert_m": 1000.0},
    "dense_city": {"alert_m": 500.0},
    "rural": {"alert_m": 2000.0},
}


@router.get("", response_model=PolicyView)
async def read_agency_policy(actor: Reader, context: Context) -> dict[str, Any]:
    """The policy in effect, defaults filled in."""
    async with context.database.connection() as connection:
        agency = await agencies.get(connection, actor.agency_id)
    return msgspec.structs.asdict(read_policy(agency["policy"]))


@router.put("", response_model=PolicyView)
async def put_policy(body: PolicyBody, actor: Supervisor, context: Context) -> dict[str, Any]:
    """Set the whole policy; orders already entered keep their radii, all get the probabilities and margins."""
    values = {**PRESETS[body.preset], **body.model_dump(exclude={"preset"}, exclude_none=True)}
    policy = read_policy(values)
    async with act(context.database, context.clock()) as unit:
        await set_policy(unit, actor.agency_id, values)
        await records.note(unit, actor, "policy.set", "agency", actor.agency_id, values=values)
    return msgspec.structs.asdict(policy)
