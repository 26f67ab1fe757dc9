"""What came of a panic before its connection broke.

uvicorn says "disconnected" as soon as a connection has ended, and drops what it holds of the body. Of a panic that is
her place, and the id under which her phone will send it again: without them one press is two, and nobody knows where.
"""

from __future__ import annotations

from typing import Any, Final

PANICS: Final = "/v1/panic"


class WhatCame:
    """Hands a panic's body on also when its phone is gone by the time it is read."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PANICS):
            receive = _hand_on(receive)
        await self._app(scope, receive, send)


def _hand_on(receive: Any) -> Any:
    cycle: Any = getattr(receive, "__self__", None)  # uvicorn's, of either of its protocols
    body = getattr(cycle, "body", None)
    if not isinstance(body, bytearray):
        return receive

    async def receive_what_came() -> Any:
        message = await receive()
        if message["type"] != "http.disconnect" or not cycle.body:
            return message
        came, cycle.body = bytes(cycle.body), bytearray()
        return {"type": "http.request", "body": came, "more_body": cycle.more_body}

    return receive_what_came
