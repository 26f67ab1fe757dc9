"""What a process keeps of who is to be told, for the time when PostgreSQL is away."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.routing import CONTACT_IS_TOLD

BATCH_ROWS: Final = 500
"""Rows taken from a cursor at once: little of the event loop that also takes panics."""
PRESSING_MAX: Final = 100_000


async def agency_ids(connection: Connection) -> list[uuid.UUID]:
    """Every agency, in front the one that takes panics of nobody known."""
    rows = await connection.fetch("SELECT id FROM agency ORDER BY id <> (SELECT default_agency()), created_at, id")
    return [row["id"] for row in rows]


async def pressing(connection: Connection) -> list[uuid.UUID]:
    """People whose panic is open: whoever they wanted told has been, or must not be."""
    rows = await connection.fetch(
        "SELECT DISTINCT victim_id FROM incident WHERE type = 'panic' AND state <> 'resolved'"
        " AND victim_id IS NOT NULL LIMIT $1",
        PRESSING_MAX,
    )
    return [row["victim_id"] for row in rows]


async def contact_changes(connection: Connection, since: datetime | None) -> AsyncIterator[Sequence[Any]]:
    """Contacts changed since then (None: all that are told), in batches, with their person's key as it is wrapped;
    needs an open transaction.

    `is_told` is whether the contact may be told now; the channels are as they stand in the row, sealed.
    """
    cursor = await connection.cursor(
        f"""
        SELECT c.id, c.person_id, c.agency_id, c.language, c.channels, c.channels_sealed, k.kek_id, k.wrapped,
            ({CONTACT_IS_TOLD}) AND (k.person_id IS NULL OR k.wrapped IS NOT NULL) AS is_told
        FROM contact c LEFT JOIN person_key k ON k.person_id = c.person_id
        WHERE ($1::timestamptz IS NULL AND {CONTACT_IS_TOLD}) OR c.updated_at >= $1
        """,  # noqa: S608
        since,
    )
    while rows := await cursor.fetch(BATCH_ROWS):
        yield rows


async def erased_since(connection: Connection, since: datetime) -> list[uuid.UUID]:
    """People whose keys were destroyed since then."""
    rows = await connection.fetch("SELECT person_id FROM person_key WHERE erased_at >= $1", since)
    return [row["person_id"] for row in rows]


async def in_conflict(connection: Connection, agencies: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Users who are related to anybody: in an outage they are not told, as nobody can say to whom."""
    rows = await connection.fetch("SELECT * FROM users_in_conflict($1::uuid[])", list(agencies))
    return {row[0] for row in rows}


async def cancelled_devices(connection: Connection, panic_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Devices that asked to cancel one of these panics."""
    rows = await connection.fetch(
        "SELECT DISTINCT device_id FROM panic WHERE id = ANY($1) AND cancel_asked_at IS NOT NULL"
        " AND device_id IS NOT NULL",
        panic_ids,
    )
    return {row["device_id"] for row in rows}
