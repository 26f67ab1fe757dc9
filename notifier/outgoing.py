"""A claimed delivery on its way to a channel: rendered, and afterwards described without its address."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import structlog

from core.domain.delivery import PRIORITY_PANIC
from core.postgres.deliveries import Claimed, Ended, Mark
from core.postgres.deliveries_write import SEEN_TOKEN
from notifier.channels.base import ChannelError, Message, Permanent, Retryable
from notifier.templates.render import Unrenderable, render

log = structlog.get_logger(__name__)

DEVICE_RECIPIENT: Final = "device:"


def message_of(claimed: Claimed, sent_at: datetime, public_url: str | None) -> Message:
    """The delivery, rendered; Permanent when its template and data do not fit each other, or nobody is left to tell."""
    if claimed.erased:
        raise Permanent("who it was for was erased")
    if claimed.spoilt:
        raise Retryable("its address does not open; see docs/encryption.md", provider_fails=False)
    if not isinstance(claimed.data, dict):
        raise Permanent("the delivery's data is no object")
    data = {"time_zone": claimed.time_zone, **with_links(claimed.data, public_url)}
    try:
        text = render(claimed.template, claimed.language, data, claimed.created_at)
    except Unrenderable as error:
        raise Permanent(str(error)) from None
    return Message(
        id=claimed.id,
        template=claimed.template,
        audience=claimed.audience,
        address=claimed.address,
        secret=claimed.secret,
        language=claimed.language,
        subject=text.subject,
        body=text.body,
        short=text.short,
        incident_id=claimed.incident_id,
        data=data,
        created_at=claimed.created_at,
        sent_at=sent_at,
        attempt=claimed.attempt,
        urgent=claimed.priority == PRIORITY_PANIC,
    )


def with_links(data: dict[str, Any], public_url: str | None) -> dict[str, Any]:
    """The facts with their links as whole addresses; without a public address no link is told.

    `seen_link`: where "I have seen it" is said; `link`: a page of ours by its path.
    """
    facts = {name: value for name, value in data.items() if name not in (SEEN_TOKEN, "link", "seen_link")}
    base = (public_url or "").rstrip("/")
    token, path = data.get(SEEN_TOKEN), data.get("link")
    if base and isinstance(token, str):
        facts["seen_link"] = f"{base}/seen/{token}"
    if base and isinstance(path, str):
        facts["link"] = f"{base}{path}"
    return facts


def without_address(mark: Mark, claimed: Claimed) -> Mark:
    """The mark as it is stored and logged: providers like to repeat the address, which is sealed."""
    if mark.detail is None or not claimed.address:
        return mark
    detail = mark.detail
    for text in {claimed.address, claimed.address.lower()}:
        detail = detail.replace(text, "(address)")
    return dataclasses.replace(mark, detail=detail)


def gone_token(claimed: Claimed, error: ChannelError) -> tuple[uuid.UUID, str] | None:
    """The device and push token to forget, when the provider disowned it."""
    if not _is_gone(error) or not claimed.recipient.startswith(DEVICE_RECIPIENT):
        return None
    with contextlib.suppress(ValueError):
        return uuid.UUID(claimed.recipient.removeprefix(DEVICE_RECIPIENT)), claimed.address
    return None


def gone_subscription(claimed: Claimed, error: ChannelError) -> str | None:
    """The Web Push address to retire, when the push service disowned it."""
    return claimed.address if claimed.channel == "webpush" and _is_gone(error) else None


def _is_gone(error: ChannelError) -> bool:
    return isinstance(error, Permanent) and error.address_gone


def log_dead(ended: Iterable[Ended]) -> None:
    """One line for each delivery that nobody will get."""
    for one in ended:
        if one.state == "dead":
            log.error(
                "delivery_dead",
                delivery_id=str(one.id),
                incident_id=str(one.incident_id) if one.incident_id else None,
                channel=one.channel,
                audience=one.audience,
                attempts=one.attempts,
                reason=one.detail,
            )
