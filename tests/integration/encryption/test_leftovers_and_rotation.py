"""What an older version left plain is sealed in batches; key-encryption keys are replaced while everything goes on."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.actions import keys as actions
from core.clock import utc_now
from core.errors import Misconfigured
from core.ids import new_id
from core.key_rings import LocalRing, load_ring, make_key_file, new_key_line
from core.kms import TransitRing
from core.postgres import keys, leftovers
from core.postgres.contacts import CONTACTS
from core.postgres.database import Database
from core.postgres.incidents import timeline
from core.postgres.panics import find
from core.postgres.people import PEOPLE, search
from core.settings import Settings
from core.vault import Vault
from tests.key_service import TOKEN, KeyService

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PEOPLE_COUNT = 25


class Older:
    """Rows as a version before sealing wrote them."""

    def __init__(self) -> None:
        self.agency_id = new_id()
        self.people = [new_id() for _ in range(PEOPLE_COUNT)]
        self.contact_id, self.incident_id, self.panic_id, self.line_id = new_id(), new_id(), new_id(), new_id()

    async def write(self, connection: Any) -> None:
        her = self.people[0]
        await connection.execute(
            "INSERT INTO agency (id, name, created_at) VALUES ($1, 'Old', $2)", self.agency_id, NOW
        )
        await connection.executemany(
            "INSERT INTO person (id, agency_id, identity, safe_word, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $5)",
            [
                (person_id, self.agency_id, {"name": f"Ескі {n}"} if n else {}, f"сөз {n}" if n % 2 else None, NOW)
                for n, person_id in enumerate(self.people)
            ],
        )
        await connection.execute(
            "INSERT INTO contact (id, agency_id, person_id, name, channels, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'Әпке', $4, $5, $5)",
            self.contact_id, self.agency_id, her, [{"channel": "email", "address": "a@example.org"}], NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO device (id, agency_id, kind, role, push_token, created_at, updated_at)"
            " VALUES ($1, $2, 'phone', 'victim', 'push-old', $3, $3)",
            new_id(), self.agency_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO notification_route (id, agency_id, name, channel, address, secret, created_at)"
            " VALUES ($1, $2, 'desk', 'webhook', 'https://desk.example', 'whsec_b2xk', $3)",
            new_id(), self.agency_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, victim_id, subject, occurred_at,"
            " opened_at, updated_at) VALUES ($1, 'panic', 'panic', 'critical', $1, $2, $3, 'p', $4, $4, $4)",
            self.incident_id, self.agency_id, her, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO panic (id, agency_id, person_id, incident_id, note, body, received_at, verified, created_at)"
            " VALUES ($1, $2, $3, $4, 'ол есікте', $5, $6, true, $6)",
            self.panic_id, self.agency_id, her, self.incident_id, {"note": "ол есікте", "mode": "silent"}, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO timeline (id, incident_id, at, kind, data) VALUES ($1, $2, $3, 'note', $4)",
            self.line_id, self.incident_id, NOW, {"note": "көршісі естіді", "version": 2},
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO delivery (id, agency_id, incident_id, cause, audience, recipient, channel, address, template,"
            " due_at, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'c', 'contact', 'contact:1', 'email', 'a@example.org',"
            " 'panic_contact', $4, $4, $4)",
            new_id(), self.agency_id, self.incident_id, NOW,
        )  # fmt: skip


@pytest.fixture
async def older(database: Database) -> Older:
    made = Older()
    async with database.transaction() as connection:
        await made.write(connection)
    return made


async def test_what_was_plain_is_sealed_and_told_the_same(
    older: Older, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 7)
    async with database.connection() as connection:
        assert len(await leftovers.count(connection)) == 7
        before = await PEOPLE.page(connection, older.agency_id)
    done = await actions.seal_leftovers(database, utc_now)
    assert done > PEOPLE_COUNT
    assert await actions.seal_leftovers(database, utc_now) == 0, "a second time there is nothing to do"
    async with database.connection() as connection:
        assert await leftovers.count(connection) == {}
        assert await PEOPLE.page(connection, older.agency_id) == before
        contact = await CONTACTS.get(connection, older.agency_id, older.contact_id)
        assert (contact["name"], contact["channels"][0]["address"]) == ("Әпке", "a@example.org")
        panic = await find(connection, older.panic_id)
        assert panic is not None
        assert (panic["note"], panic["body"]) == ("ол есікте", {"note": "ол есікте", "mode": "silent"})
        [line] = await timeline(connection, older.incident_id, 10)
        assert line["data"] == {"note": "көршісі естіді", "version": 2}
        assert [found["id"] for found in await search(connection, older.agency_id, "name", "ЕСКІ 3", 10)] == [
            older.people[3]
        ]
        keyed = await connection.fetchval("SELECT count(*) FROM person_key")
    assert keyed == PEOPLE_COUNT


async def test_sealing_that_was_broken_off_goes_on_where_it_was(
    older: Older, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 5)
    seen: list[int] = []

    def break_off(done: int) -> None:
        seen.append(done)
        if done > PEOPLE_COUNT + 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await actions.seal_leftovers(database, utc_now, break_off)
    async with database.connection() as connection:
        half = await leftovers.count(connection)
        assert 0 < half["person"] < PEOPLE_COUNT
    await actions.seal_leftovers(database, utc_now)
    async with database.connection() as connection:
        assert await leftovers.count(connection) == {}
        assert len(await PEOPLE.page(connection, older.agency_id)) == PEOPLE_COUNT


async def open_with(database: Database, vault: Vault, agency_id: uuid.UUID) -> list[Any]:
    pool = Database(database.url, size=1, vault=vault)
    try:
        async with pool.connection() as connection:
            return [person["identity"] for person in await PEOPLE.page(connection, agency_id)]
    finally:
        await pool.close()


async def test_rotation_wraps_every_key_anew_and_what_they_sealed_stays(
    older: Older, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 6)
    await actions.seal_leftovers(database, utc_now)
    old, new = bytes(range(32)), os.urandom(32)
    both = Database(database.url, size=2, vault=Vault(LocalRing({"new": new, "test": old})))
    try:
        told = await open_with(database, Vault(LocalRing({"test": old})), older.agency_id)
        assert (await actions.status(both)).wrapped == {"test": PEOPLE_COUNT + 1}
        assert await actions.rotate(both) == PEOPLE_COUNT + 1
        assert (await actions.status(both)).wrapped == {"new": PEOPLE_COUNT + 1}
        assert await actions.rotate(both) == 0
    finally:
        await both.close()
    assert await open_with(database, Vault(LocalRing({"new": new})), older.agency_id) == told


async def test_rotation_without_the_old_key_says_which_is_missing(older: Older, database: Database) -> None:
    await actions.seal_leftovers(database, utc_now)
    without = Database(database.url, size=2, vault=Vault(LocalRing({"new": os.urandom(32)})))
    try:
        with pytest.raises(Misconfigured, match="test"):
            await actions.rotate(without)
    finally:
        await without.close()


async def test_a_process_that_runs_goes_on_while_the_key_file_and_every_key_are_replaced(
    older: Older, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    running = Database(database_url, size=1, vault=Vault(load_ring(settings), kept_s=0))
    operator = None
    try:
        await actions.seal_leftovers(running, utc_now)
        path = tmp_path / "vault.keys"
        make_key_file(path, new_key_line("k2") + "\n" + path.read_text(), replace=True)
        operator = Database(database_url, size=1, vault=Vault(load_ring(settings)))
        await actions.rotate(operator)
        async with running.transaction() as connection:
            people = await PEOPLE.page(connection, older.agency_id)
            assert people[1]["identity"] == {"name": "Ескі 1"}
            her = {"id": new_id(), "agency_id": older.agency_id, "created_at": NOW, "updated_at": NOW}
            await PEOPLE.insert(connection, {**her, "identity": {"name": "Жаңа"}})
            assert set(await keys.count_by_kek(connection)) == {"k2"}
    finally:
        await running.close()
        if operator is not None:
            await operator.close()


async def test_everything_goes_through_a_key_service_too(older: Older, database_url: str) -> None:
    service = KeyService()
    ring = TransitRing(service.url, service.name, TOKEN)
    pool = Database(database_url, size=2, vault=Vault(ring))
    try:
        await actions.seal_leftovers(pool, utc_now)
        service.rotate()
        assert (await actions.status(pool)).current_id == "qorgan:v2"
        assert await actions.rotate(pool) == PEOPLE_COUNT + 1
        service.retire(1)
        fresh = TransitRing(service.url, service.name, TOKEN)
        told = await open_with(pool, Vault(fresh), older.agency_id)
        await fresh.aclose()
        assert told[1] == {"name": "Ескі 1"}
    finally:
        await pool.close()
        await ring.aclose()
        service.close()
