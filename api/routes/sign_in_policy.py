"""`/v1/sign-in-policy`: which roles need a second factor."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Admin
from api.deps import Context
from api.schemas.sign_in import SignInPolicy
from core.actions import records
from core.actions.unit_of_work import act
from core.postgres import second_factors

router = APIRouter(prefix="/v1/sign-in-policy", tags=["users"])


@router.get("", response_model=SignInPolicy)
async def read_sign_in_policy(actor: Admin, context: Context) -> dict[str, Any]:
    """Which roles of your agency need a second factor."""
    async with context.database.connection(actor.scope) as connection:
        return {"second_factor_roles": await second_factors.required_roles(connection, actor.agency_id)}


@router.put("", response_model=SignInPolicy)
async def set_sign_in_policy(body: SignInPolicy, actor: Admin, context: Context) -> dict[str, Any]:
    """Set which roles need a second factor: who has none signs in only to add one."""
    roles = sorted({str(role) for role in body.second_factor_roles})
    async with act(context.database, context.clock(), actor.scope) as unit:
        before = await second_factors.required_roles(unit.connection, actor.agency_id)
        await second_factors.require_roles(unit.connection, actor.agency_id, roles, unit.now)
        await records.note(unit, actor, "sign_in_policy.set", "agency", actor.agency_id, before=before, values=roles)
    return {"second_factor_roles": roles}
