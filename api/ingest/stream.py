"""The device stream: `WS /v1/pings/stream`, in its own process and on its own port, one small object a connection.

Model: picows calls `Connection.on_ws_frame` for each frame; the frame is decoded, checked and packed there and
then, and the connection joins the appender's filling generation. No task, no future and no round trip belongs to
a ping. TLS (and client certificates) are the work of a proxy in front.

Acknowledgements: `{"ack": N}` says that everything this connection sent up to `seq` N is durable or was answered
by an error. N is the greatest durable `seq`, held below the least one that is not durable yet; while a connection
has sent no `seq` at all, its frames are counted instead. At most one goes out every ACK_EVERY_S a connection.
Over one connection `seq` should rise; a gateway numbers what it sends, or leaves `seq` out.

Failure: a bad ping is answered by `{"error"}` and passed by the acknowledgement. When pings are not taken (Redis
away, full, disk low) they are dropped: the connection is told at most once a second, and has a *gap*, which no
acknowledgement passes. A gap ends when the device sends again from there (a `seq` at or below the gap's first);
what was newer is then expected again too. A device that does not do so within GAP_GRACE_S after pings are taken
again is closed with 1013, and so resends when it reconnects, as it would after any lost connection. Newer pings
sent into a gap are taken all the same: a position is of use at once, and the engine takes each ping only once.

A peer that does not read what it is sent is cut off; nobody else waits for it. A token revoked or run out
closes its sockets with 1008 within about a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from picows import (
    WSCloseCode,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from api.ingest.appender import RETRY_AFTER_S, Appender
from api.ingest.asked import AskedIntervals, Changed
from api.ingest.connection import Connection
from api.ingest.decode import DAY_MS, Bounds
from api.ingest.device_commands import DeviceCommands
from api.ingest.lending import Lending
from api.ingest.registry import Changes, DeviceIdentity, Registry
from api.ingest.signatures import signature_check
from core.clock import to_ms
from core.errors import CODES, Misconfigured, StoreUnavailable
from core.ids import token_digest
from core.metrics import STREAM_CONNECTIONS
from core.service import Service
from core.settings import Settings
from core.tls import server_context
from core.token_key import load_token_key

log = structlog.get_logger(__name__)

PATH: Final = "/v1/pings/stream"
ACK_EVERY_S: Final = 0.25
TICK_S: Final = 0.025
ACK_SLOTS: Final = 16
"""Acknowledgements that are not due yet wait in slots of TICK_S; together longer than ACK_EVERY_S."""
SWEEP_S: Final = 1.0
DEVICE_CONNECTIONS: Final = 4
"""Sockets one device may hold: what it reconnects while the old one still seems open. Beyond, the oldest goes, so that
nobody fills the stream with one bracelet."""
GAP_GRACE_S: Final = 3.0
"""How long a connection may leave a gap open once pings are taken again."""
GAP_CLOSES_A_SWEEP: Final = 500
"""Connections closed for a gap at once, so that they do not all come back at once."""
UNREAD_GRACE_S: Final = 10.0
"""How long a peer may leave unread what it is sent."""
LAST_FLUSH_S: Final = 1.0
"""How long stopping waits for what was taken to be durable, so that it can still be acknowledged."""
READ_BUFFER_BYTES: Final = 1024
"""First size of a connection's read buffer; it grows to a frame and most frames fit."""
IDLE_PING_S: Final = 60.0
IDLE_REPLY_S: Final = 30.0
"""A silent peer is asked whether it is there, and dropped when it does not answer."""
BACKLOG_CONNECTIONS: Final = 4096
"""Connections the kernel holds for us until we take them."""
OVERSIZE_FACTOR: Final = 4
"""Frames up to this many times the bound are read and answered with an error; beyond, the reading stops."""

encode: Final = msgspec.json.Encoder().encode


def problem_of(code: str, detail: str) -> WSUpgradeResponseWithListener:
    """Refuse a handshake by a problem document."""
    status = CODES[code]
    body = encode(
        {
            "type": f"urn:qorgan:error:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
    )
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body, headers), None)


class DeviceStream(Service):
    """Serves the device stream; `port` is known once started (a setting of 0 takes any free one)."""

    name = "stream"

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        appender: Appender,
        asked: AskedIntervals | None = None,
        commands: DeviceCommands | None = None,
    ) -> None:
        """Without `asked`, devices are told what is expected of them; without `commands`, nothing else."""
        super().__init__()
        self._asked = asked
        self._commands = commands
        self._lending = Lending(commands) if commands is not None else None
        self._settings = settings
        self.registry = registry
        self.appender = appender
        self.bounds = Bounds(settings.ping_max_age_days * DAY_MS, settings.ping_max_future_s * 1000)
        self.check_signature = signature_check(load_token_key(settings))
        self.max_frame_bytes = settings.max_frame_bytes
        self.max_pings = settings.max_pings_per_call
        self.connections: set[Connection] = set()
        self.gapped: set[Connection] = set()
        self.through: dict[int, tuple[Connection, DeviceIdentity]] = {}
        """Device number → the gateway's connection it was last heard through, and the device."""
        self._of_device: dict[int, list[Connection]] = {}
        self.port = 0
        self.now = 0.0
        """The monotonic clock as of the last tick."""
        self.now_ms = self.oldest_ms = self.newest_ms = 0
        """The wall clock as of the last tick, and the bounds of a ping's time that follow."""
        self._slots: list[list[Connection]] = [[] for _ in range(ACK_SLOTS)]
        self._slot = 0
        self._changes: list[Changes] = []
        self._server: asyncio.Server | None = None
        self._unsubscribe: list[Callable[[], None]] = []

    # the service ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen; raises Misconfigured when the port is busy or may not be had."""
        self._tick()
        port = self._settings.resolved_stream_port if self._settings.port else (self._settings.stream_port or 0)
        try:
            self._server = await ws_create_server(
                self._on_handshake,
                self._settings.host,
                port,
                reuse_port=self._settings.processes > 1,
                ssl=server_context(self._settings),
                backlog=BACKLOG_CONNECTIONS,
                max_frame_size=self.max_frame_bytes * OVERSIZE_FACTOR,
                read_buffer_init_size=READ_BUFFER_BYTES,
                enable_auto_ping=True,
                auto_ping_idle_timeout=IDLE_PING_S,
                auto_ping_reply_timeout=IDLE_REPLY_S,
                logger_name=_quiet_logger(),
            )
        except OSError as error:
            raise Misconfigured(_why_not_listening(error, self._settings.host, port)) from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._unsubscribe = [self.registry.on_changed(self._changes.append)]
        if self._asked is not None:
            self._unsubscribe.append(self._asked.on_changed(self._ask))
        if self._commands is not None:
            self._unsubscribe.append(self._commands.on_waiting(self._give))
        log.info("stream_listening", host=self._settings.host, port=self.port)

    async def run(self) -> None:
        """Send acknowledgements that have come due, and look after everybody each second."""
        swept = time.monotonic()
        while not await self.pause(TICK_S):
            self._tick()
            self._slot = (self._slot + 1) % ACK_SLOTS
            due, self._slots[self._slot] = self._slots[self._slot], []
            for connection in due:
                connection.due = False
                connection.send_ack()
            if self._changes:
                self._apply_changes()
            if self.now - swept >= SWEEP_S:
                self._sweep()
                swept = self.now

    async def close(self) -> None:
        """Stop listening and close every socket with 1001: devices reconnect, perhaps elsewhere."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        if self._server is not None:
            self._server.close()
        if self.appender.refusal is None:
            with contextlib.suppress(TimeoutError, StoreUnavailable):
                await asyncio.wait_for(self.appender.durable(), LAST_FLUSH_S)
        for connection in list(self.connections):
            connection.send_ack()
            connection.close(WSCloseCode.GOING_AWAY, "restarting")
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 2)

    def _tick(self) -> None:
        self.now = time.monotonic()
        self.now_ms = self.appender.now_ms()
        self.oldest_ms = self.now_ms - self.bounds.max_age_ms
        self.newest_ms = self.now_ms + self.bounds.max_future_ms

    # connections ----------------------------------------------------------------------------------------------

    def _on_handshake(self, request: WSUpgradeRequest) -> Connection | WSUpgradeResponseWithListener:
        """Let a device in, or say why not."""
        path = request.path.decode("latin-1").partition("?")[0]
        if path == "/healthz":
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"ok\n"), None)
        if path != PATH:
            return problem_of("not_found", "There is nothing at this address.")
        # Some peers and proxies list more than one connection option; picows wants the one alone.
        if "upgrade" in request.headers.get("connection", "").lower():
            request.headers["connection"] = "Upgrade"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return problem_of("credentials_missing", "Send the device's token: Authorization: Bearer <token>.")
        if self.stopping.is_set():
            return problem_of("service_stopping", "The service is stopping; connect again shortly.")
        if len(self.connections) >= self._settings.max_stream_connections:
            return problem_of("too_many_connections", "The stream is full; connect again shortly.")
        digest = token_digest(token.strip())
        if not self.registry.knows(digest):
            return problem_of("store_unavailable", "The devices are not known yet; connect again shortly.")
        holder = self.registry.shown(digest)
        if isinstance(holder, str):
            return problem_of(*DOUBTS[holder])
        expires_at = self.registry.expires_at(digest)
        return Connection(self, digest, holder, to_ms(expires_at) if expires_at is not None else 0)

    def add(self, connection: Connection) -> None:
        """A connection is there."""
        self.connections.add(connection)
        STREAM_CONNECTIONS.inc()
        if connection.device is not None:
            mine = self._of_device.setdefault(connection.device.number, [])
            mine.append(connection)
            if len(mine) > DEVICE_CONNECTIONS:
                mine.pop(0).close(WSCloseCode.POLICY_VIOLATION, "too many connections of one device")

    def discard(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.gapped.discard(connection)
            if self._lending is not None:
                self._lending.broken(connection)
            STREAM_CONNECTIONS.dec()
            number = connection.device.number if connection.device is not None else -1
            mine = self._of_device.get(number, [])
            if connection in mine:
                mine.remove(connection)
                if not mine:
                    del self._of_device[number]
            if connection.gateway is not None:
                self.through = {key: value for key, value in self.through.items() if value[0] is not connection}

    def told_s(self, device: DeviceIdentity) -> float:
        """Seconds until this device's next ping is wanted."""
        return device.interval_s if self._asked is None else self._asked.told_s(device)

    def _ask(self, changed: Changed) -> None:
        """Tell those who are connected what they are asked for, at once where it is sooner than before."""
        asked = [
            (connection, connection.device)
            for connection in (self.connections if changed.people else ())
            if connection.device is not None and connection.device.person_id in changed.people
        ]
        for number in changed.numbers:
            asked += [(each, each.device) for each in self._of_device.get(number, ()) if each.device is not None]
        if self.through:
            relayed = changed.numbers | self.registry.numbers_of(changed.people)
            asked += [self.through[number] for number in relayed if number in self.through]
        for connection in {connection for connection, device in asked if connection.ask(device)}:
            connection.hurry()

    def _give(self, number: int) -> None:
        """Have a connected device told what waits for it with its next acknowledgement; a gateway's by its id."""
        assert self._lending is not None
        own = self._of_device.get(number)
        through = self.through.get(number)
        if own:
            self._lending.give(own[-1], number)
        elif through is not None:
            self._lending.give(through[0], number, str(through[1].id))

    def schedule(self, connection: Connection) -> None:
        """Acknowledge now, or as soon as the last acknowledgement is ACK_EVERY_S ago."""
        wait_s = connection.last_ack + ACK_EVERY_S - self.now
        if wait_s <= 0:
            connection.send_ack()
        else:
            connection.due = True
            self._slots[(self._slot + 1 + int(wait_s / TICK_S)) % ACK_SLOTS].append(connection)

    def _apply_changes(self) -> None:
        """Close the sockets of those who may no longer send; give the others what is new about them."""
        changes, self._changes[:] = list(self._changes), []
        digests = frozenset[bytes]().union(*(change.digests for change in changes))
        devices = frozenset[str]().union(*(change.devices for change in changes))
        for connection in list(self.connections):
            device = connection.device
            if connection.digest in digests or (device is not None and str(device.id) in devices):
                self._check(connection)

    def _check(self, connection: Connection) -> None:
        holder = self.registry.holder(connection.digest)
        if isinstance(holder, str):
            code, detail = DOUBTS[holder]
            connection.send_error(code, detail)
            connection.close(WSCloseCode.POLICY_VIOLATION, code)
        else:
            sooner = isinstance(holder, DeviceIdentity) and connection.ask(holder)
            connection.identify(holder)
            if sooner:
                connection.hurry()

    def _sweep(self) -> None:
        """Each second: tokens that ran out, gaps left open, peers that do not read, commands that arrived."""
        if self._lending is not None:
            self._lending.settle()
        taking = self.appender.refusal is None
        for connection in list(self.connections):
            if connection.unread_since and self.now - connection.unread_since > UNREAD_GRACE_S:
                connection.cut_off()
            if connection.expires_ms and connection.expires_ms <= self.now_ms:
                self._check(connection)
        if taking:
            late = [connection for connection in self.gapped if self.now - connection.gap_at > GAP_GRACE_S]
            for connection in late[:GAP_CLOSES_A_SWEEP]:
                connection.close(WSCloseCode.TRY_AGAIN_LATER, "send again what was not acknowledged")


DOUBTS: Final = {
    "unknown": ("credentials_invalid", "This token is not known; enrol the device again."),
    "revoked": ("token_revoked", "This token, or its device, was revoked."),
    "replaced": (
        "token_replaced",
        "A newer token stands in this one's place. Has this device not asked for it, its token was copied: enrol anew.",
    ),
    "expired": ("token_expired", "This token has run out; enrol the device again."),
}
"""By `api.ingest.registry.Doubt`: code and detail."""


def _quiet_logger() -> logging.Logger:
    """What picows has to say of broken peers is theirs to know, and counted here as errors of pings."""
    logger = logging.getLogger("qorgan.picows")
    logger.setLevel(logging.CRITICAL)
    return logger


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is busy; stop what uses it, or set QORGAN_STREAM_PORT to a free one."
    if isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine; set QORGAN_HOST to one."
    return (
        f"The device stream cannot listen on {host}:{port} ({error.strerror}); set QORGAN_HOST or QORGAN_STREAM_PORT."
    )
