"""Fixtures every test may use: real stores, started once a worker, a fresh database and an empty Valkey a test."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest

from core.clock import utc_now
from core.key_rings import LocalRing
from core.postgres.database import Database
from core.postgres.logins import GROUPS, make_logins, url_as
from core.postgres.migrate import migrate
from core.redis.client import connect
from core.settings import Settings
from core.vault import Vault
from infra.embedded import EmbeddedStores

# How long an example takes is the machine's matter: a busy one must not fail what is right.
hypothesis.settings.register_profile("qorgan", deadline=None)
hypothesis.settings.load_profile("qorgan")

if sys.version_info < (3, 12):
    # Whoever asks for a signal's handler has it written out, to be told that it is no constant: asyncio's holds a
    # fixture's task, and with it whatever the fixture made. From 3.12 on only numbers are looked up.
    _look_up = signal._int_to_enum  # type: ignore[attr-defined]
    signal._int_to_enum = lambda value, kind: _look_up(value, kind) if isinstance(value, int) else value  # type: ignore[attr-defined]

SHARDS = 4
PASSING = {
    "fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0", "shared_buffers": "64MB",
    "autovacuum": "off", "max_wal_size": "256MB", "scram_iterations": "1",
}  # fmt: skip
"""Nothing of these stores outlives its test: with so little to log a copy of the template takes a tenth of the time."""
IN_MEMORY, ROOM_BYTES = Path("/dev/shm"), 2 << 30
"""Where stores are in memory, and what has to be free there, and of memory itself, for each test worker."""
_numbers = itertools.count(1)


def pytest_collection_finish() -> None:
    """Have the collector pass over all that was collected: modules and thousands of tests, none of which ever goes."""
    gc.collect()
    gc.freeze()


def _place() -> str | None:
    """Where the stores may be: in memory if there is room, for each test makes a thousand files and removes them."""
    needed = ROOM_BYTES * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    try:
        bounds = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")]
        most, taken = [path.read_text().strip() if path.exists() else "max" for path in bounds]
        rooms = [shutil.disk_usage(IN_MEMORY).free, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
        if most.isdigit() and taken.isdigit():  # what a container may still take
            rooms.append(int(most) - int(taken))
        has_room = min(rooms) >= needed and os.access(IN_MEMORY, os.W_OK)
    except (OSError, ValueError):
        return None
    return str(IN_MEMORY) if has_room else None


async def _log_in_cheaply(stores: EmbeddedStores) -> None:
    """Give the owner her password anew, hashed as the stores are set to: every pool of every test logs in with it."""
    assert stores.postgres is not None
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute(f"ALTER ROLE postgres PASSWORD '{stores.postgres.password}'")
    await connection.close()


@pytest.fixture(scope="session")
def stores() -> Iterator[EmbeddedStores]:
    """A real PostgreSQL and a real Valkey for this test worker.

    Not in pytest's own temporary directory: each pytest that starts closes that to other users, and as root
    PostgreSQL runs as one of them.
    """
    with tempfile.TemporaryDirectory(prefix="qorgan-test-", dir=_place(), ignore_cleanup_errors=True) as directory:
        embedded = EmbeddedStores(Path(directory), settings=PASSING)
        embedded.start()
        try:
            asyncio.run(_log_in_cheaply(embedded))
            asyncio.run(migrate(embedded.database_url, SHARDS, utc_now()))
            yield embedded
        finally:
            embedded.stop()


@pytest.fixture(scope="session")
def logins(stores: EmbeddedStores) -> dict[str, str]:
    """What a service does in PostgreSQL → the URL of a login role for it, as `qorgan run` makes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.postgres.logins.ITERATIONS", 1)
        return asyncio.run(make_logins(stores.database_url))


@dataclass
class Posts:
    """A database as each service connects to it: bound by row-level security, and refused where it is not."""

    api: Database
    device: Database
    worker: Database
    historian: Database
    sealer: Database
    retention: Database

    @property
    def all(self) -> tuple[Database, ...]:
        """Every one of them."""
        return self.api, self.device, self.worker, self.historian, self.sealer, self.retention


@pytest.fixture
async def database_url(stores: EmbeddedStores) -> AsyncIterator[str]:
    """Address of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    admin_url = stores.database_url.replace("/qorgan?", "/postgres?")
    admin = await asyncpg.connect(admin_url)
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE qorgan STRATEGY file_copy')
    yield stores.database_url.replace("/qorgan?", f"/{name}?")
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
def vault() -> Vault:
    """Keys as every process of one installation has them."""
    return Vault(LocalRing({"test": bytes(range(32))}))


@pytest.fixture
async def database(database_url: str, vault: Vault) -> AsyncIterator[Database]:
    """A pool on a fresh database, as its owner: for what a test prepares and looks up; services take `posts`."""
    pool = Database(database_url, size=8, vault=vault)
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
async def posts_at(logins: dict[str, str], database_url: str, vault: Vault) -> AsyncIterator[Callable[[str], Posts]]:
    """Makes `Posts` for the address of a database; nothing connects before it is used."""
    del database_url  # only that it is still there when the pools are closed
    made: list[Posts] = []

    def make(url: str) -> Posts:
        pools = {}
        for kind, role in GROUPS.items():
            login = urlsplit(logins[kind])
            own_url = url_as(url, str(login.username), str(login.password))
            pools[kind] = Database(own_url, size=8, command_timeout_s=5, role=role, vault=vault)
        made.append(Posts(**pools))
        return made[-1]

    yield make
    for posts in made:
        for pool in posts.all:
            await pool.close()


@pytest.fixture
def posts(posts_at: Callable[[str], Posts], database_url: str) -> Posts:
    """The test's database as each service connects to it."""
    return posts_at(database_url)


@pytest.fixture
async def redis_client(stores: EmbeddedStores) -> AsyncIterator[Any]:
    """A client of an emptied Valkey."""
    client = connect(stores.redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def settings(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> Settings:
    """Settings that point at this test's stores and a data directory of its own."""
    return Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes it a SecretStr
        redis_url=stores.redis_url,  # type: ignore[arg-type]
        data_dir=tmp_path,
        shard_count=SHARDS,
        port=0,
        forbidden_networks="",
    )
