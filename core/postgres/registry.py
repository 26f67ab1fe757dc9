"""What the device registry reads: devices and their tokens, everything at first, then what has changed.

A change is found by `changed_xid`: each committed change bears the id of its transaction, and whoever has read
everything below `pg_snapshot_xmin` has missed none, in whatever order the transactions committed. A row may be
read twice; reading it again changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

BATCH_ROWS = 1000
"""Rows taken from a cursor at once: small enough not to hold up the event loop that also serves devices."""


async def snapshot_floor(connection: Any) -> int:
    """The oldest transaction that may still commit: start the next look from here."""
    return int(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))


async def device_changes(connection: Any, since_xid: int) -> AsyncIterator[list[Any]]:
    """Devices changed by transactions from `since_xid` on (0: all), in batches; needs an open transaction."""
    cursor = await connection.cursor(
        """
        SELECT number, id, kind, role, person_id, agency_id, routes, expected_interval_s, status,
            signature_kind, signature_public_key, signature_generation
        FROM device WHERE changed_xid >= $1::text::xid8
        """,
        str(since_xid),
    )
    while rows := await cursor.fetch(BATCH_ROWS):
        yield rows


async def token_changes(connection: Any, since_xid: int) -> AsyncIterator[list[Any]]:
    """Bearer tokens changed by transactions from `since_xid` on (0: all), in batches; as `device_changes`.

    The last column: whether a device's token is newer than others that hold until it is used or confirmed.
    """
    cursor = await connection.cursor(
        """
        SELECT digest, device_id, gateway_name, agency_id, expires_at, revoked_at, replaced_at IS NOT NULL,
            device_id IS NOT NULL AND revoked_at IS NULL AND EXISTS (
                SELECT FROM bearer_token earlier WHERE earlier.device_id = t.device_id
                AND earlier.created_at < t.created_at AND earlier.revoked_at IS NULL AND earlier.replaced_at IS NULL
            )
        FROM bearer_token t WHERE changed_xid >= $1::text::xid8
        """,
        str(since_xid),
    )
    while rows := await cursor.fetch(BATCH_ROWS):
        yield rows
