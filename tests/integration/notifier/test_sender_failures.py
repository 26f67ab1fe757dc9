"""Attempts that fail: tried again in time, dead with a reason in the end, and in nobody else's way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.ids import new_id
from core.postgres.database import Database
from core.postgres.dead_letters import list_attempts, list_dead
from notifier.channels.absent import AbsentChannel
from notifier.channels.base import Message, Permanent, Retryable, Throttled


async def test_a_failure_is_tried_again_after_its_backoff(outbox: Any, probe: Any, open_desk: Any, clock: Any) -> None:
    async def fail_twice(message: Message) -> str | None:
        if message.attempt <= 2:
            raise Retryable("HTTP 502")
        return None

    probe.act = fail_twice
    desk = await open_desk(probe)
    delivery_id = await outbox.put()
    for times in (1, 2):
        await desk.marked(delivery_id, times=times)
        row = await outbox.get(delivery_id)
        assert (row["state"], row["last_error"]) == ("queued", "HTTP 502")
        assert clock() < row["due_at"] <= clock() + timedelta(seconds=2)
        clock.now = row["due_at"]
        desk.sender.wake()
    await desk.marked(delivery_id, times=3)
    assert await outbox.attempts(delivery_id) == ["retryable", "retryable", "sent"]
    row = await outbox.get(delivery_id)
    assert (row["state"], row["last_error"]) == ("sent", None)
    assert len(await outbox.rows("SELECT 1 FROM feed")) == 1


async def test_a_throttled_delivery_waits_as_long_as_it_was_asked_to(
    outbox: Any, probe: Any, open_desk: Any, clock: Any
) -> None:
    async def throttle(message: Message) -> str | None:
        raise Throttled("HTTP 429", 120.0)

    probe.act = throttle
    desk = await open_desk(probe)
    delivery_id = await outbox.put()
    await desk.marked(delivery_id)
    row = await outbox.get(delivery_id)
    assert row["state"] == "queued"
    assert timedelta(seconds=120) <= row["due_at"] - clock() <= timedelta(seconds=121)
    assert await outbox.attempts(delivery_id) == ["throttled"]


async def test_a_delivery_whose_attempts_are_used_up_is_a_visible_dead_letter(
    outbox: Any, probe: Any, open_desk: Any, database: Database, clock: Any
) -> None:
    async def fail(message: Message) -> str | None:
        raise Retryable("no answer: ConnectError")

    probe.act = fail
    desk = await open_desk(probe, delivery_attempts=3)
    delivery_id = await outbox.put(address="somewhere secret", secret="whsec_secret")
    for times in (1, 2, 3):
        await desk.marked(delivery_id, times=times)
        clock.advance(900)
        desk.sender.wake()
    async with database.connection() as connection:
        (letter,) = await list_dead(connection, outbox.agency_id, 10)
        assert await list_dead(connection, new_id(), 10) == []
        attempts = await list_attempts(connection, delivery_id)
    assert letter["id"] == delivery_id
    assert letter["last_error"] == "no answer: ConnectError; given up after 3 attempts"
    assert "secret" not in str(letter)
    assert [one["result"] for one in attempts] == ["retryable"] * 3
    (line,) = await outbox.rows("SELECT data FROM timeline")
    assert line["data"]["reason"] == letter["last_error"]
    (event,) = await outbox.rows("SELECT data FROM feed")
    assert event["data"]["state"] == "dead"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"template": "no_such"}, "no template"),
        ({"data": {"type": "proximity", "severity": "high"}}, "lacks incident_id"),
        ({"data": {"type": "meteor", "severity": "high", "incident_id": "1"}}, "meteor"),
        ({"data": []}, "no object"),
        ({"data": "text"}, "no object"),
        ({"address": "refused"}, "HTTP 404"),
    ],
)
async def test_poison_is_dead_with_its_reason_and_the_others_flow(
    outbox: Any, probe: Any, open_desk: Any, fields: dict[str, Any], reason: str
) -> None:
    async def refuse(message: Message) -> str | None:
        if message.address == "refused":
            raise Permanent("HTTP 404")
        return None

    probe.act = refuse
    before, poison, after = await outbox.put(), await outbox.put(**fields), await outbox.put()
    desk = await open_desk(probe)
    await desk.marked(before, poison, after)
    assert [(await outbox.get(one))["state"] for one in (before, poison, after)] == ["sent", "dead", "sent"]
    assert reason in (await outbox.get(poison))["last_error"]
    assert await outbox.attempts(poison) == ["permanent"]


async def test_words_of_a_provider_that_postgres_cannot_store_do_not_stop_the_rest(
    outbox: Any, probe: Any, open_desk: Any
) -> None:
    async def speak(message: Message) -> str | None:
        if message.address == "odd":
            raise Retryable("nul \x00 half \udc80" + "x" * 2000)
        return "id\x00" + "y" * 2000

    probe.act = speak
    odd, plain = await outbox.put(address="odd"), await outbox.put()
    desk = await open_desk(probe)
    await desk.marked(odd, plain)
    assert (await outbox.get(odd))["state"] == "queued"
    assert (await outbox.get(plain))["state"] == "sent"


async def test_a_mistake_in_a_channel_is_tried_again_and_does_not_stop_it(
    outbox: Any, probe: Any, open_desk: Any
) -> None:
    async def stumble(message: Message) -> str | None:
        if message.address == "stone":
            raise KeyError("stone")
        return None

    probe.act = stumble
    stone, plain = await outbox.put(address="stone"), await outbox.put()
    desk = await open_desk(probe)
    await desk.marked(stone, plain)
    assert (await outbox.get(stone))["last_error"] == "unexpected KeyError in the channel"
    assert (await outbox.get(plain))["state"] == "sent"


async def test_a_channel_that_is_not_set_up_makes_dead_letters_that_say_so(outbox: Any, open_desk: Any) -> None:
    desk = await open_desk(AbsentChannel("email", "set QORGAN_SMTP_HOST"))
    delivery_id = await outbox.put(channel="email")
    await desk.marked(delivery_id)
    row = await outbox.get(delivery_id)
    assert row["state"] == "dead"
    assert "QORGAN_SMTP_HOST" in row["last_error"]


async def test_a_provider_that_hangs_delays_neither_another_channel_nor_another_address(
    outbox: Any, make_probe: Any, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.lane.STOP_GRACE_S", 0.05)

    async def hang(message: Message) -> str | None:
        if message.address == "dead":
            await asyncio.Event().wait()
        return None

    hanging, lively = make_probe("hanging", 8, hang), make_probe("lively")
    desk = await open_desk(hanging, lively, delivery_batch=3)
    for _ in range(12):
        await outbox.put("hanging", "dead", priority=0)
    for _ in range(2):  # a fourth of its places
        await hanging.next()
    elsewhere = [await outbox.put("lively"), await outbox.put("hanging", "alive")]
    await desk.marked(*elsewhere)
    assert [(await outbox.get(one))["state"] for one in elsewhere] == ["sent", "sent"]
    assert sum(message.address == "dead" for message in hanging.sent) <= 4  # one less than the share, and a batch


async def test_an_attempt_that_takes_too_long_is_cut_off_and_tried_again(
    outbox: Any, probe: Any, open_desk: Any
) -> None:
    async def hang(message: Message) -> str | None:
        await asyncio.Event().wait()
        return None

    probe.act = hang
    desk = await open_desk(probe, delivery_timeout_s=0.05)
    delivery_id = await outbox.put()
    await desk.marked(delivery_id)
    row = await outbox.get(delivery_id)
    assert (row["state"], row["last_error"]) == ("queued", "no answer within 0.05 s")
