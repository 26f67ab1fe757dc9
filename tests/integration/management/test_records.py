"""Managed records: repeatable creates, pages, another agency's walls, the audit, and commit before the reply."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from api.app import create_app
from core.actions.order_clock import OrderClock
from core.ids import new_id


async def test_a_create_repeated_under_its_id_is_answered_and_another_body_refused(office: Any) -> None:
    body = {"id": str(new_id()), "identity": {"name": "Үлгі"}, "needs": ["deaf"]}
    first = await office.post("/v1/people", body)
    again = await office.post("/v1/people", {"needs": ["deaf"], "identity": {"name": "Үлгі"}, "id": body["id"]})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    await office.patch(f"/v1/people/{body['id']}", {"language": "kk"})
    assert (await office.post("/v1/people", body)).json()["language"] == "kk"
    other = await office.post("/v1/people", {**body, "needs": []})
    assert (other.status_code, other.json()["code"]) == (409, "id_reused")
    crossed = await office.post("/v1/units", {"id": body["id"], "callsign": "A"}, "admin")
    assert (crossed.status_code, crossed.json()["code"]) == (409, "id_reused")


async def test_of_two_same_creates_at_once_one_is_made(office: Any) -> None:
    body = {"id": str(new_id()), "callsign": "Арлан"}
    answers = await asyncio.gather(*(office.post("/v1/units", body, "admin") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]


async def test_pages_hold_every_record_once_in_the_order_of_ids(office: Any) -> None:
    made = sorted([await office.person() for _ in range(7)])
    seen: list[str] = []
    after = ""
    while True:
        page = (await office.get(f"/v1/people?limit=3{after}")).json()
        seen += [person["id"] for person in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == made


async def test_another_agency_s_records_are_not_there(office: Any, elsewhere: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    order = await office.order(victim, aggressor)
    device = (await office.post("/v1/devices", {"kind": "phone", "person_id": victim})).json()
    contact = (await office.post("/v1/contacts", {"person_id": victim, "name": "X"})).json()
    unit = (await office.post("/v1/units", {"callsign": "A"}, "admin")).json()
    addresses = {
        f"/v1/people/{victim}": {"language": "kk"},
        f"/v1/orders/{order['id']}": {"sealed": True},
        f"/v1/devices/{device['id']}": {"expected_interval_s": 5},
        f"/v1/contacts/{contact['id']}": {"name": "Y"},
        f"/v1/units/{unit['id']}": {"callsign": "B"},
        f"/v1/users/{office.users['admin']['id']}": {"disabled": True},
        f"/v1/agencies/{office.agency_id}": {"name": "Z"},
    }
    for address, change in addresses.items():
        for answer in (await elsewhere.get(address, "admin"), await elsewhere.patch(address, change, "admin")):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), address
    for action in ("revoke", "return", "enrolment-code"):
        answer = await elsewhere.post(f"/v1/devices/{device['id']}/{action}", None, "admin")
        assert answer.status_code == 404, action
    answer = await elsewhere.post("/v1/orders", {"victim_id": victim, "aggressor_id": await elsewhere.person()})
    assert answer.status_code == 404
    for path in ("people", "orders", "devices", "contacts", "units"):
        items = (await elsewhere.get(f"/v1/{path}", "admin")).json()["items"]
        assert not {item["id"] for item in items} & {victim, order["id"], device["id"], contact["id"], unit["id"]}


async def test_an_officer_is_told_a_name_and_no_address_safe_word_or_sealed_order(office: Any) -> None:
    victim = await office.person(
        identity={"name": "Әсем", "address": "there"}, safe_word="rain", safe_contact={"channel": "sms"}
    )
    seen = (await office.get(f"/v1/people/{victim}", "officer")).json()
    assert (seen["identity"], seen["safe_word"], seen["safe_contact"]) == ({"name": "Әсем"}, None, None)
    assert (await office.get(f"/v1/people/{victim}", "dispatcher")).json()["safe_word"] == "rain"
    order = await office.order(victim, await office.person(), sealed=True)
    assert (await office.get(f"/v1/orders/{order['id']}", "officer")).status_code == 404
    assert (await office.get("/v1/orders", "officer")).json()["items"] == []


async def test_a_change_sets_what_is_sent_and_null_only_where_it_may(office: Any) -> None:
    person = await office.person(safe_word="rain", language="kk")
    changed = (await office.patch(f"/v1/people/{person}", {"safe_word": None})).json()
    assert (changed["safe_word"], changed["language"]) == (None, "kk")
    refused = await office.patch(f"/v1/people/{person}", {"language": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert (await office.patch(f"/v1/people/{person}", {})).status_code == 200


async def test_changes_and_readings_leave_their_line_in_the_audit(office: Any) -> None:
    person = await office.person()
    await office.get(f"/v1/people/{person}", "dispatcher")
    await office.patch(f"/v1/people/{person}", {"safe_word": "rain"})
    lines = (await office.get(f"/v1/audit?subject_id={person}", "auditor")).json()["items"]
    assert [line["action"] for line in lines] == ["person.created", "person.read", "person.changed"]
    assert lines[1]["actor_id"] == str(office.users["dispatcher"]["id"])
    assert lines[1]["address"] == "192.0.2.1"
    assert lines[2]["detail"] == {"fields": ["safe_word"]}
    assert "rain" not in str(lines)


async def test_what_is_answered_is_committed_before_the_answer_begins(office: Any) -> None:
    """The moment the answer's first byte goes out, another connection sees the row."""
    app = create_app(office.context)
    seen: list[bool] = []
    person_id = new_id()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def look_first(message: Any) -> None:
            if message["type"] == "http.response.start":
                async with office.database.connection() as connection:
                    seen.append(
                        await connection.fetchval("SELECT EXISTS (SELECT FROM person WHERE id = $1)", person_id)
                    )
            await send(message)

        await app(scope, receive, look_first)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url="http://qorgan.test") as client:
        answer = await client.post("/v1/people", json={"id": str(person_id)}, headers=office.headers("caseworker"))
    assert answer.status_code == 201
    assert seen == [True]


async def test_contacts_are_kept_listed_and_revoked(office: Any) -> None:
    person = await office.person()
    channels = [{"channel": "email", "address": "sister@example.org"}]
    contact = (await office.post("/v1/contacts", {"person_id": person, "name": "Sister", "channels": channels})).json()
    assert contact["channels"] == channels
    assert contact["verified_at"] is None
    page = (await office.get(f"/v1/contacts?person_id={person}", "dispatcher")).json()
    assert [item["id"] for item in page["items"]] == [contact["id"]]
    assert (await office.call("caseworker", "DELETE", f"/v1/contacts/{contact['id']}")).status_code == 204
    assert (await office.get(f"/v1/contacts/{contact['id']}")).json()["revoked_at"] is not None
    nobody = await office.post("/v1/contacts", {"person_id": str(uuid.uuid4()), "name": "X"})
    assert nobody.status_code == 404


async def test_a_unit_s_position_is_dated_and_comes_whole(office: Any) -> None:
    unit = (await office.post("/v1/units", {"callsign": "A", "lat": 43.2, "lon": 76.9}, "supervisor")).json()
    assert unit["position_at"] is not None
    moved = await office.patch(
        f"/v1/units/{unit['id']}", {"lat": 43.3, "lon": 76.8, "status": "en_route"}, "dispatcher"
    )
    assert (moved.json()["lat"], moved.json()["status"]) == (43.3, "en_route")
    half = await office.patch(f"/v1/units/{unit['id']}", {"lat": 43.3}, "dispatcher")
    assert (half.status_code, half.json()["code"]) == (422, "position_invalid")
    away = await office.patch(f"/v1/units/{unit['id']}", {"lat": 91, "lon": 0}, "dispatcher")
    assert away.status_code == 422
    twice = await office.post("/v1/units", {"callsign": "A"}, "supervisor")
    assert (twice.status_code, twice.json()["code"]) == (409, "already_exists")


async def test_users_are_added_changed_and_keep_one_administrator(office: Any) -> None:
    body = {"id": str(new_id()), "username": "new", "password": "  long enough  ", "role": "officer"}
    made = await office.post("/v1/users", body, "admin")
    assert made.status_code == 201
    assert "password" not in made.text
    assert (await office.post("/v1/users", body, "admin")).status_code == 200
    taken = await office.post("/v1/users", {**body, "id": str(new_id()), "username": "NEW"}, "admin")
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    entry = {"username": "new", "password": "  long enough  "}
    assert (await office.client.post("/v1/auth/token", data=entry)).status_code == 200
    own = f"/v1/users/{office.users['admin']['id']}"
    assert (await office.patch(own, {"role": "auditor"}, "admin")).json()["code"] == "state_forbids"
    changed = await office.patch(f"/v1/users/{made.json()['id']}", {"role": "auditor", "display_name": "N"}, "admin")
    assert (changed.json()["role"], changed.json()["display_name"]) == ("auditor", "N")


async def test_an_agency_changes_itself_and_how_it_is_told(office: Any) -> None:
    address = f"/v1/agencies/{office.agency_id}"
    square = {"type": "Polygon", "coordinates": [[[76, 43], [77, 43], [77, 44], [76, 44], [76, 43]]]}
    changed = await office.patch(address, {"region": "Almaty", "jurisdiction": square}, "admin")
    assert changed.status_code == 200, changed.text
    assert changed.json()["jurisdiction"]["type"] == "Polygon"
    assert (await office.patch(address, {"time_zone": "Mars/North"}, "admin")).status_code == 422
    route = {"name": "Desk", "channel": "webhook", "address": "https://desk.example", "secret": "whsec_c2VjcmV0"}
    made = await office.post("/v1/notification-routes", route, "admin")
    assert made.status_code == 201
    assert "whsec" not in made.text
    off = await office.patch(f"/v1/notification-routes/{made.json()['id']}", {"enabled": False}, "admin")
    assert off.json()["enabled"] is False


async def test_a_policy_is_set_whole_checked_and_compiled(office: Any) -> None:
    order = await office.order(await office.person(), await office.person(), risk_level="high")
    assert (order["alert_m"], order["warning_m"]) == (1000.0, 2000.0)
    answer = await office.call(
        "supervisor", "PUT", "/v1/policies", json={"preset": "dense_city", "p_enter_high_risk": 0.2}
    )
    assert answer.json()["alert_m"] == 500.0
    async with office.database.connection() as connection:
        compiled = await connection.fetchval("SELECT config -> 'orders' -> 0 ->> 'p_enter' FROM protection_case")
    assert float(compiled) == 0.2
    later = await office.order(await office.person(), await office.person())
    assert (later["alert_m"], later["warning_m"]) == (500.0, 1500.0)
    refused = await office.call("supervisor", "PUT", "/v1/policies", json={"p_enter": 2})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


async def test_reports_count_and_refuse_a_span_that_cannot_be(office: Any) -> None:
    await office.post("/v1/devices", {"kind": "phone"})
    lines = (await office.get("/v1/reports/devices", "auditor")).json()["lines"]
    assert lines == [{"kind": "phone", "status": "registered", "count": 1, "silent": 0, "low_battery": 0}]
    assert (await office.get("/v1/reports/incidents", "auditor")).json()["lines"] == []
    assert (await office.get("/v1/reports/deliveries", "auditor")).json()["lines"] == []
    wrong = await office.get("/v1/reports/incidents?since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "auditor")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "time_invalid")
    assert (await office.get("/v1/reports/incidents?since=9999-12-31T23:59:59-12:00", "auditor")).status_code == 422


@pytest.mark.parametrize("path", ["/v1/people", "/v1/orders", "/v1/devices", "/v1/zones", "/v1/units", "/v1/audit"])
async def test_an_unknown_query_field_is_refused(office: Any, path: str) -> None:
    answer = await office.get(f"{path}?colour=red", "admin")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


async def test_a_policy_reaches_the_cases_of_a_great_agency_by_and_by(
    office: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await office.order(await office.person(), await office.person())
    monkeypatch.setattr("core.actions.policies.CASES_AT_ONCE", 2)

    async def margins() -> list[float]:
        async with office.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT (config #>> '{orders,0,exit_margin_m}')::float8 AS margin FROM protection_case ORDER BY id"
            )
        return [row["margin"] for row in rows]

    await office.call("supervisor", "PUT", "/v1/policies", json={"exit_margin_m": 150})
    assert await margins() == [150, 150, 100, 100, 100]
    clock = OrderClock(office.context.device_database, office.context.clock)
    await clock.step()
    assert await margins() == [150, 150, 150, 150, 100]
    await clock.step()
    await clock.step()
    assert await margins() == [150] * 5
