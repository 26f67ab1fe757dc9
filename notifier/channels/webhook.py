"""Webhooks by the Standard Webhooks specification: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…`.

The body bears what happened, how urgent it is and which ids to ask the API for; no position, no distance, no name.
`webhook-id` is the delivery's id at every attempt: the receiver's key to drop repeats. While a secret is being replaced
a message bears the signatures of both.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import httpx
from standardwebhooks.webhooks import Webhook

from core.clock import rfc3339
from core.domain.webhook_secret import secrets_in_force
from notifier.channels.base import Channel, Message, Permanent, Retryable, Throttled
from notifier.channels.forbidden import EVERYWHERE, FORBIDDEN, ForbiddenAddress, HeldTransport, Networks
from notifier.channels.retry_after import retry_after_s

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how secrets begin, not one
SECRET_BYTES: Final = (16, 64)
FACTS: Final = ("type", "severity", "order_id", "occurred_at", "opened_at", "escalated", "exercise")
"""All of a template's facts that leave by webhook."""
HOST: Final = re.compile(rb"[A-Za-z0-9._:-]+")
DEFAULT_EVENT: Final = "incident.opened"
EVENTS: Final = (
    ("escalated_", "incident.escalated"),
    ("eta_missed_", "incident.escalated"),
    ("panic_again_", "incident.updated"),
    ("cancel_asked_", "incident.updated"),
    ("duress_", "incident.updated"),
    ("panic_all_clear_", "incident.resolved"),
    ("dispatched_", "incident.dispatched"),
    ("asked_", "incident.dispatched"),
    ("stood_down_", "incident.updated"),
    ("welfare_check_", "notice.welfare_check"),
    ("outage_over_", "health.restored"),
    ("outage_", "health.degraded"),
    ("drill_", "drill.started"),
)
"""How a template's name begins → the type of the event, when the facts do not say it (`event`)."""
DEFAULT_THROTTLE_S: Final = 30.0
CONNECTIONS: Final = 100
GONE: Final = 410
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
WORTH_REPEATING: Final = frozenset({408, 425})
"""4xx answers that speak of the moment, not of the message."""


class WebhookChannel(Channel):
    """POSTs signed JSON to a route's address."""

    name = "webhook"
    concurrency = CONNECTIONS
    fixed = ()

    def __init__(self, timeout_s: float, forbidden: Networks = EVERYWHERE) -> None:
        """`forbidden`: networks in which no receiver may be."""
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS // 5)
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            follow_redirects=False,  # a redirect would carry the message to where nobody agreed on
            transport=HeldTransport(forbidden, limits),
            headers={"user-agent": "qorgan-webhook/1", "content-type": "application/json"},
            trust_env=False,
        )

    def providers(self, address: str, attempt: int) -> Sequence[str]:  # noqa: ARG002
        """The receiver's host: one that is dead is left alone, whatever it is asked for."""
        try:
            return (httpx.URL(address).netloc.decode("ascii", "replace"),)
        except httpx.InvalidURL:
            return ("",)

    async def send(self, message: Message) -> str | None:
        """POST it; any 2xx is success. The answer's body is not read."""
        body = json.dumps(webhook_body(message), ensure_ascii=False, separators=(",", ":"))
        headers = {
            "webhook-id": str(message.id),
            "webhook-timestamp": str(int(message.sent_at.timestamp())),
            "webhook-signature": " ".join(
                signer.sign(str(message.id), message.sent_at, body)
                for signer in _signers(message.secret, message.sent_at)
            ),
        }
        try:
            async with self._client.stream(
                "POST", _address(message.address), content=body.encode(), headers=headers
            ) as response:
                _judge(response, message)
        except httpx.InvalidURL:
            raise Permanent("the webhook's address is not a URL") from None
        except ForbiddenAddress:
            raise Permanent(FORBIDDEN) from None
        except httpx.TransportError as error:
            raise Retryable(f"no answer: {type(error).__name__}") from None
        return None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def webhook_body(message: Message) -> dict[str, Any]:
    """The JSON that leaves: `type`, `timestamp`, `data`."""
    facts = {name: message.data[name] for name in FACTS if message.data.get(name) is not None}
    return {
        "type": event_of(message),
        "timestamp": rfc3339(message.created_at),
        "data": {"incident_id": str(message.incident_id) if message.incident_id else None, **facts},
    }


def event_of(message: Message) -> str:
    """The type of the event."""
    told = message.data.get("event")
    if isinstance(told, str) and told:
        return told
    if message.template == "incident_dispatcher" and message.data.get("escalated"):
        return "incident.escalated"
    return next((event for start, event in EVENTS if message.template.startswith(start)), DEFAULT_EVENT)


def _address(address: str) -> httpx.URL:
    url = httpx.URL(address)
    if url.scheme not in ("http", "https"):
        raise Permanent("the webhook's address is neither http nor https")
    if HOST.fullmatch(url.raw_host) is None:
        raise Permanent("the webhook's address names no host")
    return url


def _signers(secret: str | None, now: datetime) -> list[Webhook]:
    """The signers of a route's secrets, the newest first; a missing or malformed one is Permanent: nothing leaves
    unsigned. A secret on its way out bears when that ends (`core.domain.webhook_secret`)."""
    written = secrets_in_force(secret or "", now)
    if not written:
        raise Permanent(f"the webhook's signing secret is missing or does not begin with {SECRET_PREFIX}")
    return [_signer(one) for one in written]


def _signer(secret: str) -> Webhook:
    if not secret.startswith(SECRET_PREFIX):
        raise Permanent(f"the webhook's signing secret is missing or does not begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise Permanent("the webhook's signing secret is not base64") from None
    if not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
        raise Permanent(f"the webhook's signing secret is not {SECRET_BYTES[0]} to {SECRET_BYTES[1]} bytes long")
    return Webhook(key)


def _judge(response: httpx.Response, message: Message) -> None:
    status = response.status_code
    if response.is_success:
        return
    wait_s = retry_after_s(response.headers.get("retry-after"), message.sent_at)
    if status == TOO_MANY or (status == UNAVAILABLE and wait_s is not None):
        raise Throttled(f"HTTP {status}", DEFAULT_THROTTLE_S if wait_s is None else wait_s)
    if status == GONE:
        raise Permanent("HTTP 410: the receiver wants no more of these")
    if response.is_server_error or status in WORTH_REPEATING:
        raise Retryable(f"HTTP {status}")
    raise Permanent(f"HTTP {status}")
