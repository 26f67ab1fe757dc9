"""The webhook channel against an HTTP server on the loopback."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from core.clock import utc_now
from core.domain.webhook_secret import rotated, secrets_in_force
from core.settings import INNER_NETWORKS
from notifier.channels.base import ChannelError, Message, Permanent, Retryable, Throttled
from notifier.channels.forbidden import read_networks
from notifier.channels.webhook import WebhookChannel

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
Make = Callable[..., Message]


@pytest.fixture
async def channel() -> AsyncIterator[WebhookChannel]:
    made = WebhookChannel(timeout_s=2.0)
    yield made
    await made.aclose()
    await made.aclose()


def to(make_message: Make, provider: Any, **fields: Any) -> Message:
    return make_message(**({"address": f"{provider.url}/hook", "secret": SECRET} | fields))


async def test_a_receiver_can_verify_it_by_the_standard_and_drop_repeats_by_its_id(
    channel: WebhookChannel, provider: Any, make_message: Make
) -> None:
    message = to(make_message, provider, sent_at=utc_now())
    await channel.send(message)
    await channel.send(message)
    first, second = provider.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(message.id)
    assert Webhook(SECRET).verify(first.body, first.headers) == json.loads(first.body)
    assert first.headers["content-type"] == "application/json"
    assert first.path == "/hook"


async def test_the_body_says_what_and_which_and_nothing_of_where(
    channel: WebhookChannel, provider: Any, make_message: Make
) -> None:
    message = to(make_message, provider)
    await channel.send(message)
    (request,) = provider.requests
    assert request.json == {
        "type": "incident.opened",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "data": {
            "incident_id": str(message.incident_id), "type": "proximity", "severity": "critical", "order_id": "o-1",
            "occurred_at": "2026-03-01T11:59:58.000Z",
        },
    }  # fmt: skip
    for telling in ("43.2", "76.9", "123.4", "distance", "place", "Тақырып"):
        assert telling not in request.body.decode()


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait_s"),
    [
        (400, {}, Permanent, None),
        (401, {}, Permanent, None),
        (404, {}, Permanent, None),
        (410, {}, Permanent, None),
        (408, {}, Retryable, None),
        (500, {}, Retryable, None),
        (502, {}, Retryable, None),
        (503, {}, Retryable, None),
        (503, {"Retry-After": "12"}, Throttled, 12.0),
        (429, {"Retry-After": "7"}, Throttled, 7.0),
        (429, {"Retry-After": "Sun, 01 Mar 2026 12:01:00 GMT"}, Throttled, 60.0),
        (429, {"Retry-After": "nonsense"}, Throttled, 30.0),
        (429, {}, Throttled, 30.0),
        (301, {"Location": "/elsewhere"}, Permanent, None),
        (307, {"Location": "/elsewhere"}, Permanent, None),
    ],
)
async def test_an_answer_means_one_of_the_three_failures(
    channel: WebhookChannel,
    provider: Any,
    make_answer: Any,
    make_message: Make,
    status: int,
    headers: dict[str, str],
    kind: type[ChannelError],
    wait_s: float | None,
) -> None:
    provider.answer = lambda _: make_answer(status, headers)
    with pytest.raises(kind) as failure:
        await channel.send(to(make_message, provider))
    assert type(failure.value) is kind
    assert str(status) in failure.value.detail
    if isinstance(failure.value, Throttled):
        assert failure.value.retry_after_s == wait_s
    assert len(provider.requests) == 1  # no redirect is followed


async def test_no_answer_is_worth_another_try(provider: Any, make_answer: Any, make_message: Make) -> None:
    channel = WebhookChannel(timeout_s=0.1)
    provider.answer = lambda _: make_answer(hang=True)
    with pytest.raises(Retryable):
        await channel.send(to(make_message, provider))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Retryable, match="ConnectError"):
        await channel.send(make_message(address=f"http://127.0.0.1:{port}/", secret=SECRET))
    await channel.aclose()


@pytest.mark.parametrize(
    "address", ["", "desk", "ftp://host/x", "http://", "http://[", "/path", "http://a b/", "mailto:a@b"]
)
async def test_an_address_that_is_no_url_is_refused_for_good(
    channel: WebhookChannel, make_message: Make, address: str
) -> None:
    with pytest.raises(Permanent):
        await channel.send(make_message(address=address, secret=SECRET))


@pytest.mark.parametrize(
    "secret",
    [None, "", "plain", "whsec_", "whsec_***", "whsec_" + base64.b64encode(b"short").decode(), SECRET[6:]],
)
async def test_nothing_leaves_without_a_proper_secret_and_the_refusal_does_not_repeat_it(
    channel: WebhookChannel, provider: Any, make_message: Make, secret: str | None
) -> None:
    with pytest.raises(Permanent) as failure:
        await channel.send(to(make_message, provider, secret=secret))
    assert provider.requests == []
    assert not secret or secret == "whsec_" or secret not in failure.value.detail


async def test_an_event_name_given_by_the_cause_is_passed_on(
    channel: WebhookChannel, provider: Any, make_message: Make
) -> None:
    await channel.send(to(make_message, provider, data={"event": "incident.updated", "type": "zone"}))
    (request,) = provider.requests
    assert request.json["type"] == "incident.updated"


OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))


async def test_while_a_secret_is_replaced_a_message_bears_both_signatures_and_then_the_new_one_alone(
    channel: WebhookChannel, provider: Any, make_message: Make
) -> None:
    now = utc_now()
    secret = rotated(f"whsec_{OLD}", f"whsec_{NEW}", now, now + timedelta(minutes=1))
    await channel.send(to(make_message, provider, secret=secret, sent_at=now))
    await channel.send(to(make_message, provider, secret=secret, sent_at=now + timedelta(minutes=2)))
    both, after = provider.requests
    for key in (OLD, NEW):
        assert Webhook(key).verify(both.body, both.headers)
    assert Webhook(NEW).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(after.body, after.headers)


def test_only_one_earlier_secret_is_on_its_way_out() -> None:
    now = utc_now()
    later = now + timedelta(hours=1)
    twice = rotated(rotated("whsec_a", "whsec_b", now, later), "whsec_c", now, later)
    assert secrets_in_force(twice, now) == ["whsec_c", "whsec_b"]
    assert secrets_in_force(twice, later) == ["whsec_c"]
    assert rotated("whsec_a", "whsec_b", now, now) == "whsec_b"
    assert rotated(None, "whsec_b", now, later) == "whsec_b"


@pytest.mark.parametrize(
    ("template", "data", "event"),
    [
        ("incident_dispatcher", {}, "incident.opened"),
        ("incident_dispatcher", {"escalated": True}, "incident.escalated"),
        ("escalated_supervisor", {}, "incident.escalated"),
        ("welfare_check_dispatcher", {}, "notice.welfare_check"),
        ("incident_dispatcher", {"event": "notice.probing"}, "notice.probing"),
        ("drill_dispatcher", {}, "drill.started"),
    ],
)
async def test_an_event_says_its_type(
    channel: WebhookChannel, provider: Any, make_message: Make, template: str, data: dict[str, Any], event: str
) -> None:
    await channel.send(to(make_message, provider, template=template, data=data))
    assert provider.requests[0].json["type"] == event


def test_a_receiver_is_known_by_its_host(channel: WebhookChannel) -> None:
    assert channel.providers("https://desk.test:8443/a?b", 1) == channel.providers("https://desk.test:8443/c", 2)
    assert channel.providers("https://desk.test/", 1) != channel.providers("https://other.test/", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1"])
async def test_a_receiver_within_is_never_called(host: str, provider: Any, make_message: Make) -> None:
    channel = WebhookChannel(2.0, read_networks(INNER_NETWORKS))
    try:
        with pytest.raises(Permanent, match="QORGAN_FORBIDDEN_NETWORKS"):
            await channel.send(to(make_message, provider, address=provider.url.replace("127.0.0.1", host) + "/hook"))
    finally:
        await channel.aclose()
    assert provider.requests == []
