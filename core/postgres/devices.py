"""Devices: bracelets, phones, victims' units, trackers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable, named_by
from core.postgres.table import Record

DEVICES: Final = SealedTable(
    "device",
    "device",
    (
        "kind", "role", "person_id", "external_id", "expected_interval_s", "push_token", "battery_pct",
        "battery_hours_left", "clock_offset_s", "strap", "fitted_at", "returned_at", "last_seen_at", "last_proved_at",
        "status", "created_at", "updated_at", "signature_kind",
        "signature_public_key", "signature_generation",
    ),
    private=("push_token",),
    person=named_by("device"),
)  # fmt: skip


async def touch(connection: Connection, device_id: uuid.UUID) -> None:
    """Have registries read the device again."""
    await connection.execute("UPDATE device SET changed_xid = pg_current_xact_id() WHERE id = $1", device_id)


async def leave_person(connection: Connection, device_id: uuid.UUID) -> None:
    """Let a device's pings go nowhere until somebody wears it again."""
    await connection.execute(
        "UPDATE device SET routes = '{}', changed_xid = pg_current_xact_id() WHERE id = $1", device_id
    )


async def of_people(connection: Connection, person_ids: Sequence[uuid.UUID]) -> list[Record]:
    """The devices that people carry now."""
    rows = await connection.fetch(
        f"SELECT {DEVICES.selected} FROM device WHERE person_id = ANY($1::uuid[]) AND status = 'active'"  # noqa: S608
        " ORDER BY number",
        person_ids,
    )
    return await DEVICES.read(connection, rows)


async def protection(connection: Connection, person_ids: Sequence[uuid.UUID], now: datetime) -> dict[uuid.UUID, Record]:
    """What stands between each person and harm: orders in force, suspended ones, and those whose device is unseen."""
    rows = await connection.fetch(
        """
        SELECT who.person_id, found.* FROM unnest($1::uuid[]) AS who (person_id) CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE o.status = 'in_force' AND o.valid_from <= $2::timestamptz
                AND (o.valid_until IS NULL OR o.valid_until > $2)) AS in_force,
            count(*) FILTER (WHERE o.status = 'suspended') AS suspended,
            count(*) FILTER (WHERE o.status = 'in_force' AND NOT EXISTS (
                SELECT FROM device d WHERE d.person_id = o.aggressor_id AND d.status = 'active'
                AND d.last_seen_at > $2::timestamptz - make_interval(secs => 2 * d.expected_interval_s + 60)
            )) AS unseen
        FROM protection_order o
        WHERE o.victim_id = who.person_id
            OR (o.protected_person_ids @> ARRAY[who.person_id] AND o.protected_person_ids <> '{}')
        ) AS found
        """,
        person_ids,
        now,
    )
    return {row["person_id"]: dict(row) for row in rows}
