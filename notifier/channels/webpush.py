"""Push to browsers by Web Push (RFC 8030), encrypted to the browser (RFC 8291), signed with our VAPID key (RFC 8292).

The push service sees that something came, and for whom; not what. The page's service worker shows `title` and `short`
on a locked screen, and drops repeats by `delivery_id`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from py_vapid import Vapid02
from pywebpush import WebPushException, webpush_async

from core.clock import rfc3339
from core.domain.push_address import is_push_service
from core.settings import Settings
from core.vapid_key import load_vapid_key
from notifier.channels.base import Channel, Message, Permanent, Retryable, Throttled
from notifier.channels.retry_after import retry_after_s

CONCURRENCY: Final = 50
TIME_TO_LIVE_S: Final = 3600
"""An alarm that a browser gets later than this would mislead."""
VAPID_LIFE_S: Final = 3600
DEFAULT_THROTTLE_S: Final = 30.0
GONE: Final = frozenset({404, 410})
TOO_MANY: Final = 429
REFUSED: Final = frozenset({401, 403})
WORTH_REPEATING: Final = frozenset({408, 425})


class WebPushChannel(Channel):
    """Pushes to subscriptions; the address of a delivery is the subscription's JSON."""

    name = "webpush"
    concurrency = CONCURRENCY
    fixed = ()

    def __init__(self, settings: Settings) -> None:
        self._hosts = settings.webpush_hosts
        self._subject = settings.vapid_subject
        self._timeout_s = settings.delivery_timeout_s
        self._vapid = Vapid02(load_vapid_key(settings))
        self._session: aiohttp.ClientSession | None = None

    def providers(self, address: str, attempt: int) -> Sequence[str]:  # noqa: ARG002
        """The push service a subscription names."""
        try:
            return (str(urlsplit(str(json.loads(address)["endpoint"])).hostname),)
        except (ValueError, KeyError, TypeError):
            return ("",)

    async def send(self, message: Message) -> str | None:
        """Encrypt and push; returns where the push service keeps it."""
        subscription = self._subscription(message)
        claims: dict[str, str | int] = {
            "sub": self._subject, "exp": int(message.sent_at.timestamp()) + VAPID_LIFE_S,
        }  # fmt: skip
        if self._session is None:
            # No environment, no cookies: nothing of one browser goes to another's service.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        try:
            answer: Any = await webpush_async(
                subscription,
                data=json.dumps(payload(message), ensure_ascii=False, separators=(",", ":")),
                vapid_private_key=self._vapid,
                vapid_claims=claims,
                ttl=TIME_TO_LIVE_S,
                headers={"urgency": "high"},
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                aiohttp_session=self._session,
            )
        except WebPushException as error:
            raise _judge(error, message) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Retryable(f"no answer: {type(error).__name__}") from None
        except ValueError:
            raise Permanent("the subscription's keys are malformed", address_gone=True) from None
        return str(answer.headers.get("location", ""))[-100:] or None

    def _subscription(self, message: Message) -> Any:
        try:
            subscription = json.loads(message.address)
            endpoint = str(subscription["endpoint"])
        except (ValueError, KeyError, TypeError):
            raise Permanent("the subscription is malformed") from None
        if not is_push_service(endpoint, self._hosts):
            raise Permanent("the subscription's push service is none that QORGAN_WEBPUSH_HOSTS names")
        return subscription

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def payload(message: Message) -> dict[str, Any]:
    """What the browser decrypts: words for a locked screen, ids to ask the API with; no place, no name."""
    facts = {
        "delivery_id": str(message.id), "kind": message.template, "title": message.subject, "short": message.short,
        "language": message.language, "at": rfc3339(message.created_at),
    }  # fmt: skip
    return facts | ({"incident_id": str(message.incident_id)} if message.incident_id is not None else {})


def _judge(error: WebPushException, message: Message) -> Permanent | Retryable | Throttled:
    """Ours for theirs. Their words stay out: they may bear the address."""
    status = error.status_code
    if status is None:
        return Permanent("the subscription's keys are malformed", address_gone=True)
    wait_s = retry_after_s(error.retry_after, message.sent_at)
    if status == TOO_MANY or (status >= 500 and wait_s is not None):
        return Throttled(f"HTTP {status}", DEFAULT_THROTTLE_S if wait_s is None else wait_s)
    if status in GONE:
        return Permanent(f"HTTP {status}: the browser takes no more of these", address_gone=True)
    if status in REFUSED:
        return Retryable(f"HTTP {status}: the push service refuses our key", provider_fails=False)
    if status >= 500 or status in WORTH_REPEATING:
        return Retryable(f"HTTP {status}")
    return Permanent(f"HTTP {status}")
