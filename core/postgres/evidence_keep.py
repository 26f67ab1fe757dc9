"""Keeping what an incident needs before history forgets it: which are due, claimed by a lease, copied, judged again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.clock import to_ms
from core.postgres.database import Connection
from core.postgres.evidence import Parties

SETTLES: Final = timedelta(minutes=5)
"""How long after a window's end late fixes are waited for."""
OPEN_EVERY: Final = timedelta(hours=6)
"""How often an incident that stays open is copied."""
LEASE: Final = timedelta(minutes=10)
NEW_WITHIN: Final = timedelta(days=8)
"""Incidents without a copy are looked for so far back; her history reaches no further."""
REOPENED_WITHIN: Final = timedelta(days=30)


async def due(connection: Connection, now: datetime, limit: int) -> list[uuid.UUID]:
    """Incidents to copy now, those that somebody waits for first.

    Ended and settled ones without a copy, open ones at intervals, those that were reopened since, and any of which an
    export is asked for that is newer than the copy. Ids of incidents are times, so the newest are found by them.
    """
    rows = await connection.fetch(
        """
        WITH asked AS (
            SELECT incident_id, max(asked_at) AS asked_at FROM evidence_export
            WHERE state IN ('queued', 'running') GROUP BY incident_id
        ), found AS (
            SELECT a.incident_id AS id, 0 AS rank FROM asked a LEFT JOIN incident_snapshot s USING (incident_id)
            WHERE (s.incident_id IS NULL OR s.copied_at < a.asked_at) AND coalesce(s.leased_until < $1, true)
            UNION ALL
            SELECT s.incident_id, 1 FROM incident_snapshot s
            WHERE s.next_copy_at <= $1 AND coalesce(s.leased_until < $1, true)
            UNION ALL
            SELECT s.incident_id, 1 FROM incident_snapshot s JOIN incident i ON i.id = s.incident_id
            WHERE s.next_copy_at IS NULL AND s.copied_at > $1::timestamptz - $5::interval
            AND i.resolved_at IS DISTINCT FROM s.resolved_at AND coalesce(s.leased_until < $1, true)
            UNION ALL
            SELECT i.id, 2 FROM incident i WHERE i.id > $2::uuid AND i.case_id IS NOT NULL
            AND (i.resolved_at <= $1::timestamptz - $3::interval OR i.opened_at <= $1::timestamptz - $4::interval)
            AND NOT EXISTS (SELECT FROM incident_snapshot s WHERE s.incident_id = i.id)
        )
        SELECT id FROM found GROUP BY id ORDER BY min(rank), id LIMIT $6
        """,
        now,
        uuid.UUID(int=to_ms(now - NEW_WITHIN) << 80),
        timedelta(minutes=60) + SETTLES,
        OPEN_EVERY,
        REOPENED_WITHIN,
        limit,
    )
    return [row["id"] for row in rows]


async def claim(connection: Connection, about: Parties, now: datetime) -> bool:
    """Take an incident for this process; False when another has it."""
    row = await connection.fetchrow(
        """
        INSERT INTO incident_snapshot AS s (incident_id, agency_id, case_id, window_from, window_until, resolved_at,
            copied_at, next_copy_at, leased_until)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)
        ON CONFLICT (incident_id) DO UPDATE SET window_from = excluded.window_from,
            window_until = excluded.window_until, resolved_at = excluded.resolved_at,
            leased_until = excluded.leased_until
        WHERE s.leased_until IS NULL OR s.leased_until < $7 RETURNING incident_id
        """,
        about.incident_id,
        about.agency_id,
        about.case_id,
        about.window.since,
        about.window.until,
        about.resolved_at,
        now,
        now + LEASE,
    )
    return row is not None


def next_copy(about: Parties, now: datetime) -> datetime | None:
    """When the incident is to be copied again; None: its window is over and settled."""
    if about.resolved_at is None and not about.window.cut:
        return now + OPEN_EVERY
    settled = about.window.until + SETTLES
    return None if settled <= now else settled


async def finish(
    connection: Connection, about: Parties, now: datetime, log: bytes | None, replay: dict[str, Any] | None
) -> None:
    """Note what was copied and, when it was judged, what that showed; gives the incident back."""
    await connection.execute(
        "UPDATE incident_snapshot SET copied_at = $2, next_copy_at = $3, leased_until = NULL,"
        " log = coalesce($4, log), replay = coalesce($5, replay) WHERE incident_id = $1",
        about.incident_id,
        now,
        next_copy(about, now),
        log,
        replay,
    )


async def give_back(connection: Connection, incident_id: uuid.UUID, again_at: datetime) -> None:
    """Leave an incident that could not be copied for a later try."""
    await connection.execute(
        "UPDATE incident_snapshot SET leased_until = $2 WHERE incident_id = $1", incident_id, again_at
    )


async def snapshot_of(connection: Connection, incident_id: uuid.UUID) -> dict[str, Any] | None:
    """An incident's copy: when it was made, the log (compressed) and what judging it again showed."""
    row = await connection.fetchrow(
        "SELECT copied_at, next_copy_at, log, replay FROM incident_snapshot WHERE incident_id = $1", incident_id
    )
    return None if row is None else dict(row)


async def recorded_of(connection: Connection, about: Parties, devices: Sequence[str]) -> list[dict[str, Any]]:
    """Bodies of the window's transitions of the incident's orders, and of its people's devices."""
    rows = await connection.fetch(
        "SELECT body FROM transition WHERE case_id = $1 AND evaluated_at >= $2 AND evaluated_at < $3"
        " AND (order_id = ANY ($4::uuid[]) OR (order_id IS NULL AND body ->> 'device_id' = ANY ($5::text[])))"
        " ORDER BY evaluated_at, at, id",
        about.case_id,
        about.window.since,
        about.window.until,
        list(about.order_ids),
        list(devices),
    )
    return [row["body"] for row in rows]


async def severity_of(connection: Connection, incident_id: uuid.UUID) -> str:
    """How severe an incident is."""
    return str(await connection.fetchval("SELECT severity FROM incident WHERE id = $1", incident_id))


async def is_asked(connection: Connection, incident_id: uuid.UUID) -> bool:
    """Whether somebody waits for an export of the incident."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM evidence_export WHERE incident_id = $1 AND state IN ('queued', 'running'))",
            incident_id,
        )
    )
