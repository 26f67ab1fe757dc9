"""The live feed: in order, none missing, to those who may see it."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import websockets

from api.live.subscription import QUEUE_FRAMES
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import to_ms
from core.domain.scope import Scope
from core.errors import QorganError
from core.postgres import board, feed
from core.redis import keys
from core.redis.live import LiveFix

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Query = Callable[..., Any]


async def emit(database: Any, agency_id: uuid.UUID, *names: str) -> None:
    async with act(database, NOW) as unit:
        for name in names:
            unit.emit(agency_id, "unit.updated", {"name": name})


def dispatcher(api: Any, pair: Any) -> str:
    token: str = api.token(pair.agency_id, pair.users["dispatcher"])
    return token


async def test_a_feed_resumed_again_and_again_under_many_commits_misses_nothing(
    api: Any, pair: Any, database: Any, receive: Any
) -> None:
    total = 300

    async def write(worker: int) -> None:
        for number in range(total // 10):
            await emit(database, pair.agency_id, f"{worker}-{number}")

    writing = [asyncio.create_task(write(worker)) for worker in range(10)]
    got: list[tuple[int, str]] = []
    cursor = 0
    while len(got) < total:
        async with api.feed(dispatcher(api, pair), cursor) as socket:
            for _ in range(min(17, total - len(got))):
                frame = await receive(socket)
                cursor = int(frame["cursor"])
                got.append((cursor, frame["data"]["name"]))
    await asyncio.gather(*writing)
    assert [c for c, _ in got] == sorted({c for c, _ in got}), "in order, none twice"
    assert {name for _, name in got} == {f"{w}-{n}" for w in range(10) for n in range(total // 10)}


async def test_without_a_cursor_the_feed_starts_now(api: Any, pair: Any, database: Any, receive: Any) -> None:
    await emit(database, pair.agency_id, "before")
    async with api.feed(dispatcher(api, pair)) as socket:
        while not any(s.placed for found in api.context.tail._subscriptions.values() for s in found):
            await asyncio.sleep(0.005)
        await emit(database, pair.agency_id, "after")
        assert (await receive(socket))["data"]["name"] == "after"


async def test_the_token_may_come_as_the_first_frame(api: Any, pair: Any, database: Any, receive: Any) -> None:
    await emit(database, pair.agency_id, "one")
    async with api.feed(None, 0) as socket:
        await socket.send(json.dumps({"token": dispatcher(api, pair)}))
        assert (await receive(socket))["data"]["name"] == "one"


@pytest.mark.parametrize(
    ("first", "code", "problem"),
    [
        ('{"token": "forged"}', 4401, "credentials_invalid"),
        ("{}", 4401, "credentials_missing"),
        ("not json", 4401, "credentials_missing"),
        ('{"token": 7}', 4401, "credentials_missing"),
    ],
)
async def test_a_socket_without_a_token_that_holds_is_closed(api: Any, first: str, code: int, problem: str) -> None:
    async with api.feed(None, 0) as socket:
        await socket.send(first)
        assert json.loads(await socket.recv())["error"]["code"] == problem
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd.code == code


async def test_a_socket_at_another_address_is_refused_with_a_problem(api: Any) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(api.url.replace("http", "ws", 1) + "/v1/pings/streams")
    assert refused.value.response.status_code == 404
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert json.loads(refused.value.response.body or b"")["code"] == "not_found"


async def test_an_expired_token_or_another_role_is_closed(api: Any, pair: Any) -> None:
    expired = api.token(pair.agency_id, pair.users["dispatcher"], life_s=-1)
    auditor = api.token(pair.agency_id, pair.users["auditor"], "auditor")
    for token, code, problem in ((expired, 4401, "token_expired"), (auditor, 4403, "role_forbidden")):
        async with api.feed(token, 0) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == problem
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == code


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "%20"])
async def test_a_cursor_that_is_none_is_refused(api: Any, pair: Any, cursor: str) -> None:
    async with api.feed(dispatcher(api, pair), cursor) as socket:
        assert json.loads(await socket.recv())["error"]["code"] == "cursor_invalid"


async def test_a_trimmed_cursor_is_told_to_reset_and_goes_on(api: Any, pair: Any, database: Any, receive: Any) -> None:
    await emit(database, pair.agency_id, *"abc")
    async with database.transaction() as connection:
        assert await feed.trim(connection, NOW + timedelta(seconds=1), NOW, 10) == 3
    async with api.client(dispatcher(api, pair)) as desk:
        cursor = (await desk.get("/v1/board")).json()["cursor"]
    async with api.feed(dispatcher(api, pair), 1) as old, api.feed(dispatcher(api, pair), cursor) as new:
        assert await receive(old, "reset")
        await emit(database, pair.agency_id, "later")
        assert (await receive(old))["data"]["name"] == "later"
        assert json.loads(await new.recv())["data"]["name"] == "later", "a board's cursor is never told to reset"


async def test_a_cursor_from_the_future_is_told_to_reset(api: Any, pair: Any, receive: Any) -> None:
    async with api.feed(dispatcher(api, pair), 10**12) as socket:
        assert await receive(socket, "reset")


async def test_another_agency_sees_nothing(api: Any, pair: Any, another_pair: Any, database: Any, receive: Any) -> None:
    other = await another_pair()
    async with api.feed(dispatcher(api, other), 0) as socket:
        await emit(database, pair.agency_id, "secret")
        await emit(database, other.agency_id, "own")
        assert (await receive(socket))["data"]["name"] == "own"


async def test_a_socket_that_does_not_read_is_closed_and_its_cursor_resumes(
    api: Any, pair: Any, database: Any, receive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live.subscription.SLOW_S", 0.2)
    total = QUEUE_FRAMES + 500
    async with api.feed(dispatcher(api, pair), 0, max_queue=1) as slow:
        async with act(database, NOW) as unit:
            for number in range(total):
                unit.emit(pair.agency_id, "unit.updated", {"name": str(number), "ballast": "x" * 10_000})
        async with asyncio.timeout(15):
            while api.context.tail.connections:
                await asyncio.sleep(0.05)
        cursor, names = "0", []
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                frame = json.loads(await slow.recv())
                cursor = frame["cursor"]
                names.append(frame["data"]["name"])
    assert len(names) < total
    async with api.feed(dispatcher(api, pair), cursor) as socket:
        names += [(await receive(socket))["data"]["name"] for _ in range(total - len(names))]
    assert names == [str(number) for number in range(total)]


async def test_an_old_snapshot_and_the_events_since_are_a_fresh_snapshot(
    api: Any, pair: Any, another_pair: Any, agency: Any, database: Any, query: Query, receive: Any, transition: Any
) -> None:
    choices = random.Random(7)
    pairs = [pair, *[await another_pair(agency) for _ in range(3)]]
    moves = [
        ("proximity", "warning", "breach"), ("proximity", "breach", "clear"), ("approach", "none", "predicted"),
        ("approach", "predicted", "none"), ("zone", "clear", "breach"), ("assurance", "likely", "unknown"),
    ]  # fmt: skip

    async def act_once() -> None:
        one = choices.choice(pairs)
        if choices.random() < 0.6:
            moves_now = [
                transition(*choices.choice(moves), order_id=one.order_id, distance_m=choices.uniform(1, 900))
                for _ in range(choices.randint(1, 4))
            ]
            moves_now = [_of_case(item, one) for item in moves_now]
            async with act(database, NOW) as unit:
                await apply_transitions(unit, moves_now)
            return
        rows = await query("SELECT id, version FROM incident WHERE state <> 'resolved'")
        if not rows:
            return
        row = choices.choice(rows)
        name = choices.choice(["acknowledge", "dispatch", "resolve", "note"])
        body = {"version": row["version"], "note": "n"} | ({"outcome": "custody"} if name == "resolve" else {})
        await desk.post(f"/v1/incidents/{row['id']}/{name}", json=body)

    async with api.client(dispatcher(api, pair)) as desk:
        old = (await desk.get("/v1/board")).json()
        async with api.feed(dispatcher(api, pair), old["cursor"]) as socket:
            held = {incident["id"]: incident for incident in old["incidents"]}
            cursor = int(old["cursor"])
            for _ in range(6):
                await asyncio.gather(*(act_once() for _ in range(10)), return_exceptions=False)
                fresh = (await desk.get("/v1/board")).json()
                while cursor < int(fresh["cursor"]):
                    frame = await receive(socket)
                    cursor = int(frame["cursor"])
                    if frame["kind"].startswith("incident."):
                        held[frame["data"]["id"]] = frame["data"]
                assert cursor == int(fresh["cursor"])
                still = {id_: incident for id_, incident in held.items() if incident["state"] != "resolved"}
                assert still == {incident["id"]: incident for incident in fresh["incidents"]}


def _of_case(item: Any, pair: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(item, case_id=pair.case_id, agency_id=pair.agency_id)


async def test_positions_of_the_parties_of_open_incidents_travel_beside_the_cursor(
    api: Any, pair: Any, another_pair: Any, agency: Any, database: Any, redis_client: Any, transition: Any, receive: Any
) -> None:
    bystander = await another_pair(agency)
    async with database.connection() as connection:
        numbers = {r["id"]: r["number"] for r in await connection.fetch("SELECT id, number FROM device")}
    fix = LiveFix(43.2, 76.9, 8.0, float("nan"), float("nan"), 80.0, to_ms(NOW), to_ms(NOW), 1)
    for one in (pair, bystander):
        for device_id in (one.phone_id, one.bracelet_id):
            await redis_client.hset(keys.live(one.shard), str(numbers[device_id]), fix.pack())
    async with api.feed(dispatcher(api, pair), 0) as socket:
        async with act(database, NOW) as unit:
            await apply_transitions(unit, [transition("proximity", "warning", "breach")])
        frame = await receive(socket, "position")
        assert "cursor" not in frame
        assert {(p["role"], p["person_id"]) for p in frame["data"]} == {
            ("victim", str(pair.victim_id)), ("aggressor", str(pair.aggressor_id)),
        }  # fmt: skip
        assert frame["data"][0]["speed_mps"] is None
    async with api.client(dispatcher(api, pair)) as desk:
        assert len((await desk.get("/v1/board")).json()["positions"]) == 2


async def test_units_are_found_near_her_when_her_panic_told_no_place(
    api: Any, pair: Any, database: Any, redis_client: Any
) -> None:
    await api.context.registry.refresh()
    async with database.transaction() as connection:
        number = await connection.fetchval("SELECT number FROM device WHERE id = $1", pair.phone_id)
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, lat, lon, created_at, updated_at)"
            " VALUES ($1, $2, 'A-7', 43.2, 76.9, $3, $3)",
            uuid.uuid4(), pair.agency_id, NOW,
        )  # fmt: skip
    fix = LiveFix(43.2, 76.9, 8.0, 0.0, 0.0, 80.0, to_ms(NOW), to_ms(NOW), 1)
    await redis_client.hset(keys.live(pair.shard), str(number), fix.pack())
    async with api.client(pair.phone_token) as phone, api.client(dispatcher(api, pair)) as desk:
        incident_id = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["incident_id"]
        found = (await desk.get(f"/v1/incidents/{incident_id}/nearest-units")).json()
    assert found["place"]["lat"] == 43.2
    assert found["units"][0]["distance_m"] == 0


async def test_an_action_that_fails_tells_nobody(pair: Any, database: Any, query: Query) -> None:
    with pytest.raises(QorganError):
        async with act(database, NOW) as unit:
            unit.emit(pair.agency_id, "unit.updated", {})
            await unit.flush()
            raise QorganError("no")
    assert await query("SELECT 1 FROM feed") == []


async def test_a_board_of_no_events_has_a_cursor_to_go_on_from(pair: Any, database: Any) -> None:
    assert (await board.load(database, Scope(pair.agency_id, pair.users["dispatcher"], "dispatcher"))).cursor == 0


async def test_before_anybody_knows_whether_it_may_be_shown_nothing_that_is_kept_is_fed(
    api: Any, pair: Any, database: Any, redis_client: Any
) -> None:
    """PostgreSQL is back, and the ledger gate looks within its second."""
    tail, scope = api.context.tail, Scope(pair.agency_id, pair.users["dispatcher"], "dispatcher")
    tail.may_read = lambda: False
    subscription = tail.subscribe(scope, 0)
    await emit(database, pair.agency_id, "kept")
    await tail._look([pair.agency_id])
    await tail._send_positions()
    assert (subscription.waiting, subscription.placed, tail.health) == (0, False, {"postgres": "up", "redis": "up"})
    tail.may_read = lambda: True
    frame = json.loads(await asyncio.wait_for(subscription.next(), 10))
    assert frame["data"]["name"] == "kept"
    tail.unsubscribe(subscription)
