"""`WS /v1/feed`: a dispatcher's socket.

The access token comes in the `Authorization` header or as the first frame `{"token"}`; why she watches, if she says it,
in the header `Qorgan-Purpose` or beside the token as `"purpose"`. Who may not enter gets an error frame and a close
code: 4401 no token, or none that holds; 4403 the role may not; 4400 a bad cursor or purpose; 1013 too slow, or too
many. A token that expires, or whose session is ended, closes the socket with 4401: sign in again and resume from the
last cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from api.auth import PURPOSE_HEADER, Actor, bearer_token, check_purpose, check_whole, user_of
from api.deps import ApiContext
from api.errors import problem_response
from api.live.frames import error_frame
from api.live.subscription import Subscription, SubscriptionEnded
from core.errors import InvalidInput, NotAllowed, NotAuthenticated, QorganError, Unavailable

router = APIRouter()

FEED_ROLES: Final = frozenset({"dispatcher", "supervisor", "admin", "officer"})
FIRST_FRAME_S: Final = 10.0
"""How long a socket may take to send its token."""
SEND_S: Final = 10.0
"""How long one frame may take to leave before the socket counts as dead."""
CLOSE_S: Final = 1.0
"""How long a close frame may take to leave."""
TOKEN_CHECK_S: Final = 15.0
CURSOR_DIGITS: Final = 19
CLOSE_CODES: Final[dict[int, int]] = {401: 4401, 403: 4403, 422: 4400, 503: 1013}


@router.websocket("/v1/feed")
async def feed(socket: WebSocket) -> None:
    """Events after a cursor, in order, none missing; live positions, health and provisional incidents beside them."""
    context: ApiContext = socket.app.state.context
    await socket.accept()
    try:
        token, actor = await _enter(socket, context)
        after = _cursor(socket.query_params.get("after"))
        if context.tail.connections >= context.settings.max_feed_connections:
            raise Unavailable("Too many feeds are open; try again shortly.", code="too_many_connections")
    except QorganError as error:
        await refuse(socket, error)
        return
    except (WebSocketDisconnect, TimeoutError):
        return
    address = socket.client.host if socket.client is not None else ""
    subscription = context.tail.subscribe(dataclasses.replace(actor.scope, address=address), after)
    try:
        await serve(socket, subscription, _watch_token(context, token, actor))
    finally:
        context.tail.unsubscribe(subscription)


elsewhere = APIRouter()


@elsewhere.websocket("/{path:path}")
async def nothing_here(socket: WebSocket) -> None:
    """Refuse a handshake at any other address by a problem document, as a request there would be."""
    with contextlib.suppress(WebSocketDisconnect):
        await socket.send_denial_response(problem_response("not_found", "There is no socket at this address."))


async def _enter(socket: WebSocket, context: ApiContext) -> tuple[str, Actor]:
    """The token and whom it speaks for; raises NotAuthenticated or NotAllowed."""
    token, purpose = await read_hello(socket)
    actor = user_of(token, context)
    check_whole(actor)
    actor = dataclasses.replace(actor, purpose=check_purpose(purpose))
    if actor.role not in FEED_ROLES:
        raise NotAllowed(f"The feed is for dispatchers; your role is {actor.role}.")
    return token, actor


async def read_token(socket: WebSocket) -> str:
    """The token in the header or the first frame; raises NotAuthenticated."""
    return (await read_hello(socket))[0]


async def read_hello(socket: WebSocket) -> tuple[str, object]:
    """The token and the purpose, in headers or in the first frame; raises NotAuthenticated."""
    header = socket.headers.get("authorization")
    if header is not None:
        return bearer_token(header), socket.headers.get(PURPOSE_HEADER, "")
    try:
        async with asyncio.timeout(FIRST_FRAME_S):
            message = await socket.receive()
    except TimeoutError:
        raise NotAuthenticated("Send the token as the first frame.", code="credentials_missing") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return _hello_of(message.get("text") or message.get("bytes") or b"")


def _hello_of(frame: str | bytes) -> tuple[str, object]:
    try:
        hello = msgspec.json.decode(frame)
        token, purpose = hello["token"], hello.get("purpose", "")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError):
        token, purpose = None, ""
    if not isinstance(token, str) or not token:
        raise NotAuthenticated('The first frame must be {"token": …}.', code="credentials_missing")
    return token, purpose


def _cursor(after: str | None) -> int | None:
    if after is None or after == "":
        return None
    if not (after.isascii() and after.isdigit() and len(after) < CURSOR_DIGITS):
        raise InvalidInput("after must be a cursor of the board or of the feed.", code="cursor_invalid")
    return int(after)


async def refuse(socket: WebSocket, error: QorganError) -> None:
    """Say what is wrong and close."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(error_frame(error.code, error.detail))
        await socket.close(CLOSE_CODES.get(error.status, 1011), error.code)


async def serve(socket: WebSocket, subscription: Subscription, *watches: Coroutine[Any, Any, None]) -> None:
    """Send until the client is gone, the subscription ends, or a watch (of the token) raises."""
    tasks = {
        asyncio.create_task(_send(socket, subscription)),
        asyncio.create_task(_receive(socket)),
        asyncio.create_task(subscription.over()),
        *(asyncio.create_task(watch) for watch in watches),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        error = task.exception() if not task.cancelled() else None
        if isinstance(error, SubscriptionEnded):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                await asyncio.wait_for(socket.close(error.code, error.reason), CLOSE_S)
        elif isinstance(error, QorganError):
            await refuse(socket, error)
        elif error is not None and not isinstance(error, (WebSocketDisconnect, RuntimeError, TimeoutError, OSError)):
            raise error


async def _send(socket: WebSocket, subscription: Subscription) -> None:
    while True:
        frame = await subscription.next()
        async with asyncio.timeout(SEND_S):
            await socket.send_text(frame)


async def _receive(socket: WebSocket) -> None:
    """Nothing is asked of the client; what it sends is read, so that its going is noticed."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        continue


async def _watch_token(context: ApiContext, token: str, actor: Actor) -> None:
    """Raise NotAuthenticated as soon as the token holds no more: it ran out, or its session was ended."""
    while True:
        await context.ended_sessions.ended(actor.session_id, TOKEN_CHECK_S)
        user_of(token, context)
