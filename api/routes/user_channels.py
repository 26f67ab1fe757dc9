"""`/v1/users/{user_id}/channels`: how a user is told when her screen is not enough."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final, Literal

from fastapi import APIRouter

from api.auth import Supervisor
from api.deps import Context
from api.schemas.base import Page
from api.schemas.escalation import UserChannelBody, UserChannelView
from core.actions import escalation_policies as policies
from core.actions import records
from core.actions.unit_of_work import act
from core.errors import InvalidInput, NotFound
from core.ids import new_id
from core.postgres import user_channels as store
from core.postgres.table import Record
from core.postgres.user_channels import USER_CHANNELS
from core.postgres.users import USERS
from core.working_channels import working_channels

router = APIRouter(prefix="/v1/users/{user_id}/channels", tags=["escalation"])

Channel = Literal["email", "sms", "fcm"]
FORMS: Final = {
    "email": (re.compile(r"[^@\s]+@[^@\s]+"), "an e-mail address"),
    "sms": (re.compile(r"\+[1-9]\d{6,14}"), "a number with a plus sign and the country's code"),
    "fcm": (re.compile(r"\S{10,500}"), "a registration token"),
}


@router.get("", response_model=Page[UserChannelView])
async def list_channels(user_id: uuid.UUID, actor: Supervisor, context: Context) -> dict[str, Any]:
    """A user's channels, beside the browsers she takes Web Push in."""
    async with context.database.connection(actor.scope) as connection:
        await USERS.get(connection, actor.agency_id, user_id)
        found = await USER_CHANNELS.page(connection, actor.agency_id, where={"user_id": user_id})
    return {"items": found, "next": None}


@router.put("/{channel}", response_model=UserChannelView)
async def put_channel(
    user_id: uuid.UUID, channel: Channel, body: UserChannelBody, actor: Supervisor, context: Context
) -> Record:
    """Set where a user is told by a channel."""
    form, words = FORMS[channel]
    if form.fullmatch(body.address) is None:
        raise InvalidInput(f"The address of {channel} is {words}.")
    working = working_channels(context.settings)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await USERS.get(unit.connection, actor.agency_id, user_id, lock=True)
        before = await policies.problems(unit, actor.agency_id, working)
        await store.delete(unit.connection, actor.agency_id, user_id, channel)
        values = {"user_id": user_id, "channel": channel, **body.model_dump()}
        record = await records.insert(unit, actor, USER_CHANNELS, new_id(), values)
        await policies.check_still_reached(unit, actor.agency_id, working, before)
    return record


@router.delete("/{channel}", status_code=204)
async def drop_channel(user_id: uuid.UUID, channel: Channel, actor: Supervisor, context: Context) -> None:
    """Forget it; refused while a policy would reach nobody without it."""
    working = working_channels(context.settings)
    async with act(context.database, context.clock(), actor.scope) as unit:
        before = await policies.problems(unit, actor.agency_id, working)
        if not await store.delete(unit.connection, actor.agency_id, user_id, channel):
            raise NotFound("This user is not told by this channel.")
        await policies.check_still_reached(unit, actor.agency_id, working, before)
        await records.note(unit, actor, "user_channel.dropped", "app_user", user_id, channel=channel)
