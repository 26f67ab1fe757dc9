"""Rows that dispatch tests stand on: an agency, a victim, an aggressor, their order and devices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from api.app import create_app
from api.auth import Actor, make_access_token
from api.deps import ApiContext
from api.ingest.registry import Registry
from api.live.own_news import OwnNews
from api.live.tail import FeedTail
from api.panic_desk import PanicDesk, PanicDrain
from core.clock import to_ms, utc_now
from core.domain.transition import Position, Transition, transition_id
from core.ids import new_id, new_token, shard_of, token_digest
from core.postgres.database import Database
from core.settings import Settings
from core.vault import Vault
from infra.server import HttpServer, bind

SHARDS = 4
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PATIENT_S = 30.0
"""What PostgreSQL may take in these tests before it counts as away: a loaded machine is no outage."""
_numbers = itertools.count(1)


@dataclass
class Pair:
    """A protected person, whom she is protected from, and what they carry."""

    agency_id: uuid.UUID
    case_id: uuid.UUID
    order_id: uuid.UUID
    victim_id: uuid.UUID
    aggressor_id: uuid.UUID
    phone_id: uuid.UUID
    bracelet_id: uuid.UUID
    phone_token: str
    bracelet_token: str
    users: dict[str, uuid.UUID] = field(default_factory=dict)

    @property
    def shard(self) -> int:
        """The case's shard."""
        return shard_of(self.case_id, SHARDS)


async def make_agency(database: Database, name: str = "Agency") -> tuple[uuid.UUID, dict[str, uuid.UUID]]:
    """An agency with a user of each role and a log route."""
    agency_id = new_id()
    users = {role: new_id() for role in ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")}
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO agency (id, name, created_at) VALUES ($1, $2, $3)", agency_id, f"{name} {agency_id}", NOW
        )
        for role, user_id in users.items():
            await connection.execute(
                "INSERT INTO app_user (id, agency_id, username, password_hash, role, created_at)"
                " VALUES ($1, $2, $3, '-', $4, $5)",
                user_id, agency_id, f"{role}-{user_id}", role, NOW,
            )  # fmt: skip
        await connection.execute(
            "INSERT INTO notification_route (id, agency_id, name, channel, address, min_severity, created_at)"
            " VALUES ($1, $2, 'desk', 'log', 'desk', 'high', $3)",
            new_id(), agency_id, NOW,
        )  # fmt: skip
    return agency_id, users


async def make_pair(database: Database, agency: tuple[uuid.UUID, dict[str, uuid.UUID]]) -> Pair:
    """A pair of the agency under one order, each with a device, she with a contact."""
    agency_id, users = agency
    pair = Pair(
        agency_id, new_id(), new_id(), new_id(), new_id(), new_id(), new_id(), new_token("qd"), new_token("qd"), users
    )
    async with database.transaction() as connection:
        for person_id in (pair.victim_id, pair.aggressor_id):
            await connection.execute(
                "INSERT INTO person (id, agency_id, language, hazards, created_at, updated_at)"
                " VALUES ($1, $2, 'kk', $3, $4, $4)",
                person_id, agency_id, {"weapons": True} if person_id == pair.aggressor_id else {}, NOW,
            )  # fmt: skip
        await connection.execute(
            "INSERT INTO protection_case (id, agency_id, aggressor_id, shard, created_at) VALUES ($1, $2, $3, $4, $5)",
            pair.case_id, agency_id, pair.aggressor_id, pair.shard, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO protection_order (id, agency_id, case_id, reference, victim_id, aggressor_id, valid_from,"
            " alert_m, warning_m, created_at, updated_at) VALUES ($1, $2, $3, 'O-1', $4, $5, $6, 500, 1500, $6, $6)",
            pair.order_id, agency_id, pair.case_id, pair.victim_id, pair.aggressor_id, NOW,
        )  # fmt: skip
        for device_id, kind, role, person_id, token in (
            (pair.phone_id, "phone", "victim", pair.victim_id, pair.phone_token),
            (pair.bracelet_id, "bracelet", "aggressor", pair.aggressor_id, pair.bracelet_token),
        ):
            await connection.execute(
                "INSERT INTO device (id, agency_id, kind, role, person_id, push_token, status, routes, created_at,"
                " updated_at) VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8, $8)",
                device_id, agency_id, kind, role, person_id, f"push-{device_id}", [pair.shard], NOW,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO bearer_token (digest, device_id, agency_id, created_at) VALUES ($1, $2, $3, $4)",
                token_digest(token), device_id, agency_id, NOW,
            )  # fmt: skip
        await connection.execute(
            "INSERT INTO contact (id, agency_id, person_id, name, channels, verified_at, consented_at, created_at,"
            " updated_at) VALUES ($1, $2, $3, 'Sister', $4, $5, $5, $5, $5)",
            new_id(), agency_id, pair.victim_id, [{"channel": "email", "address": "sister@example.org"}], NOW,
        )  # fmt: skip
    return pair


@pytest.fixture
async def agency(database: Database) -> tuple[uuid.UUID, dict[str, uuid.UUID]]:
    """An agency and its users by role."""
    return await make_agency(database)


@pytest.fixture
async def pair(database: Database, agency: tuple[uuid.UUID, dict[str, uuid.UUID]]) -> Pair:
    """A pair of the agency."""
    return await make_pair(database, agency)


def make_transition(pair: Pair, kind: str, from_state: str, to_state: str, **values: Any) -> Transition:
    """A transition of the pair's order, or, with a signal, of one of its devices."""
    number = next(_numbers)
    moment_ms = to_ms(NOW + timedelta(milliseconds=number))
    values.setdefault("at_ms", moment_ms)
    signal = values.pop("signal", None)
    if signal is not None:
        values.setdefault("device_id", pair.bracelet_id)
        values["detail"] = {"signal": signal, **values.get("detail", {})}
    else:
        values.setdefault("order_id", pair.order_id)
        values.setdefault("victim_position", Position(43.2, 76.9, 8.0, moment_ms))
    return Transition(
        id=transition_id(pair.shard, f"{moment_ms}-0", 0, values.get("order_id") or values.get("device_id"), kind),
        shard=pair.shard,
        entry=f"{moment_ms}-0",
        kind=kind,
        from_state=from_state,
        to_state=to_state,
        evaluated_ms=moment_ms,
        agency_id=pair.agency_id,
        case_id=pair.case_id,
        **values,
    )


@pytest.fixture
def transition(pair: Pair) -> Callable[..., Transition]:
    """Makes transitions of the pair."""
    return lambda *arguments, **values: make_transition(pair, *arguments, **values)


async def fetch(database: Database, sql: str, *arguments: Any) -> list[Any]:
    """Rows of a query."""
    async with database.connection() as connection:
        rows: list[Any] = await connection.fetch(sql, *arguments)
        return rows


@pytest.fixture
def query(database: Database) -> Callable[..., Any]:
    """Runs a query on the test's database."""
    return lambda sql, *arguments: fetch(database, sql, *arguments)


class Api:
    """A served API, clients of it, and tokens for its users."""

    def __init__(self, context: ApiContext, server: HttpServer) -> None:
        self.context = context
        self.url = f"http://127.0.0.1:{server.port}"

    def token(self, agency_id: uuid.UUID, user_id: uuid.UUID, role: str = "dispatcher", life_s: int = 900) -> str:
        """An access token."""
        return make_access_token(
            Actor(user_id, agency_id, role, role), self.context.token_key, self.context.clock(), life_s
        )

    def client(self, token: str | None) -> httpx.AsyncClient:
        """An HTTP client that bears a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Nothing here is TLS, and reading the certificates that the world trusts takes longer than the rest of a test.
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20, verify=False)

    def own_news(self, token: str | None) -> Any:
        """A device's socket for its own news, to be entered."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return websockets.connect(self.url.replace("http", "ws", 1) + "/v1/me/events", additional_headers=headers)

    def feed(self, token: str | None, after: str | int | None = None, **options: Any) -> Any:
        """A feed's socket, to be entered; without a token in the header when None."""
        query = "" if after is None else f"?after={after}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A client that has stopped reading with its queue full never sees the server's close, and waits ten seconds.
        options.setdefault("max_queue", None)
        return websockets.connect(
            self.url.replace("http", "ws", 1) + f"/v1/feed{query}", additional_headers=headers, **options
        )


@contextlib.asynccontextmanager
async def serve_api(
    settings: Settings, posts: Any, client: Any, wait_s: tuple[float, float] = (PATIENT_S, PATIENT_S)
) -> AsyncIterator[Api]:
    """A real API on a free port: registry, feed, panic desk and server."""
    database = posts.device
    registry = Registry(database, utc_now)
    tail = FeedTail(settings, database, client, utc_now)
    desk = PanicDesk(settings, database, client, registry, tail, utc_now, wait_s=wait_s)
    own_news = OwnNews(database, registry, utc_now, desk.answered)
    context = ApiContext(
        settings=settings, database=posts.api, device_database=database, redis=client, clock=utc_now,
        registry=registry, tail=tail,
        own_news=own_news, panic_desk=desk,
    )  # fmt: skip
    server = HttpServer(create_app(context), bind("127.0.0.1", 0), 1000)
    services = [registry, tail, own_news, PanicDrain(desk, 0.05), server]
    for service in services:
        await service.start()
    try:
        yield Api(context, server)
    finally:
        for service in reversed(services):
            await service.stop()


@pytest.fixture
def serve(posts_at: Callable[[str], Any]) -> Callable[..., Any]:
    """Serves an API on stores of the test's choice."""
    return lambda settings, database, client, **more: serve_api(settings, posts_at(database.url), client, **more)


@pytest.fixture
async def api(settings: Settings, posts: Any, redis_client: Any) -> AsyncIterator[Api]:
    """An API on the test's stores."""
    async with serve_api(settings, posts, redis_client) as served:
        yield served


class Gate:
    """A way to PostgreSQL that can be shut (connections die, new ones are refused) or held (nobody answers)."""

    def __init__(self, target: str, directory: str) -> None:
        self._target = target
        self.path = f"{directory}/.s.PGSQL.5432"
        self._is_open = False
        self._servers: list[asyncio.Server] = []
        self._flowing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Let everybody through."""
        self._flowing.set()
        if not self._is_open:
            self._is_open = True
            self._servers.append(await asyncio.start_unix_server(self._accept, self.path))

    async def shut(self) -> None:
        """As if PostgreSQL were gone."""
        # The listener stays until the end, out of reach: closing it while it accepts leaves sockets unclosed.
        self._is_open = False
        Path(self.path).unlink(missing_ok=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next round of the loop

    def hold(self) -> None:
        """As if PostgreSQL had stopped answering."""
        self._flowing.clear()

    async def close(self) -> None:
        """Shut it for good."""
        await self.shut()
        for server in self._servers:
            server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_open:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also when it never got to begin

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        try:
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            there_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def gate(stores: Any) -> AsyncIterator[Gate]:
    """An open gate to the test's PostgreSQL; `gate.path` is its socket."""
    with tempfile.TemporaryDirectory(prefix="gate-") as directory:
        found = Gate(f"{stores.postgres.socket_directory}/.s.PGSQL.5432", directory)
        await found.open()
        yield found
        await found.close()


@pytest.fixture
async def gated_database(gate: Gate, database_url: str, vault: Vault) -> AsyncIterator[Database]:
    """A pool through the gate."""
    address = database_url.split("host=", 1)[0] + "host=" + str(Path(gate.path).parent)
    pool = Database(address, size=4, command_timeout_s=5, vault=vault)
    yield pool
    await pool.close()


async def next_event(socket: Any, kind: str | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
    """The next frame of a kind, or the next with a cursor."""
    async with asyncio.timeout(timeout_s):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if (kind is None and frame.get("cursor") is not None) or frame.get("kind") == kind:
                return frame


@pytest.fixture
def receive() -> Callable[..., Any]:
    """Waits for a frame on a feed's socket."""
    return next_event


@pytest.fixture
def another_pair(database: Database) -> Callable[..., Any]:
    """Makes a pair of an agency of its own, or of the one given."""

    async def make(agency: tuple[uuid.UUID, dict[str, uuid.UUID]] | None = None) -> Pair:
        return await make_pair(database, agency or await make_agency(database, "Other"))

    return make
