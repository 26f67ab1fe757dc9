"""A phone whose connection breaks before its press is read has pressed all the same, with all that it had sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect

from infra.server import HttpServer, bind

BODY = b'{"id": "0195a1b2-0000-7000-8000-000000000001", "lat": 43.24, "lon": 76.95}'


@pytest.fixture
async def read() -> AsyncIterator[tuple[int, asyncio.Queue[tuple[str, bytes, bool]]]]:
    """A server's port, and what it could read of each request that it looked at only when its phone was gone: the
    path, the body, and whether that was whole."""
    app, found = FastAPI(), asyncio.Queue[tuple[str, bytes, bool]]()

    @app.post("/{path:path}")
    async def late(request: Request) -> None:
        while not server_of(request).disconnected:
            await asyncio.sleep(0.01)
        came = bytearray()
        try:
            async for part in request.stream():
                came += part
            await found.put((request.url.path, bytes(came), True))
        except ClientDisconnect:
            await found.put((request.url.path, bytes(came), False))

    server = HttpServer(app, bind("127.0.0.1", 0), 10)
    await server.start()
    yield server.port, found
    await server.stop()


def server_of(request: Request) -> Any:
    """uvicorn's side of the request."""
    receive = request.receive
    while (within := getattr(receive, "__closure__", None)) is not None:
        receive = next(cell.cell_contents for cell in within if callable(cell.cell_contents))
    return receive.__self__  # type: ignore[union-attr]


async def break_off(port: int, path: str, sent: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(BODY)) + sent)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("sent", [BODY, BODY[:60], b""], ids=["all", "a part", "nothing"])
async def test_what_came_of_a_panic_is_read(read: Any, sent: bytes) -> None:
    port, found = read
    await break_off(port, "/v1/panic", sent)
    assert await asyncio.wait_for(found.get(), 20) == ("/v1/panic", sent, sent == BODY)


async def test_what_nobody_waits_for_any_more_is_not(read: Any) -> None:
    port, found = read
    await break_off(port, "/v1/people", BODY)
    assert await asyncio.wait_for(found.get(), 20) == ("/v1/people", b"", False)
