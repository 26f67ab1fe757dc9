"""A panic is sealed on every road it takes, and sealing asks PostgreSQL nothing that is not read anyway."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from api.panic_desk import PanicDesk
from api.panic_journal import PanicJournal
from core.actions.panics import take_panic
from core.actions.unit_of_work import Unit
from core.clock import to_ms, utc_now
from core.domain import panic as panic_domain
from core.domain.panic import PanicIn
from core.ids import token_digest
from core.key_rings import LocalRing
from core.postgres.database import Database
from core.postgres.panics import find
from core.redis import keys as redis_keys
from core.settings import Settings
from core.vault import Vault

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
    assert "FROM device d LEFT JOIN bearer_token" in keyed[0], "read with who pressed, as ever"


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
