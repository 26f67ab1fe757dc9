"""Devices: bracelets, phones, victims' units, trackers."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

DEVICES: Final = Table(
    "device",
    "device",
    (
        "kind", "role", "person_id", "external_id", "expected_interval_s", "push_token", "battery_pct",
        "battery_hours_left", "clock_offset_s", "strap", "fitted_at", "returned_at", "last_seen_at", "last_proved_at",
        "status", "created_at", "updated_at",
    ),
)  # fmt: skip


async def touch(connection: Connection, device_id: uuid.UUID) -> None:
    """Have registries read the device again."""
    await connection.execute("UPDATE device SET changed_xid = pg_current_xact_id() WHERE id = $1", device_id)


async def leave_person(connection: Connection, device_id: uuid.UUID) -> None:
    """Let a device's pings go nowhere until somebody wears it again."""
    await connection.execute(
        "UPDATE device SET routes = '{}', changed_xid = pg_current_xact_id() WHERE id = $1", device_id
    )


async def of_person(connection: Connection, person_id: uuid.UUID) -> list[Record]:
    """The devices a person carries now."""
    rows = await connection.fetch(
        f"SELECT {DEVICES.selected} FROM device WHERE person_id = $1 AND status = 'active' ORDER BY number",  # noqa: S608
        person_id,
    )
    return [dict(row) for row in rows]


async def protection(connection: Connection, person_id: uuid.UUID, now: datetime) -> Record:
    """What stands between a person and harm: orders in force, suspended ones, and when his devices were last seen."""
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE o.status = 'in_force' AND o.valid_from <= $2::timestamptz
                AND (o.valid_until IS NULL OR o.valid_until > $2)) AS in_force,
            count(*) FILTER (WHERE o.status = 'suspended') AS suspended,
            count(*) FILTER (WHERE o.status = 'in_force' AND NOT EXISTS (
                SELECT FROM device d WHERE d.person_id = o.aggressor_id AND d.status = 'active'
                AND d.last_seen_at > $2::timestamptz - make_interval(secs => 2 * d.expected_interval_s + 60)
            )) AS unseen
        FROM protection_order o
        WHERE o.victim_id = $1 OR (o.protected_person_ids @> ARRAY[$1::uuid] AND o.protected_person_ids <> '{}')
        """,
        person_id,
        now,
    )
    return dict(row)
