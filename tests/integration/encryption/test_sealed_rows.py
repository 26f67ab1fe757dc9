"""What names or places a person is sealed in its row, is told as ever to who may know it, and opens nowhere else."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from core.clock import utc_now
from core.domain.sealing import Spot, person
from core.errors import StoreUnavailable
from core.key_rings import LocalRing
from core.postgres import keys
from core.postgres.database import Database
from core.postgres.people import PEOPLE
from core.vault import Vault

IDENTITY = {"name": "Айгүл Сейітқызы", "phone": "+7 701 555 01 02", "iin": "900101300123", "address": "Абай 1"}


async def test_a_person_is_told_as_entered_and_stands_sealed(office: Any, query: Any) -> None:
    safe_contact = {"channel": "sms", "hours": "09:00-18:00", "address": "+77015550199"}
    person_id = await office.person(identity=IDENTITY, safe_contact=safe_contact, safe_word="қызыл алма")
    told = (await office.get(f"/v1/people/{person_id}")).json()
    assert (told["identity"], told["safe_contact"], told["safe_word"]) == (IDENTITY, safe_contact, "қызыл алма")
    assert told["erased"] is False
    [row] = await query("SELECT * FROM person WHERE id = $1", uuid.UUID(person_id))
    assert (row["identity"], row["safe_contact"], row["safe_word"]) == (None, None, None)
    everything = b"".join(value for value in row.values() if isinstance(value, bytes))
    assert b"5550" not in everything
    [key] = await query("SELECT * FROM person_key WHERE person_id = $1", uuid.UUID(person_id))
    assert (key["kek_id"], key["erased_at"]) == ("test", None)


async def test_a_change_of_one_field_leaves_the_others(office: Any) -> None:
    person_id = await office.person(identity=IDENTITY, safe_word="алма")
    changed = (await office.patch(f"/v1/people/{person_id}", {"safe_word": None, "needs": ["deaf"]})).json()
    assert (changed["identity"], changed["safe_word"], changed["needs"]) == (IDENTITY, None, ["deaf"])


async def test_an_empty_identity_and_no_channels_are_told_as_such(office: Any) -> None:
    person_id = (await office.post("/v1/people", {})).json()["id"]
    assert (await office.get(f"/v1/people/{person_id}")).json()["identity"] == {}
    contact = (await office.post("/v1/contacts", {"person_id": person_id, "name": "Дос"})).json()
    assert (contact["name"], contact["relation"], contact["channels"]) == ("Дос", None, [])


async def test_contacts_zones_tokens_and_secrets_stand_sealed(office: Any, query: Any, database: Database) -> None:
    her, him = await office.person(), await office.person()
    order = await office.order(her, him)
    channels = [{"channel": "email", "address": "sister@example.org"}]
    contact = (
        await office.post(
            "/v1/contacts", {"person_id": her, "name": "Әпке", "relation": "сестра", "channels": channels}
        )
    ).json()
    assert (await office.get(f"/v1/contacts/{contact['id']}")).json()["channels"] == channels
    polygon = {"type": "Polygon", "coordinates": [[[76.9, 43.2], [76.91, 43.2], [76.91, 43.21], [76.9, 43.2]]]}
    zone = await office.post(
        "/v1/zones",
        {
            "type": "Feature",
            "geometry": polygon,
            "properties": {"order_id": order["id"], "kind": "exclusion", "name": "Сәтпаев 22, пәтер 5"},
        },
    )
    assert zone.status_code == 201, zone.text
    assert zone.json()["properties"]["name"] == "Сәтпаев 22, пәтер 5"
    device = (await office.post("/v1/devices", {"kind": "phone", "person_id": her, "push_token": "push-1"})).json()
    route = {"name": "desk", "channel": "webhook", "address": "https://desk.example", "secret": "whsec_c2VjcmV0"}
    assert (await office.post("/v1/notification-routes", route, role="admin")).status_code == 201
    text = ""
    for table in ("contact", "zone", "device", "notification_route"):
        text += str(await query(f"SELECT {table}::text FROM {table}"))
    for secret in ("Әпке", "сестра", "sister@", "Сәтпаев", "push-1", "whsec_"):
        assert secret not in text, secret
        assert secret.encode().hex() not in text, secret
    async with database.connection() as connection:
        [owner] = [keys.owner_of(row["name_sealed"]) for row in await connection.fetch("SELECT name_sealed FROM zone")]
    assert owner == person(uuid.UUID(her)), "a zone's name may be her address"
    assert device["id"]


async def test_a_phone_that_is_given_to_another_has_its_token_sealed_with_her_key(office: Any, query: Any) -> None:
    one, other = await office.person(), await office.person()
    device = (await office.post("/v1/devices", {"kind": "phone", "person_id": one, "push_token": "push-2"})).json()
    answer = await office.post(f"/v1/devices/{device['id']}/fit", {"person_id": other})
    assert answer.status_code == 200, answer.text
    [row] = await query("SELECT push_token_sealed FROM device")
    assert keys.owner_of(row["push_token_sealed"]) == person(uuid.UUID(other))


async def test_a_value_put_into_another_row_does_not_open(office: Any, query: Any, database: Database) -> None:
    one, other = await office.person(identity=IDENTITY), await office.person(identity={"name": "Басқа"})
    await query(
        "UPDATE person SET identity_sealed = (SELECT identity_sealed FROM person WHERE id = $1) WHERE id = $2"
        " RETURNING id",
        uuid.UUID(one),
        uuid.UUID(other),
    )
    async with database.connection() as connection:
        with pytest.raises(StoreUnavailable):
            await PEOPLE.get(connection, office.agency_id, uuid.UUID(other))
        await PEOPLE.get(connection, office.agency_id, uuid.UUID(one))


async def test_a_process_without_the_key_encryption_key_opens_nothing(office: Any, database: Database) -> None:
    person_id = await office.person(identity=IDENTITY)
    stranger = Database(database.url, size=1, vault=Vault(LocalRing({"other": bytes(32)})))
    try:
        async with stranger.connection() as connection:
            with pytest.raises(StoreUnavailable):
                await PEOPLE.get(connection, office.agency_id, uuid.UUID(person_id))
    finally:
        await stranger.close()


async def test_two_transactions_that_first_need_an_agency_s_key_get_the_same(office: Any, database: Database) -> None:
    async with database.transaction() as one, database.connection() as other:
        mine = await keys.seal_for(one, None, office.agency_id, {SPOT: "a"}, utc_now())
        theirs = other.transaction()
        await theirs.start()
        await one.execute("COMMIT")
        sealed = await keys.seal_for(other, None, office.agency_id, {SPOT: "b"}, utc_now())
        await theirs.commit()
        assert await keys.open_all(other, [(SPOT, mine[SPOT]), (SPOT, sealed[SPOT])]) == ["a", "b"]
        await one.execute("BEGIN")


SPOT = Spot("test", "test", uuid.uuid4())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "  айгүл   СЕЙІТҚЫЗЫ "),
        ("phone", "8 (701) 555-01-02"),
        ("phone", "+77015550102"),
        ("iin", "900101 300123"),
    ],
)
async def test_a_person_is_found_by_an_exact_value_however_it_is_written(office: Any, field: str, value: str) -> None:
    person_id = await office.person(identity=IDENTITY)
    await office.person(identity={"name": "Айгүл Сейітқызы-Омарова", "phone": "+77015550103"})
    answer = await office.post("/v1/people/search", {"field": field, "value": value}, role="dispatcher")
    assert answer.status_code == 200, answer.text
    assert [found["id"] for found in answer.json()["items"]] == [person_id]


async def test_a_search_is_audited_without_what_was_searched_for(office: Any, query: Any) -> None:
    person_id = await office.person(identity=IDENTITY)
    await office.post("/v1/people/search", {"field": "phone", "value": IDENTITY["phone"]})
    [line] = await query("SELECT * FROM audit WHERE action = 'person.searched'")
    assert line["detail"] == {"count": 1, "field": "phone"}
    assert line["person_ids"] == [uuid.UUID(person_id)]


async def test_a_search_finds_no_earlier_value_no_other_agency_s_people_and_no_part_of_one(
    office: Any, elsewhere: Any
) -> None:
    person_id = await office.person(identity=IDENTITY)

    async def found(asker: Any, field: str, value: str) -> list[str]:
        answer = await asker.post("/v1/people/search", {"field": field, "value": value})
        return [item["id"] for item in answer.json()["items"]]

    assert await found(elsewhere, "phone", IDENTITY["phone"]) == []
    assert await found(office, "name", "Айгүл") == []
    assert await found(office, "phone", "112") == []
    await office.patch(f"/v1/people/{person_id}", {"identity": {"name": "Жаңа Есім"}})
    assert await found(office, "phone", IDENTITY["phone"]) == []
    assert await found(office, "name", "жаңа есім") == [person_id]


async def test_a_page_of_people_is_opened_with_one_look_at_the_keys(office: Any, database: Database) -> None:
    for number in range(20):
        await office.person(identity={"name": f"Есім {number}"}, safe_word=f"сөз {number}")
    fresh = Database(database.url, size=1, vault=Vault(LocalRing({"test": bytes(range(32))})))
    asked: list[str] = []
    try:
        async with fresh.connection() as connection:
            connection.add_query_logger(lambda record: asked.append(record.query))
            people = await PEOPLE.page(connection, office.agency_id, limit=50)
    finally:
        await fresh.close()
    assert {person["identity"]["name"] for person in people} == {f"Есім {number}" for number in range(20)}
    assert len([query for query in asked if "person_key" in query]) == 1
    assert len([query for query in asked if "FROM person " in query]) == 1
