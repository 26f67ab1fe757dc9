"""Bounds around every request, as plain ASGI: body size, time, attempts, headers, the one catch-all, the metric.

Plain ASGI rather than a request/response middleware, because a body must be refused before it is read and a
WebSocket must pass untouched.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem_response
from core.errors import TooMany
from core.metrics import HTTP_SECONDS

log = structlog.get_logger(__name__)

HEADERS: Final[dict[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "strict-transport-security": "max-age=31536000",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""Set on every answer that does not set them itself."""

CUT_SHORT: Final = frozenset({"/v1/panic"})
"""Paths whose body is cut at the bound rather than refused: a panic is never refused for its content."""

MAX_TRACKED: Final = 10_000
"""Names an AttemptLimiter remembers; the one longest unused is forgotten first."""
WINDOW_S: Final = 60.0


class AttemptLimiter:
    """A sliding window: at most `per_window` attempts a key in `window_s`, in this process."""

    def __init__(
        self,
        per_window: int,
        monotonic: Callable[[], float] = time.monotonic,
        max_tracked: int = MAX_TRACKED,
        window_s: float = WINDOW_S,
    ) -> None:
        self._per_window = per_window
        self._window_s = window_s
        self._monotonic = monotonic
        self._max_tracked = max_tracked
        self._attempts: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def check(self, *key: str) -> None:
        """Count an attempt; raises TooMany with `retry_after_s` when the window is full."""
        now = self._monotonic()
        attempts = self._attempts.setdefault(key, deque())
        self._attempts.move_to_end(key)
        while attempts and attempts[0] <= now - self._window_s:
            attempts.popleft()
        if len(attempts) >= self._per_window:
            wait_s = max(1, round(attempts[0] + self._window_s - now))
            raise TooMany("Too many attempts; wait a minute.", retry_after_s=wait_s)
        attempts.append(now)
        while len(self._attempts) > self._max_tracked:
            self._attempts.popitem(last=False)

    def take_back(self, *key: str) -> None:
        """Forget the newest attempt of a key: it was right."""
        attempts = self._attempts.get(key)
        if attempts:
            attempts.pop()


class Bounds:
    """Wraps the whole application; WebSockets pass through."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, timeout_s: float) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.max_body_bytes)
        started = time.perf_counter()
        try:
            await self._answer(exchange)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            HTTP_SECONDS.labels(route, scope["method"], str(exchange.status)).observe(time.perf_counter() - started)

    async def _answer(self, exchange: _Exchange) -> None:
        if exchange.announced_too_large():
            await exchange.reply(too_large(self.max_body_bytes))
            return
        if exchange.is_encoded():
            await exchange.reply(
                problem_response("encoding_unsupported", "Send the body as it is, without Content-Encoding.")
            )
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.app(exchange.scope, exchange.receive, exchange.send)
        except TimeoutError:
            await exchange.reply(
                problem_response("request_timeout", f"It took longer than {self.timeout_s:g} s; try again shortly.")
            )
        except Exception as error:
            # The traceback goes to the log; the client learns nothing of it.
            log.exception("unexpected_error", path=exchange.scope["path"], error=type(error).__name__)
            await exchange.reply(problem_response("internal_error", "Something failed here; it has been logged."))


class _Exchange:
    """One request and its answer: counts the body as it comes, adds headers as it goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.scope = scope
        self.status = 0
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._received = 0
        self._overflowed = False
        self._cut_short = scope["path"] in CUT_SHORT

    def announced_too_large(self) -> bool:
        """Whether the request says itself that its body is beyond the bound."""
        for name, value in self.scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value) > self._max_body_bytes and not self._cut_short
        return False

    def is_encoded(self) -> bool:
        """Whether the body is compressed: none is unpacked here, so none can swell. A panic's is taken as it is."""
        return not self._cut_short and any(
            name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}
            for name, value in self.scope["headers"]
        )

    async def receive(self) -> Message:
        """The next piece of the body; at the bound the body ends, and (but for a panic) 413 is the answer."""
        if self._overflowed:
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await self._receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")
            room = self._max_body_bytes - self._received
            self._received += len(body)
            if len(body) > room:
                self._overflowed = True
                return {"type": "http.request", "body": body[:room], "more_body": False}
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on, with our headers; replaced by 413 when the body had overflowed."""
        if message["type"] == "http.response.start":
            if self._overflowed and not self._cut_short:
                await self.reply(too_large(self._max_body_bytes))
                return
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif self._overflowed and not self._cut_short:
            return
        await self._send(message)

    async def reply(self, response: Response) -> None:
        """Answer by `response`, unless an answer has begun."""
        if self.status:
            return
        self.status = response.status_code
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(self.scope, self._receive, self._send)


def too_large(max_body_bytes: int) -> Response:
    """The 413 answer."""
    response = problem_response("body_too_large", f"The body is larger than {max_body_bytes} bytes; send less at once.")
    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return response
