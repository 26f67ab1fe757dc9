"""A device's own news: her protection and her panics, nobody's place, and nothing for an aggressor's device."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import websockets

from api import even_time, panic_desk
from api.cancel_turns import CancelTurns
from api.live import own_news
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import utc_now
from core.ids import new_token, token_digest

Query = Callable[..., Any]


async def news(socket: Any, kind: str) -> dict[str, Any]:
    """The data of the next frame of a kind."""
    async with asyncio.timeout(10):
        while True:
            frame = json.loads(await socket.recv())
            if frame["kind"] == kind:
                return dict(frame["data"])


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_news, "LOOK_S", 0.02)
    monkeypatch.setattr(own_news, "PROTECTION_S", 0.1)


@pytest.fixture(autouse=True)
async def _known(api: Any, pair: Any) -> None:
    """The pair's tokens are known to the API."""
    del pair
    await api.context.registry.refresh()


async def test_her_device_hears_what_becomes_of_her_panic(api: Any, pair: Any) -> None:
    panic_id = str(uuid.uuid4())
    desk_token = api.token(pair.agency_id, pair.users["dispatcher"])
    async with (
        api.client(pair.phone_token) as phone, api.client(desk_token) as desk, api.own_news(pair.phone_token) as socket,
    ):  # fmt: skip
        incident_id = (await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9})).json()[
            "incident_id"
        ]
        told = await news(socket, "panic")
        assert (told["panic_id"], told["state"], told["acknowledged_at"]) == (panic_id, "open", None)
        assert "lat" not in str(told)
        assert (await desk.post(f"/v1/incidents/{incident_id}/acknowledge", json={"version": 1})).status_code == 200
        told = await news(socket, "panic")
        assert told == (await phone.get(f"/v1/panic/{panic_id}")).json()
        assert told["state"] == "acknowledged"
        assert (await desk.post(f"/v1/incidents/{incident_id}/dispatch", json={"version": 2})).status_code == 200
        assert (await news(socket, "panic"))["state"] == "dispatched"
        async with api.own_news(None) as again:
            await again.send(json.dumps({"token": pair.phone_token}))
            assert (await news(again, "panic"))["state"] == "dispatched"


async def test_a_wish_to_cancel_that_was_answered_shows_on_every_road_before_it_is_judged(
    api: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*_: object) -> bool:
        return False

    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    monkeypatch.setattr(panic_desk, "CANCEL_BOUND", 0)
    monkeypatch.setattr(CancelTurns, "judge", not_yet)
    desk_token = api.token(pair.agency_id, pair.users["dispatcher"])
    async with (
        api.client(pair.phone_token) as phone, api.client(desk_token) as desk, api.own_news(pair.phone_token) as socket,
    ):  # fmt: skip
        pressed = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()
        assert (await news(socket, "panic"))["state"] == "open"
        answer = await phone.post(f"/v1/panic/{pressed['panic_id']}/cancel", json={"pin": "2580"})
        assert answer.json() == {"state": "cancelled"}
        assert (await news(socket, "panic"))["state"] == "cancelled"
        path = f"/v1/incidents/{pressed['incident_id']}/acknowledge"
        assert (await desk.post(path, json={"version": 1})).status_code == 200
        async with api.own_news(pair.phone_token) as again:
            told = await news(again, "panic")
        assert told == (await phone.get(f"/v1/panic/{pressed['panic_id']}")).json()
        assert (told["state"], told["acknowledged_at"]) == ("cancelled", None)


async def test_a_wish_to_cancel_that_was_not_answered_yet_shows_nowhere(
    api: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a wrong PIN, and be told so."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    rows = api.context.panic_desk._rows
    plain, entered, read = rows.commit_cancel, asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> Any:
        entered.set()
        await read.wait()
        return await plain(*arguments)

    async with api.client(pair.phone_token) as phone, api.client(pair.phone_token) as other:
        assert (await phone.put("/v1/me/pins", json={"pin": "2580", "duress_pin": "911911"})).status_code == 204
        panic_id = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["panic_id"]
        monkeypatch.setattr(rows, "commit_cancel", slowly)
        asking = asyncio.create_task(phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": "7777"}))
        await asyncio.wait_for(entered.wait(), 10)
        assert (await other.get(f"/v1/panic/{panic_id}")).json()["state"] == "open"
        async with api.own_news(pair.phone_token) as socket:
            assert (await news(socket, "panic"))["state"] == "open"
        read.set()
        assert (await asking).status_code == 403


async def test_who_wears_the_device_next_hears_nothing_of_who_pressed_on_it_before(
    api: Any, pair: Any, another_pair: Any, query: Query
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    async with api.client(pair.phone_token) as phone:
        await phone.post("/v1/panic", json={"id": first})
        other = await another_pair()
        await query("UPDATE device SET person_id = $2 WHERE id = $1", pair.phone_id, other.victim_id)
        assert (await phone.get(f"/v1/panic/{first}")).status_code == 404
        await phone.post("/v1/panic", json={"id": second})
        async with api.own_news(pair.phone_token) as socket:
            assert (await news(socket, "panic"))["panic_id"] == second
    assert [row["victim_id"] for row in await query("SELECT victim_id FROM incident ORDER BY opened_at, id")] == [
        pair.victim_id, other.victim_id,
    ]  # fmt: skip


async def test_her_device_hears_of_a_change_of_her_protection(api: Any, pair: Any, database: Any) -> None:
    async with api.own_news(pair.phone_token) as socket:
        assert await news(socket, "protection") == {
            "status": "unprotected",
            "reasons": ["your_device_silent", "his_device_not_heard"],
        }
        async with database.transaction() as connection:
            await connection.execute("UPDATE device SET last_seen_at = $1", utc_now())
        assert await news(socket, "protection") == {"status": "protected", "reasons": []}


async def test_an_aggressor_s_device_is_kept_alive_and_told_nothing(
    api: Any, pair: Any, database: Any, transition: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_news, "KEEPALIVE_S", 0.1)
    async with (
        api.own_news(pair.bracelet_token) as his, api.own_news(pair.phone_token) as hers,
        api.client(pair.phone_token) as phone,
    ):  # fmt: skip
        async with act(database, utc_now()) as unit:
            await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=90.0)])
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
        await news(hers, "panic")
        assert {await his.recv() for _ in range(5)} == {own_news.KEEPALIVE}


async def test_nobody_hears_of_another_s_panic(api: Any, pair: Any, another_pair: Any) -> None:
    other = await another_pair()
    await api.context.registry.refresh()
    async with (
        api.own_news(other.phone_token) as stranger, api.client(pair.phone_token) as phone,
        api.client(other.phone_token) as others,
    ):  # fmt: skip
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
        panic_id = str(uuid.uuid4())
        assert (await others.post("/v1/panic", json={"id": panic_id})).status_code == 201
        assert (await news(stranger, "panic"))["panic_id"] == panic_id


async def test_who_may_not_enter_is_told_why(api: Any, pair: Any, database: Any) -> None:
    gateway = new_token("qg")
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO bearer_token (digest, gateway_name, agency_id, created_at) VALUES ($1, 'gateway', $2, $3)",
            token_digest(gateway), pair.agency_id, utc_now(),
        )  # fmt: skip
    await api.context.registry.refresh()
    user = api.token(pair.agency_id, pair.users["dispatcher"])
    for token, code, close in (
        ("qd_nobody", "device_unknown", 4401), (user, "device_unknown", 4401), (gateway, "device_forbidden", 4403),
    ):  # fmt: skip
        async with api.own_news(token) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == code
            with pytest.raises(websockets.ConnectionClosed) as ended:
                await socket.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == close


async def test_a_revoked_token_ends_the_socket(api: Any, pair: Any, database: Any) -> None:
    async with api.own_news(pair.phone_token) as socket:
        await news(socket, "protection")
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE bearer_token SET revoked_at = $2, changed_xid = pg_current_xact_id() WHERE digest = $1",
                token_digest(pair.phone_token), utc_now(),
            )  # fmt: skip
        with pytest.raises(websockets.ConnectionClosed) as ended:
            async with asyncio.timeout(10):
                while True:
                    await socket.recv()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 4401


async def test_a_device_s_newest_sockets_stay(api: Any, pair: Any) -> None:
    async with api.own_news(pair.phone_token) as first:
        await news(first, "protection")
        others = [await api.own_news(pair.phone_token) for _ in range(own_news.SOCKETS_A_DEVICE)]
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    await first.recv()
        for socket in others:
            await news(socket, "protection")
            await socket.close()


async def test_with_postgresql_away_she_is_told_so_and_then_how_it_is(
    settings: Any, gated_database: Any, gate: Any, redis_client: Any, serve: Any, pair: Any
) -> None:
    async with serve(settings, gated_database, redis_client) as api, api.own_news(pair.phone_token) as socket:
        assert (await news(socket, "protection"))["status"] == "unprotected"
        await gate.shut()
        assert await news(socket, "protection") == {"status": "degraded", "reasons": ["service_degraded"]}
        await gate.open()
        assert (await news(socket, "protection"))["status"] == "unprotected"


async def test_before_anybody_knows_whether_it_may_be_shown_she_is_told_that_it_cannot_be_known(
    api: Any, pair: Any
) -> None:
    api.context.own_news._may_read = lambda: False
    async with api.client(pair.phone_token) as phone, api.own_news(pair.phone_token) as socket:
        panic_id = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["panic_id"]
        frame = json.loads(await socket.recv())
        while frame["kind"] == "keepalive":
            frame = json.loads(await socket.recv())
        assert frame["data"] == {"status": "degraded", "reasons": ["service_degraded"]}
        api.context.own_news._may_read = lambda: True
        assert (await news(socket, "panic"))["panic_id"] == panic_id
