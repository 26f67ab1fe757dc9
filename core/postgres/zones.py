"""Zones: places of an order he must not enter, or must not leave."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable


async def _protected_person(connection: Connection, zone_id: uuid.UUID, values: Mapping[str, Any]) -> uuid.UUID | None:
    """Whom the zone's order protects: its name may be her address."""
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT victim_id FROM protection_order WHERE id = coalesce($1, (SELECT order_id FROM zone WHERE id = $2))",
        values.get("order_id"),
        zone_id,
    )
    return found


ZONES: Final = SealedTable(
    "zone",
    "zone",
    (
        "order_id", "kind", "name", "geometry", "radius_m", "warning_m", "schedule", "disclosed", "valid_from",
        "valid_until", "created_at", "updated_at", "removed_at",
    ),
    private=("name",),
    person=_protected_person,
)  # fmt: skip
