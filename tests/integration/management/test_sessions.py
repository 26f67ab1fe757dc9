"""Sessions: seen, ended, and over within a second wherever they are open."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from core.passwords import PasswordDesk
from core.postgres.users import by_username
from tests.integration.management.visitor import Visitor


@pytest.fixture
async def visitor(office: Any) -> AsyncIterator[Visitor]:
    await office.context.ended_sessions.start()
    async with Visitor(office.context) as made:
        yield made
    await office.context.ended_sessions.stop()


async def test_a_user_sees_where_she_is_signed_in_and_ends_it_elsewhere(office: Any, visitor: Visitor) -> None:
    async with Visitor(office.context, "198.51.100.9") as left_open:
        await left_open.sign_in()
        await visitor.sign_in()
        sessions = (await visitor.get("/v1/me/sessions")).json()["items"]
        assert [one["address"] for one in sessions if one["current"]] == ["192.0.2.7"]
        other = next(one for one in sessions if not one["current"])
        assert (other["address"], other["user_agent"]) == ("198.51.100.9", "Chrome · Windows")
        assert (await visitor.delete(f"/v1/me/sessions/{other['id']}")).status_code == 204
        await _until_ended(office, other["id"])
        answer = await left_open.get("/v1/me")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
        assert (await left_open.refresh()).json()["code"] == "token_revoked"
        assert (await visitor.get("/v1/me")).status_code == 200


async def test_another_s_session_is_none_one_can_end(office: Any, visitor: Visitor) -> None:
    async with Visitor(office.context) as supervisor:
        await supervisor.sign_in("supervisor")
        theirs = (await supervisor.get("/v1/me/sessions")).json()["items"][0]["id"]
        await visitor.sign_in()
        assert (await visitor.delete(f"/v1/me/sessions/{theirs}")).status_code == 404
        assert (await visitor.get(f"/v1/users/{office.users['supervisor']['id']}/sessions")).status_code == 403
        assert (await supervisor.get("/v1/me")).status_code == 200


async def test_ending_all_others_leaves_this_one(office: Any, visitor: Visitor) -> None:
    async with Visitor(office.context) as second, Visitor(office.context) as third:
        for one in (second, third, visitor):
            await one.sign_in()
        assert (await visitor.delete("/v1/me/sessions")).status_code == 204
        assert len((await visitor.get("/v1/me/sessions")).json()["items"]) == 1
        assert (await second.refresh()).status_code == 401
        assert (await visitor.refresh()).status_code == 200


@pytest.mark.parametrize("how", ["disabled", "role", "sessions ended", "password code"])
async def test_what_an_administrator_does_to_a_user_ends_her_access_at_once(
    office: Any, visitor: Visitor, how: str
) -> None:
    await visitor.sign_in()
    session_id = (await visitor.get("/v1/me/sessions")).json()["items"][0]["id"]
    path = f"/v1/users/{office.users['dispatcher']['id']}"
    if how == "disabled":
        await office.patch(path, {"disabled": True}, "admin")
    elif how == "role":
        await office.patch(path, {"role": "officer"}, "admin")
    elif how == "sessions ended":
        assert (await office.call("admin", "DELETE", f"{path}/sessions")).status_code == 204
    else:
        assert (await office.post(f"{path}/password-code", None, "admin")).status_code == 201
    await _until_ended(office, session_id)
    assert (await visitor.get("/v1/me")).json()["code"] == "token_revoked"


async def test_an_ended_session_is_waited_for(office: Any, visitor: Visitor) -> None:
    ended = office.context.ended_sessions
    await visitor.sign_in()
    session_id = (await visitor.get("/v1/me/sessions")).json()["items"][0]["id"]
    waiting = asyncio.create_task(ended.ended(uuid.UUID(session_id), 60))
    await visitor.client.post("/v1/auth/logout", data={"refresh_token": visitor.refresh_token})
    assert await waiting
    assert not await ended.ended(uuid.uuid4(), 0.01)


async def test_an_administrator_sees_a_user_s_sessions_and_another_agency_s_does_not(
    office: Any, elsewhere: Any, visitor: Visitor
) -> None:
    await visitor.sign_in()
    path = f"/v1/users/{office.users['dispatcher']['id']}/sessions"
    assert len((await office.get(path, "admin")).json()["items"]) == 1
    assert (await elsewhere.get(path, "admin")).status_code == 404
    assert (await elsewhere.call("admin", "DELETE", path)).status_code == 404
    assert (await visitor.get("/v1/me")).status_code == 200


async def test_a_code_of_the_administrator_lets_a_user_set_her_password_once(office: Any, visitor: Visitor) -> None:
    path = f"/v1/users/{office.users['dispatcher']['id']}/password-code"
    code = (await office.post(path, None, "admin")).json()["code"]
    body = {"username": "Dispatcher", "code": code.upper().replace("-", " "), "password": "a new and longer one"}
    weak = await visitor.client.post("/v1/auth/password", json={**body, "password": "password1234"})
    assert weak.json()["code"] == "password_weak"
    other = await visitor.client.post("/v1/auth/password", json={**body, "username": "admin"})
    assert other.json()["code"] == "sign_in_code_invalid"
    assert (await visitor.client.post("/v1/auth/password", json=body)).status_code == 204
    assert (await visitor.sign_in("dispatcher", "a new and longer one")).status_code == 200
    again = await visitor.client.post("/v1/auth/password", json=body)
    assert (again.status_code, again.json()["code"]) == (422, "sign_in_code_invalid")


async def test_a_code_runs_out(office: Any, visitor: Visitor, hands: Any) -> None:
    path = f"/v1/users/{office.users['dispatcher']['id']}/password-code"
    code = (await office.post(path, None, "admin")).json()["code"]
    hands.forward(days=1, seconds=1)
    body = {"username": "dispatcher", "code": code, "password": "a new and longer one"}
    assert (await visitor.client.post("/v1/auth/password", json=body)).json()["code"] == "sign_in_code_invalid"


async def test_changing_one_s_own_password_wants_a_recent_proof_and_ends_the_other_sessions(
    office: Any, visitor: Visitor, hands: Any
) -> None:
    async with Visitor(office.context) as other:
        await other.sign_in()
        await visitor.sign_in()
        hands.forward(seconds=601)
        change = {"password": "another long password"}
        refused = await visitor.put("/v1/me/password", change)
        assert (refused.status_code, refused.json()["code"]) == (403, "confirmation_required")
        wrong = await visitor.post("/v1/me/confirm", {"password": "not this one at all"})
        assert wrong.json()["code"] == "second_factor_invalid"
        assert (await visitor.post("/v1/me/confirm", {"password": "correct horse battery"})).status_code == 204
        assert (await visitor.put("/v1/me/password", {"password": "short"})).json()["code"] == "password_weak"
        assert (await visitor.put("/v1/me/password", change)).status_code == 204
        assert (await other.refresh()).json()["code"] == "token_revoked"
        assert (await visitor.refresh()).status_code == 200
        assert (await other.sign_in(password="another long password")).status_code == 200


async def test_a_password_hashed_by_older_parameters_is_hashed_anew_when_it_is_used(
    office: Any, visitor: Visitor
) -> None:
    office.context.passwords.close()
    office.context.passwords = PasswordDesk(Argon2Hasher(time_cost=2, memory_cost=16, parallelism=1))
    assert (await visitor.sign_in()).status_code == 200
    async with office.context.database.connection() as connection:
        user = await by_username(connection, "dispatcher")
    assert user is not None
    assert "m=16,t=2" in user["password_hash"]
    assert (await visitor.sign_in()).status_code == 200


async def _until_ended(office: Any, session_id: str) -> None:
    """Wait, with the registry's own signal, until this process knows of the end: within a second by its design."""
    assert await office.context.ended_sessions.ended(uuid.UUID(session_id), 10)
