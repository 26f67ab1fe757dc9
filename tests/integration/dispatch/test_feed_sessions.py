"""An open feed closes as soon as its session is ended."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets

from api.auth import Actor, make_access_token
from core.actions.sign_in import Proof, Visit, open_session
from core.actions.unit_of_work import act
from core.actions.users import change_user
from core.clock import utc_now
from core.postgres import sessions
from core.postgres.users import USERS


@pytest.mark.parametrize("how", ["signed out", "disabled"])
async def test_a_feed_whose_session_is_ended_is_closed_within_a_second(
    api: Any, pair: Any, database: Any, how: str
) -> None:
    user_id = pair.users["dispatcher"]
    async with act(database, utc_now()) as unit:
        user = await USERS.get(unit.connection, pair.agency_id, user_id)
        opened = await open_session(unit, user, Proof("password"), Visit(), 3600)
    actor = Actor(user_id, pair.agency_id, "dispatcher", "dispatcher", session_id=opened.session_id)
    token = make_access_token(actor, api.context.token_key, utc_now(), 900)
    await api.context.ended_sessions.start()
    try:
        async with api.feed(token, 0) as socket:
            async with act(database, utc_now()) as unit:
                if how == "disabled":
                    await change_user(unit, pair.agency_id, user_id, {"disabled_at": unit.now})
                else:
                    await sessions.end(unit.connection, [opened.session_id], unit.now, "signed_out")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    frame = json.loads(await socket.recv())
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
            assert frame["error"]["code"] == "token_revoked"
        async with api.feed(token, 0) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "token_revoked"
    finally:
        await api.context.ended_sessions.stop()


async def test_a_user_who_must_add_a_second_factor_first_has_no_feed(api: Any, pair: Any) -> None:
    actor = Actor(pair.users["dispatcher"], pair.agency_id, "dispatcher", "dispatcher", enrol_only=True)
    token = make_access_token(actor, api.context.token_key, utc_now(), 900)
    async with api.feed(token, 0) as socket:
        assert json.loads(await socket.recv())["error"]["code"] == "second_factor_enrolment_required"


@pytest.mark.parametrize("where", ["header", "first frame"])
async def test_why_a_feed_is_watched_is_kept_with_who_was_seen(api: Any, pair: Any, where: str) -> None:
    token = api.token(pair.agency_id, pair.users["dispatcher"])
    address = api.url.replace("http", "ws", 1) + "/v1/feed?after=0"
    headers = {"Authorization": f"Bearer {token}", "Qorgan-Purpose": "inquiry"} if where == "header" else {}
    async with websockets.connect(address, additional_headers=headers) as socket:
        if where == "first frame":
            await socket.send(json.dumps({"token": token, "purpose": "inquiry"}))
        async with asyncio.timeout(10):
            while not api.context.tail.connections:
                await asyncio.sleep(0.01)
        [subscription] = api.context.tail._subscriptions[pair.agency_id]
        assert subscription.scope.purpose == "inquiry"


@pytest.mark.parametrize("purpose", ["two words", 7, None, ["x"]])
async def test_a_purpose_that_is_no_word_closes_the_feed(api: Any, pair: Any, purpose: Any) -> None:
    token = api.token(pair.agency_id, pair.users["dispatcher"])
    async with websockets.connect(api.url.replace("http", "ws", 1) + "/v1/feed") as socket:
        await socket.send(json.dumps({"token": token, "purpose": purpose}))
        assert json.loads(await socket.recv())["error"]["code"] == "validation_failed"
