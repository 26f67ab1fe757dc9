"""What dispatchers do to incidents: on the version they saw, once, within their agency and role."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.domain.incident import TYPES
from core.ids import new_id

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Query = Callable[..., Any]


@pytest.fixture
async def desk(api: Any, pair: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A dispatcher of the pair's agency."""
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as client:
        yield client


@pytest.fixture
async def incident(database: Any, transition: Any, query: Query) -> dict[str, Any]:
    """A breach: he is inside."""
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=100.0)])
    [row] = await query("SELECT id, version FROM incident")
    return {"id": str(row["id"]), "version": row["version"]}


def command(desk: httpx.AsyncClient, incident: dict[str, Any], name: str, **body: Any) -> Any:
    return desk.post(f"/v1/incidents/{incident['id']}/{name}", json={"version": incident["version"], **body})


async def test_an_incident_goes_from_open_to_resolved_and_back(
    desk: Any, incident: Any, pair: Any, query: Query, database: Any
) -> None:
    unit_id = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, created_at, updated_at) VALUES ($1, $2, 'A-7', $3, $3)",
            unit_id, pair.agency_id, NOW,
        )  # fmt: skip
    seen = (await command(desk, incident, "acknowledge")).json()
    assert (seen["state"], seen["version"], seen["owner_id"]) == ("acknowledged", 2, str(pair.users["dispatcher"]))
    sent = (await command(desk, seen, "dispatch", unit_ids=[str(unit_id)], eta_s=240)).json()
    assert (sent["state"], sent["version"]) == ("dispatched", 3)
    assert [(u["callsign"], u["eta_s"]) for u in sent["units"]] == [("A-7", 240)]
    assert {"accepted", "en_route", "on_scene"} <= set(sent["units"][0])
    assert [r["status"] for r in await query("SELECT status FROM unit")] == ["dispatched"]
    done = (await command(desk, sent, "resolve", outcome="custody", note="taken in")).json()
    assert (done["state"], done["version"], done["outcome"]) == ("resolved", 4, "custody")
    assert [r["status"] for r in await query("SELECT status FROM unit")] == ["available"]
    again = (await command(desk, done, "reopen")).json()
    assert (again["state"], again["version"], again["outcome"]) == ("open", 5, None)
    whole = (await desk.get(f"/v1/incidents/{incident['id']}")).json()
    assert [line["kind"] for line in whole["timeline"]] == [
        "proximity", "acknowledge", "dispatch", "resolve", "reopen",
    ]  # fmt: skip
    told = (await query("SELECT data FROM feed WHERE kind LIKE 'incident.%' ORDER BY id"))[-1]["data"]
    told["place"] = {"precision": "exact", **told["place"]}
    assert {name: value for name, value in whole.items() if name not in {"timeline", "violations"}} == told
    kinds = [r["kind"] for r in await query("SELECT kind FROM feed ORDER BY id")]
    assert kinds == [
        "incident.opened", "incident.acknowledged", "incident.dispatched", "unit.updated", "incident.resolved",
        "unit.updated", "incident.updated",
    ]  # fmt: skip


async def test_an_incident_tells_its_episode(desk: Any, incident: Any, database: Any, transition: Any) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("device", "closed", "open", signal="strap")])
    found = (await desk.get(f"/v1/incidents/{incident['id']}/episode")).json()["incidents"]
    assert sorted(part["type"] for part in found) == ["proximity", "tamper"]
    assert (await desk.get(f"/v1/incidents/{new_id()}/episode")).status_code == 404


async def test_a_stale_version_is_refused_with_the_current_one(desk: Any, incident: Any) -> None:
    await command(desk, incident, "acknowledge")
    stale = await command(desk, incident, "dispatch")
    assert stale.status_code == 409
    assert (stale.json()["code"], stale.json()["version"]) == ("version_stale", 2)


async def test_of_twenty_who_acknowledge_at_once_one_does(desk: Any, incident: Any, query: Query) -> None:
    answers = await asyncio.gather(*(command(desk, incident, "acknowledge") for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] + [409] * 19
    assert len(await query("SELECT 1 FROM timeline WHERE kind = 'acknowledge'")) == 1


async def test_the_same_command_twice_happens_once(desk: Any, incident: Any, query: Query) -> None:
    id_ = str(uuid.uuid4())
    first = await command(desk, incident, "acknowledge", id=id_)
    again = await command(desk, incident, "acknowledge", id=id_)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert len(await query("SELECT 1 FROM feed")) == 2
    other = await command(desk, incident, "note", id=id_, note="hm")
    assert (other.status_code, other.json()["code"]) == (409, "id_reused")


async def test_while_he_is_inside_only_custody_or_a_suspension_ends_it(
    desk: Any, incident: Any, database: Any, transition: Any
) -> None:
    refused = await command(desk, incident, "resolve", outcome="victim_safe")
    assert (refused.status_code, refused.json()["code"]) == (409, "still_inside")
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "breach", "clear")])
    done = await command(desk, incident, "resolve", outcome="victim_safe")
    assert done.status_code == 200, done.text


async def test_an_outcome_must_be_one_of_ours(desk: Any, incident: Any) -> None:
    wrong = await command(desk, incident, "resolve", outcome="whatever")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "outcome_required")
    unknown = await command(desk, incident, "resolve", outcome="custody", colour="red")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_field")


async def test_a_state_that_forbids_a_command_says_so(desk: Any, incident: Any) -> None:
    wrong = await command(desk, incident, "reopen")
    assert (wrong.status_code, wrong.json()["code"]) == (409, "state_forbids")


async def test_a_resolved_incident_is_not_reopened_beside_a_newer_one(
    desk: Any, incident: Any, database: Any, transition: Any
) -> None:
    done = (await command(desk, incident, "resolve", outcome="custody")).json()
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "clear", "breach")])
    wrong = await command(desk, done, "reopen")
    assert (wrong.status_code, wrong.json()["code"]) == (409, "state_forbids")


async def test_a_note_changes_no_version(desk: Any, incident: Any) -> None:
    noted = await command(desk, incident, "note", note="rang the neighbour")
    assert noted.status_code == 200
    assert noted.json()["version"] == incident["version"]


async def test_another_agency_sees_no_incident_and_sends_no_unit(
    api: Any, desk: Any, incident: Any, another_pair: Any, database: Any
) -> None:
    other = await another_pair()
    foreign_unit = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, created_at, updated_at) VALUES ($1, $2, 'B-1', $3, $3)",
            foreign_unit, other.agency_id, NOW,
        )  # fmt: skip
    async with api.client(api.token(other.agency_id, other.users["dispatcher"])) as stranger:
        assert (await stranger.get(f"/v1/incidents/{incident['id']}")).status_code == 404
        assert (await command(stranger, incident, "acknowledge")).status_code == 404
        assert (await stranger.get("/v1/incidents")).json()["items"] == []
        assert (await stranger.get("/v1/board")).json()["incidents"] == []
    assert (await command(desk, incident, "dispatch", unit_ids=[str(foreign_unit)])).status_code == 404
    assert (await desk.get(f"/v1/incidents/{incident['id']}")).json()["version"] == incident["version"]


async def test_roles_that_only_read_command_nothing_and_see_no_place(api: Any, incident: Any, pair: Any) -> None:
    for role in ("auditor", "caseworker"):
        async with api.client(api.token(pair.agency_id, pair.users[role], role)) as reader:
            whole = await reader.get(f"/v1/incidents/{incident['id']}")
            assert whole.status_code == 200
            assert whole.json()["place"] is None
            assert "43.2" not in whole.text
            assert (await command(reader, incident, "acknowledge")).status_code == 403
            assert (await reader.get("/v1/board")).status_code == 403


async def test_incidents_are_listed_newest_first_by_page_and_filter(
    desk: Any, database: Any, transition: Any, pair: Any
) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(
            unit,
            [
                transition("proximity", "warning", "breach"),
                transition("zone", "clear", "breach"),
                transition("device", "ok", "low", signal="battery"),
            ],
        )
    pages = []
    after = None
    for _ in range(4):
        page = (await desk.get("/v1/incidents", params={"limit": 1} | ({"after": after} if after else {}))).json()
        pages += [item["type"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert pages == ["battery", "zone", "proximity"]
    found = (await desk.get("/v1/incidents", params={"severity": "critical", "order": str(pair.order_id)})).json()
    assert [item["type"] for item in found["items"]] == ["zone", "proximity"]
    assert (await desk.get("/v1/incidents", params={"colour": "red"})).status_code == 422
    assert (await desk.get("/v1/incidents", params={"type": "no_such_type"})).status_code == 422
    for known in TYPES:
        assert (await desk.get("/v1/incidents", params={"type": known})).status_code == 200
    found = (await desk.get("/v1/incidents", params={"type": ["zone", "battery"]})).json()
    assert [item["type"] for item in found["items"]] == ["battery", "zone"]
    found = (await desk.get("/v1/incidents", params={"state": "resolved"})).json()
    assert found["items"] == []


async def test_the_nearest_units_come_first_and_those_in_conflict_not_at_all(
    desk: Any, incident: Any, pair: Any, database: Any
) -> None:
    rows = [("far", 43.3, 76.9, []), ("near", 43.201, 76.9, []), ("kin", 43.2, 76.9, [pair.aggressor_id])]
    async with database.transaction() as connection:
        for callsign, lat, lon, conflicts in rows:
            await connection.execute(
                "INSERT INTO unit (id, agency_id, callsign, lat, lon, conflicts, created_at, updated_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
                new_id(), pair.agency_id, callsign, lat, lon, conflicts, NOW,
            )  # fmt: skip
    units = (await desk.get(f"/v1/incidents/{incident['id']}/nearest-units")).json()["units"]
    assert [unit["callsign"] for unit in units] == ["near", "far"]
    assert units[0]["distance_m"] == pytest.approx(111, abs=2)


async def test_an_incident_keeps_when_a_unit_was_first_on_its_way_and_there(
    desk: Any, incident: Any, pair: Any, query: Query, database: Any
) -> None:
    unit_id = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, created_at, updated_at) VALUES ($1, $2, 'A-7', $3, $3)",
            unit_id, pair.agency_id, NOW,
        )  # fmt: skip
    sent = (await command(desk, incident, "dispatch", unit_ids=[str(unit_id)])).json()
    for status in ("en_route", "on_scene", "en_route"):
        assert (await desk.patch(f"/v1/units/{unit_id}", json={"status": status})).status_code == 200
    whole = (await desk.get(f"/v1/incidents/{incident['id']}")).json()
    [there] = whole["units"]
    assert there["dispatched_at"] <= there["en_route"] <= there["on_scene"]
    assert whole["version"] == sent["version"], "a command that is being decided on is not made stale by it"
    [told] = [row["data"] for row in await query("SELECT data FROM feed WHERE kind = 'incident.updated' ORDER BY id")][
        -1:
    ]
    assert told["units"] == whole["units"]
    first = there["en_route"]
    assert [u["en_route"] for u in whole["units"]] == [first], "the first time stays"


async def test_a_unit_in_conflict_is_sent_by_a_supervisor_for_a_reason_or_not_at_all(
    api: Any, desk: Any, incident: Any, pair: Any, database: Any, query: Query
) -> None:
    unit_id, reason = new_id(), "nobody else is within the hour"
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, conflicts, created_at, updated_at)"
            " VALUES ($1, $2, 'kin', $3, $4, $4)",
            unit_id, pair.agency_id, [pair.aggressor_id], NOW,
        )  # fmt: skip
    refused = await command(desk, incident, "dispatch", unit_ids=[str(unit_id)])
    assert (refused.status_code, refused.json()["code"]) == (409, "unit_in_conflict")
    refused = await command(desk, incident, "dispatch", unit_ids=[str(unit_id)], override_reason=reason)
    assert (refused.status_code, refused.json()["code"]) == (403, "role_forbidden")
    assert await query("SELECT 1 FROM unit WHERE status <> 'available'") == []
    async with api.client(api.token(pair.agency_id, pair.users["supervisor"], "supervisor")) as boss:
        body = {"unit_ids": [str(unit_id)], "override_reason": reason, "id": str(new_id())}
        for _ in range(2):
            sent = await command(boss, incident, "dispatch", **body)
            assert sent.status_code == 200, sent.text
        whole = (await boss.get(f"/v1/incidents/{incident['id']}")).json()
    assert whole["timeline"][-1]["data"]["override_reason"] == reason
    assert reason not in str(await query("SELECT data FROM timeline"))
    audited = await query("SELECT detail FROM audit WHERE action = 'incident.dispatch'")
    assert [row["detail"]["units_in_conflict"] for row in audited] == [[str(unit_id)]]
