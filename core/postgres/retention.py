"""Agencies' periods, days of history that are over, and the record of what was erased by which rule."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import asyncpg

from core.postgres.database import Connection
from core.postgres.pings import PARTITION_LOCK, TABLES, partitions
from core.postgres.retention_sweeps import Gone

LEASE_KIND: Final = "retention"
LOCK_WAIT: Final = "300ms"
"""Longest a day's drop waits for, and so holds up, who writes history; then it is tried again at the next run."""


async def periods_of_all(connection: Connection) -> dict[uuid.UUID, dict[str, Any]]:
    """What each agency sets."""
    rows = await connection.fetch(
        "SELECT a.id, coalesce(r.periods, '{}') AS periods FROM agency a"
        " LEFT JOIN retention_policy r ON r.agency_id = a.id ORDER BY a.id"
    )
    return {row["id"]: row["periods"] for row in rows}


async def policy_of(connection: Connection, agency_id: uuid.UUID, *, lock: bool = False) -> dict[str, Any]:
    """What an agency sets; nothing, where it sets nothing."""
    locking = " FOR NO KEY UPDATE" if lock else ""
    found = await connection.fetchval(f"SELECT periods FROM retention_policy WHERE agency_id = $1{locking}", agency_id)  # noqa: S608
    return dict(found or {})


async def set_policy(
    connection: Connection, agency_id: uuid.UUID, periods: dict[str, Any], user_id: uuid.UUID, now: datetime
) -> None:
    """Have an agency set these periods and no others."""
    await connection.execute(
        "INSERT INTO retention_policy (agency_id, periods, changed_by, updated_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (agency_id) DO UPDATE SET periods = excluded.periods, changed_by = excluded.changed_by,"
        " updated_at = excluded.updated_at",
        agency_id,
        periods,
        user_id,
        now,
    )


# days of history ---------------------------------------------------------------------------------------------------


async def oldest_order_from(connection: Connection, days_of: dict[uuid.UUID, int], now: datetime) -> datetime | None:
    """Since when the oldest order holds under which fixes of his are still kept; days after its end, by agency."""
    found: datetime | None = await connection.fetchval(
        """
        SELECT min(o.valid_from) FROM protection_order o
        JOIN unnest($1::uuid[], $2::int[]) AS a (id, days) ON a.id = o.agency_id
        WHERE end_of_order(o.status, o.revoked_at, o.valid_until, o.updated_at)
            >= $3::timestamptz - make_interval(days => a.days)
        """,
        list(days_of),
        list(days_of.values()),
        now,
    )
    return found


async def days_due(connection: Connection, role: int, before: date) -> list[date]:
    """Days of a role's history before `before`, oldest first."""
    prefix = f"{TABLES[role]}_"
    names = [name for name in await partitions(connection) if name.startswith(prefix)]
    days = sorted(date.fromisoformat(name.removeprefix(prefix)) for name in names)
    return [day for day in days if day < before]


async def count_day(connection: Connection, role: int, day: date) -> list[dict[str, Any]]:
    """Rows of each agency in a day of history: agency_id, count, from_at, until_at."""
    return [dict(row) for row in await connection.fetch("SELECT * FROM count_ping_day($1, $2)", TABLES[role], day)]


async def drop_day(connection: Connection, role: int, day: date, now: datetime) -> dict[uuid.UUID, int] | None:
    """Drop a day of history, in a transaction of its own, with what is held copied first: how many rows, by agency.

    None: somebody uses it just now; it is left for the next time.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    try:
        async with connection.transaction():
            await connection.execute("SELECT drop_ping_day($1, $2, $3)", TABLES[role], day, now)
    except asyncpg.LockNotAvailableError:
        return None
    rows = await connection.fetch(
        "SELECT agency_id, count(*) AS count FROM ping_held WHERE role = $1 AND live_at >= $2 AND live_at < $3"
        " GROUP BY agency_id",
        role,
        datetime.combine(day, time.min, UTC),
        datetime.combine(day + timedelta(days=1), time.min, UTC),
    )
    return {row["agency_id"]: row["count"] for row in rows}


async def forget_spent(connection: Connection, now: datetime, poison_before: datetime) -> None:
    """Forget spent challenges, and what damaged messages said; they are nobody's."""
    await connection.execute("DELETE FROM spent_challenge WHERE expires_at < $1::timestamptz - interval '1 day'", now)
    await connection.execute(
        "UPDATE poison SET body = NULL WHERE at < $1::timestamptz AND body IS NOT NULL", poison_before
    )


# the record --------------------------------------------------------------------------------------------------------


async def begin(
    connection: Connection, run_id: uuid.UUID, agency_ids: Sequence[uuid.UUID], started_by: str, now: datetime
) -> None:
    """Note that a run began."""
    await connection.execute(
        "INSERT INTO retention_run (id, agency_id, started_by, started_at) SELECT $1, unnest($2::uuid[]), $3, $4",
        run_id,
        list(agency_ids),
        started_by,
        now,
    )


async def finish(connection: Connection, run_id: uuid.UUID, now: datetime) -> None:
    """Note that a run went through."""
    await connection.execute("UPDATE retention_run SET finished_at = $2 WHERE id = $1", run_id, now)


async def last_finished(connection: Connection) -> datetime | None:
    """When the newest run that went through began."""
    found: datetime | None = await connection.fetchval(
        "SELECT max(started_at) FROM retention_run WHERE finished_at IS NOT NULL"
    )
    return found


async def record(connection: Connection, run_id: uuid.UUID, gone: Sequence[Gone], now: datetime) -> None:
    """Add what was erased to the run's figures."""
    await connection.executemany(
        "INSERT INTO retention_erased AS e (run_id, agency_id, rule, kind, count, held, from_at, until_at, at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (run_id, agency_id, rule, kind) DO UPDATE SET"
        " count = e.count + excluded.count, held = e.held + excluded.held,"
        " from_at = least(e.from_at, excluded.from_at), until_at = greatest(e.until_at, excluded.until_at),"
        " at = excluded.at",
        [(run_id, g.agency_id, g.rule, g.kind, g.count, g.held, g.from_at, g.until_at, now) for g in gone],
    )


async def erased_of(
    connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime, limit: int
) -> list[dict[str, Any]]:
    """What was erased of an agency's between two moments, newest first."""
    rows = await connection.fetch(
        "SELECT run_id, rule, kind, count, held, from_at, until_at, at FROM retention_erased"
        " WHERE agency_id = $1 AND at >= $2 AND at < $3 ORDER BY at DESC, rule, kind LIMIT $4",
        agency_id,
        since,
        until,
        limit,
    )
    return [dict(row) for row in rows]


async def last_run_of(connection: Connection, agency_id: uuid.UUID) -> dict[str, Any] | None:
    """An agency's newest run: when it began and ended."""
    row = await connection.fetchrow(
        "SELECT started_by, started_at, finished_at FROM retention_run WHERE agency_id = $1"
        " ORDER BY started_at DESC LIMIT 1",
        agency_id,
    )
    return None if row is None else dict(row)
