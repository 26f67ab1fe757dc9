"""Incidents that another agency has to know of, and what of them it is told."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import rfc3339
from core.postgres.database import Connection
from core.postgres.table import Record

_SHARE: Final = (
    "INSERT INTO incident_share (incident_id, agency_id, owner_agency_id, reason, since)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
)


async def share(
    connection: Connection,
    incident_id: uuid.UUID,
    owner_id: uuid.UUID,
    agency_id: uuid.UUID,
    reason: str,
    now: datetime,
) -> None:
    """Have another agency know of an incident; it stays as it is when that agency knows already."""
    await connection.execute(_SHARE, incident_id, agency_id, owner_id, reason, now)


@dataclass(frozen=True, slots=True)
class Share:
    """An incident that another agency is to know of."""

    incident_id: uuid.UUID
    owner_id: uuid.UUID
    agency_id: uuid.UUID
    reason: str


async def share_all(connection: Connection, wanted: Sequence[Share], now: datetime) -> None:
    """The same of many at once."""
    if wanted:
        await connection.executemany(
            _SHARE, [(one.incident_id, one.agency_id, one.owner_id, one.reason, now) for one in wanted]
        )


async def shared(connection: Connection, incident_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
    """Others' incidents that are the scope's agency's concern and not over, the newest first."""
    rows = await connection.fetch("SELECT * FROM shared_incidents($1)", incident_id)
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


async def lock(connection: Connection, incident_id: uuid.UUID, agency_id: uuid.UUID) -> Record | None:
    """That an agency knows of an incident, held; None: it does not."""
    row = await connection.fetchrow(
        "SELECT incident_id, agency_id, owner_agency_id, reason, acknowledged_at FROM incident_share"
        " WHERE incident_id = $1 AND agency_id = $2 FOR NO KEY UPDATE",
        incident_id,
        agency_id,
    )
    return dict(row) if row is not None else None


async def acknowledge(
    connection: Connection, incident_id: uuid.UUID, agency_id: uuid.UUID, user_id: uuid.UUID, now: datetime
) -> None:
    """Keep that somebody of the other agency has seen it."""
    await connection.execute(
        "UPDATE incident_share SET acknowledged_at = coalesce(acknowledged_at, $4),"
        " acknowledged_by = coalesce(acknowledged_by, $3) WHERE incident_id = $1 AND agency_id = $2",
        incident_id,
        agency_id,
        user_id,
        now,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    return rfc3339(value) if isinstance(value, datetime) else value
