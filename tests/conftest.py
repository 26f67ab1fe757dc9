"""Fixtures every test may use: real stores, started once a worker, a fresh database and an empty Valkey a test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core.clock import utc_now
from core.postgres.database import Database
from core.postgres.migrate import migrate
from core.key_rings import LocalRing
from core.redis.client import connect
from core.settings import Settings
from core.vault import Vault
from infra.embedded import EmbeddedStores

SHARDS = 4
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stores() -> Iterator[EmbeddedStores]:
    """A real PostgreSQL and a real Valkey for this test worker.

    Not in pytest's own temporary directory: each pytest that starts closes that to other users, and as root
    PostgreSQL runs as one of them.
    """
    with tempfile.TemporaryDirectory(prefix="qorgan-test-", ignore_cleanup_errors=True) as directory:
        embedded = EmbeddedStores(Path(directory), settings={"fsync": "off", "shared_buffers": "64MB"})
        embedded.start()
        asyncio.run(_make_template(embedded))
        yield embedded
        embedded.stop()


async def _make_template(embedded: EmbeddedStores) -> None:
    await migrate(embedded.database_url, SHARDS, utc_now())


@pytest.fixture
async def database_url(stores: EmbeddedStores) -> AsyncIterator[str]:
    """Address of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    admin_url = stores.database_url.replace("/qorgan?", "/postgres?")
    admin = await asyncpg.connect(admin_url)
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE qorgan')
    yield stores.database_url.replace("/qorgan?", f"/{name}?")
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
def vault() -> Vault:
    """Keys as every process of one installation has them."""
    return Vault(LocalRing({"test": bytes(range(32))}))


@pytest.fixture
async def database(database_url: str, vault: Vault) -> AsyncIterator[Database]:
    """A pool on a fresh database."""
    pool = Database(database_url, size=8, vault=vault)
    await pool.open()
    yield pool
    await pool.close()


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
    )
