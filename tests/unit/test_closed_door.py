"""Sockets that were let in before anybody knew whether what is kept may be shown."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from api.ledger_gate import TRY_AGAIN, ClosedDoor, State

SOCKET = {"type": "websocket", "path": "/v1/feed"}


async def serve(gate: Any, *, ends: bool) -> tuple[asyncio.Task[None], list[Any], asyncio.Event]:
    """A socket behind the door while nothing is known; what was sent on it, and whether its application was ended."""
    sent: list[Any] = []
    entered, ended = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        entered.set()
        try:
            if not ends:
                await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    task = asyncio.create_task(ClosedDoor(app, gate)(dict(SOCKET), receive, send))
    await entered.wait()
    return task, sent, ended


async def test_a_socket_that_came_before_anything_was_known_ends_when_the_door_turns_out_closed() -> None:
    gate = SimpleNamespace(state=State.UNKNOWN, closed=asyncio.Event())
    task, sent, ended = await serve(gate, ends=False)
    gate.closed.set()
    await task
    assert ended.is_set()
    assert sent == [{"type": "websocket.close", "code": TRY_AGAIN}]


async def test_a_socket_that_ends_by_itself_is_sent_nothing_more() -> None:
    gate = SimpleNamespace(state=State.UNKNOWN, closed=asyncio.Event())
    task, sent, _ = await serve(gate, ends=True)
    await task
    assert sent == []


async def test_a_socket_whose_server_goes_takes_its_application_along() -> None:
    gate = SimpleNamespace(state=State.UNKNOWN, closed=asyncio.Event())
    task, _, ended = await serve(gate, ends=False)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.wait_for(ended.wait(), 5)
