"""Orders, zones and suspensions, and the case that is compiled from them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from core.actions.order_clock import OrderClock
from core.domain.case import Case, decode_case

A, B, C, D = [76.9, 43.2], [76.91, 43.2], [76.91, 43.21], [76.9, 43.21]
SQUARE = {"type": "Polygon", "coordinates": [[A, B, C, D, A]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[A, C, B, D, A]]}


async def case_of(office: Any, order: dict[str, Any]) -> Case:
    async with office.database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT config, config_version FROM protection_case WHERE id = $1", uuid.UUID(order["case_id"])
        )
    case = decode_case(msgspec.json.encode(row["config"]))
    assert case.version == row["config_version"]
    return case


async def routes_of(office: Any, device: dict[str, Any]) -> tuple[str, list[int]]:
    async with office.database.connection() as connection:
        row = await connection.fetchrow("SELECT role, routes FROM device WHERE id = $1", uuid.UUID(device["id"]))
    return row["role"], list(row["routes"])


async def shard_of_case(office: Any, order: dict[str, Any]) -> int:
    async with office.database.connection() as connection:
        case_id = uuid.UUID(order["case_id"])
        return int(await connection.fetchval("SELECT shard FROM protection_case WHERE id = $1", case_id))


def zone(order: dict[str, Any], geometry: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": geometry or SQUARE,
        "properties": {"order_id": order["id"], "kind": "exclusion", **properties},
    }


async def test_an_order_gets_what_it_does_not_name_from_the_agency(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    assert (order["alert_m"], order["warning_m"], order["legal_m"], order["grace_s"]) == (1000.0, 2000.0, 0.0, 300.0)
    assert (order["status"], order["time_zone"], order["overlaps"]) == ("in_force", "Asia/Almaty", [])
    wide = await office.order(await office.person(), await office.person(), legal_m=3000)
    assert (wide["alert_m"], wide["warning_m"]) == (3000.0, 6000.0)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"aggressor_id": "same"}, "order_same_person"),
        ({"protected_person_ids": ["aggressor"]}, "order_same_person"),
        ({"valid_from": "2026-02-01T00:00:00Z", "valid_until": "2026-01-01T00:00:00Z"}, "order_dates_invalid"),
        ({"valid_until": "2000-01-01T00:00:00Z"}, "order_dates_invalid"),
        ({"valid_from": "2026-02-01T00:00:00"}, "validation_failed"),
        ({"legal_m": 500, "alert_m": 400}, "validation_failed"),
        ({"alert_m": 500, "warning_m": 400}, "validation_failed"),
        ({"alert_m": 0}, "validation_failed"),
        ({"alert_m": -5}, "validation_failed"),
        ({"time_zone": "Mars/North"}, "validation_failed"),
        ({"time_zone": "../etc/passwd"}, "validation_failed"),
        ({"relationship": "neighbour"}, "validation_failed"),
        ({"victim_id": str(uuid.uuid4())}, "not_found"),
        ({"case_id": str(uuid.uuid4())}, "unknown_field"),
    ],
)
async def test_an_order_that_cannot_be_is_refused(office: Any, wrong: dict[str, Any], code: str) -> None:
    victim, aggressor = await office.person(), await office.person()
    named = {"same": victim, "aggressor": aggressor}
    body = {"victim_id": victim, "aggressor_id": aggressor}
    for name, value in wrong.items():
        body[name] = [named[one] for one in value] if isinstance(value, list) else named.get(value, value)
    answer = await office.post("/v1/orders", body)
    assert answer.json()["code"] == code, answer.text
    assert (await office.get("/v1/orders")).json()["items"] == []


async def test_overlapping_orders_are_kept_and_told(office: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    first = await office.order(victim, aggressor)
    second = await office.order(victim, aggressor)
    apart = await office.order(victim, aggressor, valid_from="2020-01-01T00:00:00Z", valid_until="2020-02-01T00:00:00Z")
    assert second["overlaps"] == [first["id"]]
    assert apart["overlaps"] == []
    assert first["case_id"] == second["case_id"]
    assert len((await case_of(office, first)).orders) == 3


async def test_a_case_has_everyone_protected_from_one_aggressor(office: Any) -> None:
    aggressor = await office.person()
    bracelet = await office.enrolled("bracelet", aggressor, expected_interval_s=15)
    victims = [await office.person() for _ in range(2)]
    child = await office.person()
    phones = [await office.enrolled("phone", victim) for victim in victims]
    first = await office.order(victims[0], aggressor, protected_person_ids=[child], risk_level="extreme", alert_m=750)
    second = await office.order(victims[1], aggressor)
    assert first["case_id"] == second["case_id"]
    case = await case_of(office, first)
    assert str(case.agency_id) == str(office.agency_id)
    roles = {str(person.id): person.role for person in case.people}
    assert roles == {aggressor: "aggressor", victims[0]: "victim", victims[1]: "victim", child: "other"}
    by_order = {str(order.id): order for order in case.orders}
    assert (by_order[first["id"]].alert_m, by_order[first["id"]].p_enter) == (750.0, 0.3)
    assert by_order[first["id"]].victim != by_order[second["id"]].victim
    (device,) = next(person.devices for person in case.people if str(person.id) == aggressor)
    assert (str(device.id), device.kind, device.interval_s) == (bracelet["id"], "bracelet", 15.0)
    assert device.since_ms > 0
    shard = await shard_of_case(office, first)
    assert await routes_of(office, bracelet) == ("aggressor", [shard])
    assert await routes_of(office, phones[0]) == ("victim", [shard])


async def test_who_is_victim_here_and_aggressor_there_is_primary_where_he_attacks(office: Any) -> None:
    both, other, third = await office.person(), await office.person(), await office.person()
    phone = await office.enrolled("phone", both)
    bracelet = await office.enrolled("bracelet", both)
    suffers = await office.order(both, other)
    assert {person.role: person.primary for person in (await case_of(office, suffers)).people} == {
        "victim": True,
        "aggressor": True,
    }
    attacks = await office.order(third, both)
    in_first = {str(person.id): person for person in (await case_of(office, suffers)).people}
    in_second = {str(person.id): person for person in (await case_of(office, attacks)).people}
    assert (in_first[both].role, in_first[both].primary) == ("victim", False)
    assert (in_second[both].role, in_second[both].primary) == ("aggressor", True)
    wanted = list(dict.fromkeys([await shard_of_case(office, attacks), await shard_of_case(office, suffers)]))
    assert await routes_of(office, bracelet) == ("aggressor", wanted)
    assert await routes_of(office, phone) == ("victim", wanted)


async def test_who_is_in_no_order_has_a_case_of_her_own_until_she_is(office: Any) -> None:
    alone = await office.person()
    phone = await office.enrolled("phone", alone, role="victim")
    async with office.database.connection() as connection:
        own = await connection.fetchrow("SELECT * FROM protection_case WHERE own_person_id = $1", uuid.UUID(alone))
    (person,) = decode_case(msgspec.json.encode(own["config"])).people
    assert (str(person.id), person.role, len(person.devices)) == (alone, "victim", 1)
    assert await routes_of(office, phone) == ("victim", [own["shard"]])
    order = await office.order(alone, await office.person())
    assert (await routes_of(office, phone))[1] == [await shard_of_case(office, order)]
    empty = await case_of(office, {"case_id": str(own["id"])})
    assert (empty.people, empty.orders) == ([], [])
    await office.patch(f"/v1/orders/{order['id']}", {"status": "revoked"})
    assert (await routes_of(office, phone))[1] == [own["shard"]]
    assert (await case_of(office, order)).orders == []


async def test_an_order_changes_on_the_version_decided_on(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    changed = await office.patch(f"/v1/orders/{order['id']}", {"alert_m": 2500, "version": 1})
    assert (changed.json()["alert_m"], changed.json()["warning_m"], changed.json()["version"]) == (2500.0, 2500.0, 2)
    stale = await office.patch(f"/v1/orders/{order['id']}", {"alert_m": 900, "version": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "version_stale")
    below = await office.patch(f"/v1/orders/{order['id']}", {"legal_m": 9000})
    assert below.status_code == 422
    assert (await case_of(office, order)).orders[0].alert_m == 2500.0
    await office.patch(f"/v1/orders/{order['id']}", {"status": "revoked"})
    late = await office.patch(f"/v1/orders/{order['id']}", {"alert_m": 3000})
    assert (late.status_code, late.json()["code"]) == (409, "state_forbids")


async def test_a_zone_goes_in_and_out_as_a_feature_and_into_the_case(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    schedule = [{"days": [1, 2], "from": "08:00", "to": "18:00"}]
    made = await office.post("/v1/zones", zone(order, schedule=schedule, warning_m=200, name="school"))
    assert made.status_code == 201, made.text
    feature = made.json()
    assert (feature["type"], feature["geometry"]["type"]) == ("Feature", "Polygon")
    assert feature["properties"]["schedule"] == schedule
    assert feature["properties"]["disclosed"] is False
    (compiled,) = (await case_of(office, order)).orders[0].zones
    assert (str(compiled.id), compiled.kind, compiled.warning_m) == (feature["id"], "exclusion", 200.0)
    assert compiled.schedule == schedule
    changed = await office.patch(f"/v1/zones/{feature['id']}", {"properties": {"schedule": None}})
    assert changed.json()["properties"]["schedule"] is None
    assert (await office.call("caseworker", "DELETE", f"/v1/zones/{feature['id']}")).status_code == 204
    assert (await case_of(office, order)).orders[0].zones == []
    assert (await office.call("caseworker", "DELETE", f"/v1/zones/{feature['id']}")).status_code == 204
    again = await office.patch(f"/v1/zones/{feature['id']}", {"properties": {"warning_m": 5}})
    assert again.json()["code"] == "state_forbids"


async def test_a_circle_needs_its_radius(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    point = {"type": "Point", "coordinates": [76.9, 43.2]}
    assert (await office.post("/v1/zones", zone(order, point))).json()["code"] == "geometry_invalid"
    made = await office.post("/v1/zones", zone(order, point, radius_m=300))
    assert made.status_code == 201, made.text
    assert (await case_of(office, order)).orders[0].zones[0].radius_m == 300.0


async def test_a_polygon_that_crosses_itself_is_refused_with_words_that_say_where(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    answer = await office.post("/v1/zones", zone(order, BOW_TIE))
    assert (answer.status_code, answer.json()["code"]) == (422, "geometry_invalid")
    assert "76.90" in answer.json()["detail"]
    assert "43.20" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"geometry": {"type": "Polygon", "coordinates": "nowhere"}},
        {"geometry": {}},
        {"geometry": {"type": "Polygon", "coordinates": [[[200, 43], [201, 43], [201, 44], [200, 43]]]}},
        {"type": "FeatureCollection"},
        {"properties": {"schedule": [{"days": [8], "from": "08:00", "to": "18:00"}]}},
        {"properties": {"schedule": [{"days": [1], "from": "25:00", "to": "18:00"}]}},
        {"properties": {"kind": "moat"}},
    ],
)
async def test_a_zone_that_cannot_be_is_refused(office: Any, wrong: dict[str, Any]) -> None:
    order = await office.order(await office.person(), await office.person())
    good = zone(order)
    body = {**good, **wrong, "properties": {**good["properties"], **wrong.get("properties", {})}}
    answer = await office.post("/v1/zones", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in {"geometry_invalid", "validation_failed"}


async def suspension(office: Any, order: dict[str, Any], hours: float = 2, start: float = 0) -> Any:
    now = office.context.clock()
    body: dict[str, Any] = {"order_id": order["id"], "reason": "hearing"}
    office.context.clock.forward(hours=start)
    if start:
        body["starts_at"] = office.context.clock().isoformat()
    office.context.clock.forward(hours=hours)
    body["ends_at"] = office.context.clock().isoformat()
    office.context.clock.now = now
    return await office.post("/v1/suspensions", body)


async def test_a_suspension_takes_effect_when_somebody_else_confirms_it_and_ends_by_the_clock(
    office: Any, hands: Any
) -> None:
    order = await office.order(await office.person(), await office.person())
    asked = (await suspension(office, order)).json()
    assert (await case_of(office, order)).orders[0].active
    own = await office.post(f"/v1/suspensions/{asked['id']}/confirm", None, "caseworker")
    assert (own.status_code, own.json()["code"]) == (403, "role_forbidden")
    confirmed = await office.post(f"/v1/suspensions/{asked['id']}/confirm", None, "supervisor")
    assert confirmed.json()["confirmed_by"] == str(office.users["supervisor"]["id"])
    assert not (await case_of(office, order)).orders[0].active
    assert (await office.get(f"/v1/orders/{order['id']}")).json()["status"] == "suspended"
    hands.forward(hours=3)
    await OrderClock(office.context.device_database, hands).step()
    assert (await case_of(office, order)).orders[0].active
    async with office.database.connection() as connection:
        kinds = [row["kind"] for row in await connection.fetch("SELECT kind FROM feed ORDER BY id")]
    assert kinds == ["suspension.started", "suspension.ended"]


async def test_a_suspension_that_begins_later_begins_by_the_clock_and_can_be_ended(office: Any, hands: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    asked = (await suspension(office, order, hours=2, start=1)).json()
    await office.post(f"/v1/suspensions/{asked['id']}/confirm", None, "supervisor")
    assert (await case_of(office, order)).orders[0].active
    hands.forward(hours=1)
    clock = OrderClock(office.context.device_database, hands)
    await clock.step()
    assert not (await case_of(office, order)).orders[0].active
    await office.post(f"/v1/suspensions/{asked['id']}/end", None, "supervisor")
    assert (await case_of(office, order)).orders[0].active
    late = await office.post(f"/v1/suspensions/{asked['id']}/confirm", None, "supervisor")
    assert late.json()["code"] == "state_forbids"


async def test_a_suspension_longer_than_eight_hours_or_over_already_is_refused(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    for hours in (8.5, -1):
        answer = await suspension(office, order, hours=hours)
        assert (answer.status_code, answer.json()["code"]) == (422, "time_invalid")


async def confirmed(office: Any, order: dict[str, Any], hours: float, start: float = 0) -> Any:
    asked = (await suspension(office, order, hours=hours, start=start)).json()
    return await office.post(f"/v1/suspensions/{asked['id']}/confirm", None, "supervisor")


@pytest.mark.parametrize(("start", "hours"), [(3.0, 6.0), (4.0, 4.5), (4.9, 8.0)])
async def test_a_suspension_cannot_be_drawn_out_by_the_next_beyond_eight_hours(
    office: Any, start: float, hours: float
) -> None:
    order = await office.order(await office.person(), await office.person())
    assert (await confirmed(office, order, hours=4)).status_code == 200
    refused = await confirmed(office, order, hours=hours, start=start)
    assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    assert "at most 8" in refused.json()["detail"]


async def test_a_stretch_may_be_made_of_several_suspensions_and_another_may_follow_after_a_rest(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    for start, hours in ((0.0, 2.0), (4.0, 2.0), (2.0, 2.0), (7.5, 8.0)):
        answer = await confirmed(office, order, hours=hours, start=start)
        assert answer.status_code == 200, answer.text
    async with office.database.connection() as connection:
        kinds = [row["kind"] for row in await connection.fetch("SELECT kind FROM feed ORDER BY id")]
    assert kinds == ["suspension.started", "suspension.extended"]


async def test_a_suspension_that_was_ended_early_counts_only_until_then(office: Any, hands: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    first = (await confirmed(office, order, hours=8)).json()
    hands.forward(hours=1)
    await office.post(f"/v1/suspensions/{first['id']}/end", None, "supervisor")
    assert (await confirmed(office, order, hours=6)).status_code == 200


async def test_an_order_expires_by_the_clock_and_leaves_its_case(office: Any, hands: Any) -> None:
    hands.forward(hours=1)
    until = hands().isoformat()
    hands.forward(hours=-1)
    order = await office.order(await office.person(), await office.person(), valid_until=until)
    clock = OrderClock(office.context.device_database, hands)
    await clock.step()
    assert len((await case_of(office, order)).orders) == 1
    hands.forward(hours=1)
    await clock.step()
    assert (await case_of(office, order)).orders == []
    assert (await office.get(f"/v1/orders/{order['id']}")).json()["status"] == "expired"


async def test_orders_entered_at_once_against_one_aggressor_all_stand_in_his_one_case(office: Any) -> None:
    aggressor = await office.person()
    victims = [await office.person() for _ in range(6)]
    orders = await asyncio.gather(*(office.order(victim, aggressor) for victim in victims))
    assert len({order["case_id"] for order in orders}) == 1
    case = await case_of(office, orders[0])
    assert {str(order.id) for order in case.orders} == {order["id"] for order in orders}
    assert len(case.people) == 7


async def test_every_change_of_a_case_is_found_by_its_version_and_transaction(office: Any) -> None:
    order = await office.order(await office.person(), await office.person())
    before = await case_of(office, order)
    async with office.database.connection() as connection:
        floor = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    await office.patch(f"/v1/orders/{order['id']}", {"grace_s": 60})
    async with office.database.connection() as connection:
        found = await connection.fetch(
            "SELECT id FROM protection_case WHERE changed_xid >= $1::text::xid8 ORDER BY id", floor
        )
    assert [str(row["id"]) for row in found] == [order["case_id"]]
    after = await case_of(office, order)
    assert (after.version, after.orders[0].grace_s) == (before.version + 1, 60.0)


async def test_what_the_order_clock_stumbles_over_ends_neither_it_nor_the_rest(
    office: Any, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def stumble(*_: Any) -> list[uuid.UUID]:
        raise ValueError("an order nobody expected")

    async def work(_: Any) -> None:
        done.append("recompiled")

    monkeypatch.setattr("core.postgres.orders.due_to_expire", stumble)
    monkeypatch.setattr("core.actions.order_clock.recompile_due", work)
    await OrderClock(office.context.device_database, hands).step()
    assert done == ["recompiled"]
