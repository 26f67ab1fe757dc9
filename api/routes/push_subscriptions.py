"""`/v1/me/push-subscriptions`: browsers in which a user is told by Web Push."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from api.auth import User
from api.deps import Context
from api.schemas.base import Body, View
from core.actions import records
from core.actions.unit_of_work import act
from core.domain.push_address import MAX_ENDPOINT_CHARS, check_subscription
from core.errors import NotFound
from core.postgres import subscriptions
from core.vapid_key import load_vapid_key, public_key_text

router = APIRouter(prefix="/v1/me/push-subscriptions", tags=["me"])

Key = Annotated[str, Field(min_length=1, max_length=200)]


class PushKeys(Body):
    """What the browser encrypts with."""

    p256dh: Key
    auth: Key


class NewSubscription(Body):
    """What `PushSubscription.toJSON()` gives in the browser."""

    endpoint: Annotated[str, Field(min_length=1, max_length=MAX_ENDPOINT_CHARS)]
    keys: PushKeys
    expirationTime: float | None = Field(None, description="Taken, and not used.")  # noqa: N815 - the browser's name


class SubscriptionView(View):
    """A browser; never where it is."""

    id: uuid.UUID
    created_at: datetime


class SubscriptionsView(View):
    """Your browsers, and the key to subscribe with."""

    application_server_key: str = Field(description="For `PushManager.subscribe`, base64url.")
    items: list[SubscriptionView]


@router.get("", response_model=SubscriptionsView)
async def list_subscriptions(actor: User, context: Context) -> dict[str, Any]:
    """The browsers in which you are told, and the key that a browser subscribes with."""
    async with context.database.connection(actor.scope) as connection:
        items = await subscriptions.own(connection, actor.user_id)
    return {"application_server_key": public_key_text(load_vapid_key(context.settings)), "items": items}


@router.post("", status_code=201, response_model=SubscriptionView)
async def add_subscription(body: NewSubscription, actor: User, context: Context) -> dict[str, Any]:
    """Be told in this browser too; the oldest of more than ten gives way. Said twice is said once."""
    target = check_subscription(body.model_dump(), context.settings.webpush_hosts)
    async with act(context.database, context.clock(), actor.scope) as unit:
        made = await subscriptions.add(unit.connection, actor.agency_id, actor.user_id, target, unit.now)
        await records.note(unit, actor, "push_subscription.created", "push_subscription", made)
    return {"id": made, "created_at": unit.now}


@router.delete("/{subscription_id}", status_code=204)
async def remove_subscription(subscription_id: uuid.UUID, actor: User, context: Context) -> None:
    """No longer be told in one of your browsers."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        if not await subscriptions.remove(unit.connection, actor.user_id, subscription_id):
            raise NotFound("You have no browser with this id.")
        await records.note(unit, actor, "push_subscription.removed", "push_subscription", subscription_id)
