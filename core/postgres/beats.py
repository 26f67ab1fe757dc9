"""Beats: who is running. Work is shared out among those with a fresh beat."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.postgres.database import Connection


async def beat(
    connection: Connection, name: str, instance: str, now: datetime, detail: dict[str, Any] | None = None
) -> None:
    """Note that an instance of a service is running now."""
    await connection.execute(
        """
        INSERT INTO service_beat (name, instance, beat_at, detail) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name, instance) DO UPDATE SET beat_at = excluded.beat_at, detail = excluded.detail
        """,
        name,
        instance,
        now,
        detail or {},
    )


async def forget(connection: Connection, name: str, instance: str) -> None:
    """Note that an instance has ended, so that its share goes to the others at once."""
    await connection.execute("DELETE FROM service_beat WHERE name = $1 AND instance = $2", name, instance)


async def count_running(connection: Connection, name: str, since: datetime) -> int:
    """How many instances of a service have beaten since."""
    return int(
        await connection.fetchval("SELECT count(*) FROM service_beat WHERE name = $1 AND beat_at >= $2", name, since)
    )


async def running(connection: Connection, since: datetime) -> list[dict[str, Any]]:
    """Every instance that has beaten since: name, instance, beat_at, detail."""
    rows = await connection.fetch(
        "SELECT name, instance, beat_at, detail FROM service_beat WHERE beat_at >= $1 ORDER BY name, instance", since
    )
    return [dict(row) for row in rows]


async def sweep(connection: Connection, before: datetime) -> None:
    """Forget those that have long stopped beating."""
    await connection.execute("DELETE FROM service_beat WHERE beat_at < $1", before)
