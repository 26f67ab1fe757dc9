"""A panic is sealed on every road it takes, and sealing asks PostgreSQL nothing that is not read anyway."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.last_known import LastKnown
from api.panic_desk import PanicDesk
from api.panic_drain import UNTOLD_WAIT_S
from api.panic_journal import PanicJournal
from api.panic_outage import PanicOutage
from core.actions.deliveries import claim
from core.actions.panics import take_panic
from core.actions.unit_of_work import Unit
from core.clock import to_ms, utc_now
from core.domain import panic as panic_domain
from core.domain.delivery import Delivery
from core.domain.panic import PanicIn
from core.domain.sealing import AGENCY, Owner
from core.domain.told import Posted
from core.errors import KeyUnavailable
from core.ids import token_digest
from core.key_rings import KeyRing, LocalRing, Wrapped
from core.metrics import PANICS_UNTOLD
from core.postgres import deliveries
from core.postgres.database import Database
from core.postgres.panics import find
from core.redis import keys as redis_keys
from core.settings import Settings
from core.vault import SPARE_ID, Vault

NOTE = "ол есікті бұзып жатыр"


def press(phone: dict[str, Any]) -> PanicIn:
    body = {"id": str(uuid.uuid4()), "note": NOTE, "lat": 43.2, "lon": 76.9}
    return PanicIn(
        id=uuid.UUID(body["id"]), client_id=body["id"], received_ms=to_ms(utc_now()), source="s",
        token_digest=token_digest(phone["token"]).hex(), device_id=uuid.UUID(phone["id"]), note=NOTE, body=body,
    )  # fmt: skip


@pytest.fixture
async def phone(office: Any) -> dict[str, Any]:
    """Of a person with an order, a contact who is told, and an agency with a route that has a secret."""
    her, him = await office.person(), await office.person()
    await office.order(her, him)
    now = "2026-01-01T00:00:00Z"
    channels = [{"channel": "email", "address": "sister@example.org"}]
    contact = {"person_id": her, "name": "Әпке", "channels": channels, "verified_at": now, "consented_at": now}
    assert (await office.post("/v1/contacts", contact)).status_code == 201
    route = {"name": "desk", "channel": "webhook", "address": "https://desk.example", "secret": "whsec_c2VjcmV0"}
    assert (await office.post("/v1/notification-routes", route, role="admin")).status_code == 201
    made: dict[str, Any] = await office.enrolled("phone", her)
    return made


async def test_sealing_a_panic_and_its_messages_asks_for_no_key(phone: Any, posts: Any, vault: Vault) -> None:
    panic = press(phone)
    asked: list[str] = []
    async with posts.device.transaction() as connection:
        connection.add_query_logger(lambda record: asked.append(record.query))
        unit = Unit(connection, utc_now())
        for owner in list(vault._kept):
            vault.forget(owner)
        await take_panic(unit, panic)
        await unit.flush()
    keyed = [query for query in asked if "person_key" in query or "agency_key" in query]
    assert len(keyed) == 1, keyed
    assert "LEFT JOIN bearer_token t ON t.device_id = d.id" in keyed[0], "read with who pressed, as ever"


async def test_what_she_wrote_is_kept_sealed_and_read_again(phone: Any, posts: Any, query: Any) -> None:
    panic = press(phone)
    async with posts.device.transaction() as connection:
        unit = Unit(connection, utc_now())
        await take_panic(unit, panic)
        await unit.flush()
        kept = await find(connection, panic.id)
    assert kept is not None
    assert (kept["note"], kept["body"]) == (NOTE, panic.body)
    [row] = await query("SELECT p::text AS text, note, body FROM panic p")
    assert (row["note"], row["body"]) == (None, None)
    assert NOTE not in row["text"]


async def test_the_journal_and_the_stream_hold_nothing_plain_and_another_process_brings_them_in(
    phone: Any, posts: Any, settings: Settings, redis_client: Any, query: Any, tmp_path: Path
) -> None:
    away = Database("postgresql:///none?host=/nowhere", size=1, vault=posts.device.vault)
    desk = PanicDesk(settings, away, redis_client, None, None, utc_now)
    panic = press(phone)
    answer = await desk.take(panic)
    assert answer.incident_id is None
    await desk.close()
    [file] = (settings.data_dir / "journal").glob("*.journal")
    entries = await redis_client.xrange(redis_keys.PANICS)
    assert len(entries) == 1
    for data in (file.read_bytes(), entries[0][1][b"p"]):
        assert NOTE.encode() not in data
        assert str(panic.id).encode() not in data

    # Another process, with the same key-encryption key and keys of its own for what travels.
    fresh = Database(posts.device.url, size=2, vault=Vault(posts.device.vault.ring))
    drain = PanicDesk(settings, fresh, redis_client, None, None, utc_now)
    await drain.open()
    await drain.drain(orphans=True)
    await drain.close()
    await fresh.close()
    assert [row["id"] for row in await query("SELECT id FROM panic")] == [panic.id]
    assert await redis_client.xlen(redis_keys.PANICS) == 0
    assert list((settings.data_dir / "journal").glob("*.journal")) == []


async def test_a_journal_that_an_earlier_version_wrote_plain_is_brought_in(
    phone: Any, posts: Any, settings: Settings, redis_client: Any, query: Any
) -> None:
    panic = press(phone)
    journal = PanicJournal.create(settings.data_dir / "journal")
    journal.append(panic_domain.encode(panic))
    journal.append(b'{"record":"nothing we know"}')
    journal.close()
    desk = PanicDesk(settings, posts.device, redis_client, None, None, utc_now)
    await desk.open()
    await desk.drain(orphans=True)
    await desk.close()
    assert [row["id"] for row in await query("SELECT id FROM panic")] == [panic.id]
    [poison] = await query("SELECT body FROM poison")
    assert "nothing we know" not in poison["body"]


async def test_while_its_key_is_not_here_a_record_waits_and_is_never_given_up(
    phone: Any, posts: Any, settings: Settings, redis_client: Any, query: Any
) -> None:
    away = Database("postgresql:///none?host=/nowhere", size=1, vault=Vault(LocalRing({"other": bytes(32)})))
    sender = PanicDesk(settings, away, redis_client, None, None, utc_now)
    await sender.take(press(phone))
    await sender.close()
    desk = PanicDesk(settings, posts.device, redis_client, None, None, utc_now)
    await desk.open()
    await desk.drain(orphans=True)
    assert await query("SELECT 1 FROM poison") == []
    assert await redis_client.xlen(redis_keys.PANICS) == 1
    await desk.close()
    both = Vault(LocalRing({"test": bytes(range(32)), "other": bytes(32)}))
    mended = PanicDesk(settings, Database(posts.device.url, size=2, vault=both), redis_client, None, None, utc_now)
    await mended.open()
    await mended.drain(orphans=True)
    await mended.close()
    assert len(await query("SELECT 1 FROM panic")) == 1


def untold() -> float:
    """The gauge of panics that wait for keys."""
    return PANICS_UNTOLD._value.get()  # type: ignore[no-any-return]


class Away:
    """A ring whose key service is away until it is `back`."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self.back = False

    async def current_id(self) -> str:
        return await self._there().current_id()

    async def wrap(self, keys: Sequence[tuple[Owner, bytes]]) -> list[Wrapped]:
        return await self._there().wrap(keys)

    async def unwrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[bytes]:
        return await self._there().unwrap(keys) if keys else []

    async def rewrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[Wrapped]:
        return await self._there().rewrap(keys)

    async def aclose(self) -> None:
        return

    def _there(self) -> KeyRing:
        if not self.back:
            raise KeyUnavailable("The key service does not answer; try again shortly.")
        return self.ring


async def test_while_the_key_service_is_away_a_panic_is_on_the_board_and_its_messages_follow_once(
    phone: Any, posts: Any, vault: Vault, settings: Settings, redis_client: Any, query: Any
) -> None:
    ring = Away(vault.ring)
    without = Vault(ring, spare=LocalRing({SPARE_ID: bytes(32)}))
    database = Database(posts.device.url, size=2, vault=without)
    moment = [0.0]
    desk = PanicDesk(settings, database, redis_client, None, None, utc_now, monotonic=lambda: moment[0])
    await desk.open()
    panic = press(phone)
    answer = await desk.take(panic)
    assert answer.incident_id is not None
    [incident] = await query("SELECT state, detail FROM incident")
    assert (incident["state"], incident["detail"]["untold"]) == ("open", True)
    assert [row["kind"] for row in await query("SELECT kind FROM feed")] == ["incident.opened"]
    await desk.drain(orphans=False)
    assert await query("SELECT 1 FROM delivery") == []
    assert await query("SELECT 1 FROM panic WHERE body_sealed IS NOT NULL") == []

    assert untold() == 1
    ring.back = True
    await desk.drain(orphans=False)
    assert await query("SELECT 1 FROM delivery") == [], "it is not asked for again at once"
    for _ in range(2):
        moment[0] += UNTOLD_WAIT_S[0]
        await desk.drain(orphans=False)
    assert untold() == 0
    assert sorted(row["audience"] for row in await query("SELECT audience FROM delivery")) == ["contact", "dispatcher"]
    [incident] = await query("SELECT detail FROM incident")
    assert "untold" not in incident["detail"]
    async with posts.device.transaction() as connection:
        kept = await find(connection, panic.id)
    assert kept is not None
    assert (kept["note"], kept["body"]) == (NOTE, panic.body)
    await desk.close()
    await database.close()
    assert list((settings.data_dir / "journal").glob("*.journal")) == [], "nothing waits any more"


@dataclass
class Post:
    """Providers that take everything."""

    sent: list[Delivery] = field(default_factory=list)
    arrived: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Remember the message."""
        assert created_at <= utc_now()
        assert attempt > 0
        self.sent.append(delivery)
        self.arrived.put_nowait(delivery)
        return Posted(sent=True)

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_while_the_key_service_is_away_the_agency_hears_by_the_routes_last_known(
    phone: Any, posts: Any, vault: Vault, settings: Settings, redis_client: Any, query: Any
) -> None:
    ring = Away(vault.ring)
    without = Vault(ring, spare=LocalRing({SPARE_ID: bytes(32)}), kept_s=0)
    database = Database(posts.device.url, size=2, vault=without)
    ring.back = True
    known, post, moment = LastKnown(settings, database, utc_now), Post(), [0.0]
    await known.look()
    ring.back = False
    outage = PanicOutage(known, post, utc_now)
    desk = PanicDesk(settings, database, redis_client, None, None, utc_now, outage=outage, monotonic=lambda: moment[0])
    await desk.open()
    panic = press(phone)
    panic = msgspec.structs.replace(panic, agency_id=(await query("SELECT id FROM agency"))[0]["id"])
    assert (await desk.take(panic)).incident_id is not None
    told = await asyncio.wait_for(post.arrived.get(), 20)
    assert (told.audience, told.address, told.secret) == ("dispatcher", "https://desk.example", "whsec_c2VjcmV0")
    ring.back = True
    async with asyncio.timeout(20):
        while await query("SELECT 1 FROM incident WHERE detail ? 'untold'"):
            moment[0] += 60
            await desk.drain(orphans=False)
    rows = {row["audience"]: row for row in await query("SELECT id, audience, state FROM delivery")}
    assert rows.keys() == {"contact", "dispatcher"}
    assert (rows["dispatcher"]["id"], rows["dispatcher"]["state"]) == (told.id, "sent")
    await desk.close()
    await database.close()


async def test_one_contact_or_route_that_does_not_open_keeps_nobody_else_from_being_told(
    phone: Any, office: Any, posts: Any, database: Database, query: Any
) -> None:
    [contact] = await query("SELECT person_id FROM contact")
    brother = {
        "person_id": str(contact["person_id"]), "name": "Бауырым",
        "channels": [{"channel": "email", "address": "brother@example.org"}],
        "verified_at": "2026-01-01T00:00:00Z", "consented_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    spoilt = (await office.post("/v1/contacts", brother)).json()["id"]
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE contact SET channels_sealed = set_byte(channels_sealed, 40, 255 - get_byte(channels_sealed, 40))"
            " WHERE id = $1",
            uuid.UUID(spoilt),
        )
        await connection.execute(
            "UPDATE notification_route SET secret_sealed = set_byte(secret_sealed, 0, 9)",
        )
    async with posts.device.transaction() as connection:
        unit = Unit(connection, utc_now())
        await take_panic(unit, press(phone))
        await unit.flush()
    assert sorted(row["audience"] for row in await query("SELECT audience FROM delivery")) == ["contact", "dispatcher"]


async def test_a_person_whose_key_is_lost_is_helped_all_the_same(
    phone: Any, posts: Any, database: Database, query: Any
) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE person_key SET kek_id = 'gone'")
    fresh = Database(posts.device.url, size=2, vault=Vault(posts.device.vault.ring))
    async with fresh.transaction() as connection:
        unit = Unit(connection, utc_now())
        await take_panic(unit, press(phone))
        await unit.flush()
    await fresh.close()
    assert [row["audience"] for row in await query("SELECT audience FROM delivery")] == ["dispatcher"]
    [row] = await query("SELECT get_byte(note_sealed, 0) AS kind FROM panic")
    assert row["kind"] == AGENCY, "her words are kept with her agency's key"


async def test_one_message_that_does_not_open_holds_up_no_other(
    phone: Any, posts: Any, database: Database, query: Any
) -> None:
    async with posts.device.transaction() as connection:
        unit = Unit(connection, utc_now())
        await take_panic(unit, press(phone))
        await unit.flush()
    async with database.connection() as connection:
        await connection.execute("UPDATE delivery SET channel = 'probe'")
        await connection.execute("UPDATE person_key SET wrapped = set_byte(wrapped, 20, 255 - get_byte(wrapped, 20))")
    worker = Database(posts.worker.url, size=2, vault=Vault(posts.worker.vault.ring))
    async with worker.transaction() as connection:
        now = utc_now()
        claimed = await deliveries.claim_due(
            connection, channel="probe", now=now, leased_until=now, holder="test", limit=10
        )
    await worker.close()
    assert {one.audience: (one.spoilt, one.address) for one in claimed} == {
        "contact": (True, ""), "dispatcher": (False, "https://desk.example"),
    }  # fmt: skip


async def test_what_is_claimed_while_the_keys_are_away_is_given_back_untried(
    phone: Any, posts: Any, database: Database, query: Any
) -> None:
    async with posts.device.transaction() as connection:
        unit = Unit(connection, utc_now())
        await take_panic(unit, press(phone))
        await unit.flush()
    async with database.connection() as connection:
        await connection.execute("UPDATE delivery SET channel = 'probe'")
    ring = Away(posts.worker.vault.ring)
    worker = Database(posts.worker.url, size=2, vault=Vault(ring))
    wanted: dict[str, Any] = {"channel": "probe", "lease_s": 60.0, "holder": "test", "limit": 10}
    with pytest.raises(KeyUnavailable):
        await claim(worker, now=utc_now(), **wanted)
    rows = await query("SELECT state, attempts, leased_by FROM delivery")
    assert {tuple(row.values()) for row in rows} == {("queued", 0, None)}
    ring.back = True
    assert [one.attempt for one in await claim(worker, now=utc_now(), **wanted)] == [1] * len(rows)
    await worker.close()
