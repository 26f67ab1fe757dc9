"""Speaks OpenID Connect to an agency's provider: discovery, keys, the code for a token, the token for claims.

Model: OpenID Connect Core 1.0, code flow with PKCE (RFC 7636, S256), state, nonce, and the issuer in the answer
(RFC 9207). What a provider says of itself is kept ANNOUNCED_S, its keys until one is asked for that is not among them;
then they are read anew, at most every KEYS_AGAIN_S, so that keys rotate by themselves and a flood of odd tokens asks
nobody.

Failure: ProviderRefused with a reason from a closed list, for whoever was sent there; Unavailable
`provider_unavailable` when the provider does not answer, or not as the standard says. No answer of a provider is ever
repeated to anybody.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from core.errors import InvalidInput, Unavailable

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""Asymmetric only: a symmetric one would let a public key be taken for a secret."""
KEY_TYPES: Final = ("RSA", "EC", "OKP")
ANNOUNCED_S: Final = 600.0
KEYS_AGAIN_S: Final = 10.0
TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 262_144
MAX_KEYS: Final = 100
MAX_PROVIDERS: Final = 1000
LEEWAY_S: Final = 60
MAX_AGE_S: Final = 600
"""An id token was made for this very sign-in: not longer ago than a sign-in may take."""


class ProviderRefused(Exception):  # noqa: N818 - it is what the sentence says
    """A sign-in that ends here; `reason` is one of a closed list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Announced:
    """What a provider says of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    auth_methods: tuple[str, ...]
    algorithms: tuple[str, ...]


@dataclass
class _Known:
    announced: Announced
    at: float
    keys: list[Any] = field(default_factory=list)
    keys_at: float = -KEYS_AGAIN_S


class OidcClient:
    """Asks providers, and remembers what they announced."""

    def __init__(self, *, plain_loopback: bool = False) -> None:
        self._plain_loopback = plain_loopback
        self._known: dict[str, _Known] = {}

    async def announced(self, issuer: str) -> Announced:
        """What the provider says of itself. Raises InvalidInput for an issuer that cannot be, Unavailable."""
        return (await self._provider(issuer)).announced

    async def _provider(self, issuer: str) -> _Known:
        known = self._known.get(issuer)
        if known is not None and time.monotonic() - known.at < ANNOUNCED_S:
            return known
        self.check_address(issuer)
        found = await self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            announced = Announced(
                issuer=str(found["issuer"]),
                authorization_endpoint=str(found["authorization_endpoint"]),
                token_endpoint=str(found["token_endpoint"]),
                jwks_uri=str(found["jwks_uri"]),
                auth_methods=tuple(found.get("token_endpoint_auth_methods_supported") or ("client_secret_basic",)),
                algorithms=tuple(
                    one for one in found.get("id_token_signing_alg_values_supported", ALGORITHMS) if one in ALGORITHMS
                ),
            )
            for address in (announced.authorization_endpoint, announced.token_endpoint, announced.jwks_uri):
                self.check_address(address)
        except (KeyError, TypeError, InvalidInput):
            raise _unavailable() from None
        if announced.issuer != issuer:
            raise _unavailable()
        kept = _Known(announced, time.monotonic())
        if known is not None:
            kept.keys, kept.keys_at = known.keys, known.keys_at
        if len(self._known) >= MAX_PROVIDERS:
            self._known.clear()
        self._known[issuer] = kept
        return kept

    def check_address(self, address: str) -> None:
        """Raise InvalidInput unless it is https, or plain http on the loopback where that is allowed."""
        parts = urlsplit(address)
        allowed = parts.scheme == "https" or (
            parts.scheme == "http" and self._plain_loopback and is_loopback(parts.hostname)
        )
        if not allowed or not parts.hostname or parts.username or parts.fragment:
            raise InvalidInput("issuer has to be an https address.")

    # the code flow ------------------------------------------------------------------------------------------------

    async def authorization_url(
        self, provider: Mapping[str, Any], *, redirect_uri: str, state: str, nonce: str, verifier: str
    ) -> str:
        """Where to send the browser."""
        announced = await self.announced(provider["issuer"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode(
            {
                "response_type": "code",
                "client_id": provider["client_id"],
                "redirect_uri": redirect_uri,
                "scope": provider["scopes"],
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        joint = "&" if urlsplit(announced.authorization_endpoint).query else "?"
        return announced.authorization_endpoint + joint + query

    async def claims(
        self,
        provider: Mapping[str, Any],
        secret: str | None,
        *,
        code: str,
        redirect_uri: str,
        verifier: str,
        nonce: str,
        now: datetime,
    ) -> dict[str, Any]:
        """The validated claims a code stands for; raises ProviderRefused, Unavailable."""
        announced = await self.announced(provider["issuer"])
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": provider["client_id"],
        }
        headers = {"Accept": "application/json"}
        if secret is not None and "client_secret_basic" in announced.auth_methods:
            pair = f"{quote(provider['client_id'], safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif secret is not None:
            form["client_secret"] = secret
        status, answer = await self._ask("POST", announced.token_endpoint, data=form, headers=headers)
        if status in {400, 401, 403}:
            raise ProviderRefused("refused")
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise _unavailable()
        return await self._validated(provider, token, nonce, now)

    async def _validated(self, provider: Mapping[str, Any], token: str, nonce: str, now: datetime) -> dict[str, Any]:
        known = await self._provider(provider["issuer"])
        claims = await self._verified(known, token)
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": known.announced.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": provider["client_id"]},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except (JoseError, TypeError, ValueError):
            raise ProviderRefused("token_invalid") from None
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        azp = claims.get("azp")
        if (len(audiences) > 1 and azp is None) or (azp is not None and azp != provider["client_id"]):
            raise ProviderRefused("token_invalid")
        if now.timestamp() - claims["iat"] > MAX_AGE_S + LEEWAY_S or not isinstance(claims["nonce"], str):
            raise ProviderRefused("token_invalid")
        return claims

    async def _verified(self, known: _Known, token: str) -> dict[str, Any]:
        """The claims of a token that one of the provider's keys has signed."""
        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
        except (JoseError, ValueError, UnicodeError):
            raise ProviderRefused("token_invalid") from None
        for again in (False, True):
            if again and time.monotonic() - known.keys_at < KEYS_AGAIN_S:
                break
            if again or not known.keys:
                await self._read_keys(known)
            for key in known.keys:
                if kid is not None and key.kid != kid:
                    continue
                try:
                    found = jwt.decode(token, key, list(known.announced.algorithms))
                except (JoseError, ValueError, TypeError):
                    continue
                return dict(found.claims)
        raise ProviderRefused("token_invalid")

    async def _read_keys(self, known: _Known) -> None:
        known.keys_at = time.monotonic()
        found = await self._get(known.announced.jwks_uri)
        keys = found.get("keys")
        if not isinstance(keys, list):
            raise _unavailable()
        usable = []
        for one in keys[:MAX_KEYS]:
            if not isinstance(one, dict) or one.get("kty") not in KEY_TYPES or one.get("use", "sig") != "sig":
                continue
            try:
                (key,) = KeySet.import_key_set({"keys": [one]}).keys
            except (JoseError, ValueError, TypeError, KeyError):
                continue
            usable.append(key)
        known.keys = usable

    # asking -------------------------------------------------------------------------------------------------------

    async def _get(self, address: str) -> dict[str, Any]:
        status, answer = await self._ask("GET", address, headers={"Accept": "application/json"})
        if status != 200:
            raise _unavailable()
        return answer

    async def _ask(self, method: str, address: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer, bounded in time and size; redirects are not followed."""
        proxies = not is_loopback(urlsplit(address).hostname)
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=proxies) as client,
                client.stream(method, address, **more) as answer,
            ):
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        raise _unavailable()
            found = msgspec.json.decode(body) if body else {}
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, UnicodeError):
            raise _unavailable() from None
        if not isinstance(found, dict):
            raise _unavailable()
        return answer.status_code, found


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unavailable() -> Unavailable:
    return Unavailable("The agency's sign-in does not answer as it should; try again.", code="provider_unavailable")
