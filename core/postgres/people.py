"""People: protected, kept away, or beside them."""

from __future__ import annotations

import uuid
from typing import Final

from core.postgres.database import Connection
from core.postgres.table import Table

PEOPLE: Final = Table(
    "person",
    "person",
    ("identity", "safe_contact", "safe_word", "language", "needs", "hazards", "created_at", "updated_at"),
)


async def missing(connection: Connection, agency_id: uuid.UUID, person_ids: list[uuid.UUID]) -> list[uuid.UUID]:
    """Which of these are no people of the agency."""
    rows = await connection.fetch(
        "SELECT id FROM unnest($2::uuid[]) AS asked (id)"
        " WHERE NOT EXISTS (SELECT FROM person WHERE person.id = asked.id AND person.agency_id = $1)",
        agency_id,
        person_ids,
    )
    return [row["id"] for row in rows]
