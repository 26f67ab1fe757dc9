"""Who may enter: passwords, access tokens, refresh tokens, roles."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx
import pytest

from api.auth import Actor, make_access_token
from core.actions.users import add_user_by_agency_name
from core.clock import utc_now
from core.errors import Conflict, InvalidInput

PASSWORD = "correct horse battery"


async def sign_in(client: httpx.AsyncClient, username: str = "dispatcher", password: str = PASSWORD) -> httpx.Response:
    return await client.post("/v1/auth/token", data={"username": username, "password": password})


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


async def me(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})


async def test_a_right_password_gives_tokens_that_open_the_api(office: Any, client: httpx.AsyncClient) -> None:
    answer = await sign_in(client, "DISPATCHER")
    assert answer.status_code == 200
    body = answer.json()
    assert body["expires_in"] == 900
    assert body["token_type"] == "bearer"
    who = (await me(client, body["access_token"])).json()
    assert (who["username"], who["role"]) == ("dispatcher", "dispatcher")


async def test_a_wrong_name_or_password_is_refused_in_the_same_words(office: Any, client: httpx.AsyncClient) -> None:
    for username, password in (
        ("dispatcher", "wrong password"),
        ("nobody", PASSWORD),
        ("dispatcher\x00", PASSWORD),
        ("", ""),
        ("x" * 500, PASSWORD),
        ("dispatcher", PASSWORD + "x" * 500),
    ):
        answer = await sign_in(client, username, password)
        assert (answer.status_code, answer.json()["code"]) == (401, "credentials_invalid")
        assert answer.json()["detail"] == "The user name or the password is wrong."


async def test_an_unknown_name_costs_a_hash_like_a_known_one(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office.context.passwords
    checked = []
    verify = desk._verify
    monkeypatch.setattr(desk, "_verify", lambda *both: checked.append(both) or verify(*both))
    await sign_in(office.client, "nobody")
    await sign_in(office.client, "dispatcher")
    assert len(checked) == 2
    assert desk._decoy is not None


async def test_whether_a_name_is_known_shows_neither_in_the_first_hash_nor_in_what_is_written(
    office: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    desk = office.context.passwords
    make = desk._hash.hash
    monkeypatch.setattr(desk._hash, "hash", lambda password: made.append(password) or make(password))
    await sign_in(office.client, "dispatcher", "wrong password")
    assert len(made) == 1, "the decoy is made by the first check, not by the first unknown name"
    await sign_in(office.client, "nobody", "wrong password")
    assert len(made) == 1
    async with office.database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM audit WHERE action = 'user.sign_in_refused' ORDER BY id")
    assert [(row["agency_id"], row["detail"]["why"]) for row in rows] == [
        (office.agency_id, "password"), (None, "unknown"),
    ]  # fmt: skip
    assert "nobody" not in str([dict(row) for row in rows])


async def test_too_many_attempts_wait_a_minute_and_another_name_does_not(
    office: Any, client: httpx.AsyncClient
) -> None:
    limit = office.context.settings.login_attempts_per_minute
    for _ in range(limit):
        assert (await sign_in(client, "admin", "wrong password")).status_code == 401
    refused = await sign_in(client, "admin")
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await sign_in(client)).status_code == 200


async def test_a_full_password_queue_answers_at_once(office: Any, client: httpx.AsyncClient) -> None:
    office.context.passwords._waiting = [32, 32]
    assert (await sign_in(client)).status_code == 429


async def test_no_token_a_forged_one_and_an_expired_one_are_told_apart(
    office: Any, client: httpx.AsyncClient, hands: Any
) -> None:
    assert (await client.get("/v1/me")).json()["code"] == "credentials_missing"
    assert (await client.get("/v1/me", headers={"Authorization": "Basic x"})).json()["code"] == "credentials_missing"
    user = office.users["admin"]
    actor = Actor(user["id"], office.agency_id, "admin", "admin")
    forged = make_access_token(actor, secrets.token_bytes(32), hands(), 900)
    for token in (forged, "nonsense", "a.b.c", forged[:-3], "x" * 10_000):
        answer = await me(client, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "credentials_invalid")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    good = make_access_token(actor, office.context.token_key, hands(), 900)
    assert (await me(client, good)).status_code == 200
    hands.forward(seconds=901)
    assert (await me(client, good)).json()["code"] == "token_expired"


async def test_an_unsigned_token_is_no_token(client: httpx.AsyncClient, office: Any) -> None:
    head = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
    body = make_access_token(
        Actor(office.users["admin"]["id"], office.agency_id, "admin", "a"), b"k" * 32, utc_now(), 9
    )
    assert (await me(client, f"{head}.{body.split('.')[1]}.")).json()["code"] == "credentials_invalid"


async def test_a_refresh_token_works_once_and_its_second_use_ends_the_family(
    office: Any, client: httpx.AsyncClient
) -> None:
    first = (await sign_in(client)).json()["refresh_token"]
    second = (await refresh(client, first)).json()["refresh_token"]
    third = (await refresh(client, second)).json()["refresh_token"]
    reused = await refresh(client, first)
    assert (reused.status_code, reused.json()["code"]) == (401, "token_revoked")
    assert (await refresh(client, third)).json()["code"] == "token_revoked"
    assert (await sign_in(client)).status_code == 200


async def test_two_tabs_that_spend_a_refresh_token_at_once_get_the_same_successor(
    office: Any, client: httpx.AsyncClient
) -> None:
    token = (await sign_in(client)).json()["refresh_token"]
    first, second = await asyncio.gather(refresh(client, token), refresh(client, token))
    assert first.json()["refresh_token"] == second.json()["refresh_token"] != token
    assert (await refresh(client, first.json()["refresh_token"])).status_code == 200


async def test_a_spent_refresh_token_that_comes_late_ends_the_session(
    office: Any, client: httpx.AsyncClient, hands: Any
) -> None:
    token = (await sign_in(client)).json()["refresh_token"]
    successor = (await refresh(client, token)).json()["refresh_token"]
    hands.forward(seconds=11)
    assert (await refresh(client, token)).json()["code"] == "token_revoked"
    assert (await refresh(client, successor)).json()["code"] == "token_revoked"


async def test_refresh_tokens_end_with_time_sign_out_and_disabling(
    office: Any, client: httpx.AsyncClient, hands: Any
) -> None:
    expired = (await sign_in(client)).json()["refresh_token"]
    hands.forward(seconds=43_201)
    assert (await refresh(client, expired)).json()["code"] == "token_expired"
    left = (await sign_in(client)).json()["refresh_token"]
    assert (await client.post("/v1/auth/logout", data={"refresh_token": left})).status_code == 204
    assert (await refresh(client, left)).json()["code"] == "token_revoked"
    held = (await sign_in(client)).json()["refresh_token"]
    user_id = office.users["dispatcher"]["id"]
    assert (await office.patch(f"/v1/users/{user_id}", {"disabled": True}, "admin")).json()["disabled_at"]
    assert (await refresh(client, held)).json()["code"] == "token_revoked"
    assert (await sign_in(client)).status_code == 401
    assert (await refresh(client, "qr_unknown")).json()["code"] == "credentials_invalid"


async def test_a_grant_there_is_not_is_refused(client: httpx.AsyncClient, office: Any) -> None:
    answer = await client.post("/v1/auth/token", data={"grant_type": "client_credentials"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


ALLOWED: dict[tuple[str, str], set[str]] = {
    ("GET", "/v1/users"): {"admin"},
    ("GET", "/v1/gateways"): {"admin"},
    ("GET", "/v1/notification-routes"): {"admin"},
    ("GET", "/v1/people"): {"admin", "supervisor", "caseworker", "dispatcher", "officer"},
    ("GET", "/v1/orders"): {"admin", "supervisor", "caseworker", "dispatcher", "officer"},
    ("GET", "/v1/zones"): {"admin", "supervisor", "caseworker", "dispatcher", "officer"},
    ("GET", "/v1/units"): {"admin", "supervisor", "caseworker", "dispatcher", "officer"},
    ("GET", "/v1/devices"): {"admin", "supervisor", "caseworker", "dispatcher"},
    ("GET", "/v1/contacts"): {"admin", "supervisor", "caseworker", "dispatcher"},
    ("GET", "/v1/suspensions"): {"admin", "supervisor", "caseworker", "dispatcher"},
    ("GET", "/v1/policies"): {"admin", "supervisor", "caseworker", "dispatcher"},
    ("GET", "/v1/audit"): {"admin", "auditor"},
    ("GET", "/v1/reports/incidents"): {"admin", "supervisor", "auditor"},
    ("GET", "/v1/reports/deliveries"): {"admin", "supervisor", "auditor"},
    ("GET", "/v1/reports/devices"): {"admin", "supervisor", "auditor"},
    ("GET", "/v1/agencies"): {"admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor"},
    ("POST", "/v1/people"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/orders"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/devices"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/zones"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/contacts"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/suspensions"): {"admin", "supervisor", "caseworker"},
    ("POST", "/v1/units"): {"admin", "supervisor"},
    ("PUT", "/v1/policies"): {"admin", "supervisor"},
    ("POST", "/v1/users"): {"admin"},
    ("POST", "/v1/gateways"): {"admin"},
}


async def test_a_role_may_what_it_may_and_no_more(office: Any) -> None:
    for (method, path), allowed in ALLOWED.items():
        body = {} if method == "GET" else {"json": {"no such field": 1}}
        for role in office.users:
            answer = await office.call(role, method, path, **body)
            if role in allowed:
                assert answer.status_code in {200, 422}, (method, path, role, answer.text)
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "role_forbidden"), (method, path, role)


async def test_a_user_is_added_by_agency_name_once(office: Any) -> None:
    database = office.database
    user = await add_user_by_agency_name(database, " new one ", "long enough password", "officer", "New", utc_now())
    assert user["username"] == "new one"
    with pytest.raises(Conflict):
        await add_user_by_agency_name(database, "NEW ONE", "long enough password", "officer", "New", utc_now())
    for username, password, role in (
        ("x", "short", "officer"),
        ("", "long enough password", "officer"),
        ("y", "long enough password", "king"),
    ):
        with pytest.raises(InvalidInput):
            await add_user_by_agency_name(database, username, password, role, "New", utc_now())


async def test_a_form_that_is_no_text_or_no_form_is_refused_like_any_other(
    office: Any, client: httpx.AsyncClient
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for content in (b"username=%ff%fe&password=x", b"username=%00&password=%00", b"&&&=&=", b"\xff" * 100, b""):
        answer = await client.post("/v1/auth/token", content=content, headers=form)
        assert answer.status_code in {400, 401, 422}, (content, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    answer = await client.post("/v1/auth/token", json={"username": "admin", "password": PASSWORD})
    assert answer.status_code in {401, 422}
    answer = await client.post(
        "/v1/auth/token", content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code in {400, 401, 422}
