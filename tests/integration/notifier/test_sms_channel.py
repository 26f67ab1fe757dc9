"""Text messages through a loopback gateway, as Twilio and as a plain JSON provider speak."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from core.domain.delivery import state_after
from core.errors import Misconfigured
from core.settings import Settings
from core.sms_gateways import Gateway, load_gateways, read_gateway
from infra.receivers import SmsReceiver
from notifier.channels.base import ChannelError, Message, Permanent, Retryable, Throttled
from notifier.channels.sms import SmsChannel

Make = Callable[..., Message]


def twilio(url: str, **more: Any) -> Gateway:
    return read_gateway(
        {
            "name": "twilio", "preset": "twilio", "url": f"{url}/2010-04-01/Accounts/{{account_sid}}/Messages.json",
            "values": {"account_sid": "AC1", "from": "+15550001"}, "secrets": {"auth_token": "s3cret"}, **more,
        }
    )  # fmt: skip


def plain(url: str, **more: Any) -> Gateway:
    return read_gateway(
        {"name": "local", "preset": "json", "url": f"{url}/send", "secrets": {"token": "t0ken"}, **more}
    )


@pytest.fixture
async def open_channel() -> AsyncIterator[Callable[..., SmsChannel]]:
    made: list[SmsChannel] = []

    def start(*gateways: Gateway, timeout_s: float = 5.0) -> SmsChannel:
        made.append(SmsChannel(gateways, timeout_s, "https://qorgan.test/"))
        return made[-1]

    yield start
    for one in made:
        await one.aclose()


async def test_it_speaks_twilio(provider: Any, make_answer: Any, make_message: Make, open_channel: Any) -> None:
    provider.answer = lambda _: make_answer(201, body={"sid": "SM17", "status": "queued", "error_code": None})
    message = make_message(address="+7 (701) 123-45-67", audience="contact")
    assert await open_channel(twilio(provider.url)).send(message) == "twilio:SM17"
    (request,) = provider.requests
    assert request.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"AC1:s3cret").decode()
    assert {key: value[0] for key, value in parse_qs(request.body.decode()).items()} == {
        "To": "+77011234567", "From": "+15550001", "Body": "Қысқа",
        "StatusCallback": f"https://qorgan.test/v1/receipts/sms/twilio?delivery={message.id}",
    }  # fmt: skip


async def test_it_speaks_plain_json(provider: Any, make_answer: Any, make_message: Make, open_channel: Any) -> None:
    provider.answer = lambda _: make_answer(200, body={"id": 42})
    message = make_message(address="+77011234567")
    assert await open_channel(plain(provider.url)).send(message) == "local:42"
    (request,) = provider.requests
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["idempotency-key"] == str(message.id)
    assert request.json["to"] == "+77011234567"
    assert request.json["text"] == "Қысқа"


async def test_a_gateway_may_be_written_out_whole(
    provider: Any, make_answer: Any, make_message: Make, open_channel: Any
) -> None:
    gateway = read_gateway(
        {
            "name": "smsc", "method": "GET", "url": f"{provider.url}/sys/send.php",
            "query": {"login": "{login}", "psw": "{password}", "phones": "{to_digits}", "mes": "{text}", "fmt": "3"},
            "values": {"login": "desk"}, "secrets": {"password": "p&w"},
            "answer": {"id": "id", "error": "error_code", "permanent": ["7"], "retryable": ["9"]},
        }
    )  # fmt: skip
    channel = open_channel(gateway)
    answers = [{"id": 5, "cnt": 1}, {"error": "invalid number", "error_code": 7}, {"error": "busy", "error_code": 9}]
    provider.answer = lambda _: make_answer(200, body=answers.pop(0))
    assert await channel.send(make_message(address="+77011234567")) == "smsc:5"
    query = parse_qs(provider.requests[0].path.partition("?")[2])
    assert query == {"login": ["desk"], "psw": ["p&w"], "phones": ["77011234567"], "mes": ["Қысқа"], "fmt": ["3"]}
    with pytest.raises(Permanent, match="code 7"):
        await channel.send(make_message(address="+77011234567"))
    with pytest.raises(Retryable, match="code 9"):
        await channel.send(make_message(address="+77011234567"))


@pytest.mark.parametrize(
    ("answer", "kind", "wait_s"),
    [
        ((400, {}, {"code": 21211, "message": "The 'To' number +77011234567 is not valid"}), Permanent, None),
        ((400, {}, {"code": 30001}), Retryable, None),
        ((429, {"Retry-After": "41"}, {"code": 20429}), Throttled, 41.0),
        ((429, {}, {}), Throttled, 30.0),
        ((503, {"Retry-After": "7"}, {}), Throttled, 7.0),
        ((500, {}, {}), Retryable, None),
        ((401, {}, {"code": 20003}), Retryable, None),
        ((200, {}, "no JSON we know"), Retryable, None),
        ((200, {}, {"sid": ""}), Retryable, None),
        ((200, {}, {"sid": True}), Retryable, None),
        ((302, {"Location": "http://elsewhere.test/"}, {}), Permanent, None),
        ((404, {}, {}), Permanent, None),
    ],
)
async def test_an_answer_means_one_of_the_three_failures_and_its_words_stay_out(
    provider: Any, make_answer: Any, make_message: Make, open_channel: Any, answer: Any, kind: type[ChannelError],
    wait_s: float | None,
) -> None:  # fmt: skip
    provider.answer = lambda _: make_answer(*answer)
    with pytest.raises(ChannelError) as failure:
        await open_channel(twilio(provider.url)).send(make_message(address="+77011234567"))
    assert type(failure.value) is kind
    assert "77011234567" not in failure.value.detail
    assert "s3cret" not in failure.value.detail
    if isinstance(failure.value, Throttled):
        assert failure.value.retry_after_s == wait_s
    assert len(provider.requests) == 1


async def test_a_gateway_that_hangs_or_is_gone_is_worth_another_try(
    provider: Any, make_answer: Any, make_message: Make, open_channel: Any
) -> None:
    provider.answer = lambda _: make_answer(hang=True)
    with pytest.raises(Retryable, match="no answer"):
        await open_channel(plain(provider.url), timeout_s=0.2).send(make_message(address="+77011234567"))
    with pytest.raises(Retryable, match="no answer"):
        await open_channel(plain("http://127.0.0.1:9")).send(make_message(address="+77011234567"))


@pytest.mark.parametrize("address", ["", "desk", "+7701+1", "12", "1" * 16, "+7701\r\nX: y"])
async def test_what_is_no_number_is_refused_for_good(
    provider: Any, make_message: Make, open_channel: Any, address: str
) -> None:
    with pytest.raises(Permanent, match="malformed"):
        await open_channel(plain(provider.url)).send(make_message(address=address))
    assert provider.requests == []


async def test_a_text_longer_than_was_set_is_refused(provider: Any, make_message: Make, open_channel: Any) -> None:
    with pytest.raises(Permanent, match="4 messages"):
        await open_channel(plain(provider.url)).send(make_message(address="+77011234567", short="Ж" * 250))
    assert provider.requests == []


async def test_gateways_take_their_own_numbers_and_the_next_attempt_asks_the_next(open_channel: Any) -> None:
    first = plain("http://127.0.0.1:1", name="first", prefixes=["+7"])
    second = plain("http://127.0.0.1:1", name="second")
    channel = open_channel(first, second)
    assert channel.fixed == ("first", "second")
    assert list(channel.providers("+7 701 1", 1)) == ["first", "second"]
    assert list(channel.providers("+7 701 1", 2)) == ["second", "first"]
    assert list(channel.providers("+49 30 1", 1)) == ["second"]


async def test_one_dead_gateway_hands_over_to_the_next(
    provider: Any, make_answer: Any, open_channel: Any, open_desk: Any, outbox: Any, clock: Any
) -> None:
    provider.answer = lambda _: make_answer(200, body={"id": len(provider.requests)})
    channel = open_channel(plain("http://127.0.0.1:9", name="dead"), plain(provider.url, name="alive"))
    desk = await open_desk(channel)
    delivery_id = await outbox.put("sms", "+77011234567", template="device_prompt", data={})
    await desk.marked(delivery_id)
    assert (await outbox.get(delivery_id))["state"] == "queued"
    clock.advance(2)
    desk.sender.wake()
    await desk.marked(delivery_id, times=2)
    row = await outbox.get(delivery_id)
    assert (row["state"], row["provider_id"]) == ("sent", "alive:1")


def test_the_file_is_read_as_toml_or_json_with_secrets_from_files(bare_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    entry = {"name": "local", "preset": "json", "url": "https://sms.test/send", "secret_files": {"token": "token"}}
    (tmp_path / "sms.json").write_text(json.dumps({"gateway": [entry]}))
    (tmp_path / "sms.toml").write_text(
        '[[gateway]]\nname = "local"\npreset = "json"\nurl = "https://sms.test/send"\n'
        '[gateway.secret_files]\ntoken = "token"\n'
    )
    for name in ("sms.json", "sms.toml"):
        (gateway,) = load_gateways(bare_settings.model_copy(update={"sms_gateways_file": tmp_path / name}))
        assert gateway.known["token"] == "from a file"
        assert "from a file" not in repr(gateway)
    assert load_gateways(bare_settings) == ()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "Has Blanks"}, "name"),
        ({"url": "ftp://sms.test"}, "url"),
        ({"url": "https://sms.test/{unknown}"}, "unknown"),
        ({"secrets": {}}, "token"),
        ({"json": {"to": "{to}"}}, "text"),
        ({"form": {"to": "{to}", "text": "{text}"}}, "both"),
        ({"nonsense": 1}, "nonsense"),
        ({"per_second": 0}, "per_second"),
        ({"callback": {"verify": "faith", "secret": "x"}}, "faith"),
        ({"secret_files": {"other": "not-there"}}, "cannot be read"),
    ],
)
def test_a_gateway_that_is_wrong_is_a_clear_error_without_a_secret(changed: dict[str, Any], told: str) -> None:
    entry = {"name": "local", "preset": "json", "url": "https://sms.test", "secrets": {"token": "t0ken"}} | changed
    if "json" in changed:
        entry["json"] = {"to": "{to}", "text": None, "id": None, "callback_url": None}
    with pytest.raises(Misconfigured) as error:
        read_gateway(entry)
    assert told in str(error.value)
    assert "t0ken" not in str(error.value)


def test_a_delivery_only_ever_gets_further() -> None:
    assert state_after("sent", "delivered") == "delivered"
    assert state_after("seen", "delivered") == "seen"
    assert state_after("sent", "failed") == "failed"
    assert state_after("failed", "delivered") == "delivered"
    assert state_after("delivered", "failed") == "delivered"
    assert state_after("dead", "seen") == "seen"
    assert state_after("cancelled", "seen") == "cancelled"


async def test_the_demo_s_gateway_takes_what_is_signed_for_and_tells_of_each_message_once(
    make_message: Make, open_channel: Any
) -> None:
    told: list[str] = []
    receiver = SmsReceiver(told.append)
    await asyncio.to_thread(receiver.start)
    try:
        channel = open_channel(read_gateway(receiver.gateway))
        message = make_message(address="+77000000102")
        assert await channel.send(message) == f"demo:{message.id}"
        await channel.send(message)
        stranger = open_channel(read_gateway(receiver.gateway | {"secrets": {"token": "other"}}))
        with pytest.raises(Retryable, match="refuses our account"):
            await stranger.send(message)
    finally:
        await asyncio.to_thread(receiver.stop)
    assert told == ["text message: to +77000000102: Қысқа"]
