"""Seeding makes what it says, and its tokens are the ones the database knows by digest."""

from __future__ import annotations

import uuid

import msgspec
from argon2 import PasswordHasher

from core.clock import utc_now
from core.domain.case import decode_case
from core.ids import token_digest
from core.postgres.contacts import CONTACTS
from core.postgres.database import Database
from core.postgres.people import PEOPLE
from core.settings import Settings
from infra.seed import seed, seed_demo


async def test_two_hundred_pairs_are_seeded_with_tokens_that_hash_to_their_rows(
    database: Database, settings: Settings
) -> None:
    seen: list[int] = []
    world = await seed(database, settings, 200, "Seeded", utc_now(), seen.append)
    assert len(world["pairs"]) == 200
    assert seen == [200]
    async with database.connection() as connection:
        for pair in world["pairs"]:
            for party in ("victim", "aggressor"):
                row = await connection.fetchrow(
                    "SELECT d.id, d.person_id, d.role, d.status, d.routes FROM bearer_token t"
                    " JOIN device d ON d.id = t.device_id WHERE t.digest = $1",
                    token_digest(pair[party]["token"]),
                )
                assert str(row["id"]) == pair[party]["device_id"]
                assert str(row["person_id"]) == pair[party]["person_id"]
                assert (row["role"], row["status"], len(row["routes"])) == (party, "active", 1)
        assert await connection.fetchval("SELECT count(*) FROM person_key WHERE kek_id = 'test'") == 400
        gateway = await connection.fetchrow(
            "SELECT gateway_name FROM bearer_token WHERE digest = $1", token_digest(world["gateway"]["token"])
        )
        assert gateway["gateway_name"] == "seed"
        hashes = dict(await connection.fetch("SELECT username, password_hash FROM app_user"))
    user = world["users"]["dispatcher"]
    assert PasswordHasher().verify(hashes[user["username"]], user["password"])


async def test_every_seeded_case_decodes_to_one_order_between_its_two_people(
    database: Database, settings: Settings
) -> None:
    world = await seed(database, settings, 20, "Seeded", utc_now())
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT id, number, shard, config FROM protection_case")
    orders = set()
    for row in rows:
        case = decode_case(msgspec.json.encode(row["config"]))
        assert (case.id, case.number, case.version) == (row["id"], row["number"], 1)
        (order,) = case.orders
        people = {person.number: person for person in case.people}
        assert people[order.victim].role == "victim"
        assert people[order.aggressor].role == "aggressor"
        assert all(person.primary and len(person.devices) == 1 for person in case.people)
        assert (order.alert_m, order.active, order.p_enter) == (500.0, True, 0.5)
        orders.add(str(order.id))
    assert orders == {pair["order_id"] for pair in world["pairs"]}


async def test_seeding_again_adds_pairs_and_users_of_other_names(database: Database, settings: Settings) -> None:
    first = await seed(database, settings, 1, "Seeded", utc_now())
    second = await seed(database, settings, 1, "Seeded", utc_now())
    assert first["agency"] == second["agency"]
    assert first["users"]["admin"]["username"] != second["users"]["admin"]["username"]
    assert first["pairs"][0]["order_id"] != second["pairs"][0]["order_id"]


async def test_the_demo_has_a_pair_a_contact_two_units_and_a_user_a_role(
    database: Database, settings: Settings
) -> None:
    world = await seed_demo(database, settings, utc_now())
    assert set(world["users"]) == {"admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor"}
    assert len(world["pairs"]) == 1
    assert len(world["units"]) == 2
    async with database.connection() as connection:
        agency_id, her_id = uuid.UUID(world["agency"]["id"]), uuid.UUID(world["pairs"][0]["victim"]["person_id"])
        name = (await PEOPLE.get(connection, agency_id, her_id))["identity"]["name"]
        [contact] = await CONTACTS.page(connection, agency_id)
    assert name
    assert contact["channels"][0]["channel"] == "email"
    assert contact["verified_at"] is not None
