"""Devices with tokens, a running device stream, and a look at what has reached the logs."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from api.ingest.appender import Appender
from api.ingest.registry import Registry
from api.ingest.stream import DeviceStream
from core.clock import utc_now
from core.domain.ping import RECORD, unpack_records
from core.ids import new_id, new_token, token_digest
from core.postgres.database import Database
from core.redis import keys
from core.redis.client import connect as connect_redis
from core.settings import Settings
from infra.embedded import EmbeddedStores

SHARDS = 4
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_names = itertools.count(1)


@dataclass
class Sender:
    """A device or gateway and its bearer token."""

    id: uuid.UUID
    number: int
    token: str


@dataclass
class Fleet:
    """Makes devices and gateways of one agency, as rows."""

    database: Database
    agency_id: uuid.UUID = field(default_factory=new_id)

    async def agency(self) -> uuid.UUID:
        """Another agency."""
        agency_id = new_id()
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO agency (id, name, created_at) VALUES ($1, $2, $3)", agency_id, f"A{agency_id}", NOW
            )
        return agency_id

    async def device(
        self,
        routes: tuple[int, ...] = (1,),
        *,
        status: str = "active",
        expires_at: datetime | None = None,
        agency_id: uuid.UUID | None = None,
        interval_s: float = 30.0,
    ) -> Sender:
        """A device with these routes and a token."""
        device_id, token = new_id(), new_token("qd")
        agency_id = agency_id or self.agency_id
        async with self.database.transaction() as connection:
            number = await connection.fetchval(
                "INSERT INTO device (id, agency_id, kind, role, routes, expected_interval_s, status, created_at,"
                " updated_at) VALUES ($1, $2, 'bracelet', 'aggressor', $3, $4, $5, $6, $6) RETURNING number",
                device_id, agency_id, list(routes), interval_s, status, NOW,
            )  # fmt: skip
            await self._token(connection, token, agency_id, device_id=device_id, expires_at=expires_at)
        return Sender(device_id, number, token)

    async def gateway(self) -> Sender:
        """A gateway of the agency."""
        token = new_token("qg")
        async with self.database.transaction() as connection:
            await self._token(connection, token, self.agency_id, gateway_name=f"gateway {next(_names)}")
        return Sender(uuid.UUID(int=0), 0, token)

    @staticmethod
    async def _token(
        connection: Any, token: str, agency_id: uuid.UUID, *, device_id: uuid.UUID | None = None,
        gateway_name: str | None = None, expires_at: datetime | None = None,
    ) -> None:  # fmt: skip
        await connection.execute(
            "INSERT INTO bearer_token (digest, device_id, gateway_name, agency_id, created_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            token_digest(token), device_id, gateway_name, agency_id, NOW, expires_at,
        )  # fmt: skip

    async def revoke_token(self, token: str) -> None:
        """Revoke a token, as the management API does."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE bearer_token SET revoked_at = $2, changed_xid = pg_current_xact_id() WHERE digest = $1",
                token_digest(token), NOW,
            )  # fmt: skip
            await connection.execute("NOTIFY registry")

    async def set_status(self, device_id: uuid.UUID, status: str) -> None:
        """Change a device's status, as the management API does."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE device SET status = $2, changed_xid = pg_current_xact_id() WHERE id = $1", device_id, status
            )
            await connection.execute("NOTIFY registry")


@pytest.fixture
async def fleet(database: Database) -> Fleet:
    """Devices and gateways of a fresh agency."""
    made = Fleet(database)
    made.agency_id = await made.agency()
    return made


@dataclass
class Door:
    """A running way in: registry, appender and device stream on one Valkey."""

    registry: Registry
    appender: Appender
    stream: DeviceStream
    redis: Any
    settings: Settings

    async def open(self, sender: Sender | str) -> Peer:
        """Connect as a device or gateway; what was made in the meantime is known."""
        await self.registry.refresh()
        token = sender if isinstance(sender, str) else sender.token
        socket = await connect(
            f"ws://127.0.0.1:{self.stream.port}/v1/pings/stream",
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
            compression=None,
        )
        return Peer(socket)

    async def records(self, shard: int) -> np.ndarray[Any, np.dtype[np.void]]:
        """Every record of a shard's log, in order."""
        entries = await self.redis.xrange(keys.pings(shard))
        payloads = [fields[b"b"] for _, fields in entries if fields[b"k"] == b"p"]
        return unpack_records(b"".join(payloads)) if payloads else np.zeros(0, RECORD)

    async def extras(self, shard: int) -> list[dict[str, Any]]:
        """The rare fields beside a shard's entries."""
        entries = await self.redis.xrange(keys.pings(shard))
        return [msgspec.json.decode(fields[b"x"]) for _, fields in entries if b"x" in fields]


@dataclass
class Peer:
    """A client's side of one socket."""

    socket: ClientConnection

    async def send(self, *messages: Any) -> None:
        """Send each message as a frame: text or bytes as it is, anything else as JSON."""
        for message in messages:
            await self.socket.send(
                message if isinstance(message, str | bytes) else msgspec.json.encode(message).decode()
            )

    async def answer(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next message."""
        answer: dict[str, Any] = msgspec.json.decode(await asyncio.wait_for(self.socket.recv(), timeout_s))
        return answer

    async def acked(self, number: int) -> dict[str, Any]:
        """The acknowledgement that reaches `number`; errors on the way are left out."""
        while True:
            answer = await self.answer()
            if answer.get("ack", -1) >= number:
                return answer

    async def error(self) -> dict[str, Any]:
        """The next error; acknowledgements on the way are left out."""
        while True:
            answer = await self.answer()
            if "error" in answer:
                error: dict[str, Any] = answer["error"]
                return error

    async def closed(self) -> int | None:
        """The code the socket is closed with."""
        await asyncio.wait_for(self.socket.wait_closed(), 10)
        return self.socket.close_code


def ping(seq: int | None = None, *, at: datetime | None = None, **fields: Any) -> dict[str, Any]:
    """A right ping of now, with other fields as given; None leaves a field out."""
    body = {"at": (at or utc_now()).isoformat(), "lat": 43.25, "lon": 76.95, "accuracy_m": 8.0, "seq": seq} | fields
    return {name: value for name, value in body.items() if value is not None}


@pytest.fixture
def make_ping() -> Callable[..., dict[str, Any]]:
    """Makes right pings."""
    return ping


Opener = Callable[..., Awaitable[Door]]


@pytest.fixture
async def open_door(posts: Any, settings: Settings, stores: EmbeddedStores) -> AsyncIterator[Opener]:
    """Starts ways in, with other settings or on another Valkey, and stops them after the test."""
    doors: list[Door] = []

    async def open_one(redis_url: str | None = None, **changes: Any) -> Door:
        own = settings.model_copy(update=changes)
        redis = connect_redis(redis_url or stores.redis_url, timeout_s=2)
        if redis_url is None:
            await redis.flushall()
        registry, appender = Registry(posts.device, utc_now), Appender(own, redis, utc_now)
        door = Door(registry, appender, DeviceStream(own, registry, appender), redis, own)
        doors.append(door)
        for service in (registry, appender, door.stream):
            await service.start()
        return door

    yield open_one
    for door in doors:
        for service in (door.stream, door.appender, door.registry):
            await service.stop()
        await door.redis.aclose()


@pytest.fixture
async def door(open_door: Opener) -> Door:
    """A running way in."""
    return await open_door()


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStores]:
    """A Valkey this test may stop."""
    embedded = EmbeddedStores(tmp_path_factory.mktemp("valkey"), postgres=False)
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def tomorrow() -> datetime:
    """A day and a bit ahead."""
    return utc_now() + timedelta(days=1, minutes=5)
