"""Web Push against a loopback push service that holds the browser's keys and decrypts what comes."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import http_ece
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02

from core.domain.push_address import check_subscription, is_push_service
from core.errors import InvalidInput, Misconfigured
from core.ids import new_id
from core.postgres import subscriptions
from core.postgres.database import Database
from core.settings import Settings
from core.vapid_key import load_vapid_key, public_key_text
from notifier.channels.base import ChannelError, Message, Permanent, Retryable, Throttled
from notifier.channels.webpush import WebPushChannel

Make = Callable[..., Message]


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Browser:
    """What subscribed, with the keys only it has."""

    endpoint: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = b"0123456789abcdef"

    @property
    def subscription(self) -> dict[str, Any]:
        """As `PushSubscription.toJSON()` gives it."""
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return {"endpoint": self.endpoint, "keys": {"p256dh": text_of(point), "auth": text_of(self.auth)}}

    def read(self, body: bytes) -> Any:
        """What was pushed, decrypted as RFC 8291 says."""
        return json.loads(http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"))


@pytest.fixture
def browser(provider: Any, make_answer: Any) -> Browser:
    provider.answer = lambda _: make_answer(201, {"Location": "https://push.test/message/17"})
    return Browser(f"{provider.url}/push/secret-of-the-browser")


@pytest.fixture
def push_settings(bare_settings: Settings) -> Settings:
    return bare_settings.model_copy(update={"webpush_hosts": "127.0.0.1", "vapid_subject": "mailto:desk@qorgan.test"})


@pytest.fixture
async def channel(push_settings: Settings) -> AsyncIterator[WebPushChannel]:
    made = WebPushChannel(push_settings)
    yield made
    await made.aclose()
    await made.aclose()


async def test_a_push_is_signed_with_our_key_and_only_the_browser_can_read_it(
    channel: WebPushChannel, provider: Any, browser: Browser, make_message: Make, push_settings: Settings
) -> None:
    message = make_message(address=json.dumps(browser.subscription))
    assert await channel.send(message) == "https://push.test/message/17"
    (request,) = provider.requests
    assert request.path == "/push/secret-of-the-browser"
    assert request.headers["ttl"] == "3600"
    assert request.headers["urgency"] == "high"
    assert request.headers["content-encoding"] == "aes128gcm"
    assert Vapid02.verify(request.headers["authorization"])
    assert f"k={public_key_text(load_vapid_key(push_settings))}" in request.headers["authorization"]
    assert "Тақырып".encode() not in request.body
    told = browser.read(request.body)
    assert told == {
        "delivery_id": str(message.id), "kind": "incident_dispatcher", "title": "Тақырып", "short": "Қысқа",
        "language": "kk", "at": "2026-03-01T12:00:00.000Z", "incident_id": str(message.incident_id),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "gone", "wait_s"),
    [
        ((404, {}), Permanent, True, None),
        ((410, {}), Permanent, True, None),
        ((400, {}), Permanent, False, None),
        ((413, {}), Permanent, False, None),
        ((403, {}), Retryable, None, None),
        ((429, {"Retry-After": "41"}), Throttled, None, 41.0),
        ((429, {}), Throttled, None, 30.0),
        ((503, {"Retry-After": "5"}), Throttled, None, 5.0),
        ((500, {}), Retryable, None, None),
    ],
)
async def test_an_answer_means_one_of_the_three_failures(
    channel: WebPushChannel, provider: Any, browser: Browser, make_answer: Any, make_message: Make, answer: Any,
    kind: type[ChannelError], gone: bool | None, wait_s: float | None,
) -> None:  # fmt: skip
    provider.answer = lambda _: make_answer(*answer)
    with pytest.raises(ChannelError) as failure:
        await channel.send(make_message(address=json.dumps(browser.subscription)))
    assert type(failure.value) is kind
    assert "secret-of-the-browser" not in failure.value.detail
    if isinstance(failure.value, Permanent):
        assert failure.value.address_gone is gone
    if isinstance(failure.value, Throttled):
        assert failure.value.retry_after_s == wait_s


async def test_a_push_service_that_hangs_or_is_gone_is_worth_another_try(
    push_settings: Settings, provider: Any, browser: Browser, make_answer: Any, make_message: Make
) -> None:
    provider.answer = lambda _: make_answer(hang=True)
    channel = WebPushChannel(push_settings.model_copy(update={"delivery_timeout_s": 0.2}))
    for endpoint in (browser.endpoint, "http://127.0.0.1:9/push"):
        with pytest.raises(Retryable, match="no answer"):
            await channel.send(make_message(address=json.dumps({**browser.subscription, "endpoint": endpoint})))
    await channel.aclose()


@pytest.mark.parametrize("address", ["", "[]", "{}", "not json", '{"endpoint": "https://inside.test/admin"}'])
async def test_an_address_that_is_no_push_service_s_is_never_asked(
    channel: WebPushChannel, provider: Any, make_message: Make, address: str
) -> None:
    with pytest.raises(Permanent):
        await channel.send(make_message(address=address))
    assert provider.requests == []


async def test_a_push_goes_from_the_database_to_the_browser_and_one_that_is_gone_is_forgotten(
    push_settings: Settings, provider: Any, browser: Browser, make_answer: Any, outbox: Any, open_desk: Any,
    database: Database, clock: Any,
) -> None:  # fmt: skip
    user_id = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO app_user (id, agency_id, username, role, created_at) VALUES ($1, $2, 'o', 'officer', $3)",
            user_id, outbox.agency_id, clock(),
        )  # fmt: skip
        await subscriptions.add(connection, outbox.agency_id, user_id, browser.subscription, clock())
    desk = await open_desk(WebPushChannel(push_settings))
    fields = {"address": json.dumps(browser.subscription), "audience": "officer", "recipient": f"user:{user_id}"}
    sent = await outbox.put("webpush", **fields)
    await desk.marked(sent)
    assert (await outbox.get(sent))["state"] == "sent"
    assert browser.read(provider.requests[0].body)["delivery_id"] == str(sent)
    assert len(await outbox.rows("SELECT 1 FROM push_subscription")) == 1
    provider.answer = lambda _: make_answer(410)
    gone = await outbox.put("webpush", **fields)
    await desk.marked(gone)
    assert (await outbox.get(gone))["state"] == "dead"
    assert await outbox.rows("SELECT 1 FROM push_subscription") == []


async def test_each_push_service_has_a_breaker_of_its_own(channel: WebPushChannel) -> None:
    assert channel.providers('{"endpoint": "https://updates.push.services.mozilla.com/x"}', 1) == (
        "updates.push.services.mozilla.com",
    )
    assert channel.providers("rubbish", 1) == ("",)


HOSTS = "fcm.googleapis.com,push.services.mozilla.com"


@pytest.mark.parametrize(
    ("endpoint", "good"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", True),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", True),
        ("https://updates.push.services.mozilla.com:443/x", True),
        ("http://fcm.googleapis.com/fcm/send/x", False),
        ("https://fcm.googleapis.com:8443/x", False),
        ("https://evilfcm.googleapis.com/x", False),
        ("https://fcm.googleapis.com.evil.test/x", False),
        ("https://user:pw@fcm.googleapis.com/x", False),
        ("https://127.0.0.1/x", False),
        ("https://169.254.169.254/latest", False),
        ("https://[::1]/x", False),
        ("https://[", False),
    ],
)
def test_only_push_services_that_are_named_may_be_subscribed_at(endpoint: str, good: bool) -> None:
    assert is_push_service(endpoint, HOSTS) is good


def test_a_subscription_is_kept_with_nothing_but_what_a_push_needs() -> None:
    given = Browser("https://fcm.googleapis.com/x").subscription
    assert check_subscription({**given, "expirationTime": None, "more": 1}, HOSTS) == given
    wrong: list[dict[str, Any]] = [{}, {**given["keys"], "auth": "AA"}, {**given["keys"], "p256dh": "ä"}]
    for keys in wrong:
        with pytest.raises(InvalidInput):
            check_subscription({**given, "keys": keys}, HOSTS)


def test_the_key_is_made_once_and_kept_for_its_owner_alone(bare_settings: Settings) -> None:
    first, second = load_vapid_key(bare_settings), load_vapid_key(bare_settings)
    assert public_key_text(first) == public_key_text(second)
    assert (bare_settings.data_dir / "vapid.key").stat().st_mode & 0o077 == 0


def test_the_key_may_be_given_as_browsers_tools_write_it(bare_settings: Settings, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    raw = text_of(key.private_numbers().private_value.to_bytes(32))
    given = Settings(data_dir=tmp_path, vapid_private_key=raw)
    assert public_key_text(load_vapid_key(given)) == public_key_text(key)
    for wrong in ("nonsense", "AAAA", "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"):
        with pytest.raises(Misconfigured, match="QORGAN_VAPID_PRIVATE_KEY"):
            load_vapid_key(Settings(data_dir=tmp_path, vapid_private_key=wrong))


def test_machines_without_a_common_directory_come_by_the_same_key(tmp_path: Path) -> None:
    made = [Settings(data_dir=tmp_path / name, token_key="t" * 32) for name in ("api", "notifier")]
    assert len({public_key_text(load_vapid_key(one)) for one in made}) == 1
    other = Settings(data_dir=tmp_path, token_key="u" * 32)
    assert public_key_text(load_vapid_key(other)) != public_key_text(load_vapid_key(made[0]))
