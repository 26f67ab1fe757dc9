"""A small agency, pings in bytes, and an engine that counts: what the workers' tests are made of."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.clock import now_ms, utc_now
from core.domain.case import Case, decode_cases, encode_cases
from core.domain.log import CONFIGURATION, PINGS, Entry
from core.domain.past import Want
from core.domain.ping import FLAG_POSITION, FLAG_PRIMARY, RECORD_FORMAT, unpack_records
from core.domain.transition import Transition, transition_id
from core.ids import new_id
from core.postgres.database import Database
from core.redis import keys
from core.redis.client import connect
from core.redis.shard_log import ShardLog
from core.settings import Settings
from geo.engine import EngineChanges
from geo.historian import Historian
from geo.recorder import Recorder
from geo.worker import GeoWorker

AGENCY = uuid.UUID(int=7)
POSTGRES_SOCKET = ".s.PGSQL.5432"
ALARM_PCT = 1.0
"""A ping with this battery makes the counting engine decide something."""
POISON_PCT = 2.0
POISON_VERSION = 13
"""A ping with this battery makes it raise."""


class CountingEngine:
    """Counts each device's records in its state; decides on `ALARM_PCT`, fails on `POISON_PCT` and `POISON_VERSION`."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.counts: dict[int, int] = {}
        self.versions: dict[int, int] = {}
        self._changed: set[bytes] = set()
        self._live: list[tuple[int, bytes]] = []
        self._places: list[tuple[float, float, int]] = []

    def process(self, entries: Sequence[Entry]) -> list[Transition]:
        decided = []
        for entry in entries:
            if entry.kind == CONFIGURATION:
                for case in decode_cases(entry.payload):
                    if case.version == POISON_VERSION:
                        raise RuntimeError("poison")
                    self.versions[case.number] = case.version
                    self._changed.add(b"v%d" % case.number)
            elif entry.kind == PINGS:
                for index, record in enumerate(unpack_records(entry.payload)):
                    decided += self._take(entry, index, record)
        return decided

    def _take(self, entry: Entry, index: int, record: Any) -> list[Transition]:
        device, battery = int(record["device"]), float(record["battery_pct"])
        if battery == POISON_PCT:
            raise RuntimeError("poison")
        self.counts[device] = self.counts.get(device, 0) + 1
        self._changed.add(b"d%d" % device)
        self._places.append((float(record["lon"]), float(record["lat"]), device))
        self._live.append(
            (
                device,
                struct.pack(
                    keys.LIVE_FORMAT, record["lat"], record["lon"], 5, 0, 0, battery, record["at_ms"], entry.ms, 1
                ),
            )
        )
        if battery != ALARM_PCT:
            return []
        return [
            Transition(
                id=transition_id(self.shard, entry.id, index, device, "device"), shard=self.shard, entry=entry.id,
                kind="device", from_state="ok", to_state="critical", at_ms=int(record["at_ms"]), evaluated_ms=entry.ms,
                agency_id=AGENCY, case_id=uuid.UUID(int=device),
                detail={"signal": "battery", "seq": int(record["seq"])},
            )
        ]  # fmt: skip

    def take_changes(self) -> EngineChanges:
        state: dict[bytes, bytes | None] = {
            name: str(self.counts[int(name[1:])] if name[:1] == b"d" else self.versions[int(name[1:])]).encode()
            for name in self._changed
        }
        changes = EngineChanges(state, self._live, self._places)
        self._changed, self._live, self._places = set(), [], []
        return changes

    def restore(self, fields: Mapping[bytes, bytes]) -> None:
        for name, value in fields.items():
            (self.counts if name[:1] == b"d" else self.versions)[int(name[1:])] = int(value)

    wants_dropped_total = 0

    def close(self) -> None:
        """It has nothing to give back."""

    def wants(self, limit: int) -> list[Want]:
        return [][:limit]

    def case_versions(self) -> dict[int, int]:
        return dict(self.versions)


def ping(device: int, seq: int, *, at_ms: int | None = None, battery: float = 50.0, flags: int = FLAG_PRIMARY) -> bytes:
    """One record."""
    nan = float("nan")
    return struct.pack(
        RECORD_FORMAT, device, flags | FLAG_POSITION, now_ms() - 50 if at_ms is None else at_ms, seq, 43.2, 76.9, 5.0,
        nan, nan, nan, battery, 0,
    )  # fmt: skip


async def wait_until(
    condition: Callable[[], Awaitable[Any]] | Callable[[], Any], what: str, timeout_s: float = 15.0
) -> Any:
    """The first true answer of `condition`, asked each 10 ms; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        await asyncio.sleep(0.01)


@dataclass
class Ground:
    """One test's stores, and what runs on them."""

    settings: Settings
    database: Database
    """As the owner, to prepare and to look."""
    posts: Any
    """As the services connect (tests/conftest.py: Posts)."""
    client: Any
    log: ShardLog
    applied: list[uuid.UUID] = field(default_factory=list)
    running: list[Any] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    ping = staticmethod(ping)
    wait_until = staticmethod(wait_until)
    ALARM_PCT, POISON_PCT = ALARM_PCT, POISON_PCT

    def with_settings(self, **values: Any) -> Ground:
        self.settings = self.settings.model_copy(update=values)
        return self

    def worker(self, instance: str, client: Any = None, database: Database | None = None) -> GeoWorker:
        return self._remember(
            GeoWorker(
                self.settings, database or self.posts.worker, client or self.client, instance, utc_now,
                engine_factory=CountingEngine,
            )
        )  # fmt: skip

    def recorder(self, owner: Any, apply: Any = None) -> Recorder:
        return self._remember(
            Recorder(
                self.settings, self.posts.worker, self.client, owner, utc_now, apply=apply or self.apply, leases="geo"
            )
        )

    def historian(self, instance: str = "historian-1") -> Historian:
        return self._remember(Historian(self.settings, self.posts.historian, self.client, instance, utc_now))

    def _remember(self, service: Any) -> Any:
        self.running.append(service)
        return service

    @staticmethod
    async def apply(unit: Any, transitions: Sequence[Transition]) -> None:
        """Rows without any key: what is applied twice is there twice."""
        await unit.connection.executemany(
            "INSERT INTO audit (id, at, actor_kind, action, detail) VALUES ($1, $2, 'engine', 'applied', $3)",
            [(new_id(), unit.now, {"id": str(item.id), "seq": item.detail["seq"]}) for item in transitions],
        )

    async def applied_seqs(self) -> list[int]:
        """Sequence numbers of the applied transitions, in the order they were applied."""
        async with self.database.connection() as connection:
            rows = await connection.fetch("SELECT detail FROM audit WHERE action = 'applied' ORDER BY id")
        return [row["detail"]["seq"] for row in rows]

    async def count(self, query: str, *arguments: Any) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval(query, *arguments))

    async def pings_stored(self) -> int:
        return await self.count("SELECT count(*) FROM ping")

    async def counted(self, shard: int, device: int) -> int:
        """Records of a device in the shard's committed state."""
        return int(await self.client.hget(keys.state(shard), f"d{device}") or 0)

    async def append(self, shard: int, *records: bytes) -> str:
        return await self.log.append(shard, PINGS, b"".join(records))

    async def add_device(self, role: str) -> int:
        """A device's number."""
        async with self.database.connection() as connection:
            return int(
                await connection.fetchval(
                    "INSERT INTO device (id, agency_id, kind, role, created_at, updated_at)"
                    " VALUES ($1, $2, 'phone', $3, $4, $4) RETURNING number",
                    new_id(), AGENCY, role, utc_now(),
                )
            )  # fmt: skip

    async def add_cases(self, shard: int, how_many: int) -> list[int]:
        """Numbers of new cases with configuration version 1 on a shard."""
        now = utc_now()
        numbers: list[int] = []
        async with self.database.transaction() as connection:
            people = [(new_id(), AGENCY, now) for _ in range(how_many)]
            await connection.executemany(
                "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)", people
            )
            for person, _, _ in people:
                case_id = new_id()
                number = await connection.fetchval(
                    "INSERT INTO protection_case (id, agency_id, own_person_id, shard, created_at)"
                    " VALUES ($1, $2, $3, $4, $5) RETURNING number",
                    case_id, AGENCY, person, shard, now,
                )  # fmt: skip
                numbers.append(number)
            await self._configure(connection, numbers)
        return numbers

    async def change_cases(self, numbers: Iterable[int]) -> None:
        """Give cases their next configuration version."""
        async with self.database.transaction() as connection:
            await self._configure(connection, numbers)

    @staticmethod
    async def _configure(connection: Any, numbers: Iterable[int]) -> None:
        rows = await connection.fetch(
            "SELECT id, number, config_version FROM protection_case WHERE number = ANY($1::bigint[])", list(numbers)
        )
        cases = [Case(row["number"], row["id"], AGENCY, row["config_version"] + 1) for row in rows]
        await connection.executemany(
            "UPDATE protection_case SET config = $2::text::jsonb, config_version = $3,"
            " changed_xid = pg_current_xact_id()"
            " WHERE number = $1",
            [(case.number, encode_cases([case])[1:-1].decode(), case.version) for case in cases],
        )
        await connection.execute('NOTIFY "case"')


@pytest.fixture
async def ground(settings: Settings, database: Database, posts: Any, redis_client: Any) -> AsyncIterator[Ground]:
    """Stores with one agency, and services that are stopped at the end."""
    async with database.connection() as connection:
        await connection.execute("INSERT INTO agency (id, name, created_at) VALUES ($1, 'Test', $2)", AGENCY, utc_now())
    quick = settings.model_copy(update={"lease_ttl_s": 1.0, "state_commit_ms": 50, "history_interval_ms": 20})
    ground = Ground(quick, database, posts, redis_client, ShardLog(redis_client))
    yield ground
    for service in reversed(ground.running):
        await service.stop()


class Line:
    """A wire to a store that can be cut: a unix socket passed on byte by byte."""

    def __init__(self, path: Path, store: Path) -> None:
        self._path, self._store = path, store
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    async def join(self) -> None:
        self._path.unlink(missing_ok=True)
        await self._close()
        self._is_cut = False
        self._server = await asyncio.start_unix_server(self._pass_on, str(self._path))

    async def cut(self) -> None:
        self._is_cut = True
        self._path.unlink(missing_ok=True)
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        for end in self._ends:  # also of what was being joined just now, and of pipes that never began
            end.close()
        self._ends.clear()

    async def end(self) -> None:
        await self.cut()
        await self._close()

    async def _close(self) -> None:
        """Close the server that nobody finds any more, once it took whoever had come already: Python 3.11 loses a
        connection that is accepted when its server is closed."""
        if self._server is not None:
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        self._ends.add(writer)
        there, back = await asyncio.open_unix_connection(str(self._store))
        if writer.is_closing():  # cut meanwhile
            back.close()
            return
        self._ends.add(back)
        for source, sink in ((reader, back), (there, writer)):
            pipe = asyncio.create_task(self._pipe(source, sink))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    @staticmethod
    async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            finally:
                sink.close()


@pytest.fixture
async def postgres_line(
    stores: Any, tmp_path: Path, database_url: str, posts_at: Callable[[str], Any]
) -> AsyncIterator[tuple[Line, Database]]:
    """A line to PostgreSQL and a worker's pool over it."""
    line = Line(tmp_path / POSTGRES_SOCKET, stores.postgres.socket_directory / POSTGRES_SOCKET)
    await line.join()
    yield line, posts_at(database_url.replace(str(stores.postgres.socket_directory), str(tmp_path))).worker
    await line.end()


@pytest.fixture
async def redis_line(stores: Any, tmp_path: Path) -> AsyncIterator[tuple[Line, Any]]:
    """A line to Redis and a client over it."""
    line = Line(tmp_path / "valkey.sock", stores.valkey.socket_path)
    await line.join()
    client = connect(f"unix://{tmp_path / 'valkey.sock'}")
    yield line, client
    await line.end()
    await client.aclose()
