"""Erasing a person: asked, confirmed over her safe channel, fourteen days, then for good, restored backups included."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.actions import erasure
from core.actions.unit_of_work import act
from core.errors import StoreUnavailable
from core.ids import new_id
from core.key_rings import LocalRing
from core.postgres import keys
from core.postgres.database import Database
from core.postgres.people import PEOPLE
from core.redis.client import connect
from core.vault import Vault
from tests.integration.encryption.erasing import IDENTITY, SAFE, Case, case, ledger

__all__ = ["case", "ledger"]


async def give_history(case: Case, database: Database) -> uuid.UUID:
    """An incident of hers with a place, notes, a panic and pings; returns its id."""
    now = case.office.context.clock()
    incident_id = new_id()
    async with database.transaction() as connection:
        number = await connection.fetchval("SELECT number FROM device WHERE id = $1", uuid.UUID(case.phone["id"]))
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, case_id, order_id, victim_id,"
            " subject, occurred_at, opened_at, updated_at, place, hazards) SELECT $1, 'panic', 'panic', 'critical', $1,"
            " $2, case_id, id, victim_id, 'p', $3, $3, $3, $4, $5 FROM protection_order WHERE victim_id = $6",
            incident_id, case.office.agency_id, now, {"lat": 43.2, "lon": 76.9}, {"children": True}, case.her_id,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO panic (id, agency_id, person_id, incident_id, lat, lon, received_at, verified, created_at)"
            " VALUES ($1, $2, $3, $4, 43.2, 76.9, $5, true, $5)",
            new_id(), case.office.agency_id, case.her_id, incident_id, now,
        )  # fmt: skip
        day = f"{now:%Y-%m-%d}"
        await connection.execute("SELECT make_ping_day('ping_victim', $1::text::date)", day)
        await connection.executemany(
            "INSERT INTO ping (role, live_at, device_number, seq, at, received_at, flags, lat, lon, accuracy_m,"
            " speed_mps, heading_deg, altitude_m, battery_pct)"
            " VALUES (1, $1, $2, $3, $1, $1, 0, 43.2, 76.9, 8, 0, 0, 0, 50)",
            [(now, device, seq) for device in (number, number + 1000) for seq in range(3)],
        )
    return incident_id


async def test_an_erased_person_is_nobody_and_her_figures_stay(
    case: Case, database: Database, hands: Any, query: Callable[..., Any]
) -> None:
    incident_id = await give_history(case, database)
    note = {"version": 1, "note": "көршісі естіді"}
    answer = await case.office.post(f"/v1/incidents/{incident_id}/note", note, role="dispatcher")
    assert answer.status_code == 200, answer.text
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET state = 'resolved', resolved_at = $1", hands())
    audited = await query("SELECT * FROM audit ORDER BY id")
    await case.asked_and_confirmed()
    hands.forward(days=13, hours=23)
    assert await case.carry_out() == 0, "it waits fourteen days"
    hands.forward(hours=1)
    assert await case.carry_out() == 1
    assert await case.carry_out() == 0

    told = await case.told()
    assert (told["identity"], told["safe_contact"], told["safe_word"], told["needs"]) == ({}, None, None, [])
    assert told["erased"] is True
    assert await case.state() == "erased"
    [key] = await query("SELECT * FROM person_key WHERE person_id = $1", case.her_id)
    assert (key["wrapped"], key["kek_id"]) == (None, None)
    assert await query("SELECT 1 FROM contact") == []
    assert await query("SELECT 1 FROM person_index WHERE person_id = $1", case.her_id) == []
    [device] = await query("SELECT * FROM device WHERE id = $1", uuid.UUID(case.phone["id"]))
    assert (device["person_id"], device["push_token_sealed"], device["status"]) == (None, None, "returned")
    assert await query("SELECT 1 FROM bearer_token WHERE device_id IS NOT NULL AND revoked_at IS NULL") == []
    pings = await query("SELECT DISTINCT device_number FROM ping")
    assert [ping["device_number"] for ping in pings] == [device["number"] + 1000], "where others were stays"

    [incident] = await query("SELECT * FROM incident WHERE id = $1", incident_id)
    assert (incident["type"], incident["severity"], incident["state"]) == ("panic", "critical", "resolved")
    assert (incident["place"], incident["hazards"]) == (None, {})
    shown = (await case.office.get(f"/v1/incidents/{incident_id}", role="dispatcher")).json()
    assert [(line["kind"], line["data"].get("note")) for line in shown["timeline"]] == [("note", None)]
    [panic] = await query("SELECT lat, lon, received_at FROM panic")
    assert (panic["lat"], panic["lon"]) == (None, None)
    assert panic["received_at"] is not None
    [order] = await query(
        "SELECT status, reference, config FROM protection_order JOIN protection_case c ON c.id = case_id"
    )
    assert (order["status"], order["reference"]) == ("revoked", None)
    assert order["config"]["orders"] == [], "the engine no longer follows her"
    after = await query("SELECT * FROM audit ORDER BY id")
    assert after[: len(audited)] == audited, "what was written down stays as it was"
    assert after[-1]["action"] in {"person.erased", "person.read", "incident.read"}
    assert [one.person_id for one in case.ledger.read()] == [case.her_id]


async def test_what_was_copied_before_opens_never_again(case: Case, database: Database, hands: Any) -> None:
    async with database.connection() as connection:
        sealed = await connection.fetchval("SELECT identity_sealed FROM person WHERE id = $1", case.her_id)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    async with database.transaction() as connection:
        await connection.execute("UPDATE person SET identity_sealed = $2 WHERE id = $1", case.her_id, sealed)
        record = await PEOPLE.get(connection, case.office.agency_id, case.her_id)
    assert record["identity"] == {}


async def test_an_erased_key_stops_working_in_every_process_within_seconds(
    case: Case, database_url: str, hands: Any
) -> None:
    moment = 0.0
    elsewhere = Database(
        database_url, size=1, vault=Vault(LocalRing({"test": bytes(range(32))}), monotonic=lambda: moment)
    )
    try:
        async with elsewhere.connection() as connection:
            sealed = await connection.fetchval("SELECT identity_sealed FROM person WHERE id = $1", case.her_id)
            spot = keys.Spot("person", "identity", case.her_id)
            assert await keys.open_all(connection, [(spot, sealed)]) == [IDENTITY]
            await case.asked_and_confirmed()
            hands.forward(days=14)
            await case.carry_out()
            moment = 2.0
            assert await keys.open_all(connection, [(spot, sealed)]) == [keys.ERASED]
    finally:
        await elsewhere.close()


async def test_nothing_can_be_entered_of_an_erased_person(case: Case, hands: Any) -> None:
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    again = await case.office.patch(f"/v1/people/{case.her}", {"identity": IDENTITY})
    assert (again.status_code, again.json()["code"]) == (409, "person_erased")
    asked = await case.office.post(f"/v1/people/{case.her}/erasure", {})
    assert (asked.status_code, asked.json()["code"]) == (409, "person_erased")


async def test_her_own_phone_asks_confirms_and_withdraws(case: Case, hands: Any) -> None:
    headers = {"Authorization": f"Bearer {case.phone['token']}"}
    client = case.office.client
    await case.office.context.registry.refresh()
    asked = await client.post("/v1/me/erasure", headers=headers)
    assert asked.status_code == 202, asked.text
    assert asked.json()["state"] == "asked"
    wrong = await client.post("/v1/me/erasure/confirm", json={"code": "1"}, headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "erasure_code_invalid")
    code = await case.code()
    held = await client.post("/v1/me/erasure/confirm", json={"code": f"{code[:4]} {code[4:]}"}, headers=headers)
    assert held.json()["state"] == "confirmed"
    assert (await client.delete("/v1/me/erasure", headers=headers)).status_code == 204
    assert (await client.get("/v1/me/erasure", headers=headers)).json()["state"] == "withdrawn"
    hands.forward(days=15)
    assert await case.carry_out() == 0
    assert (await case.told())["identity"] == IDENTITY


async def test_five_wrong_codes_spend_the_code_and_a_new_one_comes_after_a_pause(case: Case, hands: Any) -> None:
    path = f"/v1/people/{case.her}/erasure"
    await case.office.post(path, {})
    code = await case.code()
    for _ in range(5):
        assert (await case.office.post(f"{path}/confirm", {"code": "00000000x"})).status_code == 422
    assert (await case.office.post(f"{path}/confirm", {"code": code})).status_code == 422
    await case.office.post(path, {})
    assert len(await case.query("SELECT 1 FROM delivery WHERE template = 'erasure_code'")) == 1, "not so soon"
    hands.forward(minutes=10)
    await case.office.post(path, {})
    assert (await case.office.post(f"{path}/confirm", {"code": await case.code()})).status_code == 200


async def test_the_code_stands_nowhere_plain(case: Case) -> None:
    await case.office.post(f"/v1/people/{case.her}/erasure", {})
    code = await case.code()
    rows = str(await case.query("SELECT d::text FROM delivery d")) + str(
        await case.query("SELECT e::text FROM erasure_request e")
    )
    assert code not in rows
    assert code.encode().hex() not in rows


async def test_a_request_that_was_never_confirmed_lapses(case: Case, hands: Any) -> None:
    await case.office.post(f"/v1/people/{case.her}/erasure", {})
    hands.forward(days=14)
    assert await case.carry_out() == 0
    assert await case.state() == "lapsed"
    assert (await case.told())["erased"] is False


async def test_a_legal_hold_refuses_and_one_placed_later_makes_it_wait(
    case: Case, database: Database, hands: Any
) -> None:
    async def hold(column: str, value: uuid.UUID) -> uuid.UUID:
        hold_id = new_id()
        async with database.transaction() as connection:
            await connection.execute(
                f"INSERT INTO legal_hold (id, agency_id, {column}, reason, placed_at) VALUES ($1, $2, $3, 'court', $4)",
                hold_id, case.office.agency_id, value, hands(),
            )  # fmt: skip
        return hold_id

    async def lift(hold_id: uuid.UUID) -> None:
        async with database.transaction() as connection:
            await connection.execute("UPDATE legal_hold SET lifted_at = $2 WHERE id = $1", hold_id, hands())

    held = await hold("person_id", case.her_id)
    refused = await case.office.post(f"/v1/people/{case.her}/erasure", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "legal_hold")
    await lift(held)
    await case.asked_and_confirmed()
    held = await hold("case_id", uuid.UUID(case.order["case_id"]))
    hands.forward(days=14)
    assert await case.carry_out() == 0
    assert await case.state() == "held"
    await lift(held)
    assert await case.carry_out() == 1


async def test_somebody_whom_an_order_keeps_away_is_not_erased_nor_his_device_answered(case: Case) -> None:
    await case.office.patch(f"/v1/people/{case.him}", {"safe_contact": SAFE})
    refused = await case.office.post(f"/v1/people/{case.him}/erasure", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    bracelet = await case.office.enrolled("bracelet", case.him)
    await case.office.context.registry.refresh()
    headers = {"Authorization": f"Bearer {bracelet['token']}"}
    assert (await case.office.client.post("/v1/me/erasure", headers=headers)).status_code == 403


async def test_without_a_safe_contact_nobody_can_be_asked(case: Case) -> None:
    await case.office.patch(f"/v1/people/{case.her}", {"safe_contact": {"channel": "in person"}})
    refused = await case.office.post(f"/v1/people/{case.her}/erasure", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "safe_contact_missing")


async def test_another_agency_knows_of_no_request(case: Case, elsewhere: Any) -> None:
    await case.asked_and_confirmed()
    for answer in (
        await elsewhere.post(f"/v1/people/{case.her}/erasure", {}),
        await elsewhere.get(f"/v1/people/{case.her}/erasure"),
        await elsewhere.post(f"/v1/people/{case.her}/erasure/confirm", {"code": "1"}),
        await elsewhere.call("caseworker", "DELETE", f"/v1/people/{case.her}/erasure"),
    ):
        assert answer.status_code in {403, 404}, answer.text


async def test_where_she_is_now_leaves_redis(case: Case, hands: Any, redis_client: Any, database: Database) -> None:
    async with database.connection() as connection:
        device = await connection.fetchrow(
            "SELECT number, routes FROM device WHERE id = $1", uuid.UUID(case.phone["id"])
        )
    [shard] = device["routes"]
    await redis_client.hset(f"{{s{shard}}}:live", str(device["number"]), b"somewhere")
    await redis_client.hset(f"{{s{shard}}}:live", "999999", b"another")
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    assert await redis_client.hkeys(f"{{s{shard}}}:live") == [b"999999"]


async def test_while_redis_is_away_nobody_is_erased_by_half(case: Case, hands: Any, tmp_path: Path) -> None:
    away = connect(f"unix://{tmp_path}/none.sock")
    await case.asked_and_confirmed()
    hands.forward(days=14)
    with pytest.raises(StoreUnavailable):
        await erasure.carry_out_due(case.posts.device, away, case.ledger, hands())
    await away.aclose()
    assert (await case.told())["identity"] == IDENTITY
    assert case.ledger.read() == []
    assert await case.carry_out() == 1


async def test_a_service_s_role_erases_nobody_by_itself(case: Case, hands: Any) -> None:
    request_id = new_id()
    async with case.posts.device.transaction() as connection:
        assert await connection.fetchval("SELECT carry_out_erasure($1, $2)", request_id, hands()) is None
    for post in (case.posts.api, case.posts.device, case.posts.worker):
        with pytest.raises(Exception, match="permission denied"):
            async with act(post, hands()) as unit:
                await unit.connection.execute("SELECT erase_person($1, $2)", case.her_id, hands())
