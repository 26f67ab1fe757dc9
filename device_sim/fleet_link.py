"""One connection of a fleet: frames made by formatting bytes, kept until acknowledged, sent again when it breaks.

A link numbers its frames one by one, so what waits for an acknowledgement is a queue whose first frame is the one
after the last acknowledged, and an acknowledgement is a subtraction.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from device_sim.wire import RETRY_AFTER_S, TRY_AGAIN, bearer, decode_answer

UNACKED_MAX: Final = 2_000
"""Frames a link keeps; beyond it new pings are held back, and counted."""
RESEND_FRAMES: Final = 20
"""Frames of a backlog sent at once."""
READ_BUFFER_BYTES: Final = 1_024
ANSWER_BYTES_MAX: Final = 65_536
BACKOFF_S: Final = (0.1, 5.0)
JITTER: Final = 1.5
"""A pause lasts up to so many times as long as it must."""
ACK_HEAD: Final = b'{"ack":'


class FleetDevice:
    """A device of a fleet: the parts of its frames that do not change, ready as bytes."""

    __slots__ = ("head", "tails")

    def __init__(self, head: bytes, tails: tuple[bytes, ...]) -> None:
        self.head = head
        self.tails = tails
        """Endings with different positions, taken in turn; their number is a power of two."""

    def frame(self, seq: int, at: bytes) -> bytes:
        """The ping numbered `seq`."""
        return b'%b%d,"at":"%b"%b' % (self.head, seq, at, self.tails[seq & (len(self.tails) - 1)])


class Ledger(Protocol):
    """Where links write what happened; one for the whole fleet."""

    sent: int
    acked: int
    resent: int
    reconnects: int
    refused: int
    held: int
    errors: dict[str, int]

    def took(self, seconds: float) -> None:
        """One ping was acknowledged after so long."""
        ...


class Link(WSListener):  # type: ignore[misc, unused-ignore]  # a compiled class
    """A WebSocket of one device, or of a gateway that speaks for several."""

    def __init__(
        self, address: str, token: str, devices: list[FleetDevice], ledger: Ledger, clock: Callable[[], float]
    ) -> None:
        self._address = address
        self._token = token
        self._devices = devices
        self._ledger = ledger
        self._clock = clock
        self._turn = 0
        self._seq = 0
        self._acked = 0
        self._rejected_unacked = 0
        self._waiting: deque[bytes] = deque()
        self._unsent = 0
        """How many of the waiting frames, at the end, were not sent on this connection."""
        self._transport: WSTransport | None = None
        self._deaf = False
        """An error asked for another try: acknowledgements on this connection count no more."""
        self._paused = False
        self._retry_after_s = 0.0
        self._probe_seq = 0
        self._probe_s = 0.0
        self.lost = asyncio.Event()
        """Set while there is no connection."""
        self.lost.set()

    @property
    def waiting(self) -> int:
        """Frames not acknowledged yet."""
        return len(self._waiting)

    @property
    def lagging(self) -> bool:
        """Whether it is connected and has frames it has not sent on this connection."""
        return self._unsent > 0 and self._transport is not None

    @property
    def connected(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None

    def offer(self, at: bytes) -> None:
        """The next ping of the next device: sent now, or kept until it can be."""
        if len(self._waiting) >= UNACKED_MAX:
            self._ledger.held += 1
            return
        devices = self._devices
        self._turn += 1
        seq = self._seq = self._seq + 1
        frame = devices[self._turn % len(devices)].frame(seq, at)
        self._waiting.append(frame)
        self._ledger.sent += 1
        if self._unsent or self._transport is None or self._paused:
            self._unsent += 1
            return
        if not self._probe_seq:
            self._probe_seq, self._probe_s = seq, self._clock()
        self._transport.send(WSMsgType.TEXT, frame)

    def resend(self) -> None:
        """Send some of the backlog, oldest first."""
        if self._transport is None or self._paused:
            return
        begin = len(self._waiting) - self._unsent
        for frame in list(itertools.islice(self._waiting, begin, begin + RESEND_FRAMES)):
            self._transport.send(WSMsgType.TEXT, frame)
            self._unsent -= 1
            self._ledger.resent += 1

    async def keep_connected(self, gate: asyncio.Semaphore, stopping: asyncio.Event) -> None:
        """Connect, and again whenever the connection is lost, until `stopping`."""
        failures = 0
        while not stopping.is_set():
            try:
                async with gate:
                    await ws_connect(
                        lambda: self,
                        self._address,
                        extra_headers=bearer(self._token),
                        read_buffer_init_size=READ_BUFFER_BYTES,
                        max_frame_size=ANSWER_BYTES_MAX,
                        max_redirects=0,
                    )
                failures = 0
                await self.lost.wait()
                self._ledger.reconnects += 1
            except (OSError, TimeoutError, WSError) as error:
                failures += 1
                self._count(f"connect: {type(error).__name__}")
            pause_s = self._retry_after_s or min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(failures, 16))
            self._retry_after_s = 0.0
            await asyncio.sleep(pause_s * random.uniform(1.0, JITTER))  # not all links at once

    def close(self) -> None:
        """End the connection politely."""
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    def _count(self, code: str) -> None:
        self._ledger.errors[code] = self._ledger.errors.get(code, 0) + 1

    # what the connection tells

    def on_ws_connected(self, transport: WSTransport) -> None:
        """All that waits has to be sent on this connection."""
        self._transport = transport
        self._deaf = self._paused = False
        self._unsent = len(self._waiting)
        self._probe_seq = 0
        self.lost.clear()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - the interface
        """Lost, or closed."""
        self._transport = None
        self.lost.set()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket has room again."""
        self._paused = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """An acknowledgement, nearly always; else an error."""
        if frame.msg_type is not WSMsgType.TEXT:
            if frame.msg_type is WSMsgType.CLOSE:
                self._count(f"closed {frame.get_close_code()}")
                transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        if payload.startswith(ACK_HEAD):
            end = payload.find(b",", len(ACK_HEAD))
            self._acknowledge(int(payload[len(ACK_HEAD) : end if end > 0 else -1]))
            return
        answer = decode_answer(payload)
        if answer.error is not None:
            self._count(answer.error.code)
            if answer.error.code in TRY_AGAIN:
                self._deaf = True
                self._retry_after_s = answer.error.retry_after_s or RETRY_AFTER_S
                transport.disconnect()
            else:
                self._rejected_unacked += 1
        elif answer.ack is not None:
            self._acknowledge(answer.ack)

    def _acknowledge(self, seq: int) -> None:
        fresh = min(seq - self._acked, len(self._waiting))
        if fresh <= 0 or self._deaf:
            return
        for _ in range(fresh):
            self._waiting.popleft()
        self._unsent = min(self._unsent, len(self._waiting))
        self._acked += fresh
        refused, self._rejected_unacked = self._rejected_unacked, 0
        self._ledger.refused += refused
        self._ledger.acked += fresh - refused
        if self._probe_seq and self._acked >= self._probe_seq:
            self._ledger.took(self._clock() - self._probe_s)
            self._probe_seq = 0
