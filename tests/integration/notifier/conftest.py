"""What notifier tests stand on: a clock that is set, rows to send, and providers that answer as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.ids import new_id
from core.postgres.database import Database
from core.postgres.deliveries import Mark
from core.settings import Settings
from notifier.channels.base import Channel, Message
from notifier.sender import Sender
from tests.integration.notifier.providers import Answer, Mailbox, Provider

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WAIT_S = 20.0


@dataclass
class SetClock:
    """A clock that stands until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    """A clock that stands until it is moved."""
    return SetClock()


# Rows to send ------------------------------------------------------------------------------------------------


@dataclass
class Outbox:
    """Puts deliveries of one incident in the database and looks at them."""

    database: Database
    agency_id: uuid.UUID
    incident_id: uuid.UUID
    device_id: uuid.UUID

    async def put(self, channel: str = "probe", address: str = "desk", **fields: Any) -> uuid.UUID:
        """Queue a delivery; returns its id."""
        delivery_id = new_id()
        row: dict[str, Any] = {
            "id": delivery_id, "agency_id": self.agency_id, "incident_id": self.incident_id, "cause": "test",
            "audience": "dispatcher", "recipient": "route:1", "channel": channel, "address": address,
            "language": "ru", "template": "incident_dispatcher", "priority": 1, "due_at": NOW, "created_at": NOW,
            "updated_at": NOW,
            "data": {"type": "proximity", "severity": "critical", "incident_id": str(self.incident_id)},
        } | fields  # fmt: skip
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        async with self.database.transaction() as connection:
            await connection.execute(f"INSERT INTO delivery ({', '.join(row)}) VALUES ({places})", *row.values())
            await connection.execute("SELECT pg_notify('delivery', '')")
        return delivery_id

    async def get(self, delivery_id: uuid.UUID) -> dict[str, Any]:
        """A delivery as it is now."""
        async with self.database.connection() as connection:
            return dict(await connection.fetchrow("SELECT * FROM delivery WHERE id = $1", delivery_id))

    async def attempts(self, delivery_id: uuid.UUID) -> list[str]:
        """The results of its attempts, in order."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT attempt, result FROM delivery_attempt WHERE delivery_id = $1 ORDER BY attempt", delivery_id
            )
        assert [row["attempt"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["result"] for row in rows]

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """Any rows."""
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]


@pytest.fixture
async def outbox(database: Database) -> Outbox:
    """An agency with an incident and a victim's phone, and no delivery yet."""
    agency_id, incident_id, device_id = new_id(), new_id(), new_id()
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO agency (id, name, created_at) VALUES ($1, 'Desk', $2)", agency_id, NOW)
        await connection.execute(
            "INSERT INTO device (id, agency_id, kind, role, push_token, created_at, updated_at)"
            " VALUES ($1, $2, 'phone', 'victim', 'phone-token', $3, $3)",
            device_id, agency_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, subject, occurred_at, opened_at,"
            " updated_at) VALUES ($1, 'proximity', 'proximity', 'critical', $1, $2, 'order:1', $3, $3, $3)",
            incident_id, agency_id, NOW,
        )  # fmt: skip
    return Outbox(database, agency_id, incident_id, device_id)


# Channels and senders ----------------------------------------------------------------------------------------


@dataclass
class Probe(Channel):
    """A channel whose sends do what a test says, and which remembers them."""

    name: str = "probe"
    concurrency: int = 8
    act: Callable[[Message], Awaitable[str | None]] | None = None
    sent: list[Message] = field(default_factory=list)
    arrived: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    closed: bool = False

    async def send(self, message: Message) -> str | None:
        """Remember the message and do as told."""
        self.sent.append(message)
        self.arrived.put_nowait(message)
        return await self.act(message) if self.act is not None else f"provider-{message.id}"

    async def next(self) -> Message:
        """The next message that arrives."""
        return await asyncio.wait_for(self.arrived.get(), WAIT_S)

    async def aclose(self) -> None:
        """Remember it."""
        self.closed = True


@dataclass
class Desk:
    """A running sender and the marks it has committed."""

    sender: Sender
    marks: list[Mark] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def observe(self, marks: Sequence[Mark]) -> None:
        """Take committed marks."""
        self.marks.extend(marks)
        self.tasks.add(asyncio.ensure_future(self._tell()))

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def marked(self, *delivery_ids: uuid.UUID, times: int = 1) -> None:
        """Wait until each of the deliveries has been marked so many times."""

        def done() -> bool:
            ids = [mark.delivery_id for mark in self.marks]
            return all(ids.count(delivery_id) >= times for delivery_id in delivery_ids)

        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(done), WAIT_S)


@pytest.fixture
async def open_desk(settings: Settings, posts: Any, clock: SetClock) -> AsyncIterator[Callable[..., Any]]:
    """Starts senders with the channels given, and stops them in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*channels: Channel, pool: Database | None = None, **changed: Any) -> Desk:
            desk: Desk | None = None

            def observe(marks: Sequence[Mark]) -> None:
                assert desk is not None
                desk.observe(marks)

            sender = Sender(
                settings.model_copy(update=changed), pool or posts.worker, {one.name: one for one in channels}, clock,
                observe=observe,
            )  # fmt: skip
            desk = Desk(sender)
            await sender.start()
            stack.push_async_callback(sender.stop)
            return desk

        yield start


@pytest.fixture
def probe() -> Probe:
    """A channel that takes everything."""
    return Probe()


@pytest.fixture
def make_probe() -> type[Probe]:
    """Makes channels that do as told."""
    return Probe


@pytest.fixture
def make_message() -> Callable[..., Message]:
    """Makes messages for a channel alone."""

    def make(**fields: Any) -> Message:
        incident_id = uuid.UUID("0195a1b2-0000-7000-8000-000000000001")
        values: dict[str, Any] = {
            "id": new_id(), "template": "incident_dispatcher", "audience": "dispatcher", "address": "desk",
            "secret": None, "language": "kk", "subject": "Тақырып", "body": "Мәтін\nтағы", "short": "Қысқа",
            "incident_id": incident_id, "created_at": NOW, "sent_at": NOW,
            "data": {
                "type": "proximity", "severity": "critical", "incident_id": str(incident_id), "order_id": "o-1",
                "distance_m": 123.4, "place": {"lat": 43.2, "lon": 76.9}, "occurred_at": "2026-03-01T11:59:58.000Z",
            },
        }  # fmt: skip
        return Message(**(values | fields))

    return make


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """An HTTP server that answers as told."""
    told = Provider()
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield told
    server.close()
    for task in list(told.connections):
        task.cancel()
    if told.connections:
        await asyncio.wait(told.connections)
    await server.wait_closed()


@pytest.fixture
def make_answer() -> type[Answer]:
    """Makes answers for the provider."""
    return Answer


@pytest.fixture
async def open_mailbox() -> AsyncIterator[Callable[..., Awaitable[Mailbox]]]:
    """Starts real SMTP servers on the loopback, with aiosmtpd's own options."""
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []
    servers: list[asyncio.Server] = []

    async def start(**options: Any) -> Mailbox:
        box = Mailbox()

        def session() -> SMTP:
            sessions.append(SMTP(box, hostname="loopback", enable_SMTPUTF8=True, loop=loop, **options))
            return sessions[-1]

        servers.append(await loop.create_server(session, "127.0.0.1", 0))
        box.port = servers[-1].sockets[0].getsockname()[1]
        return box

    yield start
    for server in servers:
        server.close()
    for one in sessions:
        if one.transport is not None:
            one.transport.close()
    for server in servers:
        await server.wait_closed()


@pytest.fixture
async def mailbox(open_mailbox: Callable[..., Awaitable[Mailbox]]) -> Mailbox:
    """A real SMTP server on the loopback."""
    return await open_mailbox()


@pytest.fixture
def bare_settings(tmp_path: Path) -> Settings:
    """Settings for a channel alone, with no store behind them."""
    return Settings(data_dir=tmp_path)


@pytest.fixture(scope="session")
def service_account_key() -> str:
    """A private key of nobody's, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def fcm_settings(bare_settings: Settings, provider: Provider, service_account_key: str, tmp_path: Path) -> Settings:
    """Settings whose FCM, token issuer included, is the loopback provider."""
    path = tmp_path / "service-account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account", "project_id": "loopback", "private_key_id": "1",
                "private_key": service_account_key, "client_email": "push@loopback.test", "client_id": "1",
                "token_uri": f"{provider.url}/token",
            }
        )
    )  # fmt: skip
    return bare_settings.model_copy(
        update={"fcm_credentials_file": path, "fcm_api_url": provider.url, "delivery_timeout_s": 3.0}
    )
