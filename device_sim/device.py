"""A device: it records pings, keeps them until they are acknowledged, and gets them out by whatever road is open.

    recorded ──sent──► in flight ──ack──► forgotten
        ▲                  │
        └──connection lost─┘   or the service asks to try again

Model: `outbox` holds every ping not yet acknowledged, in order of `seq`; its first `in flight` ones were sent on the
present connection. Losing the connection puts nothing in flight. Acknowledgements after an error that asks
for another try are not believed on that connection, since the refused pings lie before them: the device closes
it, waits, and sends all again; the service takes a repeated ping once.

The stream is the first road; after `STREAM_TRIES` failed connections one batch goes by HTTP, then the stream
has its turn again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from device_sim.clock import now_ms, rfc3339
from device_sim.errors import TokenRefused
from device_sim.noise import Fix
from device_sim.routes import Motion
from device_sim.wire import (
    PINGS_PATH,
    RETRY_AFTER_S,
    TRY_AGAIN,
    Ping,
    bearer,
    decode_answer,
    decode_batch_answer,
    encode,
    stream_address,
)

OUTBOX_MAX: Final = 10_000
"""Pings a device keeps; beyond it the oldest is dropped, and counted."""
FRAME_PINGS: Final = 20
"""Pings a frame when there is a backlog."""
BATCH_PINGS: Final = 200
"""Pings an HTTP call."""
BACKLOG_PINGS_PER_S: Final = 40.0
"""Pace of a backlog: under the service's bound for one device."""
STREAM_TRIES: Final = 3
"""Failed connections in a row before one batch goes by HTTP."""
BACKOFF_S: Final = (0.1, 5.0)
"""First and longest pause between tries; each is twice the one before, more or less."""
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 65_536
FLUSH_TIMEOUT_S: Final = 5.0
"""How long a device that is switched off still waits for acknowledgements."""


@dataclass(frozen=True, slots=True)
class ActorCredentials:
    """Whose device it is and the token it enrolled with."""

    device_id: str
    token: str = field(repr=False)
    person_id: str | None = None


@dataclass(slots=True)
class Counts:
    """What became of a device's pings."""

    recorded: int = 0
    sent: int = 0
    """Frames' pings sent, repeats included."""
    settled: int = 0
    """Acknowledged, or refused for good."""
    rejected: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    """Pushed out of a full outbox."""
    connections: int = 0
    tries_failed: int = 0

    @property
    def acked(self) -> int:
        """Pings the service has durably."""
        return self.settled - sum(self.rejected.values())


class _TryAgain(Exception):  # noqa: N818 - not an error: it ends a connection
    """The service asks to send again after a pause."""

    def __init__(self, after_s: float) -> None:
        super().__init__(after_s)
        self.after_s = after_s


class Device:
    """One simulated bracelet or phone; `run` is its life, everything else may be called while it runs."""

    def __init__(
        self,
        credentials: ActorCredentials,
        *,
        base_url: str,
        stream_url: str,
        by_http: bool = False,
        first_seq: int | None = None,
        on_news: Callable[[str], None] = lambda _: None,
        on_interval: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.credentials = credentials
        self._base_url = base_url.rstrip("/")
        self._address = stream_address(stream_url)
        self._by_http = by_http
        # A device's counter survives a restart; without a memory of our own, the clock serves (10 pings a second).
        self._seqs = itertools.count(first_seq if first_seq is not None else now_ms() // 100)
        self._on_news = on_news
        self._on_interval = on_interval
        self.counts = Counts()
        self.asked_interval_s: float | None = None
        """The interval the service asked for last."""
        self.commands: deque[Any] = deque(maxlen=100)
        self.battery_pct = 90.0
        self.strap = "closed"
        self.casing = "closed"
        self.charging = False
        self.jamming = False
        self.mock = False
        self._outbox: deque[Ping] = deque()
        self._in_flight = 0
        self._radio_up = True
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def unacked(self) -> int:
        """Pings kept because they are not acknowledged yet."""
        return len(self._outbox)

    def record(self, fix: Fix | None, motion: Motion | None, at_ms: int) -> Ping:
        """Make a ping (a heartbeat without a fix) and keep it until it is acknowledged."""
        moving = motion is not None and motion.speed_mps > 0
        ping = Ping(
            seq=next(self._seqs),
            at=rfc3339(at_ms),
            battery_pct=round(self.battery_pct, 1),
            strap=self.strap,
            casing=self.casing,
            charging=self.charging,
            moving=moving,
            jamming=self.jamming or None,
            mock=self.mock or None,
        )
        if fix is not None:
            ping.lat, ping.lon = round(fix.point.lat, 7), round(fix.point.lon, 7)
            ping.accuracy_m, ping.source = fix.accuracy_m, fix.source
            if motion is not None:
                ping.speed_mps = round(motion.speed_mps, 2)
                ping.heading_deg = None if motion.heading_deg is None else round(motion.heading_deg, 1)
        self.keep(ping)
        return ping

    def keep(self, ping: Ping) -> None:
        """Put a ping into the outbox; the oldest is dropped when it is full."""
        self.counts.recorded += 1
        if len(self._outbox) >= OUTBOX_MAX:
            self._outbox.popleft()
            self._in_flight = max(0, self._in_flight - 1)
            self.counts.dropped += 1
        self._outbox.append(ping)
        self._emptied.clear()
        self._wake.set()

    @property
    def radio_up(self) -> bool:
        """Whether it reaches the network."""
        return self._radio_up

    def set_radio(self, up: bool) -> None:
        """Reach the network, or lose it: without it the device records and keeps."""
        if up != self._radio_up:
            self._radio_up = up
            self._wake.set()

    async def wait_acked(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until everything recorded so far is acknowledged or refused; whether it was in time."""
        try:
            await asyncio.wait_for(self._emptied.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping`, then wait `FLUSH_TIMEOUT_S` for what is in flight; raises TokenRefused."""
        waker = asyncio.create_task(self._wake_at(stopping))
        failures = 0
        try:
            while not stopping.is_set():
                if not self._radio_up:
                    await self._woken()
                    continue
                try:
                    if self._by_http or failures >= STREAM_TRIES:
                        await self._post(stopping)
                    if not self._by_http:
                        await self._stream(stopping)
                    failures = 0
                except _TryAgain as again:
                    await _pause(again.after_s * random.uniform(1.0, 1.5), stopping)  # not all at once
                except (OSError, TimeoutError, WebSocketException, httpx.TransportError):
                    failures += 1
                    self.counts.tries_failed += 1
                    if failures == 1:
                        self._on_news("lost its connection")
                    longest_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(failures, 16))
                    await _pause(longest_s * random.uniform(0.5, 1.0), stopping)
        finally:
            waker.cancel()

    async def _wake_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._wake.set()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _forget(self, through_seq: int) -> None:
        """Everything in flight up to `through_seq` is durable or was refused for good."""
        while self._in_flight and self._outbox[0].seq <= through_seq:
            self._outbox.popleft()
            self._in_flight -= 1
            self.counts.settled += 1
        if not self._outbox:
            self._emptied.set()

    def _refuse(self, code: str) -> None:
        self.counts.rejected[code] = self.counts.rejected.get(code, 0) + 1

    def _obey(self, interval_s: float | None, commands: list[Any]) -> None:
        self.commands.extend(commands)
        if interval_s is not None and interval_s != self.asked_interval_s:
            self.asked_interval_s = interval_s
            self._on_interval(interval_s)

    # the stream

    async def _stream(self, stopping: asyncio.Event) -> None:
        """One connection: until it is lost, the radio goes, or the device is switched off."""
        self._in_flight = 0
        try:
            connection = await connect(
                self._address,
                additional_headers=bearer(self.credentials.token),
                compression=None,
                open_timeout=CONNECT_TIMEOUT_S,
                close_timeout=1.0,
                max_size=ANSWER_BYTES_MAX,
                proxy=None,
            )
        except InvalidStatus as refusal:
            if refusal.response.status_code in (401, 403):
                raise TokenRefused(f"The service refuses the token of device {self.credentials.device_id}.") from None
            raise
        except InvalidHandshake as error:
            raise ConnectionError(str(error)) from error
        self.counts.connections += 1
        self._on_news("connected")
        try:
            async with connection, asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(connection))
                sending = tasks.create_task(self._send(connection, stopping))
                sending.add_done_callback(lambda _: reading.cancel())
        except* (_TryAgain, OSError, TimeoutError, WebSocketException, TokenRefused) as group:
            raise _first(group) from None

    async def _read(self, connection: ClientConnection) -> None:
        async for frame in connection:
            answer = decode_answer(frame)
            if answer.error is not None:
                if answer.error.code in TRY_AGAIN:
                    raise _TryAgain(answer.error.retry_after_s or RETRY_AFTER_S)
                self._refuse(answer.error.code)
            if answer.ack is not None:
                self._forget(answer.ack)
                self._obey(answer.interval_s, answer.commands)
                self._wake.set()
        code = connection.close_code
        if code == 1008:
            raise TokenRefused(f"The service ended the stream of device {self.credentials.device_id}.")
        raise ConnectionError(f"the stream was closed ({code})")

    async def _send(self, connection: ClientConnection, stopping: asyncio.Event) -> None:
        give_up_s: float | None = None
        loop = asyncio.get_running_loop()
        while self._radio_up:
            while self._radio_up and len(self._outbox) > self._in_flight:
                batch = list(itertools.islice(self._outbox, self._in_flight, self._in_flight + FRAME_PINGS))
                self._in_flight += len(batch)
                self.counts.sent += len(batch)
                await connection.send(encode(batch[0] if len(batch) == 1 else batch), text=True)
                if len(batch) > 1:
                    await asyncio.sleep(len(batch) / BACKLOG_PINGS_PER_S)
            if stopping.is_set():
                give_up_s = give_up_s if give_up_s is not None else loop.time() + FLUSH_TIMEOUT_S
                if not self._outbox or loop.time() >= give_up_s:
                    return
            with contextlib.suppress(TimeoutError):
                timeout_s = None if give_up_s is None else max(0.0, give_up_s - loop.time())
                await asyncio.wait_for(self._woken(), timeout_s)

    # HTTP

    async def _post(self, stopping: asyncio.Event) -> None:
        """Batches over HTTP: all there is by HTTP alone, one batch when it only stands in for the stream."""
        self._in_flight = 0
        async with httpx.AsyncClient(
            base_url=self._base_url, timeout=ANSWER_TIMEOUT_S, headers=bearer(self.credentials.token), trust_env=False
        ) as client:
            while self._radio_up:
                batch = list(itertools.islice(self._outbox, BATCH_PINGS))
                if batch:
                    await self._post_batch(client, batch)
                if not self._by_http or (stopping.is_set() and not self._outbox):
                    return
                if not self._outbox:
                    await self._woken()

    async def _post_batch(self, client: httpx.AsyncClient, batch: list[Ping]) -> None:
        self.counts.sent += len(batch)
        response = await client.post(
            PINGS_PATH, content=encode({"pings": batch}), headers={"Content-Type": "application/json"}
        )
        if response.status_code in (401, 403):
            raise TokenRefused(f"The service refuses the token of device {self.credentials.device_id}.")
        if response.status_code in (429, 502, 503, 504):
            raise _TryAgain(_retry_after_s(response))
        if response.status_code >= 300:
            raise ConnectionError(f"HTTP {response.status_code}")
        answer = decode_batch_answer(response.content)
        if any(rejected.code in TRY_AGAIN for rejected in answer.rejected):
            raise _TryAgain(RETRY_AFTER_S)
        for rejected in answer.rejected:
            self._refuse(rejected.code)
        self._in_flight = len(batch)
        self._forget(batch[-1].seq)
        self._obey(answer.interval_s, answer.commands)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return RETRY_AFTER_S


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    """The error that says most: a refusal, then a request to try again, then whatever was lost."""
    errors: list[Exception] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        elif isinstance(error, Exception):
            errors.append(error)
    return min(errors, key=lambda error: (not isinstance(error, TokenRefused), not isinstance(error, _TryAgain)))


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
