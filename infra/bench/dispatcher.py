"""A dispatcher's feed as a stopwatch: when did the frame about this victim arrive?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.clock import to_ms
from infra.bench.system import System

FRAME_BYTES_MAX: Final = 4_194_304


class _Frame(msgspec.Struct):
    kind: str
    at: datetime | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Incident(msgspec.Struct):
    type: str = ""
    victim_id: str | None = None


class DispatcherFeed:
    """Arrival times of incidents, by victim and type: opened as such, or an approach that became a breach."""

    def __init__(self) -> None:
        self._arrived: dict[tuple[str, str], float] = {}
        self._opened_ms: dict[tuple[str, str], int] = {}
        self._news = asyncio.Event()
        self.frames = 0

    async def read(self, socket: ClientConnection) -> None:
        """Read until the connection ends."""
        decode_frame = msgspec.json.Decoder(_Frame).decode
        decode_incident = msgspec.json.Decoder(_Incident).decode
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                moment = time.perf_counter()
                self.frames += 1
                frame = decode_frame(message)
                if frame.kind not in {"incident.opened", "incident.updated"}:
                    continue
                incident = decode_incident(frame.data)
                key = (incident.victim_id or "", incident.type)
                if key not in self._arrived and frame.at is not None:
                    self._opened_ms[key] = to_ms(frame.at)
                self._arrived.setdefault(key, moment)
                self._news.set()

    def arrival(self, victim_id: str, type_: str) -> float | None:
        """When it arrived on time.perf_counter, or None."""
        return self._arrived.get((victim_id, type_))

    def opened_ms(self, victim_id: str, type_: str) -> int | None:
        """When the transaction that opened it began, on the wall clock; None when it has not arrived."""
        return self._opened_ms.get((victim_id, type_))

    async def wait_for_all(self, wanted: list[tuple[str, str]], timeout_s: float) -> int:
        """Wait until all of (victim, type) have arrived; how many have not when time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(key not in self._arrived for key in wanted):
                    self._news.clear()
                    await self._news.wait()
        return sum(key not in self._arrived for key in wanted)


@contextlib.asynccontextmanager
async def dispatcher_feed(system: System) -> AsyncIterator[DispatcherFeed]:
    """A feed that is being read."""
    address = system.api_url.replace("http", "ws", 1) + "/v1/feed"
    headers = {"Authorization": f"Bearer {await system.dispatcher_token()}"}
    feed = DispatcherFeed()
    connection: Any = connect(
        address, additional_headers=headers, compression=None, max_size=FRAME_BYTES_MAX, proxy=None
    )
    async with connection as socket:
        reading = asyncio.create_task(feed.read(socket))
        try:
            yield feed
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
