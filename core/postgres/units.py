"""Units: whom a dispatcher can send."""

from __future__ import annotations

import uuid
from typing import Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

UNITS: Final = Table(
    "unit",
    "unit",
    (
        "callsign", "status", "lat", "lon", "position_at", "capabilities", "shift_ends_at", "conflicts", "created_at",
        "updated_at", "user_ids",
    ),
)  # fmt: skip


async def incidents_of(connection: Connection, agency_id: uuid.UUID, unit_id: uuid.UUID) -> list[uuid.UUID]:
    """Incidents that are not resolved to which the unit was sent."""
    rows = await connection.fetch(
        """
        SELECT id FROM incident WHERE agency_id = $1 AND state <> 'resolved'
        AND units @> jsonb_build_array(jsonb_build_object('unit_id', $2::uuid::text))
        """,
        agency_id,
        unit_id,
    )
    return [row["id"] for row in rows]


async def as_told(connection: Connection, found: list[Record]) -> list[Record]:
    """Units as the scope's user may know them: of `conflicts`, less whom she may not know of."""
    if not any(unit["conflicts"] for unit in found):
        return found
    hidden = await hidden_ids(connection)
    return [{**unit, "conflicts": [one for one in unit["conflicts"] if one not in hidden]} for unit in found]


async def hidden_ids(connection: Connection) -> frozenset[uuid.UUID]:
    """Every id that is hidden from the scope's user."""
    return frozenset(await connection.fetchval("SELECT hidden_ids()"))
