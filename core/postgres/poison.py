"""Poison: messages that could not be taken, set aside with their reason so that the rest flows."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Final

from core.postgres.database import Connection

BODY_BYTES_MAX: Final = 4_096
"""How much of a message is kept."""


async def set_aside(connection: Connection, source: str, entry: str, reason: str, body: bytes, now: datetime) -> None:
    """Keep a message (base64, cut at BODY_BYTES_MAX) once per source and entry."""
    await connection.execute(
        """
        INSERT INTO poison (source, entry, reason, body, at)
        SELECT $1, $2, $3, $4, $5
        WHERE NOT EXISTS (SELECT 1 FROM poison WHERE source = $1 AND entry = $2)
        """,
        source,
        entry,
        reason[:500],
        base64.b64encode(body[:BODY_BYTES_MAX]).decode(),
        now,
    )


async def count_unhandled(connection: Connection) -> int:
    """How many wait for somebody to look at them."""
    return int(await connection.fetchval("SELECT count(*) FROM poison WHERE handled_at IS NULL"))


async def unhandled_by_source(connection: Connection) -> dict[str, int]:
    """The same by where they came from."""
    rows = await connection.fetch(
        "SELECT source, count(*) AS count FROM poison WHERE handled_at IS NULL GROUP BY source ORDER BY source"
    )
    return {row["source"]: int(row["count"]) for row in rows}
