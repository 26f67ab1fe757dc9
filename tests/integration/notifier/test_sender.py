"""The sender on a real PostgreSQL: once at a time, again after a crash, dead with a reason, never one for another."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.actions import deliveries
from core.ids import new_id
from core.postgres.database import Database
from core.postgres.dead_letters import list_attempts, list_dead
from core.postgres.deliveries import Mark
from core.settings import Settings
from core.vault import Vault
from notifier.channels.absent import AbsentChannel
from notifier.channels.base import Message, Permanent, Retryable, Throttled
from notifier.lane import Lane
from notifier.pulse import Pulse


async def claim(database: Database, clock: Any, holder: str = "a", limit: int = 50, **more: Any) -> list[Any]:
    return await deliveries.claim(
        database, channel="probe", now=clock(), lease_s=30, holder=holder, limit=limit, **more
    )


async def test_a_due_delivery_is_sent_and_stands_on_the_timeline_and_the_feed_once(
    outbox: Any, probe: Any, open_desk: Any
) -> None:
    desk = await open_desk(probe)
    delivery_id = await outbox.put()
    await desk.marked(delivery_id)

    row = await outbox.get(delivery_id)
    assert (row["state"], row["attempts"], row["provider_id"]) == ("sent", 1, f"provider-{delivery_id}")
    assert row["sent_at"] is not None
    assert row["leased_by"] is None
    assert await outbox.attempts(delivery_id) == ["sent"]
    (line,) = await outbox.rows("SELECT * FROM timeline WHERE incident_id = $1", outbox.incident_id)
    assert line["kind"] == "delivery"
    assert line["data"]["state"] == "sent"
    (event,) = await outbox.rows("SELECT * FROM feed WHERE agency_id = $1", outbox.agency_id)
    assert event["kind"] == "delivery.updated"
    assert event["data"] == {
        "incident_id": str(outbox.incident_id), "delivery_id": str(delivery_id), "channel": "probe",
        "audience": "dispatcher", "state": "sent", "at": "2026-03-01T12:00:00.000Z",
    }  # fmt: skip
    assert [message.id for message in probe.sent] == [delivery_id]


async def test_what_is_not_due_waits_until_it_is(outbox: Any, probe: Any, open_desk: Any, clock: Any) -> None:
    desk = await open_desk(probe)
    later = await outbox.put(due_at=clock() + timedelta(seconds=90))
    now = await outbox.put()
    await desk.marked(now)
    assert (await outbox.get(later))["attempts"] == 0
    clock.advance(91)
    desk.sender.wake()
    await desk.marked(later)


async def test_the_most_urgent_go_first(outbox: Any, database: Database, clock: Any) -> None:
    rest = await outbox.put(priority=2, due_at=clock() - timedelta(seconds=9))
    alarm = await outbox.put(priority=1)
    older_alarm = await outbox.put(priority=1, due_at=clock() - timedelta(seconds=5))
    panic = await outbox.put(priority=0)
    assert [one.id for one in await claim(database, clock, limit=3)] == [panic, older_alarm, alarm]
    assert [one.id for one in await claim(database, clock)] == [rest]


async def test_many_who_claim_at_once_never_get_the_same_delivery(outbox: Any, database: Database, clock: Any) -> None:
    wanted = {await outbox.put() for _ in range(60)}
    taken = await asyncio.gather(*(claim(database, clock, holder=str(n), limit=10) for n in range(8)))
    ids = [one.id for batch in taken for one in batch]
    ids += [one.id for one in await claim(database, clock, holder="last", limit=100)]
    assert len(ids) == len(set(ids)) == 60
    assert set(ids) == wanted


async def test_two_senders_send_each_delivery_once_between_them(outbox: Any, make_probe: Any, open_desk: Any) -> None:
    first, second = make_probe(), make_probe()
    wanted = {await outbox.put(address=f"desk-{n}") for n in range(60)}
    desks = [await open_desk(first), await open_desk(second)]
    while sum(len(desk.marks) for desk in desks) < 60:
        waits = [asyncio.ensure_future(_any_mark(desk)) for desk in desks]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    ids = [message.id for message in (*first.sent, *second.sent)]
    assert len(ids) == 60
    assert set(ids) == wanted


async def _any_mark(desk: Any) -> None:
    before = len(desk.marks)
    async with desk.changed:
        await desk.changed.wait_for(lambda: len(desk.marks) > before)


async def test_a_crash_between_send_and_mark_sends_again_under_the_same_id(
    outbox: Any, probe: Any, make_probe: Any, open_desk: Any, settings: Settings, database: Database, clock: Any
) -> None:
    delivery_id = await outbox.put()
    doomed = make_probe()
    pulse = Pulse(database, clock, "doomed")
    lane = Lane(settings, database, doomed, clock, pulse, random.Random(0), asyncio.Event())
    await lane._cycle()
    await asyncio.wait(lane._under_way)  # sent, and never marked: the process is gone here

    desk = await open_desk(probe)
    desk.sender.wake()
    assert (await outbox.get(delivery_id))["leased_by"] == "doomed"
    assert probe.sent == []
    clock.advance(settings.delivery_lease_s + 1)
    desk.sender.wake()
    await desk.marked(delivery_id)

    assert [message.id for message in (*doomed.sent, *probe.sent)] == [delivery_id, delivery_id]
    assert await outbox.attempts(delivery_id) == ["abandoned", "sent"]
    assert (await outbox.get(delivery_id))["state"] == "sent"


async def test_what_a_dead_process_held_is_taken_over_within_seconds_and_what_a_living_one_holds_is_not(
    outbox: Any, probe: Any, open_desk: Any, database: Database, clock: Any
) -> None:
    doomed, living = Pulse(database, clock, "doomed"), Pulse(database, clock, "living")
    await doomed.beat()
    lost = await outbox.put()
    await claim(database, clock, holder="doomed")
    kept = await outbox.put()
    await claim(database, clock, holder="living")
    desk = await open_desk(probe)
    first = await outbox.put()
    await desk.marked(first)  # it runs, and leaves what others hold alone
    await desk.sender._pulse.beat()
    clock.advance(3.5)
    await living.beat()
    desk.sender.wake()
    await desk.marked(lost)
    assert [message.id for message in probe.sent] == [first, lost]
    assert await outbox.attempts(lost) == ["abandoned", "sent"]
    assert (await outbox.get(kept))["leased_by"] == "living"
    await desk.sender.stop()
    rows = await outbox.rows("SELECT instance FROM service_beat WHERE name = 'notifier' ORDER BY 1")
    assert [row["instance"] for row in rows] == ["doomed", "living"]


async def test_who_has_not_been_heard_itself_for_a_while_judges_nobody_dead(database: Database, clock: Any) -> None:
    pulse = Pulse(database, clock, "fresh")
    assert pulse.dead_before(clock()) is None
    await pulse.beat()
    assert pulse.dead_before(clock()) is None
    clock.advance(2)
    assert pulse.dead_before(clock()) == clock() - timedelta(seconds=3)


async def test_what_kills_its_process_every_time_is_dead_in_the_end(
    outbox: Any, probe: Any, open_desk: Any, database: Database, clock: Any
) -> None:
    delivery_id = await outbox.put()
    for _ in range(3):
        assert len(await claim(database, clock)) == 1
        clock.advance(31)
    desk = await open_desk(probe, delivery_attempts=3)
    await desk.marked(delivery_id)
    row = await outbox.get(delivery_id)
    assert row["state"] == "dead"
    assert "3 attempts" in row["last_error"]
    assert probe.sent == []
    assert await outbox.attempts(delivery_id) == ["abandoned"] * 3


async def test_a_mark_that_comes_after_its_lease_was_taken_over_leaves_the_delivery_alone(
    outbox: Any, database: Database, clock: Any
) -> None:
    delivery_id = await outbox.put()
    (slow,) = await claim(database, clock, holder="slow")
    clock.advance(31)
    (quick,) = await claim(database, clock, holder="quick")
    late = Mark(delivery_id, slow.attempt, "dead", "permanent", clock(), clock(), detail="HTTP 400")
    assert await deliveries.finish(database, [late], holder="slow", now=clock()) == []
    row = await outbox.get(delivery_id)
    assert (row["state"], row["leased_by"]) == ("sending", "quick")
    sent = Mark(delivery_id, quick.attempt, "sent", "sent", clock(), clock())
    (ended,) = await deliveries.finish(database, [sent], holder="quick", now=clock())
    assert ended.state == "sent"
    assert await deliveries.finish(database, [sent], holder="quick", now=clock()) == []
    assert await outbox.attempts(delivery_id) == ["permanent", "sent"]
    assert len(await outbox.rows("SELECT 1 FROM feed")) == 1


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


async def test_a_stop_gives_back_what_is_under_way_for_another_to_send_at_once(
    outbox: Any, make_probe: Any, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(message: Message) -> str | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("notifier.lane.STOP_GRACE_S", 0.05)
    leaving, staying = make_probe(act=hang), make_probe()
    desk = await open_desk(leaving)
    delivery_id = await outbox.put()
    await leaving.next()
    await desk.sender.stop()
    await desk.sender.stop()
    assert leaving.closed
    assert (await outbox.get(delivery_id))["state"] == "queued"
    desk = await open_desk(staying)
    await desk.marked(delivery_id)
    assert [message.id for message in staying.sent] == [delivery_id]
    assert await outbox.attempts(delivery_id) == ["retryable", "sent"]


async def test_a_delivery_cancelled_while_it_is_sent_stays_cancelled(
    outbox: Any, probe: Any, open_desk: Any, database: Database
) -> None:
    async def cancel(message: Message) -> str | None:
        async with database.connection() as connection:
            await connection.execute("UPDATE delivery SET state = 'cancelled' WHERE id = $1", message.id)
        return None

    probe.act = cancel
    desk = await open_desk(probe)
    delivery_id = await outbox.put()
    await desk.marked(delivery_id)
    assert (await outbox.get(delivery_id))["state"] == "cancelled"
    assert await outbox.rows("SELECT 1 FROM feed") == []


@pytest.mark.parametrize(("stored", "left"), [("phone-token", None), ("newer-token", "newer-token")])
async def test_a_disowned_push_token_is_forgotten_unless_it_was_replaced(
    outbox: Any, probe: Any, open_desk: Any, database: Database, stored: str, left: str | None
) -> None:
    async def disown(message: Message) -> str | None:
        raise Permanent("FCM UNREGISTERED", address_gone=True)

    async with database.connection() as connection:
        await connection.execute("UPDATE device SET push_token = $1", stored)
    probe.act = disown
    desk = await open_desk(probe)
    delivery_id = await outbox.put(
        address="phone-token", audience="victim", recipient=f"device:{outbox.device_id}", template="incident_victim"
    )
    await desk.marked(delivery_id)
    (device,) = await outbox.rows("SELECT push_token FROM device")
    assert device["push_token"] == left
    assert (await outbox.get(delivery_id))["state"] == "dead"


class Road:
    """The way to PostgreSQL, which a test may close: a proxy on a socket of its own."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        self._there = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._here = f"{directory}/.s.PGSQL.5432"
        self.url = f"postgresql://{parts.netloc}{parts.path}?host={directory}"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_unix_server(self._through, self._here)

    async def close(self) -> None:
        """Cut every connection and take no new one."""
        assert self._server is not None
        self._server.close()
        Path(self._here).unlink(missing_ok=True)
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._open.add(task)
        back_reader, back_writer = await asyncio.open_unix_connection(self._there)
        try:
            pipes = [
                asyncio.ensure_future(self._pipe(reader, back_writer)),
                asyncio.ensure_future(self._pipe(back_reader, writer)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
        except asyncio.CancelledError:
            pass
        finally:
            self._open.discard(task)
            for one in (writer, back_writer):
                one.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


@pytest.fixture
async def road(database_url: str) -> AsyncIterator[Road]:
    """A way to this test's database that can be closed."""
    directory = Path(tempfile.mkdtemp(prefix="road-"))
    way = Road(database_url, directory)
    await way.open()
    yield way
    await way.close()
    shutil.rmtree(directory)


async def test_while_postgres_is_away_the_sender_waits_and_then_marks_and_goes_on(
    outbox: Any, probe: Any, open_desk: Callable[..., Any], road: Road, vault: Vault
) -> None:
    released = asyncio.Event()

    async def wait(message: Message) -> str | None:
        await released.wait()
        return None

    probe.act = wait
    pool = Database(road.url, size=4, vault=vault)
    await pool.open()
    try:
        desk = await open_desk(probe, pool=pool)
        sent_meanwhile: uuid.UUID = await outbox.put()
        await probe.next()
        await road.close()
        released.set()
        queued_meanwhile: uuid.UUID = await outbox.put()
        desk.sender.wake()
        while desk.sender._lanes[0]._away < 2:
            desk.sender.wake()
            await asyncio.sleep(0.01)  # until the sender has met the closed road twice
        assert (await outbox.get(sent_meanwhile))["state"] == "sending"
        await road.open()
        await desk.marked(sent_meanwhile, queued_meanwhile)
        await desk.sender.stop()
    finally:
        await pool.close()
    assert await outbox.attempts(sent_meanwhile) == ["sent"]
    assert await outbox.attempts(queued_meanwhile) == ["sent"]
    assert len(probe.sent) == 2
