"""Webhooks by the Standard Webhooks specification: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…`.

The body bears what happened, how urgent it is and which ids to ask the API for; no position, no distance, no name.
`webhook-id` is the delivery's id at every attempt: the receiver's key to drop repeats.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

import httpx
from standardwebhooks.webhooks import Webhook

from core.clock import rfc3339
from notifier.channels.base import Channel, Message, Permanent, Retryable, Throttled
from notifier.channels.retry_after import retry_after_s

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how secrets begin, not one
SECRET_BYTES: Final = (16, 64)
FACTS: Final = ("type", "severity", "order_id", "occurred_at", "opened_at", "escalated", "exercise")
"""All of a template's facts that leave by webhook."""
HOST: Final = re.compile(rb"[A-Za-z0-9._:-]+")
DEFAULT_EVENT: Final = "incident.opened"
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

    def __init__(self, timeout_s: float) -> None:
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            follow_redirects=False,  # a redirect would carry the message to where nobody agreed on
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS // 5),
            headers={"user-agent": "qorgan-webhook/1", "content-type": "application/json"},
            trust_env=False,
        )

    async def send(self, message: Message) -> str | None:
        """POST it; any 2xx is success. The answer's body is not read."""
        body = json.dumps(webhook_body(message), ensure_ascii=False, separators=(",", ":"))
        headers = {
            "webhook-id": str(message.id),
            "webhook-timestamp": str(int(message.sent_at.timestamp())),
            "webhook-signature": _signer(message.secret).sign(str(message.id), message.sent_at, body),
        }
        try:
            async with self._client.stream(
                "POST", _address(message.address), content=body.encode(), headers=headers
            ) as response:
                _judge(response, message)
        except httpx.InvalidURL:
            raise Permanent("the webhook's address is not a URL") from None
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
        "type": message.data.get("event") or DEFAULT_EVENT,
        "timestamp": rfc3339(message.created_at),
        "data": {"incident_id": str(message.incident_id) if message.incident_id else None, **facts},
    }


def _address(address: str) -> httpx.URL:
    url = httpx.URL(address)
    if url.scheme not in ("http", "https"):
        raise Permanent("the webhook's address is neither http nor https")
    if HOST.fullmatch(url.raw_host) is None:
        raise Permanent("the webhook's address names no host")
    return url


def _signer(secret: str | None) -> Webhook:
    """The signer of a route's secret; a missing or malformed one is Permanent: nothing leaves unsigned."""
    if not secret or not secret.startswith(SECRET_PREFIX):
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
