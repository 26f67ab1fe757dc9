"""Exports of evidence: who asked for which incident and why, how far it is, and the sealed bundles while kept."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.errors import NotFound
from core.postgres.database import Connection
from core.postgres.table import Record

_SHOWN: Final = (
    "id, agency_id, incident_id, reason, asked_by, asked_at, state, progress, finished_at, kept_until, failure, root"
)


async def insert(
    connection: Connection,
    export_id: uuid.UUID,
    agency_id: uuid.UUID,
    incident_id: uuid.UUID,
    reason: str,
    asked_by: uuid.UUID | None,
    asked_role: str | None,
    now: datetime,
    *,
    state: str = "queued",
) -> None:
    """Add a row."""
    await connection.execute(
        "INSERT INTO evidence_export"
        " (id, agency_id, incident_id, reason, asked_by, asked_role, asked_at, state, attempts)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        export_id,
        agency_id,
        incident_id,
        reason,
        asked_by,
        asked_role,
        now,
        state,
        int(state == "running"),
    )


async def get(connection: Connection, agency_id: uuid.UUID, export_id: uuid.UUID) -> Record:
    """An export without its bundles. Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_SHOWN} FROM evidence_export WHERE id = $1 AND agency_id = $2",  # noqa: S608 - our own columns
        export_id,
        agency_id,
    )
    if row is None:
        raise NotFound("There is no such export.")
    return dict(row)


async def of_incident(connection: Connection, agency_id: uuid.UUID, incident_id: uuid.UUID, limit: int) -> list[Record]:
    """The exports of an incident, newest first."""
    rows = await connection.fetch(
        f"SELECT {_SHOWN} FROM evidence_export WHERE incident_id = $1 AND agency_id = $2"  # noqa: S608
        " ORDER BY asked_at DESC, id DESC LIMIT $3",
        incident_id,
        agency_id,
        limit,
    )
    return [dict(row) for row in rows]


async def waiting(connection: Connection, agency_id: uuid.UUID) -> int:
    """How many exports of an agency wait or are being made."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM evidence_export WHERE agency_id = $1 AND state IN ('queued', 'running')", agency_id
        )
    )


async def claim(connection: Connection, now: datetime, until: datetime, asked_before: datetime) -> Record | None:
    """Take the oldest export that waits and whose incident was judged since, or that waited long enough for it."""
    row = await connection.fetchrow(
        """
        UPDATE evidence_export SET state = 'running', leased_until = $2, attempts = attempts + 1, progress = 0
        WHERE id = (
            SELECT e.id FROM evidence_export e LEFT JOIN incident_snapshot s ON s.incident_id = e.incident_id
            WHERE e.state IN ('queued', 'running') AND e.asked_by IS NOT NULL
            AND coalesce(e.leased_until < $1, true) AND (s.copied_at >= e.asked_at OR e.asked_at < $3)
            ORDER BY e.asked_at LIMIT 1 FOR UPDATE OF e SKIP LOCKED)
        RETURNING id, agency_id, incident_id, asked_by, asked_role, asked_at
        """,
        now,
        until,
        asked_before,
    )
    return None if row is None else dict(row)


async def progress(connection: Connection, export_id: uuid.UUID, share: float) -> None:
    """Note how far an export is, 0 to 1."""
    await connection.execute("UPDATE evidence_export SET progress = $2 WHERE id = $1", export_id, share)


async def finish(
    connection: Connection, export_id: uuid.UUID, now: datetime, root: str, bundles: bytes, kept_until: datetime
) -> None:
    """An export is done."""
    await connection.execute(
        "UPDATE evidence_export SET state = 'done', progress = 1, leased_until = NULL, finished_at = $2, root = $3,"
        " bundles = $4, kept_until = $5 WHERE id = $1",
        export_id,
        now,
        root,
        bundles,
        kept_until,
    )


async def fail(connection: Connection, export_id: uuid.UUID, now: datetime, why: str, attempts: int) -> None:
    """An export could not be made: it waits again, or after so many attempts has failed."""
    await connection.execute(
        "UPDATE evidence_export SET state = CASE WHEN attempts >= $4 THEN 'failed' ELSE 'queued' END, failure = $3,"
        " leased_until = NULL, finished_at = CASE WHEN attempts >= $4 THEN $2::timestamptz END WHERE id = $1",
        export_id,
        now,
        why,
        attempts,
    )


async def forget(connection: Connection, now: datetime) -> None:
    """Remove the bundles of exports that were kept long enough; that they were made stays."""
    await connection.execute(
        "UPDATE evidence_export SET bundles = NULL WHERE kept_until < $1 AND bundles IS NOT NULL", now
    )


async def bundles_of(connection: Connection, export_id: uuid.UUID, now: datetime) -> bytes | None:
    """The sealed bundles of an export; None: they are kept no longer."""
    found: bytes | None = await connection.fetchval(
        "SELECT bundles FROM evidence_export WHERE id = $1 AND kept_until > $2", export_id, now
    )
    return found


async def latest(connection: Connection, incident_id: uuid.UUID, now: datetime) -> Record | None:
    """The newest finished export of an incident that is still kept: id, root, bundles."""
    row = await connection.fetchrow(
        "SELECT id, root, bundles FROM evidence_export WHERE incident_id = $1 AND state = 'done' AND kept_until > $2"
        " AND bundles IS NOT NULL ORDER BY finished_at DESC LIMIT 1",
        incident_id,
        now,
    )
    return None if row is None else dict(row)
