"""People are told of a panic while PostgreSQL is away, by the routes last known; afterwards the rows say so, once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from api.last_known import LastKnown
from api.panic_desk import PanicDesk, PanicDrain
from api.panic_journal import PanicJournal
from api.panic_outage import PanicOutage
from api.panic_records import PanicRecords
from core.clock import now_ms, utc_now
from core.domain.delivery import Delivery
from core.domain.panic import PanicIn
from core.domain.told import Posted, ToldIn
from core.errors import StoreUnavailable
from core.ids import token_digest
from core.postgres.database import Database
from core.postgres.user_channels import USER_CHANNELS
from core.redis.client import connect
from core.settings import Settings
from core.vault import Vault

Query = Callable[..., Any]
RECOVERY_S = 20.0


@dataclass
class Post:
    """Providers that take everything, or do as a test says."""

    act: Callable[[Delivery], Posted] | None = None
    sent: list[Delivery] = field(default_factory=list)
    arrived: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)
    hold: asyncio.Event | None = None

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Remember the message."""
        assert created_at <= utc_now()
        assert attempt > 0
        self.sent.append(delivery)
        self.arrived.put_nowait(delivery)
        if self.hold is not None:
            await self.hold.wait()
        return self.act(delivery) if self.act is not None else Posted(sent=True, provider_id=f"p-{delivery.channel}")

    async def aclose(self) -> None:
        """Nothing is open."""

    async def next(self) -> Delivery:
        """The next message."""
        return await asyncio.wait_for(self.arrived.get(), RECOVERY_S)


@dataclass
class Desk:
    """A panic desk with routes last known, and the way to its PostgreSQL."""

    desk: PanicDesk
    drain: PanicDrain
    known: LastKnown
    post: Post
    gate: Any

    async def recovered(self, query: Query, panic_id: uuid.UUID) -> Any:
        """The panic's row, once it is there."""
        await self.gate.open()
        async with asyncio.timeout(RECOVERY_S):
            while not (rows := await query("SELECT * FROM panic WHERE id = $1", panic_id)):
                await asyncio.sleep(0.05)
        assert len(rows) == 1
        return rows[0]


@pytest.fixture
def open_desk(settings: Settings, gate: Any, gated_database: Database, posts_at: Any, redis_client: Any) -> Any:
    """Opens a desk behind the gate; `client` is its Redis."""

    @contextlib.asynccontextmanager
    async def make(client: Any = None, post: Post | None = None, staff_after_s: float = 900) -> AsyncIterator[Desk]:
        database = posts_at(gated_database.url).device
        known = LastKnown(settings, database, utc_now)
        post = post or Post()
        outage = PanicOutage(known, post, utc_now, staff_after_s=staff_after_s)
        desk = PanicDesk(settings, database, client or redis_client, None, None, utc_now, outage=outage)
        drain = PanicDrain(desk, 0.05)
        await known.start()
        await drain.start()
        try:
            yield Desk(desk, drain, known, post, gate)
        finally:
            await drain.stop()
            await known.stop()

    return make


def press(pair: Any, **values: Any) -> PanicIn:
    return PanicIn(**{
        "id": uuid.uuid4(), "client_id": None, "received_ms": now_ms(), "source": "s", "device_id": pair.phone_id,
        "token_digest": token_digest(pair.phone_token).hex(), "person_id": pair.victim_id,
        "agency_id": pair.agency_id, **values,
    })  # fmt: skip


async def deliveries(query: Query) -> dict[str, Any]:
    return {row["recipient"]: row for row in await query("SELECT * FROM delivery")}


async def test_with_postgresql_away_everybody_is_told_and_the_rows_say_so_once(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    panic = press(pair)
    async with open_desk() as here:
        await gate.shut()
        answer = await here.desk.take(panic)
        assert answer.incident_id is None
        told = [await here.post.next(), await here.post.next()]
        assert {one.audience for one in told} == {"dispatcher", "contact"}
        assert {one.channel for one in told} == {"log", "email"}
        row = await here.recovered(query, panic.id)
        rows = await deliveries(query)
    assert {one.id for one in told} == {one["id"] for one in rows.values()}, "the ids the rows have"
    assert all(one.incident_id == row["incident_id"] for one in told)
    for one in rows.values():
        assert (one["state"], one["attempts"], one["incident_id"]) == ("sent", 1, row["incident_id"])
        assert one["provider_id"] == f"p-{one['channel']}"
        assert row["received_at"] <= one["sent_at"] < row["created_at"], "its true time"
        assert one["created_at"] == one["sent_at"]
    assert len(here.post.sent) == 2, "each message left once"
    assert len(await query("SELECT 1 FROM timeline WHERE kind = 'delivery'")) == 2


async def test_with_both_stores_away_it_is_the_same(open_desk: Any, gate: Any, pair: Any, query: Query) -> None:
    away = connect("unix:///nonexistent/valkey.sock", timeout_s=1)
    panic = press(pair)
    async with open_desk(away) as here:
        await gate.shut()
        await here.desk.take(panic)
        told = {(await here.post.next()).id, (await here.post.next()).id}
        await here.recovered(query, panic.id)
        rows = await query("SELECT id, state FROM delivery")
    assert {row["id"] for row in rows} == told
    assert {row["state"] for row in rows} == {"sent"}
    await away.aclose()


async def test_several_presses_of_one_person_are_told_of_once_and_are_one_incident(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    panics = [press(pair) for _ in range(30)]
    async with open_desk() as here:
        await gate.shut()
        await asyncio.gather(*(here.desk.take(panic) for panic in panics))
        for _ in range(2):
            await here.post.next()
        for panic in panics:
            await here.recovered(query, panic.id)
        rows = await query("SELECT id, state, data FROM delivery")
    assert len(await query("SELECT 1 FROM incident")) == 1
    assert len(here.post.sent) == 2
    told = {one.id for one in here.post.sent}
    assert {row["id"] for row in rows if row["state"] == "sent"} == told
    assert all(row["data"]["presses"] > 1 for row in rows if row["id"] not in told), "that she presses again is news"


async def test_what_a_provider_did_not_take_is_the_notifiers_afterwards(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    def refuse(delivery: Delivery) -> Posted:
        return Posted(sent=delivery.channel == "log")

    panic = press(pair)
    async with open_desk(post=Post(refuse)) as here:
        await gate.shut()
        await here.desk.take(panic)
        await here.post.next()
        await here.post.next()
        await here.recovered(query, panic.id)
        rows = {row["channel"]: row["state"] for row in await query("SELECT channel, state FROM delivery")}
    assert rows == {"log": "sent", "email": "queued"}


async def test_a_provider_that_fails_is_tried_again_under_the_same_id(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    post = Post()

    def fail_at_first(_: Delivery) -> Posted:
        return Posted(sent=len(post.sent) > 3, again_in_s=0.01)

    post.act = fail_at_first
    panic = press(pair)
    async with open_desk(post=post) as here:
        await gate.shut()
        await here.desk.take(panic)
        for _ in range(5):
            await post.next()
        await here.recovered(query, panic.id)
    assert len({one.id for one in post.sent}) == 2


async def test_the_rows_wait_for_a_message_that_is_with_its_provider(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    panic = press(pair)
    post = Post(hold=asyncio.Event())
    async with open_desk(post=post) as here:
        await gate.shut()
        await here.desk.take(panic)
        await post.next()
        await post.next()
        await gate.open()
        await here.desk.drain(orphans=False)
        assert await query("SELECT 1 FROM panic") == [], "else the notifier would send it beside us"
        assert post.hold is not None
        post.hold.set()
        await here.recovered(query, panic.id)
        states = [row["state"] for row in await query("SELECT state FROM delivery")]
    assert states == ["sent", "sent"]


async def test_another_process_goes_on_where_a_dead_one_ended(
    open_desk: Any, gate: Any, pair: Any, query: Query, settings: Settings, vault: Vault
) -> None:
    panic = press(pair)
    async with open_desk() as here:
        [to_route] = here.known.to_agency(panic)
    records = PanicRecords(vault.traveller)
    journal = PanicJournal.create(settings.data_dir / "journal")
    journal.append(await records.seal(panic))
    note = ToldIn(panic_id=panic.id, received_ms=panic.received_ms, delivery=to_route, sent_ms=now_ms())
    journal.append(await records.seal(note))
    journal.close()
    await gate.shut()
    # Started with PostgreSQL away: whom to tell is in the sealed files.
    async with open_desk() as here:
        told = await here.post.next()
        assert told.audience == "contact", "the route had heard"
        await here.recovered(query, panic.id)
        rows = await query("SELECT state FROM delivery")
    assert [row["state"] for row in rows] == ["sent", "sent"]
    assert len(here.post.sent) == 1
    assert list((settings.data_dir / "journal").iterdir()) == []


async def test_nobody_but_dispatchers_hears_again_of_a_panic_that_is_open(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    async with open_desk() as here:
        assert (await here.desk.take(press(pair))).incident_id is not None
        await here.known.look()
        await gate.shut()
        again = press(pair)
        await here.desk.take(again)
        assert (await here.post.next()).audience == "dispatcher"
        await here.recovered(query, again.id)
    assert [one.audience for one in here.post.sent] == ["dispatcher"]


async def test_an_unknown_senders_panic_reaches_the_first_agency_and_no_contact(
    open_desk: Any, gate: Any, pair: Any, query: Query
) -> None:
    stranger = press(pair, person_id=None, device_id=None, agency_id=None, token_digest=None, doubts=["no_token"])
    doubted = press(pair, doubts=["expired_token"])
    async with open_desk() as here:
        await gate.shut()
        await here.desk.take(stranger)
        assert (await here.post.next()).agency_id == pair.agency_id
        await here.desk.take(doubted)
        assert (await here.post.next()).audience == "dispatcher"
        await here.recovered(query, stranger.id)
    assert {one.audience for one in here.post.sent} == {"dispatcher"}


async def test_when_nobody_can_acknowledge_dispatchers_and_who_is_on_duty_are_told_by_their_own_channels(
    open_desk: Any, gate: Any, pair: Any, query: Query, reachable: Any
) -> None:
    """Not one who is related to somebody: to whom cannot be asked now."""
    for role in ("dispatcher", "supervisor", "officer"):
        await reachable(pair.agency_id, pair.users[role], f"{role}@example.org")
    related = uuid.uuid4()
    await query(
        "INSERT INTO app_user (id, agency_id, username, password_hash, role, created_at)"
        " VALUES ($1, $2, 'cousin', '-', 'dispatcher', now())", related, pair.agency_id,
    )  # fmt: skip
    await reachable(pair.agency_id, related, "cousin@example.org")
    await query(
        "INSERT INTO user_conflict (user_id, person_id, agency_id, relation, noted_by, noted_at)"
        " VALUES ($1, $2, $3, 'relative', $4, now())",
        related, pair.aggressor_id, pair.agency_id, pair.users["admin"],
    )  # fmt: skip
    panic = press(pair)
    async with open_desk(staff_after_s=0.0) as here:
        await gate.shut()
        await here.desk.take(panic)
        told = [await here.post.next() for _ in range(4)]
        staff = {one.recipient: one for one in told if one.recipient.startswith("user:")}
        assert {one.address for one in staff.values()} == {"dispatcher@example.org", "supervisor@example.org"}
        await here.recovered(query, panic.id)
        rows = await query("SELECT recipient, state FROM delivery")
    assert {row["recipient"] for row in rows if row["state"] == "sent"} == {one.recipient for one in told}


async def test_they_do_not_wait_for_contacts_whom_nobody_can_read(
    open_desk: Any, gate: Any, pair: Any, reachable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reachable(pair.agency_id, pair.users["dispatcher"], "dispatcher@example.org")

    async def keys_are_away(_: PanicIn) -> list[Delivery]:
        raise StoreUnavailable("away")

    async with open_desk(staff_after_s=0.0) as here:
        monkeypatch.setattr(here.known, "to_contacts", keys_are_away)
        await gate.shut()
        await here.desk.take(press(pair))
        told = {(await here.post.next()).recipient.partition(":")[0] for _ in range(2)}
    assert told == {"route", "user"}


async def test_before_that_they_are_left_to_escalation(
    open_desk: Any, gate: Any, pair: Any, query: Query, reachable: Any
) -> None:
    await reachable(pair.agency_id, pair.users["dispatcher"], "dispatcher@example.org")
    panic = press(pair)
    async with open_desk() as here:
        await gate.shut()
        await here.desk.take(panic)
        await here.post.next()
        await here.post.next()
        await here.recovered(query, panic.id)
    assert len(here.post.sent) == 2


@pytest.fixture
def reachable(database: Database) -> Any:
    """Gives a user an e-mail channel."""

    async def give(agency_id: uuid.UUID, user_id: uuid.UUID, address: str) -> None:
        now = utc_now()
        async with database.transaction() as connection:
            await USER_CHANNELS.insert(connection, {
                "id": uuid.uuid4(), "agency_id": agency_id, "user_id": user_id, "channel": "email",
                "address": address, "language": "kk", "enabled": True, "created_at": now,
                "updated_at": now,
            })  # fmt: skip

    return give


async def test_a_revoked_contact_is_told_no_more_and_an_erased_person_is_forgotten(
    open_desk: Any, pair: Any, query: Query, settings: Settings
) -> None:
    async with open_desk() as here:
        assert len(await here.known.to_contacts(press(pair))) == 1
        await query("UPDATE contact SET revoked_at = now(), updated_at = now()")
        await here.known.look()
        assert await here.known.to_contacts(press(pair)) == []
        await query("UPDATE contact SET revoked_at = NULL, updated_at = now()")
        await here.known.look()
        assert len(await here.known.to_contacts(press(pair))) == 1
        await query(
            "INSERT INTO person_key (person_id, agency_id, created_at, erased_at) VALUES ($1, $2, now(), now())",
            pair.victim_id, pair.agency_id,
        )  # fmt: skip
        await here.known.look()
        assert await here.known.to_contacts(press(pair)) == []


async def test_the_files_hold_no_address_that_can_be_read(open_desk: Any, pair: Any, settings: Settings) -> None:
    async with open_desk():
        pass
    folder: Path = settings.data_dir / "last-known"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"agencies.sealed", "people.sealed"} <= files.keys()
    for data in files.values():
        assert b"sister@example.org" not in data
        assert str(pair.victim_id).encode() not in data
        assert pair.victim_id.bytes not in data
