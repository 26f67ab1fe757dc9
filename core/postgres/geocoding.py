"""Open incidents whose place has no address yet."""

from __future__ import annotations

import uuid

from core.postgres.database import Connection


async def without_address(connection: Connection, limit: int) -> list[tuple[uuid.UUID, float, float]]:
    """(incident, latitude, longitude) of open incidents with a place and no word of its address; the urgent first."""
    rows = await connection.fetch(
        "SELECT id, (place ->> 'lat')::float8 AS lat, (place ->> 'lon')::float8 AS lon FROM incident"
        " WHERE state <> 'resolved' AND NOT retrospective AND place ->> 'lat' IS NOT NULL"
        " AND place ->> 'lon' IS NOT NULL AND NOT place ? 'addressed_at'"
        " ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), opened_at DESC LIMIT $1",
        limit,
    )
    return [(row["id"], row["lat"], row["lon"]) for row in rows]
