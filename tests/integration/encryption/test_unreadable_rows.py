"""One row that does not open: lists and timelines show that it is there and cannot be read, and all the others."""

from __future__ import annotations

import uuid
from typing import Any

from core.postgres.database import Database
from tests.integration.encryption.test_erasure import Case, case, give_history, ledger

__all__ = ["case", "ledger"]


async def spoil(database: Database, table: str, column: str, row_id: str) -> None:
    async with database.transaction() as connection:
        changed = await connection.execute(
            f"UPDATE {table} SET {column} = set_byte({column}, 40, 255 - get_byte({column}, 40)) WHERE id = $1",
            uuid.UUID(row_id),
        )
    assert changed == "UPDATE 1"


async def test_a_list_of_people_outlives_one_that_does_not_open(case: Case, database: Database) -> None:
    await spoil(database, "person", "identity_sealed", case.her)
    listed = await case.office.get("/v1/people")
    assert listed.status_code == 200, listed.text
    by_id = {one["id"]: one for one in listed.json()["items"]}
    assert by_id[case.him]["identity"]["name"] == "Үлгі"
    assert by_id[case.him]["unreadable"] == []
    assert (by_id[case.her]["identity"], by_id[case.her]["unreadable"]) == ({}, ["identity"])
    assert by_id[case.her]["safe_word"] == "алма"


async def test_a_list_of_contacts_outlives_one_that_does_not_open(case: Case, database: Database) -> None:
    brother = {"person_id": case.her, "name": "Бауырым", "channels": []}
    spoilt = (await case.office.post("/v1/contacts", brother)).json()["id"]
    await spoil(database, "contact", "name_sealed", spoilt)
    listed = await case.office.get(f"/v1/contacts?person_id={case.her}")
    assert listed.status_code == 200, listed.text
    assert {one["name"] for one in listed.json()["items"]} == {"Әпке", ""}
    assert [one["unreadable"] for one in listed.json()["items"] if one["id"] == spoilt] == [["name"]]


async def test_a_timeline_outlives_a_note_that_does_not_open(case: Case, database: Database) -> None:
    incident_id = await give_history(case, database)
    for note in ("көршісі естіді", "есікті ашпады"):
        answer = await case.office.post(
            f"/v1/incidents/{incident_id}/note", {"version": 1, "note": note}, role="dispatcher"
        )
        assert answer.status_code == 200, answer.text
    [first, _] = await case.query("SELECT id FROM timeline WHERE incident_id = $1 ORDER BY ordinal", incident_id)
    await spoil(database, "timeline", "private_sealed", str(first["id"]))
    shown: Any = await case.office.get(f"/v1/incidents/{incident_id}", role="dispatcher")
    assert shown.status_code == 200, shown.text
    lines = [line["data"] for line in shown.json()["timeline"]]
    assert [line.get("note") for line in lines] == [None, "есікті ашпады"]
    assert [line.get("unreadable") for line in lines] == [True, None]
