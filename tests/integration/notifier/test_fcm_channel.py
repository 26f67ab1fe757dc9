"""The FCM channel, real firebase-admin and google-auth, against a loopback server that speaks FCM's HTTP v1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.domain.delivery import CHANNELS
from core.errors import Misconfigured
from core.settings import Settings
from notifier.channels import build
from notifier.channels.absent import AbsentChannel
from notifier.channels.base import ChannelError, Message, Permanent, Retryable, Throttled
from notifier.channels.fcm import FcmChannel

Make = Callable[..., Message]
SEND = "/v1/projects/loopback/messages:send"


def failure_of(status: int, reason: str, fcm_code: str | None = None, headers: dict[str, str] | None = None) -> Any:
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": fcm_code}]
    error = {"code": status, "status": reason, "message": "about token-1", "details": details if fcm_code else []}
    return (status, headers or {}, {"error": error})


@pytest.fixture
def google(provider: Any, make_answer: Any) -> Any:
    """The provider as token issuer and FCM; `failures` are answered first, one a push."""
    provider.failures = []
    provider.tokens = 0

    def answer(request: Any) -> Any:
        if request.path == "/token":
            provider.tokens += 1
            return make_answer(
                body={"access_token": f"access-{provider.tokens}", "expires_in": 3600, "token_type": "Bearer"}
            )
        if provider.failures:
            return make_answer(*provider.failures.pop(0))
        return make_answer(body={"name": "projects/loopback/messages/17"})

    provider.answer = answer
    return provider


@pytest.fixture
async def channel(fcm_settings: Settings, google: Any) -> AsyncIterator[FcmChannel]:
    made = FcmChannel(fcm_settings)
    yield made
    await made.aclose()
    await made.aclose()


def pushes(google: Any) -> list[Any]:
    return [request for request in google.requests if request.path == SEND]


async def test_a_push_is_data_only_of_high_priority_and_not_collapsible(
    channel: FcmChannel, google: Any, make_message: Make
) -> None:
    message = make_message(address="token-1", template="incident_victim", audience="victim")
    assert await channel.send(message) == "projects/loopback/messages/17"
    (request,) = pushes(google)
    sent = request.json["message"]
    assert request.headers["authorization"] == "Bearer access-1"
    assert sent["token"] == "token-1"
    assert sent["android"] == {"priority": "high", "ttl": "3600s"}
    assert "notification" not in sent
    assert "apns" not in sent
    assert sent["data"] == {
        "delivery_id": str(message.id), "kind": "incident_victim", "title": "Тақырып", "body": "Мәтін\nтағы",
        "short": "Қысқа", "language": "kk", "at": "2026-03-01T12:00:00.000Z",
        "incident_id": str(message.incident_id),
    }  # fmt: skip
    for telling in ("43.2", "76.9", "123.4", "proximity", "critical"):
        assert telling not in request.body.decode()


async def test_many_pushes_at_once_share_one_access_token(channel: FcmChannel, google: Any, make_message: Make) -> None:
    await asyncio.gather(*(channel.send(make_message(address=f"token-{n}")) for n in range(20)))
    assert google.tokens == 1
    assert len(pushes(google)) == 20


@pytest.mark.parametrize(
    ("answer", "kind", "gone", "wait_s"),
    [
        (failure_of(404, "NOT_FOUND", "UNREGISTERED"), Permanent, True, None),
        (failure_of(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Permanent, True, None),
        (failure_of(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Permanent, False, None),
        (failure_of(404, "NOT_FOUND"), Permanent, False, None),
        (failure_of(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", {"Retry-After": "41"}), Throttled, False, 41.0),
        (failure_of(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Throttled, False, 60.0),
        (failure_of(503, "UNAVAILABLE", "UNAVAILABLE", {"Retry-After": "5"}), Throttled, False, 5.0),
        (failure_of(503, "UNAVAILABLE", "UNAVAILABLE"), Retryable, False, None),
        (failure_of(500, "INTERNAL", "INTERNAL"), Retryable, False, None),
        (failure_of(403, "PERMISSION_DENIED"), Retryable, False, None),
        (failure_of(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Retryable, False, None),
        ((502, {}, "no JSON we know"), Retryable, False, None),
    ],
)
async def test_an_answer_means_one_of_the_three_failures_and_is_asked_for_once(
    channel: FcmChannel,
    google: Any,
    make_message: Make,
    answer: Any,
    kind: type[ChannelError],
    gone: bool,
    wait_s: float | None,
) -> None:
    google.failures = [answer] * 5
    with pytest.raises(ChannelError) as failure:
        await channel.send(make_message(address="token-1"))
    assert type(failure.value) is kind
    assert "token-1" not in failure.value.detail
    if isinstance(failure.value, Permanent):
        assert failure.value.address_gone is gone
    if isinstance(failure.value, Throttled):
        assert failure.value.retry_after_s == wait_s
    assert len(pushes(google)) == (2 if answer[0] == 401 else 1)


async def test_a_push_after_a_quiet_night_finds_its_access_token_ready(
    channel: FcmChannel, google: Any, make_message: Make
) -> None:
    await channel.keep_ready()
    await channel.keep_ready()
    assert (google.tokens, pushes(google)) == (1, [])
    await channel.send(make_message(address="token-1"))
    assert google.tokens == 1
    channel._token._credential.expiry -= timedelta(minutes=57)
    await channel.keep_ready()
    await channel.send(make_message(address="token-1"))
    assert google.tokens == 2


async def test_an_access_token_that_is_refused_is_replaced_once(
    channel: FcmChannel, google: Any, make_message: Make
) -> None:
    google.failures = [failure_of(401, "UNAUTHENTICATED")]
    await channel.send(make_message(address="token-1"))
    assert [request.headers["authorization"] for request in pushes(google)] == ["Bearer access-1", "Bearer access-2"]


async def test_without_an_access_token_it_is_worth_another_try(
    channel: FcmChannel, provider: Any, make_answer: Any, make_message: Make
) -> None:
    provider.answer = lambda _: make_answer(400, body={"error": "invalid_grant"})
    with pytest.raises(Retryable):
        await channel.send(make_message(address="token-1"))


async def test_getting_an_access_token_does_not_hold_up_the_event_loop(
    channel: FcmChannel, google: Any, make_message: Make
) -> None:
    answer = google.answer
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    # The issuer runs in this very loop: were the loop held up, it could not answer at all.
    google.answer = lambda request: answer(request)
    beating = asyncio.create_task(beat())
    await asyncio.wait_for(channel.send(make_message(address="token-1")), 10)
    beating.cancel()
    assert beats > 0


async def test_a_provider_that_hangs_is_given_up_in_time(
    fcm_settings: Settings, google: Any, make_answer: Any, make_message: Make
) -> None:
    channel = FcmChannel(fcm_settings.model_copy(update={"delivery_timeout_s": 0.3}))
    answer = google.answer
    google.answer = lambda request: answer(request) if request.path == "/token" else make_answer(hang=True)
    started = time.monotonic()
    with pytest.raises(Retryable):
        await channel.send(make_message(address="token-1"))
    assert time.monotonic() - started < 5
    await channel.aclose()


async def test_an_empty_push_token_is_refused_for_good(channel: FcmChannel, google: Any, make_message: Make) -> None:
    with pytest.raises(Permanent):
        await channel.send(make_message(address=""))
    assert pushes(google) == []


@pytest.mark.parametrize("content", [None, "", "{}", '{"type": "service_account"}', "not json"])
async def test_a_file_that_is_no_service_account_is_a_clear_error(
    bare_settings: Settings, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Misconfigured, match="QORGAN_FCM_CREDENTIALS_FILE"):
        build(bare_settings.model_copy(update={"fcm_credentials_file": path}))


async def test_every_channel_is_there_and_those_not_set_up_say_what_to_set(
    bare_settings: Settings, fcm_settings: Settings, make_message: Make
) -> None:
    bare = build(bare_settings)
    assert set(bare) == set(CHANNELS)
    for name, setting in (
        ("email", "QORGAN_SMTP_HOST"), ("fcm", "QORGAN_FCM_CREDENTIALS_FILE"), ("sms", "QORGAN_SMS_GATEWAYS_FILE"),
    ):  # fmt: skip
        with pytest.raises(Permanent, match=setting):
            await bare[name].send(make_message())
    full = build(fcm_settings.model_copy(update={"smtp_host": "127.0.0.1"}))
    assert not isinstance(full["email"], AbsentChannel)
    assert not isinstance(full["fcm"], AbsentChannel)
    assert await full["log"].send(make_message()) is None
    for channel in (*bare.values(), *full.values()):
        await channel.aclose()


async def test_a_push_goes_from_the_database_to_the_provider_and_an_unregistered_phone_is_forgotten(
    fcm_settings: Settings, google: Any, outbox: Any, open_desk: Any
) -> None:
    desk = await open_desk(FcmChannel(fcm_settings))
    fields = {
        "address": "phone-token", "audience": "victim", "recipient": f"device:{outbox.device_id}",
        "template": "incident_victim", "data": {"type": "proximity", "severity": "critical"},
    }  # fmt: skip
    sent = await outbox.put("fcm", **fields)
    await desk.marked(sent)
    assert (await outbox.get(sent))["provider_id"] == "projects/loopback/messages/17"
    google.failures = [failure_of(404, "NOT_FOUND", "UNREGISTERED")]
    gone = await outbox.put("fcm", **fields)
    await desk.marked(gone)
    assert (await outbox.get(gone))["state"] == "dead"
    (device,) = await outbox.rows("SELECT push_token FROM device")
    assert device["push_token"] is None
