"""The address of an incident's place: kept inside the place, so that the same rule says who sees it."""

from __future__ import annotations

import uuid
from datetime import datetime

from core.actions.unit_of_work import act
from core.clock import rfc3339
from core.postgres import geocoding as store
from core.postgres import incidents
from core.postgres.database import Database


async def waiting(database: Database, limit: int) -> list[tuple[uuid.UUID, float, float]]:
    """Open incidents with a place and no word of its address, the most urgent first."""
    async with database.connection() as connection:
        return await store.without_address(connection, limit)


async def keep_address(
    database: Database, now: datetime, incident_id: uuid.UUID, lat: float, lon: float, address: str | None
) -> int:
    """Keep the address of a place, or that there is none, if the incident is still there; how many were changed."""
    async with act(database, now) as unit:
        rows = await incidents.lock_many(unit.connection, [incident_id])
        for row in rows:
            place = row["place"] or {}
            if (place.get("lat"), place.get("lon")) != (lat, lon):
                return 0  # she has moved on; the next look asks for where she is now
            row["place"] = {**place, "address": address, "addressed_at": rfc3339(now)}
            row["updated_at"] = now
            await incidents.update_many(unit.connection, [row])
            if address is not None:
                unit.emit(row["agency_id"], "incident.updated", incidents.incident_json(row))
        return len(rows)
