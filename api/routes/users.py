"""`/v1/users`: an agency's users, for its administrators."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Response

from api.auth import Admin
from api.deps import Context
from api.schemas.access import NewUser, UserChange, UserView
from api.schemas.base import Page, Paging, page_of
from api.schemas.sign_in import PasswordCode
from core.actions import records
from core.actions.unit_of_work import act
from core.actions.users import (
    add_user,
    change_user,
    check_password,
    forget_second_factors,
    make_password_code,
)
from core.errors import Conflict
from core.postgres.table import Record
from core.postgres.users import USERS

router = APIRouter(prefix="/v1/users", tags=["users"])


@router.post("", status_code=201, response_model=UserView)
async def create_user(body: NewUser, actor: Admin, context: Context, response: Response) -> Record:
    """Add a user to your agency."""
    values = body.model_dump(exclude={"id", "password"}, exclude_none=True)
    password_hash = None
    if body.password is not None:
        password = check_password(body.password.get_secret_value(), body.username)
        password_hash = await context.passwords.hash(password)
    async with act(context.database, context.clock(), actor.scope) as unit:
        # The password is no part of what a repeat is compared by: nothing derived from it is kept but its hash.
        if not await records.claim(unit, actor, USERS, body.id, values):
            assert body.id is not None
            response.status_code = 200
            return await USERS.get(unit.connection, actor.agency_id, body.id)
        user = await add_user(unit, actor.agency_id, password_hash=password_hash, user_id=body.id, **values)
        await records.note(unit, actor, "user.created", "user", user["id"], role=user["role"])
    return user


@router.get("", response_model=Page[UserView])
async def list_users(actor: Admin, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's users."""
    async with context.database.connection(actor.scope) as connection:
        found = await USERS.page(connection, actor.agency_id, after=paging.after, limit=paging.limit)
    return page_of(found, paging.limit)


@router.get("/{user_id}", response_model=UserView)
async def read_user(user_id: uuid.UUID, actor: Admin, context: Context) -> Record:
    """One user."""
    async with context.database.connection(actor.scope) as connection:
        return await USERS.get(connection, actor.agency_id, user_id)


@router.patch("/{user_id}", response_model=UserView)
async def update_user(user_id: uuid.UUID, body: UserChange, actor: Admin, context: Context) -> Record:
    """Change a user; a new password, another role or being disabled ends her sessions within a second."""
    if user_id == actor.user_id and (body.disabled or body.role not in {None, "admin"}):
        raise Conflict("You cannot take your own administration away; have another administrator do it.")
    values: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"password", "disabled"})
    if body.password is not None:
        values["password_hash"] = await context.passwords.hash(check_password(body.password.get_secret_value()))
    now = context.clock()
    if body.disabled is not None:
        values["disabled_at"] = now if body.disabled else None
    async with act(context.database, now, actor.scope) as unit:
        user = await change_user(unit, actor.agency_id, user_id, values)
        await records.note(unit, actor, "user.changed", "user", user_id, fields=sorted(body.model_fields_set))
    return user


@router.post("/{user_id}/password-code", status_code=201, response_model=PasswordCode)
async def create_password_code(user_id: uuid.UUID, actor: Admin, context: Context) -> dict[str, Any]:
    """A code with which a user sets her password, good once and told only now; her sessions end."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await USERS.get(unit.connection, actor.agency_id, user_id)
        code, expires_at = await make_password_code(unit, user, context.settings.password_code_s)
        await records.note(unit, actor, "user.password_reset", "user", user_id)
    return {"code": code, "expires_at": expires_at}


@router.delete("/{user_id}/second-factors", status_code=204)
async def remove_second_factors(user_id: uuid.UUID, actor: Admin, context: Context) -> None:
    """Forget a user's authenticator app, recovery codes and passkeys, as she has lost them; her sessions end."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await forget_second_factors(unit, actor.agency_id, user_id)
        await records.note(unit, actor, "user.second_factors_removed", "user", user_id)
