"""What may be said to an aggressor: what is due, and what became of it; and commands that wait for his bracelet."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from core.postgres.database import Connection
from core.postgres.table import Record


async def due(
    connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID], after: uuid.UUID
) -> list[uuid.UUID]:
    """Warnings after one that may be said by now, as far as time is concerned, in the order of their ids."""
    rows = await connection.fetch(
        "SELECT id FROM aggressor_warning WHERE settled_at IS NULL AND left_at IS NULL AND release_at <= $1"
        " AND id <> ALL ($3::uuid[]) AND id > $4 ORDER BY id LIMIT $2",
        now,
        limit,
        list(without),
        after,
    )
    return [row["id"] for row in rows]


async def lock(connection: Connection, warning_ids: Sequence[uuid.UUID], now: datetime) -> list[Record]:
    """Those of the warnings that nobody else works on, held, with what of their order and its last state counts now.

    One aggressor's are taken by one process at a time, so that what is said to him is counted right.
    """
    rows = await connection.fetch(
        "SELECT w.id, w.agency_id, w.order_id, w.aggressor_id, w.release_at, w.radius_m, o.victim_id,"
        " o.warn_aggressor, o.status, s.state FROM aggressor_warning w JOIN protection_order o ON o.id = w.order_id"
        " LEFT JOIN separation s ON s.order_id = w.order_id AND s.kind = 'proximity'"
        " WHERE w.id = ANY ($1::uuid[]) AND w.settled_at IS NULL AND w.left_at IS NULL AND w.release_at <= $2"
        " ORDER BY w.aggressor_id, w.id FOR NO KEY UPDATE OF w SKIP LOCKED",
        list(warning_ids),
        now,
    )
    for person in sorted({row["aggressor_id"] for row in rows}):
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 7067003))", str(person))
    return [dict(row) for row in rows]


async def last_sent(connection: Connection, aggressor_id: uuid.UUID) -> datetime | None:
    """When something was last said to him."""
    found: datetime | None = await connection.fetchval(
        "SELECT max(settled_at) FROM aggressor_warning WHERE aggressor_id = $1 AND outcome = 'sent'", aggressor_id
    )
    return found


async def settle(connection: Connection, warning_id: uuid.UUID, outcome: str, now: datetime) -> None:
    """Keep what became of a warning: sent, recent, away, over, unreachable."""
    await connection.execute(
        "UPDATE aggressor_warning SET settled_at = $2, outcome = $3 WHERE id = $1", warning_id, now, outcome
    )


async def bracelets(connection: Connection, person_id: uuid.UUID) -> list[Record]:
    """An aggressor's bracelets, in use."""
    rows = await connection.fetch(
        "SELECT d.id, d.agency_id, p.language FROM device d JOIN person p ON p.id = d.person_id"
        " WHERE d.person_id = $1 AND d.role = 'aggressor' AND d.kind = 'bracelet'"
        " AND d.status IN ('registered', 'active') ORDER BY d.id",
        person_id,
    )
    return [dict(row) for row in rows]


# commands that wait for a device -------------------------------------------------------------------------------------


async def add_command(connection: Connection, command_id: uuid.UUID, values: Record) -> None:
    """Have a device told something with its next acknowledgement; the same id again changes nothing."""
    await connection.execute(
        "INSERT INTO device_command (id, agency_id, device_id, kind, body, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        command_id,
        values["agency_id"],
        values["device_id"],
        values["kind"],
        values["body"],
        values["created_at"],
        values["expires_at"],
    )


Place = tuple[datetime, uuid.UUID]
"""Of a command among those that wait: when it expires, and its id."""


async def waiting_commands(connection: Connection, now: datetime, limit: int, before: Place | None = None) -> list[Any]:
    """Commands that wait, those that wait longest yet first, of what comes after a place if one is given.

    id, device_id, number, kind, body, expires_at.
    """
    expires_at, command_id = before or (None, None)
    rows: list[Any] = await connection.fetch(
        "SELECT c.id, c.device_id, d.number, c.kind, c.body, c.expires_at"
        " FROM device_command c JOIN device d ON d.id = c.device_id"
        " WHERE c.taken_at IS NULL AND c.expires_at > $1"
        " AND ($3::timestamptz IS NULL OR c.expires_at <= $3 AND (c.expires_at, c.id) < ($3, $4::uuid))"
        " ORDER BY c.expires_at DESC, c.id DESC LIMIT $2",
        now,
        limit,
        expires_at,
        command_id,
    )
    return rows


async def take_commands(connection: Connection, command_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """They went out with an acknowledgement."""
    await connection.execute(
        "UPDATE device_command SET taken_at = $2 WHERE id = ANY ($1::uuid[]) AND taken_at IS NULL",
        list(command_ids),
        now,
    )


async def forget_commands(connection: Connection, before: datetime) -> None:
    """Drop commands that are long over."""
    await connection.execute("DELETE FROM device_command WHERE expires_at < $1", before)
