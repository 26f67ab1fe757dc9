"""What the watchdog asks of PostgreSQL: what waits, and since when."""

from __future__ import annotations

from datetime import datetime

from core.postgres.database import Connection


async def untried_since(connection: Connection) -> datetime | None:
    """Since when the oldest panic's message is due that nobody has tried to send; None: there is none."""
    found: datetime | None = await connection.fetchval(
        "SELECT min(due_at) FROM delivery WHERE state = 'queued' AND priority = 0 AND attempts = 0"
    )
    return found


async def notifier_beat_at(connection: Connection) -> datetime | None:
    """When a notifier last gave a sign of life; None: there is none."""
    found: datetime | None = await connection.fetchval("SELECT max(beat_at) FROM service_beat WHERE name = 'notifier'")
    return found


async def unsealed_since(connection: Connection) -> datetime | None:
    """Since when the oldest row of the audit waits to be linked; None: none does."""
    found: datetime | None = await connection.fetchval("SELECT oldest_unsealed()")
    return found
