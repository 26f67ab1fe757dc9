"""Migrations: numbered SQL files, applied once each under a lock; the number of shards is fixed by the first."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime
from pathlib import Path

import asyncpg
from pogo_core.util.migrate import apply
from pogo_core.util.sql import ensure_pogo_sync, read_migrations

from core.errors import Misconfigured, StoreUnavailable
from core.postgres.database import AWAY, CONNECT_TIMEOUT_S, Database

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA = Path(__file__).parent / "schema.sql"
LOCK_KEY = 7_067_001
"""Advisory lock that lets one process migrate at a time."""


async def migrate(url: str, shard_count: int, now: datetime) -> int:
    """Bring the database to the newest schema; returns its number of shards.

    Raises Misconfigured when `shard_count` is not what the database was made with: a case would change its
    shard, and its log with it.
    """
    logging.getLogger("pogo_core.util.migrate").setLevel(logging.ERROR)
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except AWAY as error:
        raise StoreUnavailable("PostgreSQL cannot be reached; check QORGAN_DATABASE_URL.") from error
    except asyncpg.PostgresError as error:
        raise Misconfigured(f"PostgreSQL refuses the connection: {error}") from error
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        await ensure_pogo_sync(connection)
        known = await read_migrations(MIGRATIONS, connection, schema_name="public")
        if not all(migration.applied for migration in known):  # to read their statements takes a second of a core
            await apply(connection, MIGRATIONS, schema_name="public")
        await connection.execute(
            "INSERT INTO installation (shard_count, installed_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            shard_count,
            now,
        )
        stored = int(await connection.fetchval("SELECT shard_count FROM installation"))
        await connection.execute(
            # recorders once worked under the engine's tokens: theirs go on from what their cursors have seen
            "INSERT INTO lease (name, token) SELECT kind || ':' || shard, coalesce((SELECT token FROM log_cursor"
            " WHERE kind = 'recorder' AND log_cursor.name = kind || ':' || shard), 0)"
            " FROM unnest(ARRAY['geo', 'recorder', 'historian']) kind, generate_series(0, $1 - 1) shard"
            " ON CONFLICT DO NOTHING",
            stored,
        )
    finally:
        await connection.close()
    if stored != shard_count:
        raise Misconfigured(
            f"The database was made with {stored} shards; set QORGAN_SHARD_COUNT={stored} (it cannot change)."
        )
    return stored


async def installed_at(database: Database) -> datetime:
    """When the schema was first made."""
    async with database.connection() as connection:
        moment: datetime = await connection.fetchval("SELECT installed_at FROM installation")
    return moment


async def set_default_agency(database: Database, agency_id: uuid.UUID | None) -> None:
    """Have an agency answer panics of nobody known. Raises Misconfigured when there is none of this id."""
    async with database.transaction() as connection:
        if agency_id is not None and not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM agency WHERE id = $1)", agency_id
        ):
            raise Misconfigured(f"QORGAN_DEFAULT_AGENCY: there is no agency {agency_id}.")
        await connection.execute(
            "UPDATE installation SET default_agency_id = $1 WHERE default_agency_id IS DISTINCT FROM $1", agency_id
        )
