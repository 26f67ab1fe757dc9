"""Senders that die, stop, or have no PostgreSQL: what they held goes out again under the same id, and nothing else."""

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
from core.errors import StoreUnavailable
from core.postgres.database import Database
from core.postgres.deliveries import Mark
from core.settings import Settings
from core.vault import Vault
from notifier.channels.base import Message
from notifier.lane import Lane
from notifier.pulse import Pulse


async def claim(database: Database, clock: Any, holder: str = "a", limit: int = 50, **more: Any) -> list[Any]:
    return await deliveries.claim(
        database, channel="probe", now=clock(), lease_s=30, holder=holder, limit=limit, **more
    )


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


async def test_what_was_claimed_with_the_answer_lost_goes_out_at_once_and_what_is_under_way_stays(
    outbox: Any, make_probe: Any, settings: Settings, database: Database, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = make_probe()
    hold = asyncio.Event()

    async def wait(_: Message) -> None:
        await hold.wait()

    probe.act = wait
    lane = Lane(settings, database, probe, clock, Pulse(database, clock, "me"), random.Random(0), asyncio.Event())
    under_way = await outbox.put()
    await lane._cycle()
    lost = await outbox.put()
    lane.wake()
    whole = deliveries.claim

    async def cut(*arguments: Any, **named: Any) -> list[Any]:
        await whole(*arguments, **named)
        raise StoreUnavailable("PostgreSQL went away.")

    with monkeypatch.context() as away:
        away.setattr(deliveries, "claim", cut)
        with pytest.raises(StoreUnavailable):
            await lane._cycle()
    assert (await outbox.get(lost))["state"] == "sending"
    lane.wake()
    await lane._cycle()
    assert {one.id: one.attempt for one in lane._under_way.values()} == {under_way: 1, lost: 1}
    hold.set()
    await asyncio.wait(lane._under_way)
    await lane._cycle()
    assert lane._marking is not None
    await lane._marking
    assert [message.id for message in probe.sent] == [under_way, lost]
    assert [await outbox.attempts(one) for one in (under_way, lost)] == [["sent"], ["sent"]]


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
