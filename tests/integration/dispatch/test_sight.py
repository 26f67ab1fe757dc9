"""Where she is, over the wire: only an incident of hers or a reason unlocks it, to who sends help alone."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import to_ms
from core.domain import sight
from core.redis import keys
from core.redis.live import LiveFix

from .conftest import NOW

Query = Callable[..., Awaitable[list[Any]]]
HERE = (43.2, 76.9)
WHY = {"reason_code": "welfare_check", "reason": "Her sister has not reached her since yesterday."}


async def open_incident(database: Any, *items: Any) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, items)


def silent(transition: Any, pair: Any) -> Any:
    """Her phone is silent; the engine tells where it was last."""
    return transition(
        "device", "reporting", "silent", signal="silence", device_id=pair.phone_id, victim_id=pair.victim_id,
        victim_position=transition("proximity", "clear", "breach").victim_position, detail={"party": "victim"},
    )  # fmt: skip


async def keep_fix(database: Any, device_id: uuid.UUID, at: Any, lat: float = HERE[0], lon: float = HERE[1]) -> None:
    """A row of history, as the historian writes it."""
    async with database.transaction() as connection:
        number = await connection.fetchval("SELECT number FROM device WHERE id = $1", device_id)
        await connection.execute("SELECT make_ping_day('ping_victim', $1::date)", at)
        names = await connection.fetch(
            "SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute WHERE attrelid = 'ping'::regclass"
            " AND attnum > 0 AND attnotnull AND NOT atthasdef AND NOT attisdropped"
        )
        values = {
            "device_number": number,
            "role": 1,
            "lat": lat,
            "lon": lon,
            "at": at,
            "received_at": at,
            "live_at": at,
        }
        blank = {"timestamp with time zone": at, "uuid": device_id, "text": "", "boolean": False}
        for row in names:
            values.setdefault(row["attname"], blank.get(row["kind"], 0))
        listed = ", ".join(values)
        places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        await connection.execute(f"INSERT INTO ping ({listed}) VALUES ({places})", *values.values())


@pytest.fixture
def as_role(api: Any, pair: Any) -> Callable[[str], Any]:
    return lambda role: api.client(api.token(pair.agency_id, pair.users[role], role))


async def test_a_silence_shows_the_district_and_a_look_shows_the_place(
    api: Any, pair: Any, database: Any, transition: Any, as_role: Any, query: Query
) -> None:
    await open_incident(database, silent(transition, pair))
    box = sight.box_of(sight.cell_of(*HERE))
    async with as_role("dispatcher") as desk, as_role("supervisor") as boss:
        listed = (await desk.get("/v1/incidents")).json()["items"][0]
        one = (await desk.get(f"/v1/incidents/{listed['id']}")).json()
        board = (await desk.get("/v1/board")).json()["incidents"][0]
        for shown in (listed, one, board):
            assert (shown["type"], shown["place"]["precision"]) == ("silence", "coarse")
            assert shown["place"]["cell"] == box
            assert "lat" not in shown["place"]

        refused = await desk.post(f"/v1/people/{pair.victim_id}/look", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "reason_required")
        blank = await desk.post(f"/v1/people/{pair.victim_id}/look", json={**WHY, "reason": "  "})
        assert blank.json()["code"] == "reason_required"
        assert (await desk.post(f"/v1/people/{uuid.uuid4()}/look", json=WHY)).status_code == 404
        assert (await desk.get(f"/v1/incidents/{one['id']}")).json()["place"]["precision"] == "coarse"

        made = await desk.post(f"/v1/people/{pair.victim_id}/look", json=WHY)
        assert made.status_code == 201, made.text
        seen = (await desk.get(f"/v1/incidents/{one['id']}")).json()
        assert (seen["place"]["lat"], seen["place"]["lon"]) == HERE
        assert (await boss.get(f"/v1/incidents/{one['id']}")).json()["place"]["precision"] == "coarse", "hers alone"
        assert (await desk.get("/v1/incidents")).json()["items"][0]["place"]["precision"] == "coarse", "it is a list"

        told = await query("SELECT data FROM feed WHERE kind = 'access.look'")
        assert [row["data"]["person_id"] for row in told] == [str(pair.victim_id)]
        audited = await query("SELECT detail, person_ids FROM audit WHERE action = 'person.looked'")
        assert audited[0]["detail"]["reason_code"] == "welfare_check"
        assert audited[0]["person_ids"] == [pair.victim_id]

        assert (
            await desk.post(f"/v1/looks/{made.json()['id']}/review", json={"verdict": "justified"})
        ).status_code == 403
        listed = (await boss.get("/v1/looks", params={"reviewed": "false"})).json()["items"]
        assert [one["id"] for one in listed] == [made.json()["id"]]
        verdict = {"verdict": "unjustified", "note": "The sister had reached her."}
        assert (await boss.post(f"/v1/looks/{made.json()['id']}/review", json=verdict)).status_code == 200
        assert (await boss.get("/v1/looks", params={"reviewed": "false"})).json()["items"] == []
        after = (await desk.get(f"/v1/incidents/{one['id']}")).json()
        assert after["place"]["precision"] == "coarse", "what was not justified ends at once"


async def test_a_look_ends_by_itself(api: Any, pair: Any, database: Any, transition: Any, as_role: Any) -> None:
    await open_incident(database, silent(transition, pair))
    async with as_role("dispatcher") as desk:
        incident = (await desk.get("/v1/incidents")).json()["items"][0]["id"]
        await desk.post(f"/v1/people/{pair.victim_id}/look", json=WHY)
        assert (await desk.get(f"/v1/incidents/{incident}")).json()["place"]["precision"] == "exact"
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE person_look SET from_at = from_at - $1::interval, until_at = until_at - $1::interval",
                sight.LOOK_LIFE,
            )
        assert (await desk.get(f"/v1/incidents/{incident}")).json()["place"]["precision"] == "coarse"


async def test_her_position_is_coarse_until_something_of_hers_unlocks_it(
    api: Any, pair: Any, database: Any, transition: Any, as_role: Any
) -> None:
    slot = sight.SLOT.total_seconds()
    now = api.context.clock()
    await keep_fix(database, pair.phone_id, now - timedelta(seconds=slot + 60))
    await keep_fix(database, pair.phone_id, now - timedelta(seconds=1), HERE[0] + 0.1)
    path = f"/v1/people/{pair.victim_id}/position"
    async with as_role("dispatcher") as desk, as_role("officer") as officer, as_role("auditor") as auditor:
        first = (await desk.get(path)).json()["place"]
        assert first["precision"] == "coarse"
        assert first["cell"] == sight.box_of(sight.cell_of(*HERE)), "of the last whole quarter of an hour"
        assert first["lat"] is None
        assert (await auditor.get(path)).status_code == 403
        await open_incident(database, transition("proximity", "warning", "breach"))
        exact = (await desk.get(path)).json()["place"]
        assert (exact["precision"], exact["lat"], exact["lon"]) == ("exact", HERE[0] + 0.1, HERE[1])
        assert (await officer.get(path)).json()["place"]["precision"] == "coarse"


@pytest.mark.parametrize("role", ["dispatcher", "supervisor", "admin", "officer"])
async def test_each_socket_is_told_of_places_what_its_role_may_see(
    api: Any, pair: Any, database: Any, redis_client: Any, transition: Any, receive: Any, role: str
) -> None:
    async with database.connection() as connection:
        numbers = {r["id"]: r["number"] for r in await connection.fetch("SELECT id, number FROM device")}
    for device_id in (pair.phone_id, pair.bracelet_id):
        fix = LiveFix(*HERE, 8.0, 1.0, 2.0, 80.0, to_ms(NOW), to_ms(NOW), 1)
        await redis_client.hset(keys.live(pair.shard), str(numbers[device_id]), fix.pack())
    async with api.feed(api.token(pair.agency_id, pair.users[role], role), 0) as socket:
        await open_incident(database, silent(transition, pair))
        quiet = await receive(socket)
        assert (quiet["kind"], quiet["data"]["place"]["precision"]) == ("incident.opened", "coarse")
        await open_incident(database, transition("proximity", "warning", "breach"))
        breach = await receive(socket)
        while breach["data"]["type"] != "proximity":
            breach = await receive(socket)  # her silence grew graver
        if role in sight.EXACT_ROLES:
            assert breach["data"]["place"]["lat"] == HERE[0]
            frame = await receive(socket, "position")
            while len(frame["data"]) < 2:
                frame = await receive(socket, "position")
            assert {one["role"] for one in frame["data"]} == {"victim", "aggressor"}
        else:
            assert breach["data"]["place"]["precision"] == "coarse"
            held = list(api.context.tail._subscriptions[pair.agency_id])
            await api.context.tail._send_positions()
            assert [one._position for one in held] == [None]


async def test_who_sends_help_sees_an_alarm_before_the_cell_that_others_see_is_kept(
    api: Any, pair: Any, database: Any, query: Query, transition: Any, receive: Any
) -> None:
    helper, other = (api.token(pair.agency_id, pair.users[role], role) for role in ("dispatcher", "officer"))
    async with api.feed(helper, 0) as helping, api.feed(other, 0) as watching:
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE coarse_cell IN EXCLUSIVE MODE")
            await open_incident(database, transition("proximity", "warning", "breach"))
            seen = await receive(helping)
            assert seen["data"]["place"]["lat"] == HERE[0]
            assert await query("SELECT * FROM coarse_cell") == []
        seen = await receive(watching)
        assert seen["data"]["place"]["precision"] == "coarse"
        assert len(await query("SELECT * FROM coarse_cell")) == 1


async def test_an_agency_whose_feed_cannot_be_read_keeps_no_other_from_theirs(
    api: Any, pair: Any, another_pair: Any, database: Any, transition: Any, receive: Any
) -> None:
    other = await another_pair()
    officer = api.token(pair.agency_id, pair.users["officer"], "officer")
    dispatcher = api.token(other.agency_id, other.users["dispatcher"], "dispatcher")
    async with api.feed(officer, 0) as stuck, api.feed(dispatcher, 0) as free:
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE coarse_cell IN EXCLUSIVE MODE")
            await open_incident(database, transition("proximity", "warning", "breach"))
            async with act(database, NOW) as unit:
                unit.emit(other.agency_id, "unit.updated", {"unit_id": str(uuid.uuid4())})
            while (await receive(free))["kind"] != "unit.updated":
                pass
        assert (await receive(stuck))["data"]["place"]["precision"] == "coarse"


async def test_while_nothing_unlocks_her_live_positions_are_his_alone(
    api: Any, pair: Any, database: Any, redis_client: Any, transition: Any, as_role: Any
) -> None:
    async with database.connection() as connection:
        numbers = {r["id"]: r["number"] for r in await connection.fetch("SELECT id, number FROM device")}
    for device_id in (pair.phone_id, pair.bracelet_id):
        fix = LiveFix(*HERE, 8.0, 1.0, 2.0, 80.0, to_ms(NOW), to_ms(NOW), 1)
        await redis_client.hset(keys.live(pair.shard), str(numbers[device_id]), fix.pack())
    low = transition("device", "ok", "low", signal="battery", aggressor_id=pair.aggressor_id)
    await open_incident(database, low, silent(transition, pair))
    async with as_role("dispatcher") as desk, as_role("officer") as officer:
        assert {one["role"] for one in (await desk.get("/v1/board")).json()["positions"]} == {"aggressor"}
        assert (await officer.get("/v1/board")).json()["positions"] == []
        await desk.post(f"/v1/people/{pair.victim_id}/look", json=WHY)
        assert {one["role"] for one in (await desk.get("/v1/board")).json()["positions"]} == {"victim", "aggressor"}


async def test_who_resumes_from_an_old_cursor_learns_no_place_of_what_is_over(
    api: Any, pair: Any, database: Any, transition: Any, as_role: Any, receive: Any
) -> None:
    await open_incident(database, transition("proximity", "warning", "breach"))
    async with as_role("dispatcher") as desk:
        one = (await desk.get("/v1/board")).json()["incidents"][0]
        assert one["place"]["precision"] == "exact"
        body = {"version": one["version"], "outcome": "custody"}
        done = (await desk.post(f"/v1/incidents/{one['id']}/resolve", json=body)).json()
        assert done["place"]["precision"] == "coarse"
        found = (await desk.get(f"/v1/incidents/{one['id']}/nearest-units")).json()
        assert found["place"]["precision"] == "coarse"
    async with api.feed(api.token(pair.agency_id, pair.users["dispatcher"]), 0) as socket:
        for kind in ("incident.opened", "incident.resolved"):
            frame = await receive(socket)
            assert (frame["kind"], frame["data"]["place"]["precision"]) == (kind, "coarse")
