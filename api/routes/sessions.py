"""Sessions: one's own under `/v1/me/sessions`, any user's of the agency under `/v1/users/{id}/sessions`."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter

from api.auth import Admin, AnyUser
from api.deps import Context
from api.schemas.sign_in import SessionList
from core.actions import records
from core.actions.unit_of_work import act
from core.errors import NotFound
from core.postgres import sessions
from core.postgres.users import USERS

router = APIRouter(prefix="/v1", tags=["sessions"])


@router.get("/me/sessions", response_model=SessionList)
async def list_own_sessions(actor: AnyUser, context: Context) -> dict[str, Any]:
    """Where you are signed in."""
    async with context.database.connection(actor.scope) as connection:
        found = await sessions.open_of_user(connection, actor.user_id, context.clock())
    return {"items": [{**session, "current": session["id"] == actor.session_id} for session in found]}


@router.delete("/me/sessions/{session_id}", status_code=204)
async def end_own_session(session_id: uuid.UUID, actor: AnyUser, context: Context) -> None:
    """End one of your sessions; what it has open closes within a second."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await sessions.get(unit.connection, actor.user_id, session_id)
        if await sessions.end(unit.connection, [session_id], unit.now, "ended_by_user"):
            await records.note(unit, actor, "user.session_ended", "user", actor.user_id, session=str(session_id))


@router.delete("/me/sessions", status_code=204)
async def end_other_sessions(actor: AnyUser, context: Context) -> None:
    """End all your sessions but this one."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        ended = await sessions.end_of_user(
            unit.connection, actor.user_id, unit.now, "ended_by_user", but=actor.session_id
        )
        await records.note(unit, actor, "user.sessions_ended", "user", actor.user_id, count=len(ended))


@router.get("/users/{user_id}/sessions", response_model=SessionList)
async def list_sessions(user_id: uuid.UUID, actor: Admin, context: Context) -> dict[str, Any]:
    """Where a user of your agency is signed in."""
    async with context.database.connection(actor.scope) as connection:
        await USERS.get(connection, actor.agency_id, user_id)
        found = await sessions.open_of_user(connection, user_id, context.clock())
    return {"items": [{**session, "current": session["id"] == actor.session_id} for session in found]}


@router.delete("/users/{user_id}/sessions", status_code=204)
async def end_sessions(user_id: uuid.UUID, actor: Admin, context: Context) -> None:
    """End every session of a user; what they have open closes within a second."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        if await USERS.find(unit.connection, actor.agency_id, user_id) is None:
            raise NotFound("There is no user with this id.")
        ended = await sessions.end_of_user(unit.connection, user_id, unit.now, "ended_by_admin")
        await records.note(unit, actor, "user.sessions_ended", "user", user_id, count=len(ended))
