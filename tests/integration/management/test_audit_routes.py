"""Every reading leaves its row with whose data it was, and who looked is told: her, managers, whoever copies hashes."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.actions.sealing import Notary, seal
from core.checkpoints import CheckpointFiles
from core.domain.chain import read_checkpoint
from core.domain.looks import Reader, judge_readers
from core.signing import new_signer


async def whose(office: Any, action: str) -> list[set[str]]:
    """Of each row of an action, whose data it was."""
    async with office.database.connection() as connection:
        rows = await connection.fetch("SELECT person_ids FROM audit WHERE action = $1 ORDER BY id", action)
    return [{str(person) for person in row["person_ids"]} for row in rows]


async def phone_of(office: Any, person: str) -> dict[str, str]:
    """The header of her phone's token."""
    device = await office.enrolled("phone", person)
    return {"Authorization": f"Bearer {device['token']}"}


async def test_each_reading_says_whose_data_it_was(office: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    order = await office.order(victim, aggressor)
    contact = (await office.post("/v1/contacts", {"person_id": victim, "name": "X"})).json()["id"]
    zone = await office.post(
        "/v1/zones",
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [76.9, 43.2]},
            "properties": {"order_id": order["id"], "kind": "exclusion", "radius_m": 300},
        },
    )
    assert zone.status_code == 201, zone.text
    device = (await office.post("/v1/devices", {"kind": "phone", "person_id": victim})).json()["id"]
    both, her = {victim, aggressor}, {victim}
    for path, action, people in (
        (f"/v1/people/{victim}", "person.read", her),
        ("/v1/people", "person.listed", both),
        (f"/v1/contacts/{contact}", "contact.read", her),
        (f"/v1/contacts?person_id={victim}", "contact.listed", her),
        (f"/v1/orders/{order['id']}", "order.read", both),
        ("/v1/orders", "order.listed", both),
        (f"/v1/zones/{zone.json()['id']}", "zone.read", both),
        ("/v1/zones", "zone.listed", both),
        (f"/v1/devices/{device}", "device.read", her),
        ("/v1/incidents", "incident.listed", set()),
    ):
        assert (await office.get(path)).status_code == 200, path
        assert await whose(office, action) == [people], action


async def test_a_row_says_who_why_and_from_where(office: Any) -> None:
    person = await office.person()
    headers = {**office.headers("officer"), "Qorgan-Purpose": "court_order"}
    assert (await office.client.get(f"/v1/people/{person}", headers=headers)).status_code == 200
    line = (await office.get(f"/v1/audit?person_id={person}&action=person.read", "auditor")).json()["items"][0]
    assert line["role"] == "officer"
    assert line["purpose"] == "court_order"
    assert line["address"] == "192.0.2.1"
    assert line["actor_id"] == str(office.users["officer"]["id"])
    bad = await office.client.get(f"/v1/people/{person}", headers={**headers, "Qorgan-Purpose": "Because, well"})
    assert (bad.status_code, bad.json()["code"]) == (422, "validation_failed")


async def test_the_audit_is_found_by_person_user_action_and_time(office: Any, hands: Any) -> None:
    one, two = await office.person(), await office.person()
    await office.get(f"/v1/people/{one}")
    hands.forward(minutes=30)
    await office.get(f"/v1/people/{two}", "admin")
    supervisor, admin = office.users["supervisor"]["id"], office.users["admin"]["id"]
    since = (hands.now - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")

    async def found(query: str) -> list[tuple[str, str]]:
        items = (await office.get(f"/v1/audit?{query}", "auditor")).json()["items"]
        return [(line["action"], line["actor_id"]) for line in items if line["action"] != "audit.read"]

    assert await found(f"person_id={one}&actor_id={supervisor}") == [("person.read", str(supervisor))]
    assert await found("action=person.read") == [("person.read", str(supervisor)), ("person.read", str(admin))]
    assert await found(f"action=person.read&since={since}") == [("person.read", str(admin))]


async def test_she_sees_who_looked_and_no_name_unless_the_agency_says_so(office: Any) -> None:
    person, other = await office.person(), await office.person()
    phone = await phone_of(office, person)
    async with office.database.connection() as connection:
        await connection.execute(
            "UPDATE app_user SET display_name = 'Officer A.' WHERE id = $1", office.users["officer"]["id"]
        )
    await office.get(f"/v1/people/{person}", "officer")
    await office.get(f"/v1/people/{other}", "officer")
    answer = await office.client.get("/v1/me/audit?limit=1", headers=phone)
    assert answer.status_code == 200, answer.text
    look = answer.json()["items"][0]
    assert (look["action"], look["role"], look["agency"], look["official"]) == ("person.read", "officer", "Here", None)
    assert not {"lat", "address", "actor_id", "session_id"} & set(look)
    rest = await office.client.get(f"/v1/me/audit?before={answer.json()['next']}", headers=phone)
    assert look["id"] not in {line["id"] for line in rest.json()["items"]}
    changed = await office.patch(f"/v1/agencies/{office.agency_id}", {"names_officials": True}, "admin")
    assert changed.json()["names_officials"] is True
    named = (await office.client.get("/v1/me/audit", headers=phone)).json()["items"]
    assert named[0]["official"] == "Officer A."
    assert all("Officer" not in str(line["official"]) for line in named[1:])


async def test_an_aggressor_s_device_learns_nothing(office: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    await office.order(victim, aggressor)
    bracelet = await office.enrolled("bracelet", aggressor)
    answer = await office.client.get("/v1/me/audit", headers={"Authorization": f"Bearer {bracelet['token']}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "device_forbidden")


async def test_a_hold_defers_what_she_is_told_and_is_itself_audited(office: Any, hands: Any) -> None:
    person = await office.person()
    phone = await phone_of(office, person)
    officer = str(office.users["officer"]["id"])

    async def told() -> list[str]:
        items = (await office.client.get("/v1/me/audit", headers=phone)).json()["items"]
        return [line["role"] for line in items if line["action"] == "person.read"]

    body = {
        "person_id": person, "user_id": officer, "reason": "insider_inquiry", "reference": "2026/7",
        "ends_at": (hands.now + timedelta(days=30)).isoformat(),
    }  # fmt: skip
    assert (await office.post("/v1/audit/holds", body, "dispatcher")).status_code == 403
    late = {**body, "ends_at": (hands.now + timedelta(days=91)).isoformat()}
    assert (await office.post("/v1/audit/holds", late, "supervisor")).json()["code"] == "time_invalid"
    held = await office.post("/v1/audit/holds", body, "supervisor")
    assert held.status_code == 201, held.text
    await office.get(f"/v1/people/{person}", "officer")
    await office.get(f"/v1/people/{person}", "dispatcher")
    assert await told() == ["dispatcher"]
    everything = (await office.client.get("/v1/me/audit", headers=phone)).json()["items"]
    assert not [line for line in everything if "hold" in line["action"]]
    released = await office.post(f"/v1/audit/holds/{held.json()['id']}/release", {}, "supervisor")
    assert released.status_code == 200, released.text
    assert await told() == ["dispatcher", "officer"]
    again = await office.post(f"/v1/audit/holds/{held.json()['id']}/release", {}, "supervisor")
    assert again.status_code == 409
    assert [line["id"] for line in (await office.get("/v1/audit/holds")).json()["items"]] == [held.json()["id"]]
    actions = (await office.get(f"/v1/audit?person_id={person}", "auditor")).json()["items"]
    assert {"audit_hold.placed", "audit_hold.released"} <= {line["action"] for line in actions}


async def test_managers_see_who_looked_at_a_person(office: Any, elsewhere: Any, hands: Any) -> None:
    person = await office.person()
    for _ in range(3):
        await office.get(f"/v1/people/{person}", "dispatcher")
    hands.forward(seconds=1)
    answer = await office.get(f"/v1/audit/people/{person}/readers", "auditor")
    assert answer.status_code == 200, answer.text
    by_user = {line["username"]: line for line in answer.json()["readers"]}
    assert by_user["dispatcher"]["looks"] == 3
    assert by_user["dispatcher"]["roles"] == ["dispatcher"]
    assert by_user["dispatcher"]["addresses"] == ["192.0.2.1"]
    assert (await office.get(f"/v1/audit/people/{person}/readers", "dispatcher")).status_code == 403
    assert (await elsewhere.get(f"/v1/audit/people/{person}/readers", "auditor")).status_code == 404


async def test_who_looks_where_she_has_no_case_stands_out(office: Any, hands: Any) -> None:
    people = [await office.person() for _ in range(3)]
    for person in people:
        await office.get(f"/v1/people/{person}", "officer")
    hands.forward(seconds=1)
    readers = (await office.get("/v1/reports/looks", "auditor")).json()["readers"]
    by_role = {line["role"]: line for line in readers}
    assert by_role["officer"]["reasons"] == ["outside_her_cases"]
    assert sorted(by_role["officer"]["outside_people"]) == sorted(people)
    assert by_role["caseworker"]["reasons"] == []  # she entered them
    assert readers[0]["role"] == "officer"


def test_far_more_than_her_peers_stands_out() -> None:
    readers = [Reader(uuid.uuid4(), "dispatcher", 100, people, ()) for people in (12, 14, 15, 90)]
    readers.append(Reader(uuid.uuid4(), "auditor", 500, 400, ()))
    judged = judge_readers(readers)
    assert [one.reader.people for one in judged if one.reasons] == [90]
    assert judged[0].peer_median == pytest.approx(14)


async def test_anybody_may_copy_hashes_that_tell_nothing(
    office: Any, elsewhere: Any, hands: Any, tmp_path: Path
) -> None:
    signer, files = new_signer(), CheckpointFiles(tmp_path / "checkpoints")
    notary = Notary(office.database, files, signer, hands)
    for _ in range(2):
        await office.person()
        await elsewhere.person()
        while await seal(office.database, hands.now):
            pass
        await notary.sign()
    published = await office.client.get("/v1/audit/checkpoints")
    assert published.status_code == 200, published.text
    assert [key["key_id"] for key in published.json()["keys"]] == [signer.key_id]
    lines = [read_checkpoint(line) for line in files.lines(office.agency_id)]
    assert len(lines) == 2
    hashes = {item["hash"] for item in published.json()["items"]}
    assert lines[0].hash in hashes
    assert lines[1].hash not in hashes  # only a day's close is published: nothing tells when something happened
    assert set(published.json()["items"][0]) == {"day", "hash"}
    own = (await office.get("/v1/audit/chain", "auditor")).json()
    assert own["lines"] == [one.line for one in lines]
    theirs = (await elsewhere.get("/v1/audit/chain", "auditor")).json()
    assert not set(own["lines"]) & set(theirs["lines"])
    assert (await office.get("/v1/audit/chain", "dispatcher")).status_code == 403
