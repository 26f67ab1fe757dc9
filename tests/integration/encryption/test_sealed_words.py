"""What is written of orders, suspensions, broken glass and looks is sealed, and keeps nothing waiting for a key."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from core.actions.keys import seal_leftovers
from core.clock import rfc3339, utc_now
from core.postgres import access, leftovers, sight
from core.postgres.database import Database
from core.postgres.orders import ORDERS, versions
from core.postgres.suspensions import SUSPENSIONS
from core.vault import Vault
from tests.integration.encryption.test_panic_sealing import Away

GROUND = "Жасөспірімді мектептен 14:00-де алып кетеді"
EXCEPTION = {"what": "Абай көшесі 17, дүйсенбі"}
WHY = "Сот отырысына бірге барады"


@pytest.fixture
async def order(office: Any) -> dict[str, Any]:
    made: dict[str, Any] = await office.order(
        await office.person(), await office.person(), legal_ground=GROUND, exceptions=[EXCEPTION]
    )
    return made


async def everything(query: Any) -> str:
    tables = ("protection_order", "order_version", "suspension", "break_glass", "person_look", "feed", "audit")
    return "".join([str(await query(f"SELECT t::text FROM {name} t")) for name in tables])


async def test_an_order_s_words_stand_nowhere_plain_and_read_as_ever(office: Any, order: Any, query: Any) -> None:
    assert (order["legal_ground"], order["exceptions"]) == (GROUND, [EXCEPTION])
    shown = (await office.get(f"/v1/orders/{order['id']}")).json()
    assert (shown["legal_ground"], shown["exceptions"]) == (GROUND, [EXCEPTION])
    changed = await office.patch(f"/v1/orders/{order['id']}", {"version": shown["version"], "alert_m": 600})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["legal_ground"], changed.json()["exceptions"]) == (GROUND, [EXCEPTION])
    async with office.database.connection() as connection:
        kept = await versions(connection, office.agency_id, uuid.UUID(order["id"]))
    assert [(one["body"]["legal_ground"], one["body"]["exceptions"]) for one in kept] == [(GROUND, [EXCEPTION])] * 2
    assert not any(name.endswith("_sealed") for one in kept for name in one["body"])
    rows = await everything(query)
    assert GROUND not in rows
    assert EXCEPTION["what"] not in rows


async def test_why_an_order_is_suspended_is_sealed(office: Any, order: Any, query: Any, hands: Any) -> None:
    begins = hands() + timedelta(hours=1)
    body = {
        "order_id": order["id"], "reason": WHY, "starts_at": rfc3339(begins),
        "ends_at": rfc3339(begins + timedelta(hours=2)),
    }  # fmt: skip
    made = await office.post("/v1/suspensions", body, role="supervisor")
    assert made.status_code == 201, made.text
    assert made.json()["reason"] == WHY
    listed = (await office.get("/v1/suspensions")).json()["items"]
    assert [one["reason"] for one in listed] == [WHY]
    assert WHY not in await everything(query)


async def test_without_keys_an_order_and_a_suspension_are_read_and_go_on(
    office: Any, order: Any, posts: Any, vault: Vault
) -> None:
    without = Database(posts.device.url, size=1, vault=Vault(Away(vault.ring)))
    async with without.transaction() as connection:
        row = await ORDERS.get(connection, office.agency_id, uuid.UUID(order["id"]))
        assert (row["legal_ground"], row["exceptions"], row["status"]) == (None, [], order["status"])
        await ORDERS.update(connection, office.agency_id, row["id"], {"updated_at": utc_now()})
    await without.close()
    shown = (await office.get(f"/v1/orders/{order['id']}")).json()
    assert (shown["legal_ground"], shown["exceptions"]) == (GROUND, [EXCEPTION]), "nothing of it was lost"


async def test_why_somebody_looked_is_sealed_with_the_key_of_who_was_looked_at(office: Any, query: Any) -> None:
    her = await office.person()
    body = {"reason_code": "medical", "reason": WHY}
    looked = await office.post(f"/v1/people/{her}/look", body, role="dispatcher")
    assert looked.status_code == 201, looked.text
    assert looked.json()["reason"] == WHY
    [shown] = (await office.get("/v1/looks")).json()["items"]
    assert shown["reason"] == WHY
    path = f"/v1/looks/{shown['id']}/review"
    reviewed = await office.post(path, {"verdict": "justified", "note": GROUND}, role="supervisor")
    assert reviewed.status_code == 200, reviewed.text
    assert reviewed.json()["review_note"] == GROUND
    rows = await everything(query)
    assert WHY not in rows
    assert GROUND not in rows


async def test_glass_is_broken_while_the_keys_are_away_and_its_code_kept(
    office: Any, database: Database, vault: Vault
) -> None:
    case_id = uuid.uuid4()
    without = Database(database.url, size=1, vault=Vault(Away(vault.ring)))
    values = {
        "id": uuid.uuid4(), "agency_id": office.agency_id, "user_id": office.users["dispatcher"]["id"],
        "asked_kind": "case", "asked_id": case_id, "case_ids": [case_id], "reason_code": "emergency", "reason": WHY,
    }  # fmt: skip
    async with without.transaction() as connection:
        await access.break_glass(connection, values, 3600)
    await without.close()
    async with database.connection() as connection:
        [glass] = await access.broken_glass(connection, None, None, 10)
        assert (glass["reason_code"], glass["reason"]) == ("emergency", "")
        assert await sight.looks(connection, None, None, 10) == []


async def test_what_older_versions_left_plain_is_sealed_once(
    office: Any, order: Any, query: Any, database: Database
) -> None:
    order_id = uuid.UUID(order["id"])
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_order SET legal_ground = $2, legal_ground_sealed = NULL, exceptions = $3,"
            " exceptions_sealed = NULL WHERE id = $1",
            order_id, GROUND, [EXCEPTION],
        )  # fmt: skip
        await connection.execute("UPDATE order_version SET body = to_jsonb(o) FROM protection_order o")
        await connection.execute(
            "INSERT INTO suspension (id, agency_id, order_id, reason, starts_at, ends_at, asked_by, created_at)"
            " VALUES ($1, $2, $3, $4, $5::timestamptz, $5::timestamptz + interval '1 h', $6, $5)",
            uuid.uuid4(), office.agency_id, order_id, WHY, utc_now(), office.users["supervisor"]["id"],
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO person_look (id, agency_id, user_id, person_id, reason_code, reason, from_at, until_at)"
            " VALUES ($1, $2, $3, $4, 'medical', $5, $6::timestamptz, $6::timestamptz + interval '1 h')",
            uuid.uuid4(), office.agency_id, office.users["dispatcher"]["id"], uuid.UUID(order["victim_id"]), WHY,
            utc_now(),
        )  # fmt: skip
    async with database.connection() as connection:
        assert await leftovers.count(connection) == {"protection_order": 1, "suspension": 1, "person_look": 1}
    assert await seal_leftovers(database, utc_now) == 4
    assert await seal_leftovers(database, utc_now) == 0
    rows = await everything(query)
    assert WHY not in rows
    assert GROUND not in rows
    async with database.connection() as connection:
        [kept] = await versions(connection, office.agency_id, order_id)
        [suspension] = await SUSPENSIONS.page(connection, office.agency_id)
        [look] = await sight.looks(connection, None, None, 10)
    assert (kept["body"]["legal_ground"], kept["body"]["exceptions"]) == (GROUND, [EXCEPTION])
    assert (suspension["reason"], look["reason"]) == (WHY, WHY)
