"""The whole API on a socket of its own, with one agency that has something of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api import even_time
from api.app import create_app
from api.auth import make_access_token
from api.deps import ApiContext
from api.ingest.appender import Appender
from api.ingest.registry import Registry
from api.ingest.stream import DeviceStream
from api.live.own_news import OwnNews
from api.live.tail import FeedTail
from api.panic_desk import PanicDesk, PanicDrain
from core.clock import utc_now
from core.postgres.database import Database
from core.settings import Settings
from infra.server import HttpServer, bind
from tests.integration.authz.matrix_world import World, make_world


@dataclass
class Served:
    """A served API and its device stream."""

    context: ApiContext
    app: Any
    url: str
    stream_url: str
    world: World
    other: World

    def token(self, role: str) -> str:
        """An access token of a user of the world."""
        return make_access_token(self.world.actor(role), self.context.token_key, self.context.clock(), 3600)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers to PINs come after a hundredth of a second, or a multiple of it: hundreds are asked for."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)


@pytest.fixture
async def served(settings: Settings, posts: Any, database: Database, redis_client: Any) -> AsyncIterator[Served]:
    """The API and the stream on free ports of this process; nobody is slowed down."""
    settings = settings.model_copy(
        update={
            "address_requests_per_second": 1e6, "token_requests_per_second": 1e6, "login_attempts_per_minute": 10**6,
            "stream_port": 0,
        }
    )  # fmt: skip
    device = posts.device
    registry, tail = Registry(device, utc_now), FeedTail(settings, device, redis_client, utc_now)
    context = ApiContext(settings, posts.api, redis_client, device_database=device, registry=registry, tail=tail)
    context.appender = Appender(settings, redis_client, utc_now)
    context.own_news = OwnNews(device, registry, utc_now)
    context.panic_desk = PanicDesk(settings, device, redis_client, registry, tail, utc_now)
    app = create_app(context)
    stream = DeviceStream(settings, registry, context.appender)
    server = HttpServer(app, bind("127.0.0.1", 0), 1000)
    services = [
        registry, tail, context.own_news, context.appender, context.ended_sessions,
        PanicDrain(context.panic_desk, 0.05), stream, server,
    ]  # fmt: skip
    for service in services:
        await service.start()
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        world, other = [await make_world(context, client, database, mark) for mark in ("Qaraqat", "Sholpan")]
    await registry.refresh()
    yield Served(context, app, url, f"ws://127.0.0.1:{stream.port}/v1/pings/stream", world, other)
    for service in reversed(services):
        await service.stop()
    context.passwords.close()
