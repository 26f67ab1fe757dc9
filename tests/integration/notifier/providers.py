"""Providers on the loopback: an HTTP server and a mail server that answer as told, and remember what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import Envelope


@dataclass(frozen=True)
class Answer:
    """What the loopback server answers; `hang` never does."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = field(default_factory=dict)
    hang: bool = False


@dataclass(frozen=True)
class Request:
    """What the loopback server got; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Provider:
    """An HTTP server on the loopback that answers as told and remembers what it got."""

    url: str = ""
    answer: Callable[[Request], Answer] = lambda _: Answer()
    requests: list[Request] = field(default_factory=list)
    arrived: asyncio.Queue[Request] = field(default_factory=asyncio.Queue)
    connections: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            request = Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
            self.requests.append(request)
            self.arrived.put_nowait(request)
            answer = self.answer(request)
            if answer.hang:
                await asyncio.Event().wait()
            body = json.dumps(answer.body).encode()
            lines = [f"HTTP/1.1 {answer.status} Told", f"content-length: {len(body)}", "connection: close"]
            lines += ["content-type: application/json", *(f"{name}: {value}" for name, value in answer.headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


@dataclass
class Mailbox:
    """An SMTP server's handler: refuses addresses as told, keeps the letters."""

    port: int = 0
    refusals: dict[str, str] = field(default_factory=dict)
    data_answer: str = "250 taken"
    letters: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]) -> str:
        """Refuse or note an address."""
        del server, session, options
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        """Keep or refuse a letter."""
        del server, session
        if self.data_answer.startswith("2"):
            self.letters.append(envelope)
        return self.data_answer
