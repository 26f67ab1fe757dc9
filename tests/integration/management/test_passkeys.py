"""Passkeys, with an authenticator in software that really signs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.management.software_authenticator import Authenticator
from tests.integration.management.visitor import Visitor


@pytest.fixture
async def visitor(office: Any) -> AsyncIterator[Visitor]:
    async with Visitor(office.context) as made:
        await made.sign_in()
        yield made


async def register(visitor: Visitor, authenticator: Authenticator, name: str = "My key") -> Any:
    options = (await visitor.post("/v1/me/passkeys/options")).json()
    return await visitor.post("/v1/me/passkeys", {"name": name, "credential": authenticator.create(options)})


async def by_passkey(visitor: Visitor, authenticator: Authenticator, **changed: Any) -> Any:
    options = (await visitor.client.post("/v1/auth/passkey/options")).json()
    answer = await visitor.client.post("/v1/auth/passkey", json={"credential": authenticator.get(options, **changed)})
    visitor.keep(answer)
    return answer


async def test_a_passkey_is_kept_named_listed_and_removed(visitor: Visitor) -> None:
    key = Authenticator()
    made = await register(visitor, key)
    assert made.status_code == 201, made.text
    assert set(made.json()) == {"id", "name", "backed_up", "created_at", "last_used_at"}
    path = f"/v1/me/passkeys/{made.json()['id']}"
    assert (await visitor.call("PATCH", path, json={"name": "The blue one"})).json()["name"] == "The blue one"
    assert [one["name"] for one in (await visitor.get("/v1/me/passkeys")).json()] == ["The blue one"]
    options = (await visitor.post("/v1/me/passkeys/options")).json()
    assert len(options["excludeCredentials"]) == 1
    assert (await visitor.delete(path)).status_code == 204
    assert (await visitor.delete(path)).status_code == 404
    assert (await by_passkey(visitor, key)).status_code == 401


async def test_a_passkey_that_verifies_its_user_signs_in_alone(visitor: Visitor) -> None:
    key = Authenticator()
    await register(visitor, key)
    answer = await by_passkey(visitor, key)
    assert answer.status_code == 200, answer.text
    assert (await visitor.get("/v1/me")).json()["username"] == "dispatcher"
    session = next(one for one in (await visitor.get("/v1/me/sessions")).json()["items"] if one["current"])
    assert (session["method"], session["second_factor"]) == ("passkey", "passkey")


async def test_one_that_does_not_is_good_after_the_password_only(visitor: Visitor) -> None:
    key = Authenticator(verifies=False)
    await register(visitor, key)
    assert (await by_passkey(visitor, key)).json()["code"] == "credentials_invalid"
    asked = await visitor.sign_in()
    assert asked.json()["factors"] == ["passkey"]
    answer = key.get(asked.json()["passkey_options"])
    assert (await visitor.sign_in(passkey=json.dumps(answer))).status_code == 200
    again = await visitor.sign_in(passkey=json.dumps(answer))
    assert again.json()["code"] == "second_factor_invalid", "an answer is taken once"


async def test_a_lying_answer_is_refused(visitor: Visitor, office: Any, hands: Any) -> None:
    key = Authenticator()
    await register(visitor, key)
    stranger = ec.generate_private_key(ec.SECP256R1())
    for changed in (
        {"origin": "http://qorgan.evil"}, {"rp_id": "qorgan.evil"}, {"key": stranger}, {"type": "webauthn.create"},
        {"handle": office.users["admin"]["id"].bytes},
    ):  # fmt: skip
        answer = await by_passkey(visitor, key, **changed)
        assert (answer.status_code, answer.json()["code"]) == (401, "credentials_invalid"), changed
    assert (await by_passkey(visitor, key)).status_code == 200


async def test_a_counter_that_goes_back_betrays_a_copy(visitor: Visitor) -> None:
    key = Authenticator()
    await register(visitor, key)
    assert (await by_passkey(visitor, key, count=10)).status_code == 200
    assert (await by_passkey(visitor, key, count=10)).status_code == 401
    assert (await by_passkey(visitor, key, count=9)).status_code == 401
    assert (await by_passkey(visitor, key, count=11)).status_code == 200


async def test_a_challenge_is_ours_fresh_and_answered_once(visitor: Visitor, hands: Any) -> None:
    key = Authenticator()
    await register(visitor, key)
    options = (await visitor.client.post("/v1/auth/passkey/options")).json()
    answer = {"credential": key.get(options)}
    assert (await visitor.client.post("/v1/auth/passkey", json=answer)).status_code == 200
    assert (await visitor.client.post("/v1/auth/passkey", json=answer)).status_code == 401
    late = {"credential": key.get((await visitor.client.post("/v1/auth/passkey/options")).json())}
    hands.forward(minutes=5, seconds=1)
    assert (await visitor.client.post("/v1/auth/passkey", json=late)).status_code == 401
    forged = {"credential": key.get({**options, "challenge": "A" * 75})}
    assert (await visitor.client.post("/v1/auth/passkey", json=forged)).status_code == 401


async def test_a_challenge_for_one_thing_or_person_is_none_for_another(visitor: Visitor, office: Any) -> None:
    key = Authenticator()
    await register(visitor, key)
    after_password = (await visitor.sign_in()).json()["passkey_options"]
    alone = {"credential": key.get(after_password)}
    assert (await visitor.client.post("/v1/auth/passkey", json=alone)).status_code == 401
    options = (await visitor.post("/v1/me/passkeys/options")).json()
    async with Visitor(office.context) as admin:
        await admin.sign_in("admin")
        taken = await admin.post("/v1/me/passkeys", {"name": "Taken", "credential": Authenticator().create(options)})
        assert taken.status_code == 422
        other = Authenticator()
        assert (await register(admin, other)).status_code == 201
        hers = await admin.sign_in("admin")
        mixed = await visitor.sign_in(passkey=json.dumps(other.get(hers.json()["passkey_options"])))
        assert mixed.json()["code"] == "second_factor_invalid"


async def test_what_is_no_answer_at_all_is_refused_politely(visitor: Visitor) -> None:
    key = Authenticator()
    await register(visitor, key)
    good = key.get((await visitor.client.post("/v1/auth/passkey/options")).json())
    for credential in (
        {}, {"rawId": 5}, {"rawId": "é"}, {"rawId": good["rawId"]}, {**good, "response": None},
        {**good, "response": {}}, {**good, "response": {**good["response"], "clientDataJSON": "AAAA"}},
        {**good, "response": {**good["response"], "authenticatorData": "AA"}},
        {**good, "response": {**good["response"], "signature": 7}}, {**good, "type": "password"},
        {**good, "rawId": "A" * 5000},
    ):  # fmt: skip
        answer = await visitor.client.post("/v1/auth/passkey", json={"credential": credential})
        assert answer.status_code in {401, 422}, (credential, answer.text)
        made = await visitor.post("/v1/me/passkeys", {"name": "x", "credential": credential})
        assert made.status_code == 422, (credential, made.text)
    for text in ("", "[]", "nonsense", "[" * 10_000):
        assert (await visitor.sign_in(passkey=text)).status_code in {401, 422}


async def test_a_disabled_user_s_passkey_opens_nothing(visitor: Visitor, office: Any) -> None:
    key = Authenticator()
    await register(visitor, key)
    await office.patch(f"/v1/users/{office.users['dispatcher']['id']}", {"disabled": True}, "admin")
    assert (await by_passkey(visitor, key)).status_code == 401


async def test_a_passkey_ends_the_wait_of_a_role_that_needs_one(visitor: Visitor, office: Any) -> None:
    await office.call("admin", "PUT", "/v1/sign-in-policy", json={"second_factor_roles": ["dispatcher"]})
    assert (await visitor.sign_in()).json()["must_enrol"]
    made = (await register(visitor, Authenticator())).json()
    assert not (await visitor.refresh()).json()["must_enrol"]
    assert (await visitor.delete(f"/v1/me/passkeys/{made['id']}")).json()["code"] == "state_forbids"
