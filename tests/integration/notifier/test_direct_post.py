"""Single deliveries without a database: what an api sends while PostgreSQL is away, to real receivers on loopback."""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from datetime import timedelta
from typing import Any

import pytest

from core.clock import from_ms, utc_now
from core.domain.delivery import Delivery
from core.domain.last_known import NOBODY, facts_of, from_pattern
from core.domain.panic import PanicIn
from core.settings import Settings
from notifier.breaker import COOL_DOWN_S, FAILURES_IN_A_ROW
from notifier.channels import build
from notifier.channels.base import Channel, Message, Permanent, Retryable, Throttled
from notifier.direct import DirectPost

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
PANIC = PanicIn(id=uuid.uuid4(), client_id=None, received_ms=1_777_636_800_000, token_digest=None, source="s")


def pattern(channel: str, address: str, **fields: Any) -> Delivery:
    return Delivery(**{
        "agency_id": uuid.uuid4(), "incident_id": NOBODY, "cause": NOBODY, "audience": "dispatcher",
        "recipient": f"route:{channel}", "channel": channel, "address": address, "template": "incident_dispatcher",
        "language": "ru", "data": facts_of(PANIC), "priority": 0, **fields,
    })  # fmt: skip


async def test_a_webhook_and_a_letter_leave_as_the_notifier_would_send_them(
    bare_settings: Settings, provider: Any, mailbox: Any
) -> None:
    settings = bare_settings.model_copy(
        update={"smtp_host": "127.0.0.1", "smtp_port": mailbox.port, "forbidden_networks": ""}
    )
    post = DirectPost(settings, build(settings), utc_now)
    hook = from_pattern(pattern("webhook", f"{provider.url}/hook", secret=SECRET), PANIC)
    letter = from_pattern(pattern("email", "desk@example.org"), PANIC)
    for delivery in (hook, letter):
        posted = await post.send(delivery, from_ms(PANIC.received_ms), 1)
        assert posted.sent
    [request] = provider.requests
    assert request.headers["webhook-id"] == str(hook.id)
    assert request.json["data"]["incident_id"] == str(hook.incident_id)
    [envelope] = mailbox.letters
    assert f"Message-ID: <{letter.id}@".encode() in envelope.content
    await post.aclose()


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Permanent("refused"), None),
        (Retryable("away"), (0.0, 1.0)),
        (Throttled("wait", 7.0), (7.0, 8.0)),
        (ValueError("a mistake of the channel"), (0.0, 1.0)),
    ],
)
async def test_what_a_provider_says_is_when_to_try_again(
    bare_settings: Settings, make_probe: type[Any], error: Exception, again: tuple[float, float] | None
) -> None:
    async def fail(_: Message) -> str | None:
        raise error

    post = DirectPost(bare_settings, {"probe": make_probe(act=fail)}, utc_now)
    posted = await post.send(pattern("probe", "desk"), utc_now(), 1)
    assert not posted.sent
    if again is None:
        assert posted.again_in_s is None
    else:
        assert posted.again_in_s is not None
        assert again[0] <= posted.again_in_s <= again[1]


async def test_each_attempt_asks_another_provider(bare_settings: Settings, make_probe: type[Any]) -> None:
    probe = make_probe()
    probe.providers = lambda _address, attempt: (f"gateway {attempt}", "other")
    asked: list[str] = []

    async def note(message: Message) -> str | None:
        asked.append(message.provider)
        raise Retryable("away")

    probe.act = note
    post = DirectPost(bare_settings, {"probe": probe}, utc_now)
    for attempt in (1, 2):
        await post.send(pattern("probe", "desk"), utc_now(), attempt)
    assert asked == ["gateway 1", "gateway 2"]


async def test_a_panic_waits_no_longer_than_a_minute_for_its_next_attempt(
    bare_settings: Settings, make_probe: type[Any]
) -> None:
    async def fail(_: Message) -> str | None:
        raise Throttled("wait an hour", 3_600.0)

    post = DirectPost(bare_settings, {"probe": make_probe(act=fail)}, utc_now)
    throttled = await post.send(pattern("probe", "desk"), utc_now(), 20)
    assert throttled.again_in_s is not None
    assert 60.0 <= throttled.again_in_s <= 61.0

    async def fall(_: Message) -> str | None:
        raise Retryable("away")

    dice = random.Random(7)
    post = DirectPost(bare_settings, {"probe": make_probe(act=fall)}, utc_now, dice=dice)
    waits = [(await post.send(pattern("probe", "desk"), utc_now(), 20)).again_in_s for _ in range(20)]
    assert max(wait_s for wait_s in waits if wait_s is not None) <= 60.0


async def test_a_provider_that_hangs_takes_places_of_its_own_channel_alone(
    bare_settings: Settings, make_probe: type[Any]
) -> None:
    free = asyncio.Event()

    async def hang(message: Message) -> str | None:
        await free.wait()
        return str(message.id)

    slow, quick = make_probe(name="slow", concurrency=2, act=hang), make_probe(name="quick")
    channels: dict[str, Channel] = {"slow": slow, "quick": quick}
    post = DirectPost(bare_settings, channels, utc_now)
    held = [asyncio.create_task(post.send(pattern("slow", f"desk {n}"), utc_now(), 1)) for n in range(5)]
    await slow.next()
    await slow.next()
    assert (await post.send(pattern("quick", "desk"), utc_now(), 1)).sent
    assert len(slow.sent) == 2
    free.set()
    assert all(posted.sent for posted in await asyncio.gather(*held))


async def test_a_provider_that_fails_everybody_is_left_alone_and_another_one_asked(
    bare_settings: Settings, make_probe: type[Any]
) -> None:
    moment, both = [utc_now()], False
    asked: list[str] = []
    probe = make_probe(concurrency=1)
    probe.providers = lambda _address, _attempt: ("dead", "other") if both else ("dead",)

    async def act(message: Message) -> str | None:
        asked.append(message.provider)
        if message.provider == "dead":
            raise Retryable("away")
        return "taken"

    probe.act = act
    post = DirectPost(bare_settings, {"probe": probe}, lambda: moment[0])
    posted = [await post.send(pattern("probe", f"desk {n}"), utc_now(), 1) for n in range(20)]
    assert asked == ["dead"] * FAILURES_IN_A_ROW
    assert not any(one.sent for one in posted)
    assert [one.counts for one in posted] == [True] * FAILURES_IN_A_ROW + [False] * (20 - FAILURES_IN_A_ROW)
    assert all(one.again_in_s is not None and one.again_in_s <= COOL_DOWN_S[0] + 0.5 for one in posted[-3:])
    both = True
    assert (await post.send(pattern("probe", "desk"), utc_now(), 1)).sent
    both, asked[:] = False, []
    moment[0] += timedelta(seconds=COOL_DOWN_S[0])
    for number in range(3):
        await post.send(pattern("probe", f"desk {number}"), utc_now(), 1)
    assert asked == ["dead"], "one to see whether it is back"


async def test_a_channel_that_is_not_here_is_left_to_the_notifier(bare_settings: Settings) -> None:
    posted = await DirectPost(bare_settings, {}, utc_now).send(pattern("sms", "+7"), utc_now(), 1)
    assert (posted.sent, posted.again_in_s) == (False, None)


def test_a_message_has_the_id_that_its_row_will_have() -> None:
    told = from_pattern(pattern("log", "desk", recipient="route:1"), PANIC)
    row = Delivery(
        agency_id=told.agency_id, incident_id=None, cause=PANIC.id, audience="dispatcher", recipient="route:1",
        channel="log", address="", template="",
    )  # fmt: skip
    assert told.id == row.id
