"""The sender on a real PostgreSQL: what is due goes out, the most urgent first, once, whoever claims it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.actions import deliveries
from core.postgres.database import Database
from notifier.channels.base import Message, Permanent


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
