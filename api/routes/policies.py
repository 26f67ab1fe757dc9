"""`/v1/policies`: the radii, probabilities and times an agency sets for itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter

from api.auth import Reader, Supervisor
from api.deps import Context
from api.schemas.policies import PolicyBody, PolicyView
from core.actions.policies import set_policy
from core.actions.unit_of_work import act
from core.domain.policy import BOUNDS, Policy, read_policy
from core.postgres import agencies
from core.postgres.table import Record

router = APIRouter(prefix="/v1/policies", tags=["policies"])

PRESETS: Final[dict[str | None, dict[str, float]]] = {
    None: {},
    "standard": {"alert_m": 1000.0},
    "dense_city": {"alert_m": 500.0},
    "rural": {"alert_m": 2000.0},
}


@router.get("", response_model=PolicyView)
async def read_agency_policy(actor: Reader, context: Context) -> dict[str, Any]:
    """The policy in force, defaults filled in; what of it was set, the defaults, and the bounds of each value."""
    async with context.database.connection(actor.scope) as connection:
        return view(await agencies.get(connection, actor.agency_id))


@router.put("", response_model=PolicyView)
async def put_policy(body: PolicyBody, actor: Supervisor, context: Context) -> dict[str, Any]:
    """Set the whole policy; orders already entered keep their radii and grace, all get the other values."""
    values = {**PRESETS[body.preset], **body.model_dump(exclude={"preset"}, exclude_none=True)}
    async with act(context.database, context.clock(), actor.scope) as unit:
        return view(await set_policy(unit, actor, values))


def view(agency: Record) -> dict[str, Any]:
    """An agency's policy as it is shown."""
    return {
        **msgspec.structs.asdict(read_policy(agency["policy"])),
        "set": agency["policy"],
        "defaults": msgspec.structs.asdict(Policy()),
        "bounds": {name: {"least": least, "most": most} for name, (least, most) in BOUNDS.items()},
        "reached_all_cases": agency["recompile_after"] is None,
    }
