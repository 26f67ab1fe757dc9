"""A small OpenID Connect provider on the loopback address: real HTTP, real keys, PKCE checked, codes good once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT_ID = "qorgan & co"
CLIENT_SECRET = "s:3cret/+ü"


class Provider:
    """What it knows and how it errs, as a test sets it."""

    def __init__(self) -> None:
        self.issuer = ""
        self.client_secret: str | None = CLIENT_SECRET
        self.person: dict[str, Any] = {"sub": "aliya-1", "email": "Aliya@police.kz", "email_verified": True}
        self.keys: list[Any] = []
        self.algorithm = "RS256"
        self.changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        self.header: dict[str, Any] = {}
        self.signing_key: Any = None
        self.codes: dict[str, dict[str, str]] = {}
        self.used: list[dict[str, str]] = []
        self.asked_for_keys = 0
        self.metadata: dict[str, Any] = {}
        self.now: Callable[[], float] = time.time
        self.rotate("RS256")

    def rotate(self, algorithm: str) -> None:
        """Sign with a new key from now on; it is published, the one before no longer."""
        self.algorithm = algorithm
        kid = secrets.token_hex(4)
        key = RSAKey.generate_key(2048, {"kid": kid, "use": "sig"}) if algorithm[:2] in {"RS", "PS"} else None
        key = key or ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})
        self.keys, self.signing_key = [key], key

    def id_token(self, nonce: str) -> str:
        now = int(self.now())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "nonce": nonce, "iat": now, "exp": now + 300, **self.person
        }  # fmt: skip
        header = {"alg": self.algorithm, "kid": self.signing_key.kid, **self.header}
        return jwt.encode(header, self.changed(claims), self.signing_key, [header["alg"]])

    def app(self) -> FastAPI:
        """Its HTTP side."""
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        async def configuration() -> Any:
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?realm=police",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "none", "HS256"],
            } | self.metadata

        @app.get("/keys")
        async def keys() -> Any:
            self.asked_for_keys += 1
            public = [key.as_dict(private=False) for key in self.keys]
            return {"keys": [{"kty": "oct", "k": "AAAA", "kid": "x"}, {"kty": "odd"}, *public]}

        @app.get("/authorize")
        async def authorize(request: Request) -> Any:
            asked = dict(request.query_params)
            assert asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256"
            assert asked["client_id"] == CLIENT_ID
            assert asked["realm"] == "police"
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            back = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
            return RedirectResponse(f"{asked['redirect_uri']}?{back}", 302)

        @app.post("/token")
        async def token(request: Request) -> Any:
            form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
            self.used.append(form)
            asked = self.codes.pop(form["code"], None)
            challenge = hashlib.sha256(form["code_verifier"].encode()).digest()
            right = (
                asked is not None
                and self._authenticated(request, form)
                and form["grant_type"] == "authorization_code"
                and form["redirect_uri"] == asked["redirect_uri"]
                and asked["code_challenge"] == base64.urlsafe_b64encode(challenge).decode().rstrip("=")
            )
            if not right or asked is None:
                return JSONResponse({"error": "invalid_grant"}, 400)
            return {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}

        return app

    def _authenticated(self, request: Request, form: dict[str, str]) -> bool:
        if self.client_secret is None:
            return form["client_id"] == CLIENT_ID and "authorization" not in request.headers
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().split(":")
        return [unquote(part) for part in pair] == [CLIENT_ID, self.client_secret]


@contextlib.asynccontextmanager
async def provider_on_loopback() -> AsyncIterator[Provider]:
    """A provider that answers for the length of the block."""
    provider = Provider()
    listener = socket.create_server(("127.0.0.1", 0))
    provider.issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(provider.app(), log_level="critical", lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield provider
    finally:
        server.should_exit = True
        await task
        listener.close()


def parameters(url: str) -> dict[str, str]:
    """An address's query, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
