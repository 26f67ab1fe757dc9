"""Receipts: a delivery got further than the provider, or did not; on its incident's timeline and the feed, once."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.actions.deliveries import FEED_KIND, TIMELINE_KIND
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.delivery import RECEIPTS, SEEN_LINK_LIFE, state_after
from core.ids import derived_id, token_digest
from core.postgres import deliveries, receipts
from core.postgres.receipts import Standing

MAX_DETAIL_CHARACTERS: Final = 200


async def note_receipt(unit: Unit, delivery_id: uuid.UUID, state: str, at: datetime, detail: str | None = None) -> bool:
    """A delivery was `delivered`, `seen`, `acknowledged` or `failed`, at `at`; `detail` says why, in words of ours.

    True when that is news: the same receipt again, of whatever road, changes nothing. A moment ahead of ours is ours.
    """
    assert state in RECEIPTS, state
    standing = await receipts.lock(unit.connection, delivery_id)
    if standing is None:
        return False
    return await note(unit, standing, state, at, detail)


async def note(unit: Unit, standing: Standing, state: str, at: datetime, detail: str | None = None) -> bool:
    """The same for a delivery that is locked."""
    at = min(at, unit.now)
    detail = detail[:MAX_DETAIL_CHARACTERS] if detail else None
    news = await receipts.add(unit.connection, standing, state, at, unit.now, detail)
    after = state_after(standing.state, state)
    if after != standing.state:  # also when it failed before, and was sent again since
        await receipts.set_state(unit.connection, standing.id, after, at, unit.now, detail)
        await _tell(unit, standing, after, at, detail)
        news = True
    return news


async def _tell(unit: Unit, standing: Standing, state: str, at: datetime, detail: str | None) -> None:
    if standing.incident_id is None:
        return
    line: dict[str, Any] = {
        "delivery_id": str(standing.id),
        "channel": standing.channel,
        "audience": standing.audience,
        "template": standing.template,
        "state": state,
        "attempts": standing.attempts,
    }
    if detail is not None and state == "failed":
        line["reason"] = detail
    row = (derived_id("timeline", standing.id, state), standing.incident_id, at, TIMELINE_KIND, line)
    await deliveries.add_timeline(unit.connection, [row])
    unit.emit(
        standing.agency_id,
        FEED_KIND,
        {
            "incident_id": str(standing.incident_id),
            "delivery_id": str(standing.id),
            "channel": standing.channel,
            "audience": standing.audience,
            "state": state,
            "at": rfc3339(at),
        },
    )


async def note_own(unit: Unit, device_id: uuid.UUID, delivery_id: uuid.UUID, state: str) -> bool:
    """A device says that it has, or has shown, what was sent to it; False: nothing such was."""
    standing = await receipts.lock(unit.connection, delivery_id)
    if standing is None or standing.recipient != f"device:{device_id}":
        return False
    await note(unit, standing, state, unit.now)
    return True


async def note_users(unit: Unit, user_id: uuid.UUID, delivery_id: uuid.UUID, state: str) -> bool:
    """The same for a user and what was sent to her browser."""
    standing = await receipts.lock(unit.connection, delivery_id)
    if standing is None or standing.recipient != f"user:{user_id}":
        return False
    await note(unit, standing, state, unit.now)
    return True


async def note_by_link(unit: Unit, token: str, state: str) -> None:
    """Somebody pressed a button behind the link in a message: it was `seen`, or is `acknowledged`, acted upon; of the
    incident that says nothing. A token that is unknown or too old does nothing, and is not told apart."""
    found = await receipts.by_seen_digest(unit.connection, token_digest(token))
    if found is None or unit.now >= found.created_at + SEEN_LINK_LIFE:
        return
    await note_receipt(unit, found.id, state, unit.now)


async def note_of_gateway(
    unit: Unit, provider_id: str | None, reference: uuid.UUID | None, state: str, detail: str | None
) -> bool:
    """A gateway says what became of a text message, known by our id or by its own; False: there is none such."""
    delivery_id = reference
    if delivery_id is None and provider_id is not None:
        delivery_id = await receipts.by_provider_id(unit.connection, provider_id)
    standing = await receipts.lock(unit.connection, delivery_id) if delivery_id is not None else None
    if standing is None or standing.channel != "sms":
        return False
    await note(unit, standing, state, unit.now, detail)
    return True


async def note_of_letter(unit: Unit, delivery_id: uuid.UUID, state: str, detail: str | None) -> bool:
    """A mail provider or mail server says what became of a letter; False: there is none such."""
    standing = await receipts.lock(unit.connection, delivery_id)
    if standing is None or standing.channel != "email":
        return False
    await note(unit, standing, state, unit.now, detail)
    return True
