"""A service of a hundred lines for the simulator to speak to: it acknowledges, refuses, drops and remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response


class LoopbackService:
    """The device stream and, over plain HTTP, pings and panics; its knobs may be turned while it runs."""

    def __init__(self) -> None:
        self.pings: list[dict[str, Any]] = []
        """Every ping received by stream, repeats included, in order."""
        self.frames = 0
        self.connections = 0
        self.tokens: list[str] = []
        self.panics: list[dict[str, Any]] = []
        self.http_pings: list[dict[str, Any]] = []
        self.ack = True
        self.interval_s = 60.0
        self.errors: dict[int, dict[str, Any]] = {}
        """n-th ping received (from 1) → the error it is answered with, once."""
        self.refuse_status: int | None = None
        """HTTP status every handshake is refused with."""
        self.drop_after: int | None = None
        """Close the connection without an answer after so many pings, once."""
        self.http_statuses: list[int] = []
        """Statuses of the next HTTP calls; then as it should be."""
        self.changed = asyncio.Condition()
        self.stream_url = ""
        self.base_url = ""
        self._stream: Server | None = None
        self._http: asyncio.Server | None = None

    async def start(self) -> None:
        self._stream = await serve(self._converse, "127.0.0.1", 0, process_request=self._admit, compression=None)
        port = next(iter(self._stream.sockets)).getsockname()[1]
        self.stream_url = f"ws://127.0.0.1:{port}"
        self._http = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._http.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._stream is not None
        assert self._http is not None
        self._stream.close()
        await self._stream.wait_closed()
        self._http.close()
        await self._http.wait_closed()

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` holds; it is asked again after everything received."""
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(condition)

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.refuse_status is not None:
            return connection.respond(self.refuse_status, "no\n")
        assert request.path == "/v1/pings/stream"
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        self.connections += 1
        await self.tell()
        async for frame in connection:
            self.frames += 1
            content = json.loads(frame)
            batch = content if isinstance(content, list) else [content]
            for ping in batch:
                self.pings.append(ping)
                error = self.errors.pop(len(self.pings), None)
                if error is not None:
                    await connection.send(json.dumps({"error": {"seq": ping["seq"], "detail": "no", **error}}))
            if self.drop_after is not None and len(self.pings) >= self.drop_after:
                self.drop_after = None
                connection.transport.abort()
                return
            if self.ack:
                answer = {"ack": batch[-1]["seq"], "interval_s": self.interval_s, "commands": []}
                await connection.send(json.dumps(answer, separators=(",", ":")))
            await self.tell()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                path = lines[0].split(" ")[1]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                status, answer = self._respond(path, body)
                payload = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nRetry-After: 0\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(payload), payload)
                )
                await self.tell()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _respond(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status = self.http_statuses.pop(0) if self.http_statuses else None
        if path == "/v1/panic":
            self.panics.append(body)
            return status or 201, {"panic_id": body["id"], "incident_id": None, "state": "open", "received_at": "x"}
        assert path == "/v1/pings"
        if status is None:
            self.http_pings.extend(body["pings"])
        count = len(body["pings"])
        return status or 202, {"accepted": count, "duplicates": 0, "rejected": [], "interval_s": 60, "commands": []}


@pytest.fixture
async def service() -> AsyncIterator[LoopbackService]:
    """A running loopback service."""
    loopback = LoopbackService()
    await loopback.start()
    yield loopback
    await loopback.stop()
