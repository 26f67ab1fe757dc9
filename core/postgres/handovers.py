# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Consents and hand-overs: what she allowed, what was handed over under it, to whom, until when."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

CONSENTS: Final = Table(
    "consent",
    "consent",
    (
        "person_id", "recipient", "to_agency_id", "fields", "manner", "given_at", "valid_until", "recorded_by",
        "withdrawn_at", "created_at",
    ),
)  # fmt: skip
HANDOVERS: Final = Table(
    "handover",
    "hand-over",
    (
        "to_agency_id", "consent_id", "person_id", "order_id", "fields", "made_by", "created_at", "expires_at",
        "revoked_at", "first_opened_at",
    ),
)  # fmt: skip
POSITION_AGE: Final = "1 day"
INCIDENTS_BACK: Final = "90 days"
INCIDENTS_MAX: Final = 200


async def find(connection: Connection, agency_id: uuid.UUID, handover_id: uuid.UUID) -> Record | None:
    """A hand-over that the agency gave or was given; None: there is none."""
    row = await connection.fetchrow(
        f"SELECT {HANDOVERS.selected} FROM handover WHERE id = $1 AND (agency_id = $2 OR to_agency_id = $2)",
        handover_id,
        agency_id,
    )
    return None if row is None else dict(row)


async def listing(
    connection: Connection, agency_id: uuid.UUID, *, received: bool, after: uuid.UUID | None, limit: int
) -> list[Record]:
    """Hand-overs that an agency gave, or was given and that still hold, in the order of their ids."""
    side = "to_agency_id = $1 AND revoked_at IS NULL" if received else "agency_id = $1"
    rows = await connection.fetch(
        f"SELECT {HANDOVERS.selected} FROM handover WHERE {side} AND ($2::uuid IS NULL OR id > $2)"
        " ORDER BY id LIMIT $3",
        agency_id,
        after,
        limit,
    )
    return [dict(row) for row in rows]


async def revoke_of(connection: Connection, agency_id: uuid.UUID, consent_id: uuid.UUID, now: datetime) -> int:
    """Revoke every hand-over under a consent; returns how many."""
    rows = await connection.fetch(
        "UPDATE handover SET revoked_at = $3 WHERE consent_id = $2 AND agency_id = $1 AND revoked_at IS NULL"
        " RETURNING id",
        agency_id,
        consent_id,
        now,
    )
    return len(rows)


async def incidents_of(
    connection: Connection, agency_id: uuid.UUID, person_id: uuid.UUID, now: datetime
) -> list[dict[str, Any]]:
    """What happened to a person lately, the latest first: no places, nobody else."""
    rows = await connection.fetch(
        f"""
        SELECT type, severity, state, occurred_at, resolved_at, outcome FROM incident
        WHERE agency_id = $1 AND victim_id = $2 AND NOT exercise
        AND occurred_at >= $3::timestamptz - interval '{INCIDENTS_BACK}'
        ORDER BY occurred_at DESC LIMIT {INCIDENTS_MAX}
        """,
        agency_id,
        person_id,
        now,
    )
    return [dict(row) for row in rows]


async def last_position(
    connection: Connection, agency_id: uuid.UUID, person_id: uuid.UUID, now: datetime
) -> dict[str, Any] | None:
    """Where a device of hers was last; None: unknown for a day."""
    row = await connection.fetchrow(
        f"""
        SELECT fix.lat, fix.lon, fix.accuracy_m, fix.live_at AS at FROM device d CROSS JOIN LATERAL (
            SELECT p.lat, p.lon, nullif(p.accuracy_m, 'NaN') AS accuracy_m, p.live_at FROM ping p
            WHERE p.role IN (0, 1, 2) AND p.device_number = d.number AND p.lat <> 'NaN'
            AND p.live_at >= $3::timestamptz - interval '{POSITION_AGE}' ORDER BY p.live_at DESC LIMIT 1
        ) fix
        WHERE d.agency_id = $1 AND d.person_id = $2 ORDER BY fix.live_at DESC LIMIT 1
        """,
        agency_id,
        person_id,
        now,
    )
    return None if row is None else dict(row)
