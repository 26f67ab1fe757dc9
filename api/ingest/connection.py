"""One device's or gateway's socket on the device stream: frames in, acknowledgements and errors out.

The rules are in `api.ingest.stream`; what may be acknowledged is `api.ingest.ledger`'s to know.
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from api.ingest.appender import RETRY_AFTER_S, Appender
from api.ingest.asked import interval_part
from api.ingest.decode import BROKEN, Bounds, Flaw, Ping, Unreadable, at_ms, decode_frame, flaw_of, sift_frame
from api.ingest.ledger import NEVER, NONE, Ledger
from api.ingest.owner import NOBODYS, owner_through
from api.ingest.rates import Bucket
from api.ingest.records import newest_of_each, sightings_of
from api.ingest.registry import DeviceIdentity, GatewayIdentity, Registry
from api.ingest.relay import GATEWAY_INTERVAL_S, Relay
from api.ingest.signatures import Check
from core.clock import from_ms, rfc3339
from core.metrics import PINGS_REFUSED

ERROR_EVERY_S: Final = 1.0
"""Shortest time between two `ingest_unavailable` on a connection."""

encode: Final = msgspec.json.Encoder().encode


class Host(Protocol):
    """What a connection needs of the server it belongs to."""

    registry: Registry
    appender: Appender
    bounds: Bounds
    check_signature: Check
    max_frame_bytes: int
    max_pings: int
    gapped: set[Connection]
    through: dict[int, tuple[Connection, DeviceIdentity]]
    now: float
    now_ms: int
    oldest_ms: int
    newest_ms: int

    def add(self, connection: Connection) -> None:
        """It is connected."""

    def discard(self, connection: Connection) -> None:
        """It is gone."""

    def told_s(self, device: DeviceIdentity) -> float:
        """Seconds until this device's next ping is wanted."""

    def schedule(self, connection: Connection) -> None:
        """Something new may be acknowledged; only for a connection that is not `due` already."""


class Connection(WSListener):
    """One device's or gateway's socket."""

    __slots__ = (
        "_generation",  "answer", "bucket", "commands", "device", "digest", "due", "error_after", "expires_ms",
        "fragments", "gap_at", "gateway", "last_ack", "ledger", "relay", "server", "transport", "unread_since",
    )  # fmt: skip

    def __init__(self, server: Host, digest: bytes, holder: DeviceIdentity | GatewayIdentity, expires_ms: int) -> None:
        self.server = server
        self.digest = digest
        self.expires_ms = expires_ms
        self.transport: WSTransport | None = None
        self.device: DeviceIdentity | None = None
        self.gateway: GatewayIdentity | None = None
        self.bucket: Bucket | None = None
        """A device's; a gateway has none."""
        self.answer = b""
        """The part of an acknowledgement behind its number."""
        self.relay: Relay | None = None
        """A gateway's."""
        self.identify(holder)
        self.ledger = Ledger()
        self._generation: object = None
        """The generation joined last."""
        self.fragments: bytearray | None = None
        self.gap_at = 0.0
        """When pings were last dropped or lost."""
        self.last_ack = 0.0
        self.due = False
        """Whether an acknowledgement waits in the server's slots."""
        self.commands: list[dict[str, Any]] | None = None
        self.error_after = 0.0
        self.unread_since = 0.0

    def identify(self, holder: DeviceIdentity | GatewayIdentity) -> None:
        """Speak for `holder` from now on."""
        if isinstance(holder, DeviceIdentity):
            self.device = holder
            self.bucket = self.server.appender.rates.bucket(holder.number)
            self.answer = interval_part(self.server.told_s(holder))
        else:
            self.gateway = holder
            self.relay = self.relay or Relay()
            self.answer = self.answer or interval_part(GATEWAY_INTERVAL_S)

    def ask(self, device: DeviceIdentity) -> bool:
        """What is asked of a device of this connection may have changed; whether to `hurry` it, being sooner now."""
        told_s = self.server.told_s(device)
        if self.relay is not None:
            return self.relay.note(device, told_s) and told_s < device.interval_s
        before, self.answer = self.answer, interval_part(told_s)
        return self.answer < before

    def _part(self) -> bytes:
        """The part of an acknowledgement behind its number; a gateway's news are told once."""
        if self.relay is not None and self.relay.has_news:
            self.answer, part = self.relay.take()
            return part
        return self.answer

    # called by picows -----------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self.transport = transport
        self.server.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        """The socket is gone, for whatever reason."""
        self.transport = None
        self.server.discard(self)

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is sent to."""
        self.unread_since = time.monotonic()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.unread_since = 0.0
        if not self.due:
            self.server.schedule(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Take one frame."""
        data = frame.get_payload_as_bytes()
        if self.fragments is not None or not frame.fin or len(data) > self.server.max_frame_bytes:
            self._on_odd_frame(frame, data)
            return
        try:
            message = decode_frame(data)
        except BROKEN:
            self._on_odd_frame(frame, data)
            return
        ledger = self.ledger
        ledger.frames += 1
        if message.__class__ is not Ping:
            self._take_all(message)
            return
        # From here on the hot road, one right ping of a device: nothing is called that need not be.
        server = self.server
        appender = server.appender
        number = ledger.number_of(message.seq)
        if appender.refusal is not None:
            self._drop(number)
            return
        device, bucket = self.device, self.bucket
        if bucket is not None:
            bucket.left -= 1
        if device is None or bucket is None or bucket.left < 0 or not device.routes or device.signing:
            owner = self._owner_of(message)
            if isinstance(owner, Flaw):
                self._answer(number, owner)
                return
            device = owner
        moment_ms = at_ms(message)
        if not server.oldest_ms <= moment_ms <= server.newest_ms or (message.lat is None) is not (message.lon is None):
            flaw = self._flaw_of(message, moment_ms)
            if flaw is not None:
                self._answer(number, flaw)
                return
        if message.heard is None:
            appender.add(device, message, moment_ms)
        else:
            appender.add(device, message, moment_ms, sightings=sightings_of(message, server.registry))
        if ledger.gap != NEVER:
            self._count(number, number)
            return
        ledger.count(number, number)
        if self._generation is not appender.filling:
            self._generation = appender.filling
            appender.join(self)

    def _answer(self, number: int, flaw: Flaw) -> None:
        """Tell what is wrong with the one ping of a frame."""
        self._count(number, number)
        self.refuse([flaw])

    def _on_odd_frame(self, frame: WSFrame, data: bytes) -> None:
        """Everything but a whole data frame of right pings."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            if self.transport is not None:
                self.transport.send_close(frame.get_close_code(), frame.get_close_message())
                self.transport.disconnect()
            return
        if kind == WSMsgType.PONG:
            return
        if kind == WSMsgType.CONTINUATION and self.fragments is None:
            self.close(WSCloseCode.PROTOCOL_ERROR, "a continuation of nothing")
            return
        if self.fragments is not None or not frame.fin:
            self.fragments = (self.fragments if self.fragments is not None else bytearray()) + data
            data = bytes(self.fragments) if frame.fin else b""
        if len(data) > self.server.max_frame_bytes or len(self.fragments or b"") > self.server.max_frame_bytes:
            self.send_error(
                "frame_too_large", f"A frame may have {self.server.max_frame_bytes} bytes; send fewer pings."
            )
            self.close(WSCloseCode.MESSAGE_TOO_BIG, "frame_too_large")
            return
        if not frame.fin:
            return
        self.fragments = None
        self.ledger.frames += 1
        try:
            items = sift_frame(data)
        except Unreadable as error:
            self._answer(self.ledger.number_of(None), Flaw(error.code, error.detail))
            return
        self._take_all(items)

    # taking pings ---------------------------------------------------------------------------------------------

    def _take_all(self, items: list[Ping | Flaw]) -> None:
        """An array: each ping taken or answered; of each device's only the newest takes the live lane."""
        server = self.server
        numbers = [item.seq for item in items if item.seq is not None]
        low, high = self.ledger.number_of(min(numbers, default=None)), max(numbers, default=NONE)
        if not numbers:
            high = low
        if server.appender.refusal is not None:
            self._drop(low)
            return
        if len(items) > server.max_pings:
            self._count(low, high)
            self.refuse([Flaw("too_many_pings", f"A frame may have {server.max_pings} pings; send fewer.", high)])
            return
        flaws: list[Flaw] = []
        taken: list[tuple[DeviceIdentity, Ping]] = []
        for item in items:
            if self.bucket is not None:
                self.bucket.left -= 1
            verdict = item if isinstance(item, Flaw) else self._judge(item)
            if isinstance(verdict, Flaw):
                flaws.append(verdict)
            elif isinstance(item, Ping):
                taken.append((verdict, item))
        live = newest_of_each(taken)
        for index, (device, ping) in enumerate(taken):
            server.appender.add(
                device, ping, at_ms(ping), backlog=index not in live, sightings=sightings_of(ping, server.registry)
            )
        self._count(low, high)
        if flaws:
            self.refuse(flaws)

    def _judge(self, ping: Ping) -> DeviceIdentity | Flaw:
        owner = self._owner_of(ping)
        return owner if isinstance(owner, Flaw) else self._flaw_of(ping, at_ms(ping)) or owner

    def _owner_of(self, ping: Ping) -> DeviceIdentity | Flaw:
        """Whose ping it is, or why it is nobody's, or not to be believed."""
        owner = self._sender_of(ping)
        return owner if isinstance(owner, Flaw) else self.server.check_signature(owner, ping) or owner

    def _sender_of(self, ping: Ping) -> DeviceIdentity | Flaw:
        if self.gateway is not None:
            owner = owner_through(self.gateway, self.server.registry, ping)
            if self.relay is not None and not isinstance(owner, Flaw):
                self.server.through[owner.number] = self, owner
                self.relay.note(owner, self.server.told_s(owner))
            return owner
        assert self.device is not None
        assert self.bucket is not None
        if self.bucket.left < 0 and not self.server.appender.rates.refill(self.bucket):
            self.bucket.left += 1
            return Flaw("rate_limited", "Too many pings; send slower.", ping.seq)
        if not self.device.routes:
            return Flaw("device_forbidden", NOBODYS, ping.seq)
        return self.device

    def _flaw_of(self, ping: Ping, moment_ms: int) -> Flaw | None:
        flaw = flaw_of(ping, moment_ms, self.server.now_ms, self.server.bounds)
        if flaw is not None and flaw.code == "time_in_future":
            self.commands = [{"kind": "set_clock", "at": rfc3339(from_ms(self.server.now_ms))}]
        return flaw

    # what is acknowledged -------------------------------------------------------------------------------------

    def _count(self, low: int, high: int) -> None:
        """Numbers `low` to `high` were packed or answered: they may be acknowledged with the filling generation."""
        ledger = self.ledger
        gap = ledger.gap
        ledger.count(low, high)
        if gap != ledger.gap:
            self.server.gapped.discard(self)
        appender = self.server.appender
        if self._generation is not appender.filling:
            self._generation = appender.filling
            appender.join(self)

    def _drop(self, low: int) -> None:
        """Pings from `low` on are not taken now."""
        self.ledger.drop(low)
        self._tell_unavailable()

    def _tell_unavailable(self) -> None:
        now = time.monotonic()
        self.gap_at = now
        self.server.gapped.add(self)
        if now >= self.error_after:
            self.error_after = now + ERROR_EVERY_S
            PINGS_REFUSED.labels("ingest_unavailable").inc()
            error = self.server.appender.unavailable()
            self.send(
                {"error": {"code": error.code, "detail": error.detail, "retry_after_s": RETRY_AFTER_S, "seq": None}}
            )

    def seal(self) -> None:
        """The generation joined is closed (called by the appender)."""
        self.ledger.seal()

    def durable(self) -> None:
        """It is on disk."""
        self.ledger.durable()
        if not self.due:
            self.server.schedule(self)

    def lost(self) -> None:
        """It may not be in the log."""
        self.ledger.lost()
        self._tell_unavailable()

    def send_ack(self) -> None:
        """Acknowledge what is durable, if that is news."""
        number = self.ledger.news()
        if number is None:
            number = self.ledger.acked
            if self.commands is None or number < 0:
                return
        if self.unread_since:
            return
        self.last_ack = self.server.now
        self.ledger.acked = number
        if self.commands is None:
            self._send(b'{"ack":%d%b[]}' % (number, self._part()))
        else:
            self._send(b'{"ack":%d%b%b}' % (number, self._part(), encode(self.commands)))
            self.commands = None

    def hurry(self) -> None:
        """Tell a shorter interval unasked; whoever has had no acknowledgement yet hears of it with the first one."""
        if self.last_ack and not self.unread_since and self.ledger.acked >= 0:
            self._send(b'{"ack":%d%b[]}' % (self.ledger.acked, self._part()))

    # saying things --------------------------------------------------------------------------------------------

    def refuse(self, flaws: list[Flaw]) -> None:
        """Answer bad pings."""
        for flaw in flaws:
            PINGS_REFUSED.labels(flaw.code).inc()
            self.send_error(flaw.code, flaw.detail, flaw.seq)

    def send_error(self, code: str, detail: str, seq: int | None = None) -> None:
        """Tell of one error."""
        self.send({"error": {"code": code, "detail": detail, "seq": seq}})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message that must not be left out; a peer with no room for it is cut off."""
        if self.unread_since:
            self.cut_off()
        else:
            self._send(encode(message))

    def _send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.send(WSMsgType.TEXT, data)

    def close(self, code: WSCloseCode, reason: str) -> None:
        """Say goodbye, then hang up once that is sent."""
        transport = self.transport
        if transport is not None and not transport.is_close_frame_sent:
            transport.send_close(code, reason)
            transport.disconnect()

    def cut_off(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)
