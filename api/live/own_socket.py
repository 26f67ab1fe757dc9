"""`WS /v1/me/events`: a device's own news.

The device token comes in the `Authorization` header or as the first frame `{"token"}`. Who may not enter gets an error
frame and a close code: 4401 no token, or none that holds; 4403 no device's token; 1013 too many. A token that is
revoked closes the socket with 4401.
"""

from __future__ import annotations

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from api.auth import unknown_device
from api.deps import ApiContext
from api.ingest.registry import DeviceIdentity
from api.live.socket import read_token, refuse, serve
from core.errors import NotAllowed, QorganError, StoreUnavailable, Unavailable
from core.ids import token_digest

router = APIRouter()


@router.websocket("/v1/me/events")
async def own_events(socket: WebSocket) -> None:
    """Her own protection and panics as they change; for whoever has no such news, a keepalive and nothing else."""
    context: ApiContext = socket.app.state.context
    await socket.accept()
    try:
        digest = await _enter(socket, context)
    except QorganError as error:
        await refuse(socket, error)
        return
    except (WebSocketDisconnect, TimeoutError):
        return
    subscription = context.own_news.subscribe(digest)
    try:
        await serve(socket, subscription)
    finally:
        context.own_news.unsubscribe(subscription)


async def _enter(socket: WebSocket, context: ApiContext) -> bytes:
    """The digest of a device's token that holds; raises NotAuthenticated, NotAllowed or Unavailable."""
    digest = token_digest(await read_token(socket))
    if not context.registry.knows(digest):
        raise StoreUnavailable("The devices are not known yet; connect again shortly.")
    holder = context.registry.shown(digest)
    if isinstance(holder, str):
        raise unknown_device(holder)
    if not isinstance(holder, DeviceIdentity):
        raise NotAllowed("A gateway has no news of its own.", code="device_forbidden")
    # Half of the room stays the dispatchers'.
    if context.own_news.connections >= context.settings.max_feed_connections // 2:
        raise Unavailable("Too many sockets are open; try again shortly.", code="too_many_connections")
    return digest
