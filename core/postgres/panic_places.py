"""Where people in open panics were last seen, as their incidents say, and the devices that say where they are now."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from core.postgres.database import Connection


@dataclass(frozen=True, slots=True)
class Carried:
    """A device of somebody in an open panic."""

    incident_id: uuid.UUID
    device_number: int
    shard: int
    place: dict[str, Any] | None
    """What the incident says."""


async def carried(connection: Connection, limit: int) -> list[Carried]:
    """The devices of the protected people of open panics, at most `limit`, those pressed last first."""
    rows = await connection.fetch(
        "SELECT i.id, i.place, d.number, d.routes[1] AS shard FROM incident i"
        " JOIN device d ON d.person_id = i.victim_id AND d.role <> 'aggressor'"
        " AND d.status IN ('registered', 'active') AND cardinality(d.routes) > 0"
        " WHERE i.family = 'panic' AND i.state <> 'resolved' ORDER BY i.opened_at DESC, d.number LIMIT $1",
        limit,
    )
    return [Carried(row["id"], row["number"], row["shard"], row["place"]) for row in rows]
