"""Suspensions: hours in which an order does not hold, asked by one and confirmed by another."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable
from core.postgres.table import Record


async def _protected(connection: Connection, suspension_id: uuid.UUID, values: Mapping[str, Any]) -> uuid.UUID | None:
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT victim_id FROM protection_order"
        " WHERE id = coalesce($1, (SELECT order_id FROM suspension WHERE id = $2))",
        values.get("order_id"),
        suspension_id,
    )
    return found


SUSPENSIONS: Final = SealedTable(
    "suspension",
    "suspension",
    (
        "order_id", "reason", "starts_at", "ends_at", "asked_by", "confirmed_by", "confirmed_at", "ended_at",
        "created_at",
    ),
    private=("reason",), person=_protected, absent={"reason": ""}, needed=False,
)  # fmt: skip


async def others(connection: Connection, suspension: Record) -> list[tuple[datetime, datetime]]:
    """When the order's other confirmed suspensions begin and end, or ended, in the order of their beginnings."""
    rows = await connection.fetch(
        """
        SELECT starts_at, least(ends_at, coalesce(ended_at, ends_at)) AS ends_at FROM suspension
        WHERE order_id = $1 AND id <> $2 AND confirmed_at IS NOT NULL
        AND least(ends_at, coalesce(ended_at, ends_at)) > starts_at
        AND ends_at > $3::timestamptz - interval '1 day' AND starts_at < $3::timestamptz + interval '1 day'
        ORDER BY starts_at
        """,
        suspension["order_id"],
        suspension["id"],
        suspension["starts_at"],
    )
    return [(row["starts_at"], row["ends_at"]) for row in rows]


async def due_to_end(
    connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` suspensions whose time is over and that are not marked so; none of `without`."""
    rows = await connection.fetch(
        """
        SELECT id FROM suspension WHERE ended_at IS NULL AND ends_at <= $1 AND id <> ALL ($3::uuid[])
        ORDER BY ends_at LIMIT $2
        """,
        now,
        limit,
        list(without),
    )
    return [row["id"] for row in rows]


async def ended(connection: Connection, now: datetime, suspension_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Those of the suspensions whose time is over, now marked ended. One process at a time takes each."""
    rows = await connection.fetch(
        f"""
        UPDATE suspension SET ended_at = $1 WHERE id IN (
            SELECT id FROM suspension WHERE id = ANY ($2::uuid[]) AND ended_at IS NULL AND ends_at <= $1
            ORDER BY id FOR UPDATE SKIP LOCKED
        ) RETURNING {SUSPENSIONS.selected}
        """,  # noqa: S608
        now,
        list(suspension_ids),
    )
    return await SUSPENSIONS.read(connection, rows)


_BEGUN: Final = """
    SELECT o.id FROM protection_order o JOIN suspension s ON s.order_id = o.id
    WHERE o.status = 'in_force' AND s.confirmed_at IS NOT NULL AND s.ended_at IS NULL
    AND s.starts_at <= $1 AND s.ends_at > $1
"""


async def due_to_begin(
    connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` orders in force whose confirmed suspension has begun; none of `without`."""
    rows = await connection.fetch(
        f"{_BEGUN} AND o.id <> ALL ($3::uuid[]) ORDER BY s.starts_at LIMIT $2",
        now,
        limit,
        list(without),
    )
    return [row["id"] for row in rows]


async def set_suspended(connection: Connection, now: datetime, order_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Those of the orders whose confirmed suspension has begun, now suspended; whom they are about."""
    rows = await connection.fetch(
        f"""
        UPDATE protection_order SET status = 'suspended', version = version + 1, updated_at = $1
        WHERE status = 'in_force' AND id IN ({_BEGUN} AND o.id = ANY ($2::uuid[]))
        RETURNING id, agency_id, victim_id, aggressor_id, protected_person_ids
        """,  # noqa: S608
        now,
        list(order_ids),
    )
    return [dict(row) for row in rows]


async def set_in_force(connection: Connection, now: datetime, order_ids: list[uuid.UUID]) -> list[Record]:
    """Those of the orders that were suspended and have no suspension in effect any more, now in force again."""
    rows = await connection.fetch(
        """
        UPDATE protection_order o SET status = 'in_force', version = version + 1, updated_at = $1
        WHERE o.id = ANY ($2::uuid[]) AND o.status = 'suspended' AND NOT EXISTS (
            SELECT FROM suspension s WHERE s.order_id = o.id AND s.confirmed_at IS NOT NULL AND s.ended_at IS NULL
            AND s.starts_at <= $1 AND s.ends_at > $1
        ) RETURNING id, agency_id, victim_id, aggressor_id, protected_person_ids
        """,
        now,
        order_ids,
    )
    return [dict(row) for row in rows]
