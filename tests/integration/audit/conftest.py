"""Two agencies with an empty audit, and an attacker who owns the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from core.checkpoints import CheckpointFiles
from core.ids import new_id
from core.postgres.database import Database
from core.signing import new_signer
from tests.integration.audit.audit_world import START, World


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> World:
    """Two agencies; nothing has happened yet."""
    agency_id = new_id()
    async with database.connection() as connection:
        for name, identity in (("One", agency_id), ("Two", new_id())):
            await connection.execute(
                "INSERT INTO agency (id, name, created_at) VALUES ($1, $2, $3)", identity, name, START
            )
    return World(database, CheckpointFiles(tmp_path / "checkpoints"), new_signer(), START, agency_id)


@pytest.fixture
async def attacker(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the database, with triggers off."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()
