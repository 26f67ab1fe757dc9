"""Who is related to somebody opens nothing of hers; what is sealed opens to named users, or by broken glass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.scope import Scope
from core.postgres import incidents as store
from core.postgres.database import Database

ROLES = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")
REASON = {"reason_code": "emergency", "reason": "Nobody else of us is on duty tonight."}
TABLES = ("person", "protection_case", "protection_order", "device", "incident", "timeline")


async def hidden_everywhere(count: Callable[..., Any], scope: Scope, side: Any) -> bool:
    """Whether nothing of a case shows to a user, in any table."""
    return [await count(scope, table) for table in TABLES] == [0] * len(TABLES)


def pages(side: Any) -> list[str]:
    """Everything of the case that has a page."""
    return [
        f"/v1/people/{side.victim_id}", f"/v1/people/{side.aggressor_id}", f"/v1/orders/{side.order_id}",
        f"/v1/devices/{side.phone_id}", f"/v1/incidents/{side.incident_id}",
    ]  # fmt: skip


async def conflict(office: Any, side: Any, role: str, person_id: Any, by: str = "supervisor") -> int:
    """Note that a user is related to a person."""
    body = {"user_id": str(side.users[role]), "person_id": str(person_id), "relation": "relative"}
    return int((await office.call(side.scope(by), "POST", "/v1/conflicts", body)).status_code)


async def seal(database: Database, side: Any, *named: str) -> None:
    """Seal the order; these roles' users are named."""
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET sealed = true WHERE id = $1", side.order_id)
        await connection.executemany(
            "INSERT INTO case_named_user (case_id, user_id, agency_id, named_at) VALUES ($1, $2, $3, $4)",
            [(side.case_id, side.users[role], side.agency_id, utc_now()) for role in named],
        )


@pytest.mark.parametrize("side_of_the_case", ["victim_id", "aggressor_id"])
async def test_who_is_related_to_either_side_opens_nothing_of_the_case(
    side_of_the_case: str, office: Any, here: Any, count: Callable[..., Any]
) -> None:
    dispatcher = here.scope("dispatcher")
    assert [await office.status(dispatcher, page) for page in pages(here)] == [200] * 5
    assert await conflict(office, here, "dispatcher", getattr(here, side_of_the_case)) == 201
    assert await conflict(office, here, "dispatcher", getattr(here, side_of_the_case)) == 200
    assert [await office.status(dispatcher, page) for page in pages(here)] == [404] * 5
    assert await hidden_everywhere(count, dispatcher, here)
    board = (await office.call(dispatcher, "GET", "/v1/board")).json()
    assert (board["incidents"], board["sealed"], board["positions"]) == ([], [], [])
    assert (await office.call(dispatcher, "GET", "/v1/incidents")).json()["items"] == []
    answer = await office.call(
        dispatcher, "POST", f"/v1/incidents/{here.incident_id}/acknowledge", {"version": 1, "id": str(here.case_id)}
    )
    assert answer.status_code == 404
    assert [await office.status(here.scope("supervisor"), page) for page in pages(here)] == [200] * 5


async def test_who_is_related_can_neither_break_the_glass_nor_free_herself(
    office: Any, here: Any, database: Database
) -> None:
    assert await conflict(office, here, "supervisor", here.victim_id, by="admin") == 201
    await seal(database, here, "admin")
    supervisor = here.scope("supervisor")
    for asked in ({"person_id": here.victim_id}, {"case_id": here.case_id}, {"incident_id": here.incident_id}):
        body = {**{name: str(value) for name, value in asked.items()}, **REASON}
        assert (await office.call(supervisor, "POST", "/v1/break-glass", body)).status_code == 404
    path = f"/v1/conflicts/{here.users['supervisor']}/{here.victim_id}"
    assert (await office.call(supervisor, "DELETE", path)).status_code == 404
    assert (await office.call(here.scope("admin"), "GET", "/v1/conflicts")).json()["items"][0]["relation"] == "relative"
    assert (await office.call(here.scope("admin"), "DELETE", path)).status_code == 204
    assert (await office.call(here.scope("admin"), "DELETE", path)).status_code == 404


async def test_conflicts_stay_within_an_agency(office: Any, here: Any, elsewhere: Any) -> None:
    body = {"user_id": str(here.users["dispatcher"]), "person_id": str(elsewhere.victim_id), "relation": "self"}
    assert (await office.call(here.scope("supervisor"), "POST", "/v1/conflicts", body)).status_code == 404
    body = {"user_id": str(elsewhere.users["dispatcher"]), "person_id": str(here.victim_id), "relation": "self"}
    assert (await office.call(here.scope("supervisor"), "POST", "/v1/conflicts", body)).status_code == 404
    for role in ("dispatcher", "officer", "caseworker", "auditor"):
        assert (await office.call(here.scope(role), "GET", "/v1/conflicts")).status_code == 403


async def test_a_sealed_case_opens_to_its_named_users_alone(
    office: Any, here: Any, elsewhere: Any, database: Database, count: Callable[..., Any]
) -> None:
    await seal(database, here, "caseworker")
    assert [await office.status(here.scope("caseworker"), page) for page in pages(here)[:4]] == [200] * 4
    for role in ("admin", "supervisor", "dispatcher", "officer"):
        assert {await office.status(here.scope(role), page) for page in pages(here)} <= {403, 404}
    for role in ROLES:
        if role != "caseworker":
            assert await hidden_everywhere(count, here.scope(role), here)
    assert await count(elsewhere.scope("dispatcher"), "incident") == 1  # another agency's are as they were
    named = f"/v1/orders/{here.order_id}/named-users"
    caseworker = here.scope("caseworker")
    body = {"user_id": str(here.users["dispatcher"])}
    assert (await office.call(here.scope("supervisor"), "POST", named, body)).status_code == 404
    assert (await office.call(caseworker, "POST", named, body)).status_code == 201
    assert await office.status(here.scope("dispatcher"), f"/v1/incidents/{here.incident_id}") == 200
    assert len((await office.call(caseworker, "GET", named)).json()["items"]) == 2
    assert (await office.call(caseworker, "DELETE", f"{named}/{here.users['dispatcher']}")).status_code == 204
    assert (await office.call(caseworker, "DELETE", f"{named}/{here.users['caseworker']}")).status_code == 409


async def test_whoever_seals_an_order_may_open_it(office: Any, here: Any, count: Callable[..., Any]) -> None:
    caseworker = here.scope("caseworker")
    answer = await office.call(caseworker, "PATCH", f"/v1/orders/{here.order_id}", {"sealed": True})
    assert answer.status_code == 200, answer.text
    assert await office.status(caseworker, f"/v1/orders/{here.order_id}") == 200
    assert await hidden_everywhere(count, here.scope("supervisor"), here)


async def test_glass_is_broken_for_a_reason_for_a_while_and_in_the_open(
    office: Any, here: Any, elsewhere: Any, database: Database
) -> None:
    await seal(database, here, "admin")
    dispatcher = here.scope("dispatcher")
    page = f"/v1/incidents/{here.incident_id}"
    board = (await office.call(dispatcher, "GET", "/v1/board")).json()
    assert [alarm["id"] for alarm in board["sealed"]] == [str(here.incident_id)]
    assert set(board["sealed"][0]) == {"id", "type", "severity", "state", "opened_at"}
    asked = {"incident_id": str(here.incident_id)}
    assert (await office.call(dispatcher, "POST", "/v1/break-glass", asked)).status_code == 422
    assert (await office.call(elsewhere.scope(), "POST", "/v1/break-glass", {**asked, **REASON})).status_code == 404
    broken = await office.call(dispatcher, "POST", "/v1/break-glass", {**asked, **REASON})
    assert broken.status_code == 201, broken.text
    assert [await office.status(dispatcher, page) for page in pages(here)] == [200] * 5
    assert await office.status(here.scope("officer"), page) == 404
    async with database.connection() as connection:
        told = await connection.fetch("SELECT kind, data FROM feed WHERE agency_id = $1", here.agency_id)
        written = await connection.fetch(
            "SELECT action, detail FROM audit WHERE agency_id = $1 AND action LIKE 'break_glass%'", here.agency_id
        )
    assert [(row["kind"], row["data"]["user_id"]) for row in told] == [
        ("access.break_glass", str(here.users["dispatcher"]))
    ]
    assert [(row["action"], row["detail"]["reason_code"]) for row in written] == [("break_glass.broken", "emergency")]

    waiting = (await office.call(here.scope("supervisor"), "GET", "/v1/break-glass?reviewed=false")).json()["items"]
    assert [glass["reason"] for glass in waiting] == [REASON["reason"]]
    assert waiting[0]["username"]
    review = f"/v1/break-glass/{waiting[0]['id']}/review"
    verdict = {"verdict": "justified"}
    assert (await office.call(dispatcher, "POST", review, verdict)).status_code == 403
    assert (await office.call(elsewhere.scope("supervisor"), "POST", review, verdict)).status_code == 404
    assert (await office.call(here.scope("supervisor"), "POST", review, verdict)).status_code == 200
    assert (await office.call(here.scope("supervisor"), "POST", review, verdict)).status_code == 409
    assert (await office.call(here.scope("supervisor"), "GET", "/v1/break-glass?reviewed=false")).json()["items"] == []
    async with database.connection() as connection:
        await connection.execute("UPDATE break_glass SET from_at = now() - interval '1 h', until_at = now()")
    assert await office.status(dispatcher, page) == 404


async def test_what_was_opened_without_cause_is_shut_by_its_review_and_nobody_reviews_her_own(
    office: Any, here: Any, database: Database
) -> None:
    await seal(database, here, "caseworker")
    supervisor, page = here.scope("supervisor"), f"/v1/orders/{here.order_id}"
    body = {"person_id": str(here.victim_id), **REASON}
    glass = (await office.call(supervisor, "POST", "/v1/break-glass", body)).json()
    assert await office.status(supervisor, page) == 200
    review = f"/v1/break-glass/{glass['id']}/review"
    assert (await office.call(supervisor, "POST", review, {"verdict": "justified"})).status_code == 403
    assert (await office.call(here.scope("admin"), "POST", review, {"verdict": "unjustified"})).status_code == 200
    assert await office.status(supervisor, page) == 404


async def test_an_open_socket_tells_each_what_she_may_know(office: Any, here: Any, database: Database) -> None:
    tail = office.context.tail
    await seal(database, here, "admin")
    assert await conflict(office, here, "officer", here.aggressor_id, by="admin") == 201
    sockets = {
        role: tail.subscribe(here.scope(role), None) for role in ("admin", "dispatcher", "supervisor", "officer")
    }

    async def placed() -> None:
        while any(socket.cursor is None for socket in sockets.values()):
            await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await placed()
    async with act(database, utc_now()) as unit:
        (row,) = await store.lock_many(unit.connection, [here.incident_id])
        unit.emit(here.agency_id, "incident.updated", store.incident_json(row))
        unit.emit(here.agency_id, "device.late", {"count": 1, "devices": [{"device_id": str(here.phone_id)}]})
        unit.emit(here.agency_id, "unit.updated", {})
    seen: dict[str, list[dict[str, Any]]] = {role: [] for role in sockets}
    async with asyncio.timeout(10):
        for role, socket in sockets.items():
            while not seen[role] or seen[role][-1]["kind"] != "unit.updated":
                frame = json.loads(await socket.next())
                if frame.get("cursor"):
                    seen[role].append(frame)
    for socket in sockets.values():
        tail.unsubscribe(socket)
    kinds = {role: [frame["kind"] for frame in frames[:-1]] for role, frames in seen.items()}
    assert kinds == {
        "admin": ["incident.updated", "device.late"],
        "dispatcher": ["incident.sealed"],
        "supervisor": ["incident.sealed"],
        "officer": [],
    }
    told = json.dumps(seen["dispatcher"])
    assert not [
        known for known in (here.victim_id, here.aggressor_id, here.case_id, here.phone_id) if str(known) in told
    ]


async def test_glass_broken_elsewhere_changes_what_open_sockets_see(office: Any, here: Any, database: Database) -> None:
    await seal(database, here, "admin")
    tail = office.context.tail
    dispatcher, supervisor = (
        tail.subscribe(here.scope("dispatcher"), None),
        tail.subscribe(here.scope("supervisor"), None),
    )
    async with asyncio.timeout(10):
        while dispatcher.cursor is None or supervisor.cursor is None:
            await asyncio.sleep(0)
    body = {"case_id": str(here.case_id), **REASON}
    assert (await office.call(here.scope("dispatcher"), "POST", "/v1/break-glass", body)).status_code == 201
    async with asyncio.timeout(10):
        assert json.loads(await dispatcher.next())["kind"] == "reset"  # she loads the board again, and it shows more
        told = json.loads(await supervisor.next())
    assert told["kind"] == "access.break_glass"
    assert told["data"]["user_id"] == str(here.users["dispatcher"])
    for socket in (dispatcher, supervisor):
        tail.unsubscribe(socket)
