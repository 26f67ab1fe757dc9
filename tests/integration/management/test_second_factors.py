"""One-time codes and recovery codes: each is used once, and who needs one can do nothing without."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pyotp
import pytest

from core.errors import Misconfigured
from core.secret_box import SecretBox
from tests.integration.management.visitor import Visitor

STEP = timedelta(seconds=30)


@pytest.fixture
async def visitor(office: Any) -> AsyncIterator[Visitor]:
    async with Visitor(office.context) as made:
        await made.sign_in()
        yield made


async def enrol(visitor: Visitor, hands: Any) -> tuple[pyotp.TOTP, list[str]]:
    """Add an authenticator app; it and the recovery codes."""
    begun = (await visitor.post("/v1/me/totp")).json()
    app = pyotp.TOTP(begun["secret"])
    answer = await visitor.post("/v1/me/totp/confirm", {"code": app.at(hands())})
    assert answer.status_code == 200, answer.text
    hands.forward(seconds=30)
    return app, answer.json()["recovery_codes"]


async def test_with_an_app_the_password_alone_says_only_what_is_missing(visitor: Visitor, hands: Any) -> None:
    app, _ = await enrol(visitor, hands)
    answer = await visitor.sign_in()
    assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
    assert answer.json()["factors"] == ["totp", "recovery"]
    assert (await visitor.sign_in(password="wrong password here")).json()["code"] == "credentials_invalid"
    signed_in = await visitor.sign_in(otp=app.at(hands()))
    assert signed_in.status_code == 200
    sessions = (await visitor.get("/v1/me/sessions")).json()["items"]
    assert [one["second_factor"] for one in sessions if one["current"]] == ["totp"]


async def test_a_code_is_used_once_and_an_older_one_not_after_a_newer(visitor: Visitor, hands: Any) -> None:
    app, _ = await enrol(visitor, hands)
    earlier, present = app.at(hands() - STEP), app.at(hands())
    assert (await visitor.sign_in(otp=present)).status_code == 200
    for again in (present, earlier, "000000", "no code", "١٢٣٤٥٦"):
        assert (await visitor.sign_in(otp=again)).json()["code"] == "second_factor_invalid", again
    hands.forward(minutes=5)
    spaced = f" {app.at(hands())[:3]} {app.at(hands())[3:]} "
    assert (await visitor.sign_in(otp=spaced)).status_code == 200


async def test_a_clock_may_be_half_a_minute_off_and_no_more(visitor: Visitor, hands: Any) -> None:
    app, _ = await enrol(visitor, hands)
    hands.forward(minutes=10)
    assert (await visitor.sign_in(otp=app.at(hands() - 2 * STEP))).json()["code"] == "second_factor_invalid"
    assert (await visitor.sign_in(otp=app.at(hands() + 2 * STEP))).json()["code"] == "second_factor_invalid"
    assert (await visitor.sign_in(otp=app.at(hands() - STEP))).status_code == 200
    assert (await visitor.sign_in(otp=app.at(hands() + STEP))).status_code == 200


async def test_guessing_codes_ends_after_five(visitor: Visitor, hands: Any, office: Any) -> None:
    app, _ = await enrol(visitor, hands)
    async with Visitor(office.context, "203.0.113.5") as thief:
        for _ in range(5):
            assert (await thief.sign_in(otp="000000")).json()["code"] == "second_factor_invalid"
        assert (await thief.sign_in(otp=app.at(hands()))).status_code == 429
    assert (await visitor.sign_in(otp=app.at(hands()))).status_code == 200, "her own browser has tries of its own"


async def test_a_recovery_code_is_good_once_however_it_is_typed(visitor: Visitor, hands: Any) -> None:
    _, codes = await enrol(visitor, hands)
    assert len(set(codes)) == 10
    typed = codes[0].upper().replace("-", " ")
    assert (await visitor.sign_in(otp=typed)).status_code == 200
    assert (await visitor.sign_in(otp=codes[0])).json()["code"] == "second_factor_invalid"
    assert (await visitor.get("/v1/me/second-factors")).json()["recovery_codes"] == 9
    fresh = (await visitor.post("/v1/me/recovery-codes")).json()["recovery_codes"]
    assert (await visitor.sign_in(otp=codes[1])).status_code == 401
    assert (await visitor.sign_in(otp=fresh[1])).status_code == 200


async def test_an_app_counts_only_once_a_code_of_it_was_given(visitor: Visitor, hands: Any) -> None:
    await visitor.post("/v1/me/totp")
    assert (await visitor.sign_in()).status_code == 200
    second = pyotp.TOTP((await visitor.post("/v1/me/totp")).json()["secret"])
    wrong = await visitor.post("/v1/me/totp/confirm", {"code": "000000"})
    assert wrong.json()["code"] == "second_factor_invalid"
    assert (await visitor.post("/v1/me/totp/confirm", {"code": second.at(hands())})).status_code == 200
    assert (await visitor.post("/v1/me/totp")).json()["code"] == "state_forbids"
    hands.forward(seconds=30)
    assert (await visitor.delete("/v1/me/totp")).status_code == 204
    assert (await visitor.sign_in()).status_code == 200


async def test_changes_want_a_recent_proof(visitor: Visitor, hands: Any) -> None:
    app, _ = await enrol(visitor, hands)
    await visitor.sign_in(otp=app.at(hands()))
    hands.forward(seconds=601)
    for method, path in (
        ("POST", "/v1/me/recovery-codes"), ("DELETE", "/v1/me/totp"), ("POST", "/v1/me/totp"),
        ("POST", "/v1/me/passkeys/options"),
    ):  # fmt: skip
        assert (await visitor.call(method, path)).json()["code"] == "confirmation_required", path
    assert (await visitor.post("/v1/me/confirm", {})).status_code == 422
    assert (await visitor.post("/v1/me/confirm", {"otp": app.at(hands())})).status_code == 204
    assert (await visitor.delete("/v1/me/totp")).status_code == 204


async def test_a_role_that_needs_a_factor_can_only_add_one_until_it_has(
    office: Any, visitor: Visitor, hands: Any
) -> None:
    policy = {"second_factor_roles": ["dispatcher"]}
    assert (await office.call("admin", "PUT", "/v1/sign-in-policy", json=policy)).json() == policy
    answer = await visitor.sign_in()
    assert answer.json()["must_enrol"] is True
    refused = await visitor.get("/v1/board")
    assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_enrolment_required")
    assert (await visitor.get("/v1/me/second-factors")).json()["required"] is True
    await enrol(visitor, hands)
    assert (await visitor.refresh()).json()["must_enrol"] is False
    assert (await visitor.get("/v1/incidents")).status_code == 200
    kept = await visitor.delete("/v1/me/totp")
    assert (kept.status_code, kept.json()["code"]) == (409, "state_forbids")
    async with Visitor(office.context) as officer:
        assert (await officer.sign_in("officer")).json()["must_enrol"] is False


async def test_an_administrator_helps_who_has_lost_her_phone(office: Any, visitor: Visitor, hands: Any) -> None:
    await enrol(visitor, hands)
    path = f"/v1/users/{office.users['dispatcher']['id']}/second-factors"
    assert (await office.call("supervisor", "DELETE", path)).status_code == 403
    assert (await office.call("admin", "DELETE", path)).status_code == 204
    assert (await visitor.refresh()).json()["code"] == "token_revoked"
    assert (await visitor.sign_in()).status_code == 200


async def test_the_secret_is_sealed_and_opens_for_its_owner_alone(office: Any, visitor: Visitor, hands: Any) -> None:
    app, _ = await enrol(visitor, hands)
    user = office.users["dispatcher"]
    box = office.context.box
    sealed = box.seal("one-time-code secret", user["id"], app.secret.encode())
    assert app.secret.encode() not in sealed
    assert base64.b32decode(app.secret) not in sealed
    assert box.open_sealed("one-time-code secret", user["id"], sealed) == app.secret.encode()
    for purpose, owner, what, key in (
        ("another", user["id"], sealed, office.context.token_key),
        ("one-time-code secret", office.users["admin"]["id"], sealed, office.context.token_key),
        ("one-time-code secret", user["id"], sealed[:-1], office.context.token_key),
        ("one-time-code secret", user["id"], b"", office.context.token_key),
        ("one-time-code secret", user["id"], sealed, b"k" * 32),
    ):
        with pytest.raises(Misconfigured):
            SecretBox(key).open_sealed(purpose, owner, what)
