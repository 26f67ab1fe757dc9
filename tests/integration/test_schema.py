"""The migrations lead to the documented schema."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from core.clock import utc_now
from core.errors import Misconfigured
from core.postgres.migrate import SCHEMA, migrate
from infra.embedded import POSTGRES_BIN_PATH, EmbeddedStores


def dump(stores: EmbeddedStores, name: str) -> list[str]:
    """The schema of a database as pg_dump writes it, without its own random lines and pogo's tables."""
    output = subprocess.run(
        [
            str(POSTGRES_BIN_PATH / "pg_dump"), "-s", "--no-owner", "-T", "_pogo_*",
            stores.database_url.replace("/qorgan?", f"/{name}?"),
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [line for line in output.splitlines() if line and not line.startswith(("--", "\\"))]


async def test_migrations_from_nothing_equal_the_documented_schema(stores: EmbeddedStores) -> None:
    admin = await asyncpg.connect(stores.database_url.replace("/qorgan?", "/postgres?"))
    try:
        await admin.execute("CREATE DATABASE documented")
        documented = await asyncpg.connect(stores.database_url.replace("/qorgan?", "/documented?"))
        await documented.execute(Path(SCHEMA).read_text())
        await documented.close()
        assert dump(stores, "qorgan") == dump(stores, "documented")
    finally:
        await admin.execute("DROP DATABASE documented WITH (FORCE)")
        await admin.close()


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    assert await migrate(database_url, 4, utc_now()) == 4


async def test_another_number_of_shards_is_refused(database_url: str) -> None:
    with pytest.raises(Misconfigured, match="QORGAN_SHARD_COUNT=4"):
        await migrate(database_url, 16, utc_now())
