"""Text messages through HTTP gateways, each as its entry in the file says (`core.sms_gateways`).

The first gateway that takes the number is asked first; the next attempt asks the next. The short text is sent, and the
delivery's id goes along wherever the gateway takes an idempotency key.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, Final

import httpx

from core.domain.short_message import count_segments
from core.metrics import SMS_SEGMENTS
from core.sms_gateways import Gateway, as_number, at
from notifier.channels.base import Channel, Message, Permanent, Retryable, Throttled
from notifier.channels.retry_after import retry_after_s

CONCURRENCY: Final = 20
DEFAULT_THROTTLE_S: Final = 30.0
TOO_MANY: Final = 429
ACCOUNT_REFUSED: Final = frozenset({401, 402, 403})
WORTH_REPEATING: Final = frozenset({408, 425})
CODE_CHARACTERS: Final = 20
ANSWER_BYTES_MAX: Final = 65_536


class SmsChannel(Channel):
    """Asks gateways to send; each has its own connections and its own breaker."""

    name = "sms"
    concurrency = CONCURRENCY

    def __init__(self, gateways: Sequence[Gateway], timeout_s: float, public_url: str | None) -> None:
        self._gateways = {gateway.name: gateway for gateway in gateways}
        self.fixed = tuple(self._gateways)
        self.rate_per_s = sum((gateway.per_second for gateway in gateways), 0.0) or math.inf
        self._public_url = (public_url or "").rstrip("/")
        self._clients = {
            name: httpx.AsyncClient(
                timeout=timeout_s, follow_redirects=False, trust_env=False,
                limits=httpx.Limits(max_connections=CONCURRENCY), headers={"user-agent": "qorgan-sms/1"},
            )
            for name in self._gateways
        }  # fmt: skip

    def providers(self, address: str, attempt: int) -> Sequence[str]:
        """The gateways that take a number, from another one at each attempt."""
        number = as_number(address) or ""
        names = [name for name, gateway in self._gateways.items() if gateway.takes(number)]
        turn = (attempt - 1) % len(names) if names else 0
        return [*names[turn:], *names[:turn]] or self.fixed

    async def send(self, message: Message) -> str | None:
        """Hand the short text to a gateway; returns `<gateway>:<its id>`."""
        number = as_number(message.address)
        if number is None:
            raise Permanent("the telephone number is malformed")
        gateway = self._gateways[message.provider or self.providers(number, 1)[0]]
        if not gateway.takes(number):
            raise Permanent("no SMS gateway takes this number")
        segments = count_segments(message.short).count
        if segments > gateway.max_segments:
            raise Permanent(f"the text takes {segments} messages, {gateway.name} sends at most {gateway.max_segments}")
        try:
            response = await self._clients[gateway.name].send(self._request(gateway, message, number))
        except httpx.TransportError as error:
            raise Retryable(f"no answer of {gateway.name}: {type(error).__name__}") from None
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise Permanent(f"{gateway.name} cannot be asked: {type(error).__name__}") from None
        found = _judge(gateway, response, message)
        SMS_SEGMENTS.labels(gateway.name).inc(segments)
        return found

    def _request(self, gateway: Gateway, message: Message, number: str) -> httpx.Request:
        callback_url = f"{self._public_url}/v1/receipts/sms/{gateway.name}?delivery={message.id}"
        facts = {
            "to": number, "to_digits": number.removeprefix("+"), "text": message.short, "id": str(message.id),
            "callback_url": callback_url if self._public_url else "",
        }  # fmt: skip
        body: dict[str, Any] = {}
        if gateway.form is not None:
            body["data"] = {key: value for key, value in gateway.fill(gateway.form, facts).items() if value}
        elif gateway.json is not None:
            body["json"] = gateway.fill(gateway.json, facts)
        request = self._clients[gateway.name].build_request(
            gateway.method, _url(gateway, facts), headers=gateway.fill(gateway.headers, facts),
            params=gateway.fill(gateway.query, facts) or None, **body,
        )  # fmt: skip
        if gateway.basic is not None:
            user, password = gateway.fill(gateway.basic, facts)
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.headers["authorization"] = f"Basic {token}"
        return request

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()


def _url(gateway: Gateway, facts: dict[str, str]) -> str:
    quoted = {name: httpx.QueryParams({"x": value}).__str__()[2:] for name, value in facts.items()}
    return str(gateway.fill(gateway.url, quoted))


def _judge(gateway: Gateway, response: httpx.Response, message: Message) -> str | None:
    """The provider's id of the message, or one of the three failures; its own words stay out."""
    status, name = response.status_code, gateway.name
    document: Any = None
    if len(response.content) <= ANSWER_BYTES_MAX:
        try:
            document = response.json()
        except ValueError:
            document = None
    code = at(document, gateway.answer.error) if gateway.answer.error else None
    said = f"{name} HTTP {status}" + (f", code {_word(code)}" if code not in (None, "", 0, "0") else "")
    wait_s = retry_after_s(response.headers.get("retry-after"), message.sent_at)
    if status == TOO_MANY or (status >= 500 and wait_s is not None):
        raise Throttled(said, DEFAULT_THROTTLE_S if wait_s is None else wait_s)
    if code not in (None, "", 0, "0"):
        word = str(code)
        if word in gateway.answer.permanent:
            raise Permanent(said)
        if word in gateway.answer.retryable:
            raise Retryable(said, provider_fails=False)
    if status >= 500 or status in WORTH_REPEATING:
        raise Retryable(said)
    if status in ACCOUNT_REFUSED:
        # Our account is at fault, not the message: it goes when the operator has mended it.
        raise Retryable(f"{said}: the gateway refuses our account")
    if not response.is_success or code not in (None, "", 0, "0"):
        raise Permanent(said)
    if not gateway.answer.id:
        return None
    found = at(document, gateway.answer.id)
    if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
        raise Retryable(f"{said}: an answer that is not understood")
    return f"{name}:{found}"


def _word(code: Any) -> str:
    return "".join(letter for letter in str(code)[:CODE_CHARACTERS] if letter.isalnum() or letter in "._-")
