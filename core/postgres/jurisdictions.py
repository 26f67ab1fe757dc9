"""Police agencies' jurisdictions, and which agency stands in where none is known."""

from __future__ import annotations

import uuid
from typing import Any

from core.postgres.database import Connection


async def version(connection: Connection) -> tuple[int, int]:
    """Another one whenever an agency, its kind or its jurisdiction is another."""
    row = await connection.fetchrow("SELECT count(*) AS count, sum(jurisdiction_version) AS sum FROM agency")
    return row["count"], int(row["sum"] or 0)


async def polygons(connection: Connection) -> list[tuple[uuid.UUID, dict[str, Any]]]:
    """The jurisdictions of police agencies, GeoJSON."""
    rows = await connection.fetch(
        "SELECT id, jurisdiction FROM agency WHERE kind = 'police' AND jurisdiction IS NOT NULL ORDER BY id"
    )
    return [(row["id"], row["jurisdiction"]) for row in rows]


async def default_agency(connection: Connection) -> uuid.UUID | None:
    """The agency that answers where no jurisdiction says which does (SQL `default_agency`)."""
    found: uuid.UUID | None = await connection.fetchval("SELECT default_agency()")
    return found
