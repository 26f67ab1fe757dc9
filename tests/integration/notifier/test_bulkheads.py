"""A provider that is dead, throttled or lies: everybody else gets theirs, and each recipient gets hers once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from core import metrics
from core.domain.delivery import Delivery
from core.ids import new_id
from core.postgres.database import Database
from core.postgres.dead_letters import count, waiting
from core.postgres.deliveries_write import insert_deliveries
from core.settings import Settings
from notifier import breaker
from notifier.channels.base import Message, Permanent, Retryable, Throttled
from notifier.channels.webhook import WebhookChannel

SECRET = "whsec_" + "a2" * 22


async def put_sealed(database: Database, outbox: Any, clock: Any, *addresses: str, **more: Any) -> list[Any]:
    """Queue deliveries as actions do, each to an address of its own; returns their ids."""
    items = [
        Delivery(
            outbox.agency_id, outbox.incident_id, new_id(), "dispatcher", "route:1", more.get("channel", "probe"),
            address, "incident_dispatcher", secret=SECRET, priority=more.get("priority", 1),
            data={"type": "proximity", "severity": "critical", "incident_id": str(outbox.incident_id)},
        )
        for address in addresses
    ]  # fmt: skip
    async with database.transaction() as connection:
        await insert_deliveries(connection, items, clock())
    return [item.id for item in items]


async def test_a_provider_gone_for_sixteen_minutes_burns_no_attempt_and_gets_everything_once_when_it_is_back(
    outbox: Any, probe: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    gone = True
    taken: list[Any] = []

    async def act(message: Message) -> str | None:
        if gone:
            raise Retryable("no answer: ConnectError")
        taken.append(message.id)
        return None

    probe.act = act
    desk = await open_desk(probe)
    ids = await put_sealed(database, outbox, clock, *(f"desk-{number}" for number in range(8)))
    end = clock() + timedelta(minutes=16)
    while clock() < end:
        before = len(probe.sent)
        clock.advance(breaker.COOL_DOWN_S[1] + 1)
        desk.sender.wake()
        await probe_tried(desk, probe, before)
    gone = False
    clock.advance(breaker.COOL_DOWN_S[1] + 1)
    desk.sender.wake()
    await sent(desk, ids)
    assert sorted(taken) == sorted(ids)
    for delivery_id in ids:
        row = await outbox.get(delivery_id)
        assert row["state"] == "sent"
        assert row["attempts"] - row["forgiven"] <= breaker.FAILURES_IN_A_ROW
    # A probe each half minute, and no storm: 16 minutes are 31 of them, beside what opened the breaker.
    assert len(probe.sent) <= 31 + len(ids) + breaker.FAILURES_IN_A_ROW + len(ids)


async def probe_tried(desk: Any, probe: Any, before: int) -> None:
    """Wait until something was tried, and its end is marked, or nothing is due."""

    async def look() -> None:
        while len(probe.sent) == before:
            await asyncio.wait_for(probe.arrived.get(), 20)
        tried = probe.sent[-1].id
        attempts = sum(message.id == tried for message in probe.sent)
        async with desk.changed:
            await desk.changed.wait_for(
                lambda: sum(mark.delivery_id == tried and mark.result is not None for mark in desk.marks) >= attempts
            )

    await asyncio.wait_for(look(), 20)


async def sent(desk: Any, ids: Any) -> None:
    """Wait until all of them are sent."""
    async with desk.changed:
        await asyncio.wait_for(
            desk.changed.wait_for(
                lambda: {mark.delivery_id for mark in desk.marks if mark.state == "sent"} >= set(ids)
            ),
            20,
        )


async def test_a_dead_receiver_delays_no_other_and_opens_its_own_breaker_alone(
    outbox: Any, provider: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    channel = WebhookChannel(2.0)
    desk = await open_desk(channel)
    dead = await put_sealed(
        database, outbox, clock, *(f"http://127.0.0.1:9/{number}" for number in range(12)), channel="webhook"
    )
    alive = await put_sealed(
        database, outbox, clock, *(f"{provider.url}/{number}" for number in range(12)), channel="webhook"
    )
    await sent(desk, alive)
    assert len(provider.requests) == 12
    lane = desk.sender._lanes[0]
    await desk.marked(*dead)
    assert lane._breakers.is_open("127.0.0.1:9", clock())
    assert not lane._breakers.is_open(provider.url.removeprefix("http://"), clock())
    rows = [await outbox.get(delivery_id) for delivery_id in dead]
    assert {row["state"] for row in rows} == {"queued"}


async def test_a_provider_that_says_too_many_is_asked_again_when_it_said_and_no_attempt_is_burnt(
    outbox: Any, probe: Any, open_desk: Any, clock: Any
) -> None:
    busy = True

    async def act(message: Message) -> str | None:
        if busy:
            raise Throttled("HTTP 429", 120.0)
        return None

    probe.act = act
    desk = await open_desk(probe, delivery_attempts=2)
    delivery_id = await outbox.put()
    for times in range(1, 6):
        await desk.marked(delivery_id, times=times)
        clock.now = (await outbox.get(delivery_id))["due_at"] + timedelta(seconds=breaker.HOLD_MAX_S)
        desk.sender.wake()
    busy = False
    await sent(desk, [delivery_id])
    row = await outbox.get(delivery_id)
    assert row["attempts"] - row["forgiven"] == 1


async def test_a_panic_has_places_that_alarms_never_take(
    outbox: Any, make_probe: Any, open_desk: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("notifier.lane.STOP_GRACE_S", 0.05)
    held = asyncio.Event()

    async def act(message: Message) -> str | None:
        if not message.urgent:
            await held.wait()
        return None

    probe = make_probe(concurrency=8, act=act)
    desk = await open_desk(probe)
    for number in range(30):
        await outbox.put(address=f"alarm-{number}")
    for _ in range(6):  # three fourths of its places
        await probe.next()
    panic = await outbox.put(address="alarm-1", priority=0)
    await desk.marked(panic)
    assert (await outbox.get(panic))["state"] == "sent"
    assert sum(not message.urgent for message in probe.sent) == 6
    held.set()


async def test_rates_hold_alarms_back_before_panics(outbox: Any, make_probe: Any, open_desk: Any, clock: Any) -> None:
    probe = make_probe(concurrency=40)
    probe.rate_per_s = 4.0
    desk = await open_desk(probe)
    alarms = [await outbox.put(address=f"desk-{number}") for number in range(12)]
    panics = [await outbox.put(address=f"desk-{number}", priority=0) for number in range(2)]
    await desk.marked(*panics)
    first = {message.id for message in probe.sent}
    assert len(first & set(alarms)) <= 6
    while len(probe.sent) < 14:
        before = len(probe.sent)
        clock.advance(2)
        desk.sender.wake()
        await asyncio.wait_for(_more(probe, before), 20)
    await desk.marked(*alarms)


async def _more(probe: Any, before: int) -> None:
    while len(probe.sent) <= before:
        await probe.arrived.get()


async def test_poison_as_the_probe_of_a_dead_provider_keeps_nobody_waiting(
    outbox: Any, probe: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    async def act(message: Message) -> str | None:
        if message.address == "poison":
            raise Retryable("HTTP 500")  # it makes the provider stumble, each time
        return None

    probe.act = act
    desk = await open_desk(probe, delivery_attempts=3)
    (poison,) = await put_sealed(database, outbox, clock, "poison")
    others: list[Any] = []
    for number in range(6):
        await desk.marked(poison, times=number + 1) if number < 3 else None
        others += await put_sealed(database, outbox, clock, f"desk-{number}")
        clock.advance(901)
        desk.sender.wake()
        await sent(desk, others)
    row = await outbox.get(poison)
    assert row["state"] == "dead"
    assert "given up after 3 attempts" in row["last_error"]


async def test_a_mistake_of_ours_in_one_attempt_costs_that_attempt_alone(
    outbox: Any, make_probe: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    class Slip(make_probe):  # type: ignore[misc]  # made by the fixture
        def providers(self, address: str, _attempt: int) -> tuple[str, ...]:
            if address == "slip":
                raise RuntimeError("slipped")
            return ("probe",)

    desk = await open_desk(Slip())
    [slip] = await put_sealed(database, outbox, clock, "slip")
    desk.sender.wake()
    await desk.marked(slip)
    others = await put_sealed(database, outbox, clock, "desk-1", "desk-2")
    desk.sender.wake()
    await sent(desk, others)
    row = await outbox.get(slip)
    assert (row["state"], row["last_error"]) == ("queued", "unexpected RuntimeError in the notifier")


async def test_alarms_that_were_too_many_hold_no_panic_back(
    outbox: Any, probe: Any, open_desk: Any, clock: Any
) -> None:
    async def act(message: Message) -> str | None:
        if not message.urgent:
            raise Throttled("HTTP 429", 200.0)
        return None

    probe.act = act
    alarms = [await outbox.put(address=f"desk-{number}") for number in range(4)]  # claimed together
    desk = await open_desk(probe)
    await desk.marked(*alarms)
    later = await outbox.put(address="desk-9")
    panic = await outbox.put(address="desk-1", priority=0)
    await desk.marked(panic)
    assert (await outbox.get(panic))["state"] == "sent"
    assert (await outbox.get(later))["attempts"] == 0


async def test_what_waited_a_day_for_a_provider_is_a_dead_letter_that_says_so(
    outbox: Any, probe: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    async def act(message: Message) -> str | None:
        raise Retryable("no answer: ConnectError")

    probe.act = act
    desk = await open_desk(probe)
    ids = await put_sealed(database, outbox, clock, *(f"desk-{number}" for number in range(6)))
    await desk.marked(*ids)
    clock.advance(24 * 3600 + 1)
    desk.sender.wake()
    async with desk.changed:
        await asyncio.wait_for(desk.changed.wait_for(lambda: any(mark.state == "dead" for mark in desk.marks)), 20)
    async with database.connection() as connection:
        assert await count(connection) >= 1


async def test_a_refusal_of_one_message_leaves_its_provider_in_use(
    outbox: Any, probe: Any, open_desk: Any, clock: Any
) -> None:
    async def act(message: Message) -> str | None:
        raise Permanent("HTTP 400")

    probe.act = act
    desk = await open_desk(probe)
    ids = [await outbox.put(address=f"desk-{number}") for number in range(12)]
    await desk.marked(*ids)
    assert not desk.sender._lanes[0]._breakers.is_open("", clock())


async def test_what_waits_is_counted_by_channel_with_its_age(
    outbox: Any, database: Database, clock: Any, settings: Settings
) -> None:
    del settings
    await outbox.put("sms")
    await outbox.put("sms", state="sending")
    await outbox.put("email", state="dead")
    async with database.connection() as connection:
        assert await waiting(connection, clock() + timedelta(seconds=90)) == {"sms": (2, 90.0)}
        assert await count(connection) == 1


async def test_the_gauges_say_what_waits_and_what_nobody_got(
    outbox: Any, probe: Any, open_desk: Any, clock: Any, database: Database
) -> None:
    probe.name = "sms"
    await outbox.put("sms", due_at=clock() + timedelta(hours=1))
    await outbox.put("email", state="failed")
    await outbox.put("email", state="dead", dismissed_at=clock())
    async with database.connection() as connection:
        await connection.execute("INSERT INTO poison (source, entry, reason, at) VALUES ('x', '1', 'y', $1)", clock())
    desk = await open_desk(probe)
    clock.advance(30)
    await desk.sender.count()
    assert metrics.DELIVERIES_WAITING.labels("sms")._value.get() == 1
    assert metrics.DELIVERY_QUEUE_AGE.labels("sms")._value.get() == 30
    assert metrics.DEAD_LETTERS._value.get() == 1
    assert metrics.POISON_UNHANDLED._value.get() == 1
