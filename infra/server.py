"""The HTTP server of the API as a service: uvicorn on a socket of ours, with our own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from core.errors import Misconfigured
from core.service import Service
from infra.what_came import WhatCame

log = structlog.get_logger(__name__)

BACKLOG = 2048
GRACE_S = 3
IDLE_CONNECTIONS = 20_000
"""Connections beyond those of live sockets: phones keep theirs open between requests, and none of that may be why a
panic finds no place."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket; `shared` lets several processes listen on the same port.

    Raises Misconfigured in one sentence when the port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle off on what it accepts; else an answer may wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Misconfigured(
                f"Port {port} on {host} is taken by another program; stop it or choose another with --port."
            ) from None
        raise Misconfigured(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


FORWARDED: Final = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
"""Headers by which a proxy says for whom it asks."""


class StrangeProxy:
    """Says, once a process, that requests come through a proxy that nobody named.

    To the service all who come through it are one: whoever presses without a token shares one bound and one incident,
    and guesses at passwords slow everybody down. Anybody can send such a header, so nothing but a word in the log
    follows; the address of a peer that may be a person's is not in it.
    """

    def __init__(self, app: Any, trusted_proxies: Sequence[str]) -> None:
        self._app = app
        self._trusted = ProxyHeadersMiddleware(app, list(trusted_proxies)).trusted_hosts
        self._said = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._said and scope["type"] != "lifespan":
            self._look(scope)
        await self._app(scope, receive, send)

    def _look(self, scope: Any) -> None:
        peer = (scope.get("client") or ("",))[0]
        if peer in self._trusted or not any(name in FORWARDED for name, _ in scope["headers"]):
            return
        self._said = True
        try:
            within = ip_address(peer).is_private
        except ValueError:
            within = False
        log.warning(
            "proxy_not_trusted",
            peer=peer if within else "not a private address",
            reason="A request was forwarded by a peer that QORGAN_TRUSTED_PROXIES does not name: if it is your proxy,"
            " all who come through it count as one (docs/edges.md).",
        )


class HttpServer(Service):
    """Serves a FastAPI application on a socket that is already listening."""

    name = "http"

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        max_connections: int,
        *,
        tls: ssl.SSLContext | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._app = app
        self._listener = listener
        served: Any = WhatCame(app)
        served = ProxyHeadersMiddleware(served, list(trusted_proxies)) if trusted_proxies else served
        served = StrangeProxy(served, trusted_proxies)
        self._server = _Server(
            uvicorn.Config(
                served,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=False,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_max_size=65_536,
                ws_ping_interval=20.0,
                ws_ping_timeout=20.0,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=GRACE_S,
                ssl_context_factory=None if tls is None else lambda *_: tls,
                limit_concurrency=max_connections + IDLE_CONNECTIONS,
            )
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    async def run(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="uvicorn")
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._server.should_exit = True
        await serving
