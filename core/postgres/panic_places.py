"""Where people in open panics were last seen, as their incidents say, and the devices that say where they are now."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from core.postgres.database import Connection


class Turn(NamedTuple):
    """Up to where devices were looked at."""

    incident_id: uuid.UUID
    device_number: int


@dataclass(frozen=True, slots=True)
class Carried:
    """A device of somebody in an open panic."""

    incident_id: uuid.UUID
    device_number: int
    shard: int
    place: dict[str, Any] | None
    """What the incident says."""


FIRST: Final = Turn(uuid.UUID(int=0), 0)


async def carried(connection: Connection, after: Turn, limit: int) -> list[Carried]:
    """The devices of the protected people of open panics, the next `limit` after one whose turn it was."""
    rows = await connection.fetch(
        "SELECT i.id, i.place, d.number, d.routes[1] AS shard FROM incident i"
        " JOIN device d ON d.person_id = i.victim_id AND d.role <> 'aggressor'"
        " AND d.status IN ('registered', 'active') AND cardinality(d.routes) > 0"
        " WHERE i.family = 'panic' AND i.state <> 'resolved' AND (i.id, d.number) > ($1, $2)"
        " ORDER BY i.id, d.number LIMIT $3",
        after.incident_id,
        after.device_number,
        limit,
    )
    return [Carried(row["id"], row["number"], row["shard"], row["place"]) for row in rows]
