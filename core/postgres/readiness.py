"""What readiness asks of PostgreSQL: who owns the shards, and how far the logs have been taken."""

from __future__ import annotations

from datetime import datetime

from core.postgres.database import Connection
from core.postgres.table import Record


async def leases(connection: Connection, now: datetime) -> list[Record]:
    """Every lease, its holder, and whether it holds now."""
    rows = await connection.fetch(
        "SELECT name, holder, coalesce(expires_at > $1, false) AS held FROM lease ORDER BY name", now
    )
    return [dict(row) for row in rows]


async def cursors(connection: Connection) -> dict[str, str]:
    """Up to which entry each log has been taken into PostgreSQL."""
    rows = await connection.fetch("SELECT name, entry FROM log_cursor ORDER BY name")
    return {row["name"]: row["entry"] for row in rows}
