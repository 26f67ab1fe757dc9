"""PostgreSQL away, Redis away: the workers' connections break and come back, what was accepted finds its place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.postgres.database import Database
from core.redis.client import connect

POSTGRES_SOCKET = ".s.PGSQL.5432"
SHARDS = 4


class Line:
    """A wire to a store that can be cut: a unix socket passed on byte by byte."""

    def __init__(self, path: Path, store: Path) -> None:
        self._path, self._store = path, store
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._pass_on, str(self._path))

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self._path.unlink(missing_ok=True)
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self._store))
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
async def postgres_line(stores: Any, tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Line, Database]]:
    """A line to PostgreSQL and a pool over it."""
    line = Line(tmp_path / POSTGRES_SOCKET, stores.postgres.socket_directory / POSTGRES_SOCKET)
    await line.join()
    database = Database(database_url.replace(str(stores.postgres.socket_directory), str(tmp_path)), size=8)
    yield line, database
    await line.cut()
    await database.close()


@pytest.fixture
async def redis_line(stores: Any, tmp_path: Path) -> AsyncIterator[tuple[Line, Any]]:
    """A line to Redis and a client over it."""
    line = Line(tmp_path / "valkey.sock", stores.valkey.socket_path)
    await line.join()
    client = connect(f"unix://{tmp_path / 'valkey.sock'}")
    yield line, client
    await line.cut()
    await client.aclose()


async def test_without_postgres_shards_stay_owned_and_pings_evaluated(ground: Any, postgres_line: Any) -> None:
    line, database = postgres_line
    worker = ground.worker("geo-1", database=database)
    await worker.start()
    await ground.wait_until(lambda: len(worker.owned()) == SHARDS, "all shards")
    tokens = dict(worker.owned())
    await line.cut()
    for seq in range(60):
        await ground.append(0, ground.ping(5, seq, battery=ground.ALARM_PCT))
        await asyncio.sleep(ground.settings.lease_ttl_s / 30)  # so that the lease runs out meanwhile

    async def counted() -> bool:
        return await ground.counted(0, 5) == 60

    await ground.wait_until(counted, "all pings evaluated")
    assert dict(worker.owned()) == tokens
    assert await ground.applied_seqs() == []
    await line.join()
    ground.recorder(worker)
    await ground.running[-1].start()

    async def applied() -> bool:
        return len(await ground.applied_seqs()) >= 60

    await ground.wait_until(applied, "all transitions applied")
    assert await ground.applied_seqs() == list(range(60))
    assert dict(worker.owned()) == tokens, "the lease had run out, but it was nobody else's"


async def test_without_redis_workers_wait_and_go_on(ground: Any, redis_line: Any) -> None:
    line, client = redis_line
    device = await ground.add_device("victim")
    worker = ground.worker("geo-1", client=client)
    ground.client, direct = client, ground.client
    historian, recorder = ground.historian(), ground.recorder(worker)
    ground.client = direct
    for service in (worker, historian, recorder):
        await service.start()
    await ground.wait_until(lambda: len(worker.owned()) == len(historian.owned()) == SHARDS, "all shards")
    for seq in range(100):
        await ground.append(1, ground.ping(device, seq, battery=ground.ALARM_PCT))
        if seq in (30, 70):
            await line.cut()
        if seq in (50, 90):
            await line.join()

    async def done() -> bool:
        return (
            await ground.counted(1, device) == 100
            and await ground.pings_stored() == 100
            and len(await ground.applied_seqs()) >= 100
        )

    await ground.wait_until(done, "everything in its place")
    assert sorted(set(await ground.applied_seqs())) == list(range(100))
