"""How often an address and whoever signs in may ask: shared by all processes in Redis, kept in memory while it is away.

What never waits here: a panic, by text message too, and its cancelling (no limit ever answers a panic), devices' pings
(bounded by device where they are read, and a gateway's address speaks for thousands), the checks of those who run it,
and static files.
A name in Redis is a keyed digest: the store never holds an address or a token.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Final

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.errors import problem_response
from core.errors import StoreUnavailable
from core.redis.client import Client, RedisError
from core.redis.rates import OwnRates, Rate, SharedRates, longest

FREE: Final = ("/v1/panic", "/v1/inbound", "/v1/pings", "/healthz", "/readyz", "/metrics", "/console")
"""Paths that are never slowed down, and what lies below them."""
ANSWER_S: Final = 0.1
"""How long Redis may take to say whether somebody may pass; afterwards memory decides."""
LEFT_ALONE_S: Final = 5.0
"""How long Redis is not asked after it did not answer."""
BURST_S: Final = 10.0
"""Somebody may spend this many seconds of a rate at once: a console loads a dozen things together."""
DIGEST_BYTES: Final = 12


class Throttle:
    """Wraps an application: 429 with Retry-After for who asks too often; WebSockets count at their handshake."""

    def __init__(
        self, app: ASGIApp, redis: Client | None, key: bytes, *, address_per_second: float, token_per_second: float
    ) -> None:
        self.app = app
        self._key = key
        self._rates = {
            "address": Rate(address_per_second, address_per_second * BURST_S),
            "token": Rate(token_per_second, token_per_second * BURST_S),
        }
        self._shared = SharedRates(redis, "rate") if redis is not None else None
        self._own = OwnRates()
        self._ask_again_at = 0.0

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._free(scope["path"]):
            wait_ms = await self._wait_ms(scope)
            if wait_ms > 0:
                refusal = problem_response(
                    "rate_limited", "Too many requests; wait as Retry-After says.", {"retry_after_s": wait_ms / 1000}
                )
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    @staticmethod
    def _free(path: str) -> bool:
        return any(path == free or path.startswith(free + "/") for free in FREE)

    def _names(self, scope: AsgiScope) -> list[tuple[str, Rate]]:
        names = []
        if scope.get("client"):
            names.append(("address", str(scope["client"][0]).encode()))
        for name, value in scope["headers"]:
            if name == b"authorization":
                names.append(("token", value))
        return [(f"{kind}:{self._digest(kind.encode() + value)}", self._rates[kind]) for kind, value in names]

    def _digest(self, value: bytes) -> str:
        return hmac.digest(self._key, value, "sha256")[:DIGEST_BYTES].hex()

    async def _wait_ms(self, scope: AsgiScope) -> float:
        names = self._names(scope)
        shared = self._shared
        if shared is not None and time.monotonic() >= self._ask_again_at:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return longest(await asyncio.gather(*(shared.wait_ms(name, rate) for name, rate in names)))
            except (StoreUnavailable, RedisError, TimeoutError):
                self._ask_again_at = time.monotonic() + LEFT_ALONE_S
        return longest([self._own.wait_ms(name, rate) for name, rate in names])
