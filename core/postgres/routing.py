"""Who is to be told of an incident: agencies' routes, a victim's phone, a person's contacts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from core.postgres.database import Connection


async def agency_routes(connection: Connection, agency_ids: Sequence[uuid.UUID]) -> list[dict[str, Any]]:
    """The enabled notification routes of agencies."""
    rows = await connection.fetch(
        "SELECT id, agency_id, channel, address, secret, language, min_severity FROM notification_route"
        " WHERE agency_id = ANY($1) AND enabled ORDER BY id",
        agency_ids,
    )
    return [dict(row) for row in rows]


async def push_devices(connection: Connection, person_ids: Sequence[uuid.UUID]) -> list[dict[str, Any]]:
    """The phones of people that take push messages, with their carrier's language."""
    rows = await connection.fetch(
        "SELECT d.id, d.person_id, d.push_token, p.language FROM device d JOIN person p ON p.id = d.person_id"
        " WHERE d.person_id = ANY($1) AND d.push_token IS NOT NULL AND d.role = 'victim'"
        " AND d.status IN ('registered', 'active') ORDER BY d.id",
        person_ids,
    )
    return [dict(row) for row in rows]


async def contacts(connection: Connection, person_id: uuid.UUID) -> list[dict[str, Any]]:
    """Whom a person's panic may be told: verified, consenting, not revoked, not linked to the aggressor."""
    rows = await connection.fetch(
        "SELECT id, channels, language FROM contact WHERE person_id = $1 AND verified_at IS NOT NULL"
        " AND consented_at IS NOT NULL AND revoked_at IS NULL AND NOT linked_to_aggressor ORDER BY id",
        person_id,
    )
    return [dict(row) for row in rows]
