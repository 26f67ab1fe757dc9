"""Drills go the way of a panic and page nobody; the watchdog is red for each part that does not move."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from api.drill_clock import AGENCY, SelfDrill
from api.watchdog import Watchdog
from core.actions import drills
from core.actions.receipts import note_receipt
from core.actions.unit_of_work import act
from core.clock import to_ms, utc_now
from core.domain import drill as rules
from core.postgres import beats
from core.postgres.database import Database
from core.redis import keys
from notifier.channels import build
from notifier.sender import Sender

Query = Callable[..., Any]
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _known(api: Any, pair: Any) -> None:
    """The pair's tokens are known to the API."""
    del pair
    await api.context.registry.refresh()


@pytest.fixture
async def phone(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(pair.phone_token) as client:
        yield client


async def step(posts: Any, now: datetime, work: Any = drills.follow) -> None:
    async with act(posts.device, now) as unit:
        await work(unit)


# of people ----------------------------------------------------------------------------------------------------------


async def test_a_drill_is_told_to_her_phone_alone_and_proved_when_it_answers(
    phone: Any, pair: Any, query: Query
) -> None:
    pressed = (await phone.post("/v1/panic/drill")).json()
    assert (pressed["exercise"], pressed["proved_at"]) == (True, None)
    assert (await phone.post("/v1/panic/drill")).json()["id"] == pressed["id"]  # a nervous thumb
    (sent,) = await query("SELECT * FROM delivery")
    assert (sent["template"], sent["recipient"], sent["data"]["exercise"]) == (
        "drill_device", f"device:{pair.phone_id}", True,
    )  # fmt: skip
    assert await query("SELECT FROM incident") == []
    assert await query("SELECT FROM panic") == []
    assert [row["kind"] for row in await query("SELECT kind FROM feed")] == ["drill.pressed"]
    answered = (await phone.post(f"/v1/panic/drill/{pressed['id']}/received")).json()
    assert answered["proved_at"] is not None
    (device,) = await query("SELECT last_proved_at FROM device WHERE id = $1", pair.phone_id)
    assert device["last_proved_at"] is not None
    protection = (await phone.get("/v1/me/protection")).json()
    assert protection["devices"][0]["last_proved_at"] is not None
    assert [contact["last_proved_at"] for contact in protection["contacts"]] == [None]
    assert (await phone.get(f"/v1/panic/drill/{pressed['id']}")).json() == answered


async def test_a_device_without_messages_is_proved_by_its_press_and_an_aggressor_s_has_no_drill(
    api: Any, phone: Any, pair: Any, query: Query
) -> None:
    await query("UPDATE device SET push_token = NULL WHERE id = $1", pair.phone_id)
    assert (await phone.post("/v1/panic/drill")).json()["proved_at"] is not None
    async with api.client(pair.bracelet_token) as bracelet:
        assert (await bracelet.post("/v1/panic/drill")).status_code == 403


async def test_a_contact_is_proved_by_opening_the_link_of_a_test_sent_once_a_month(
    api: Any, pair: Any, posts: Any, query: Query
) -> None:
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as caseworker:
        (contact,) = await query("SELECT id FROM contact")
        made = await caseworker.post(f"/v1/contacts/{contact['id']}/drill")
        assert made.status_code == 201
        assert (await caseworker.post(f"/v1/contacts/{contact['id']}/drill")).status_code == 409
        (sent,) = await query("SELECT * FROM delivery WHERE template = 'drill_contact'")
        assert sent["data"]["exercise"] is True
        await query("UPDATE delivery SET state = 'sent', sent_at = now() WHERE id = $1", sent["id"])
        async with act(posts.device, utc_now()) as unit:
            await note_receipt(unit, sent["id"], "seen", utc_now())
        await step(posts, utc_now())
        shown = (await caseworker.get(f"/v1/contacts/{contact['id']}")).json()
        assert shown["last_proved_at"] is not None


async def test_nobody_is_sent_a_test_while_something_of_hers_is_open(
    api: Any, phone: Any, pair: Any, posts: Any, query: Query
) -> None:
    await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as caseworker:
        (contact,) = await query("SELECT id FROM contact")
        assert (await caseworker.post(f"/v1/contacts/{contact['id']}/drill")).status_code == 409
    await query("UPDATE protection_order SET status = 'in_force'")
    await step(posts, noon(utc_now() + 40 * DAY), drills.send_due)
    assert await query("SELECT FROM delivery WHERE template = 'drill_contact'") == []


def noon(moment: datetime) -> datetime:
    """About noon in Almaty."""
    return moment.replace(hour=7, minute=0)


async def test_tests_of_contacts_are_due_each_month_by_day_and_unanswered_ones_are_tasks(
    pair: Any, posts: Any, query: Query
) -> None:
    await query("UPDATE protection_order SET status = 'in_force'")
    now = noon(utc_now())
    await step(posts, now.replace(hour=20), drills.send_due)  # one in the night
    assert await query("SELECT FROM drill") == []
    await step(posts, now, drills.send_due)
    await step(posts, now + DAY, drills.send_due)
    (made,) = await query("SELECT * FROM drill")
    await step(posts, now + rules.CONTACT_ANSWERS + DAY)
    await step(posts, now + rules.CONTACT_ANSWERS + DAY)
    (task,) = await query("SELECT * FROM task WHERE kind = 'contact_unproved'")
    assert task["detail"] == {"contact_id": str(made["contact_id"])}
    (drill,) = await query("SELECT failure FROM drill")
    assert drill["failure"] == "not_sent"
    assert await query("SELECT FROM delivery WHERE agency_id <> $1", pair.agency_id) == []


async def test_a_device_not_proved_for_a_month_is_a_task_that_a_drill_closes(
    phone: Any, pair: Any, posts: Any, query: Query
) -> None:
    await query("UPDATE protection_order SET status = 'in_force', valid_until = NULL")
    await query("UPDATE device SET last_proved_at = $1 WHERE id = $2", utc_now() - 31 * DAY, pair.phone_id)
    for _ in range(2):
        await step(posts, utc_now(), drills.tell_overdue)
    (task,) = await query("SELECT * FROM task WHERE kind = 'device_unproved'")
    assert (task["case_id"], task["detail"]) == (pair.case_id, {"device_id": str(pair.phone_id)})
    pressed = (await phone.post("/v1/panic/drill")).json()
    await phone.post(f"/v1/panic/drill/{pressed['id']}/received")
    (task,) = await query("SELECT outcome FROM task WHERE kind = 'device_unproved'")
    assert task["outcome"] == "proved"
    await step(posts, utc_now(), drills.tell_overdue)
    assert len(await query("SELECT FROM task WHERE kind = 'device_unproved'")) == 1


# of the server, and its watchdog ------------------------------------------------------------------------------------


@pytest.fixture
async def sender(settings: Any, posts: Any) -> AsyncIterator[Sender]:
    """A real notifier."""
    running = Sender(settings, posts.worker, build(settings), utc_now)
    await running.start()
    yield running
    await running.stop()


async def move(api: Any, posts: Any, shards: int, at: datetime) -> None:
    """Have every part look as if it had moved at a moment: for the parts that this test does not run."""
    entry = f"{to_ms(at)}-0"
    async with posts.device.transaction() as connection:
        for shard in range(shards):
            await api.context.redis.set(keys.cursor(shard), entry)
            await connection.execute(
                "INSERT INTO log_cursor (name, entry, updated_at) VALUES ($1, $2, $3)"
                " ON CONFLICT (name) DO UPDATE SET entry = excluded.entry",
                f"historian:{shard}", entry, at,
            )  # fmt: skip
        await beats.beat(connection, "notifier", "test", at)


async def red(api: Any, at: datetime | None = None) -> set[str]:
    """What is red, as of now or of a moment."""
    api.context.clock = utc_now if at is None else lambda: at
    try:
        return set(await Watchdog(api.context).look())
    finally:
        api.context.clock = utc_now


async def test_the_server_s_own_drill_goes_through_journal_commit_feed_and_notifier(
    api: Any, settings: Any, posts: Any, sender: Sender, query: Query
) -> None:
    del sender
    drill = SelfDrill(settings, posts.device, api.context.tail, utc_now)
    assert await drill.once() is None
    (row,) = await query("SELECT * FROM drill")
    assert (row["kind"], row["failure"]) == ("server", None)
    assert row["proved_at"] is not None
    assert drill.is_well(utc_now())
    assert not drill.is_well(utc_now() + timedelta(hours=1))
    assert await query("SELECT FROM incident") == []
    (agency,) = await query("SELECT * FROM agency ORDER BY created_at DESC LIMIT 1")
    assert (agency["id"], agency["kind"]) == (AGENCY, "other")


async def test_a_drill_without_a_notifier_or_a_disk_says_where_it_ended(
    api: Any, settings: Any, posts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("api.drill_clock.SENT_WAIT_S", 0.3)
    drill = SelfDrill(settings, posts.device, api.context.tail, utc_now)
    assert await drill.once() == "not_sent"
    assert not drill.is_well(utc_now())
    api.context.self_drill = drill
    assert "drill" in await red(api)
    (tmp_path / "file").write_text("")
    bad = SelfDrill(
        settings.model_copy(update={"data_dir": tmp_path / "file"}), posts.device, api.context.tail, utc_now
    )
    assert await bad.once() == "no_journal"
    monkeypatch.setattr("api.drill_clock.FEED_WAIT_S", 0.3)
    await api.context.tail.stop()
    assert await drill.once() == "not_on_feed"


async def test_the_watchdog_is_green_while_everything_moves_and_tells_strangers_one_word(
    api: Any, settings: Any, posts: Any, query: Query
) -> None:
    now = utc_now()
    await move(api, posts, settings.shard_count, now)
    assert await red(api) == set()
    async with api.client(None) as anyone:
        answer = await anyone.get("/watchdog", headers={"X-Forwarded-For": "203.0.113.9"})
        assert (answer.status_code, answer.json()) == (200, {"status": "green", "red": None})
    api.context.clock = lambda: now + timedelta(minutes=5)
    api.context.watchdog = Watchdog(api.context)
    async with api.client(None) as anyone:
        answer = await anyone.get("/watchdog", headers={"X-Forwarded-For": "203.0.113.9"})
        assert (answer.status_code, answer.json()) == (503, {"status": "red", "red": None})
        within = await anyone.get("/watchdog")
        assert "engine" in within.json()["red"]


async def test_the_watchdog_is_red_for_each_part_alone(
    api: Any, settings: Any, posts: Any, query: Query, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, client = utc_now(), api.context.redis
    later = now + timedelta(minutes=5)

    async def alone() -> set[str]:
        found = await red(api)
        await move(api, posts, settings.shard_count, utc_now())
        return found

    await move(api, posts, settings.shard_count, now)
    await client.set(keys.cursor(2), f"{to_ms(now) - 60_000}-0")
    assert await alone() == {"engine"}
    await query("UPDATE log_cursor SET entry = $1 WHERE name = 'historian:1'", f"{to_ms(now) - 120_000}-0")
    assert await alone() == {"historian"}
    await client.xadd(keys.transitions(3), {"t": "[]"}, id=f"{to_ms(now) - 60_000}-0")
    assert await alone() == {"recorder"}
    await client.delete(keys.transitions(3))
    await client.xadd(keys.PANICS, {"p": b"x"}, id=f"{to_ms(now) - 60_000}-0")
    assert await alone() == {"stream"}
    await client.delete(keys.PANICS)
    await query("DELETE FROM service_beat")
    assert await alone() == {"notifier"}
    await query(
        "INSERT INTO delivery (id, agency_id, cause, audience, recipient, channel, template, priority, due_at,"
        " created_at, updated_at) VALUES ($1, $2, 'x', 'dispatcher', 'x', 'sms', 'x', 0, $3, $3, $3)",
        uuid.uuid4(), pair.agency_id, now - timedelta(minutes=2),
    )  # fmt: skip
    assert await alone() == {"notifier"}
    await query("DELETE FROM delivery")
    monkeypatch.setattr("api.watchdog.panics_waiting", lambda: 1)
    dog = Watchdog(api.context)
    assert await dog.look() == ()
    api.context.clock = lambda: later
    assert "journal" in await dog.look()
    monkeypatch.undo()
    api.context.clock = utc_now
    await move(api, posts, settings.shard_count, utc_now())
    await api.context.tail.stop()
    api.context.tail.looked_at = now - timedelta(minutes=1)
    assert await alone() == {"feed"}
    api.context.tail.looked_at = utc_now()
    await query(
        "INSERT INTO audit (id, at, actor_kind, action) VALUES ($1, $2, 'service', 'x')",
        uuid.uuid4(), now - timedelta(minutes=2),
    )  # fmt: skip
    assert await alone() == {"sealer"}


async def test_the_watchdog_is_red_without_stores(api: Any, settings: Any, posts: Any) -> None:
    await move(api, posts, settings.shard_count, utc_now())
    api.context.device_database = Database("postgresql://nobody@127.0.0.1:1/nowhere", size=1)
    assert {"postgres", "notifier", "sealer", "recorder", "historian"} <= await red(api)
