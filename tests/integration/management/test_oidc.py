"""Signing in at an agency's own provider, over real HTTP."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from joserfc.jwk import RSAKey

from api.oidc_provider import OidcClient
from tests.integration.management.provider import CLIENT_ID, CLIENT_SECRET, Provider, parameters, provider_on_loopback
from tests.integration.management.software_authenticator import b64
from tests.integration.management.visitor import Visitor


@pytest.fixture
async def provider(office: Any) -> AsyncIterator[Provider]:
    async with provider_on_loopback() as made:
        made.now = lambda: office.context.clock().timestamp()
        office.context.oidc = OidcClient(plain_loopback=True)
        yield made


@pytest.fixture
async def visitor(office: Any) -> AsyncIterator[Visitor]:
    async with Visitor(office.context) as made:
        yield made


def configuration(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "issuer": provider.issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "label": "Police of Almaty",
        "default_role": "dispatcher",
        "provision": True,
        **more,
    }


async def configure(office: Any, provider: Provider, **more: Any) -> httpx.Response:
    answer: httpx.Response = await office.call(
        "admin", "PUT", "/v1/sign-in-provider", json=configuration(provider, **more)
    )
    assert answer.status_code == 200, answer.text
    return answer


async def to_provider(office: Any, visitor: Visitor) -> str:
    """Where the provider sends the browser back to."""
    started = await visitor.client.get(f"/v1/auth/oidc/{office.agency_id}/start")
    assert started.status_code == 303, started.text
    async with httpx.AsyncClient(trust_env=False) as browser:
        return str((await browser.get(started.headers["location"])).headers["location"])


async def back(visitor: Visitor, url: str) -> str:
    """What the console is told after the provider's redirect."""
    answer = await visitor.client.get(url)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/#")
    return str(urlsplit(answer.headers["location"]).fragment)


async def sign_in(office: Any, visitor: Visitor, **body: Any) -> httpx.Response:
    """The whole way."""
    assert await back(visitor, await to_provider(office, visitor)) == "signed-in"
    answer = await visitor.client.post("/v1/auth/oidc/exchange", json=body)
    visitor.keep(answer)
    return answer


async def test_the_whole_way_makes_a_user_and_no_token_is_in_an_address(
    office: Any, provider: Provider, visitor: Visitor
) -> None:
    told = (await configure(office, provider)).json()
    assert told["has_secret"]
    assert CLIENT_SECRET not in str(told)
    offered = (await visitor.client.get("/v1/auth/options")).json()["agencies"]
    assert offered == [{"id": str(office.agency_id), "label": "Police of Almaty"}]
    url = await to_provider(office, visitor)
    assert url.startswith(told["redirect_uri"])
    answer = await visitor.client.get(url)
    assert answer.headers["location"] == "/console/#signed-in"
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("qorgan_sign_in"))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    visitor.keep(await visitor.client.post("/v1/auth/oidc/exchange", json={}))
    who = (await visitor.get("/v1/me")).json()
    assert (who["username"], who["role"]) == ("aliya@police.kz", "dispatcher")
    session = (await visitor.get("/v1/me/sessions")).json()["items"][0]
    assert (session["method"], session["second_factor"]) == ("provider", None)
    again = await visitor.client.post("/v1/auth/oidc/exchange", json={})
    assert again.status_code == 401
    assert (await sign_in(office, visitor)).status_code == 200
    assert (await visitor.get("/v1/me")).json()["id"] == who["id"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256"])
async def test_keys_may_change_under_way(office: Any, provider: Provider, visitor: Visitor, algorithm: str) -> None:
    provider.metadata = {"id_token_signing_alg_values_supported": ["RS256", "ES256", "PS256"]}
    await configure(office, provider)
    assert (await sign_in(office, visitor)).status_code == 200
    provider.rotate(algorithm)
    known = office.context.oidc._known[provider.issuer]
    known.keys_at -= 11
    assert (await sign_in(office, visitor)).status_code == 200
    asked = provider.asked_for_keys
    provider.header = {"kid": "nobody's"}
    for _ in range(3):
        assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=token_invalid"
    assert provider.asked_for_keys <= asked + 1, "odd tokens do not make us ask again and again"


def _without(name: str) -> Any:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


LIES: dict[str, Any] = {
    "another nonce": lambda claims: claims | {"nonce": "another"},
    "another audience": lambda claims: claims | {"aud": "somebody else"},
    "two audiences and no azp": lambda claims: claims | {"aud": [CLIENT_ID, "somebody else"]},
    "another azp": lambda claims: claims | {"azp": "somebody else"},
    "another issuer": lambda claims: claims | {"iss": "https://evil.example"},
    "expired": lambda claims: claims | {"exp": claims["iat"] - 61},
    "from the future": lambda claims: claims | {"iat": claims["iat"] + 3600, "exp": claims["exp"] + 7200},
    "an old one": lambda claims: claims | {"iat": claims["iat"] - 3600},
    "no subject": _without("sub"),
    "no nonce": _without("nonce"),
    "no expiry": _without("exp"),
    "no issuer": _without("iss"),
    "a subject that is no text": lambda claims: claims | {"sub": 7},
}


@pytest.mark.parametrize("lie", LIES)
async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    office: Any, provider: Provider, visitor: Visitor, lie: str
) -> None:
    await configure(office, provider)
    provider.changed = LIES[lie]
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=token_invalid"
    assert (await visitor.client.post("/v1/auth/oidc/exchange", json={})).status_code == 401
    provider.changed = lambda claims: claims
    assert (await sign_in(office, visitor)).status_code == 200


async def test_a_forged_signature_is_refused(office: Any, provider: Provider, visitor: Visitor) -> None:
    await configure(office, provider)
    published = provider.keys[0]
    provider.signing_key = RSAKey.generate_key(2048, {"kid": published.kid})
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=token_invalid"
    # The public key taken for a shared secret.
    public = published.as_pem(private=False)

    def signed_with_it(nonce: str) -> str:
        claims = {"iss": provider.issuer, "aud": CLIENT_ID, "nonce": nonce, "iat": 0, "exp": 9e9, "sub": "x"}
        parts = [b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": published.kid}, claims)]
        return ".".join((*parts, b64(hmac.digest(public, ".".join(parts).encode(), "sha256"))))

    provider.id_token = signed_with_it
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=token_invalid"


async def test_a_redirect_is_good_once_for_its_browser_and_in_time(
    office: Any, provider: Provider, visitor: Visitor, hands: Any
) -> None:
    await configure(office, provider)
    url = await to_provider(office, visitor)
    async with Visitor(office.context, "203.0.113.9") as another:
        assert await back(another, url) == "sign-in-failed=expired", "another browser has no cookie of this flow"
    cookies = dict(visitor.client.cookies)
    assert await back(visitor, url.replace("state=", "state=x")) == "sign-in-failed=expired"
    visitor.client.cookies.update(cookies)
    assert await back(visitor, url) == "signed-in"
    visitor.client.cookies.update(cookies)
    assert await back(visitor, url) == "sign-in-failed=expired", "replayed"
    late = await to_provider(office, visitor)
    hands.forward(minutes=10, seconds=1)
    assert await back(visitor, late) == "sign-in-failed=expired"


async def test_a_code_of_another_flow_or_used_before_is_refused_by_pkce(
    office: Any, provider: Provider, visitor: Visitor
) -> None:
    await configure(office, provider)
    stolen = parameters(await to_provider(office, visitor))["code"]
    async with Visitor(office.context) as thief:
        hers = await to_provider(office, thief)
        injected = hers.replace(parameters(hers)["code"], stolen)
        assert await back(thief, injected) == "sign-in-failed=refused"
    other_issuer = (await to_provider(office, visitor)).replace("iss=", "iss=x")
    assert await back(visitor, other_issuer) == "sign-in-failed=refused"
    denied = (await to_provider(office, visitor)).replace("code=", "error=access_denied&was=")
    assert await back(visitor, denied) == "sign-in-failed=refused"


async def test_roles_and_domains_decide_who_may_enter(office: Any, provider: Provider, visitor: Visitor) -> None:
    await configure(
        office, provider, role_claim="realm_access.roles", default_role=None, email_domains=["police.kz"],
        role_map={"chiefs": "supervisor", "duty": "dispatcher"},
    )  # fmt: skip
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=no_role"
    provider.person["realm_access"] = {"roles": ["other", "duty", "chiefs"]}
    assert (await sign_in(office, visitor)).status_code == 200
    assert (await visitor.get("/v1/me")).json()["role"] == "supervisor"
    provider.person["realm_access"] = {"roles": ["duty"]}
    assert (await sign_in(office, visitor)).status_code == 200
    assert (await visitor.get("/v1/me")).json()["role"] == "dispatcher", "the role follows the provider's"
    for changed in ({"email": "aliya@police.kz.evil"}, {"email_verified": False}, {"email_verified": "true"}):
        provider.changed = lambda claims, changed=changed: claims | changed
        assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=domain", changed


async def test_without_provisioning_only_who_was_added_enters(
    office: Any, provider: Provider, visitor: Visitor
) -> None:
    await configure(office, provider, provision=False)
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=unknown_user"
    added = await office.post("/v1/users", {"username": "aliya@police.kz", "role": "officer"}, "admin")
    assert added.status_code == 201, added.text
    provider.person["email_verified"] = False
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=unknown_user"
    provider.person["email_verified"] = True
    assert (await sign_in(office, visitor)).status_code == 200
    assert (await visitor.get("/v1/me")).json()["id"] == added.json()["id"]
    provider.person = {"sub": "somebody-else", "email": "aliya@police.kz", "email_verified": True}
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=unknown_user"
    await office.patch(f"/v1/users/{added.json()['id']}", {"disabled": True}, "admin")
    provider.person["sub"] = "aliya-1"
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=disabled"


async def test_a_name_another_agency_has_is_not_taken_over(
    office: Any, elsewhere: Any, provider: Provider, visitor: Visitor
) -> None:
    await elsewhere.post("/v1/users", {"username": "aliya@police.kz", "role": "admin"}, "admin")
    await configure(office, provider)
    assert await back(visitor, await to_provider(office, visitor)) == "sign-in-failed=name_taken"


async def test_a_second_factor_may_be_the_provider_s_or_one_s_own(
    office: Any, provider: Provider, visitor: Visitor
) -> None:
    await configure(office, provider)
    await office.call("admin", "PUT", "/v1/sign-in-policy", json={"second_factor_roles": ["dispatcher"]})
    assert (await sign_in(office, visitor)).json()["must_enrol"]
    provider.person["amr"] = ["pwd", "otp"]
    assert not (await sign_in(office, visitor)).json()["must_enrol"]
    codes = await _enrol(office, visitor)
    del provider.person["amr"]
    asked = await sign_in(office, visitor)
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    wrong = await visitor.client.post("/v1/auth/oidc/exchange", json={"otp": "000000"})
    assert wrong.json()["code"] == "second_factor_invalid"
    assert (await visitor.client.post("/v1/auth/oidc/exchange", json={"otp": codes[0]})).status_code == 200
    assert (await visitor.client.post("/v1/auth/oidc/exchange", json={"otp": codes[1]})).status_code == 401


async def test_a_public_client_and_a_secret_from_a_file(
    office: Any, provider: Provider, visitor: Visitor, tmp_path: Any
) -> None:
    provider.client_secret = None
    body = configuration(provider)
    del body["client_secret"]
    answer = await office.call("admin", "PUT", "/v1/sign-in-provider", json=body)
    assert answer.json()["has_secret"] is False
    assert (await sign_in(office, visitor)).status_code == 200
    (tmp_path / str(office.agency_id)).write_text(CLIENT_SECRET + "\n")
    office.context.settings = office.context.settings.model_copy(update={"oidc_secrets_dir": tmp_path})
    provider.client_secret = CLIENT_SECRET
    assert (await office.get("/v1/sign-in-provider", "admin")).json()["has_secret"] is True
    async with Visitor(office.context) as another:
        assert (await sign_in(office, another)).status_code == 200


async def test_a_provider_that_is_none_or_is_away_is_told_so(office: Any, provider: Provider, visitor: Visitor) -> None:
    for issuer in ("http://192.0.2.1/x", "ftp://x.example", "https://user:pass@x.example", "file:///etc/passwd"):
        refused = await office.call("admin", "PUT", "/v1/sign-in-provider", json=configuration(provider, issuer=issuer))
        assert refused.status_code == 422, issuer
    provider.metadata = {"issuer": "https://somebody.else"}
    refused = await office.call("admin", "PUT", "/v1/sign-in-provider", json=configuration(provider))
    assert (refused.status_code, refused.json()["code"]) == (503, "provider_unavailable")
    provider.metadata = {"token_endpoint": "http://192.0.2.1/token"}
    refused = await office.call("admin", "PUT", "/v1/sign-in-provider", json=configuration(provider))
    assert refused.json()["code"] == "provider_unavailable"
    provider.metadata = {}
    await configure(office, provider)
    office.context.oidc = OidcClient(plain_loopback=False)
    started = await visitor.client.get(f"/v1/auth/oidc/{office.agency_id}/start")
    assert started.status_code in {303, 422}
    assert (await office.call("admin", "DELETE", "/v1/sign-in-provider")).status_code == 204
    assert (await visitor.client.get(f"/v1/auth/oidc/{office.agency_id}/start")).status_code == 404
    assert (await office.call("admin", "DELETE", "/v1/sign-in-provider")).status_code == 404


async def test_a_secret_is_kept_sealed_and_never_goes_to_another_provider(
    office: Any, provider: Provider, elsewhere: Any
) -> None:
    await configure(office, provider)
    body = configuration(provider, label="Renamed")
    del body["client_secret"]
    kept = (await office.call("admin", "PUT", "/v1/sign-in-provider", json=body)).json()
    assert (kept["label"], kept["has_secret"]) == ("Renamed", True)
    async with provider_on_loopback() as another:
        moved = await office.call("admin", "PUT", "/v1/sign-in-provider", json={**body, "issuer": another.issuer})
        assert moved.json()["has_secret"] is False
    assert (await elsewhere.get("/v1/sign-in-provider", "admin")).status_code == 404
    assert (await office.get("/v1/sign-in-provider", "supervisor")).status_code == 403


async def _enrol(office: Any, visitor: Visitor) -> list[str]:
    begun = (await visitor.post("/v1/me/totp")).json()
    code = pyotp.TOTP(begun["secret"]).at(office.context.clock())
    codes: list[str] = (await visitor.post("/v1/me/totp/confirm", {"code": code})).json()["recovery_codes"]
    return codes
