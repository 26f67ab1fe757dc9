"""Maintenance tasks: pairs whose incidents keep being false; and the lock that lets one process do upkeep."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.clock import rfc3339
from core.postgres.database import Connection
from core.postgres.table import Record

UPKEEP_LOCK: Final = 7_067_003
"""First half of the advisory transaction locks of who does a kind of periodic work on incidents just now."""


async def try_upkeep(connection: Connection, number: int) -> bool:
    """Whether this transaction may do the periodic work of a number; another process is doing it when not."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", UPKEEP_LOCK, number))


async def open_due(connection: Connection, since: datetime, now: datetime, more_than: int, limit: int) -> list[Record]:
    """Make the tasks that are due: of pairs with more than so many false incidents since, of which no task has told.

    A pair is an order, or its case when an incident could not be told to one order. Returns the new tasks.
    """
    rows = await connection.fetch(
        """
        WITH said AS (
            SELECT i.id, i.agency_id, i.case_id, i.order_id,
                coalesce(i.false_alarm_cause, i.cause, i.outcome) AS cause
            FROM incident i WHERE i.resolved_at >= $1 AND i.outcome IN ('false_alarm', 'technical')
                AND i.case_id IS NOT NULL AND i.family <> 'outage' AND NOT i.exercise
                AND NOT EXISTS (SELECT FROM maintenance_task t WHERE t.case_id = i.case_id AND t.opened_at >= $1
                    AND t.order_id IS NOT DISTINCT FROM i.order_id)
        ), due AS (
            SELECT agency_id, case_id, order_id, array_agg(id ORDER BY id) AS incident_ids FROM said
            GROUP BY agency_id, case_id, order_id HAVING count(*) > $3 LIMIT $4
        )
        INSERT INTO maintenance_task (id, agency_id, case_id, order_id, incident_ids, causes, opened_at)
        SELECT gen_random_uuid(), due.agency_id, due.case_id, due.order_id, due.incident_ids,
            (SELECT jsonb_object_agg(counted.cause, counted.count) FROM (SELECT said.cause, count(*) AS count FROM said
                WHERE said.id = ANY(due.incident_ids) GROUP BY said.cause) counted), $2
        FROM due RETURNING *
        """,
        since,
        now,
        more_than,
        limit,
    )
    return [dict(row) for row in rows]


async def listing(
    connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime, limit: int
) -> list[Record]:
    """An agency's tasks opened in [since, until), newest first."""
    rows = await connection.fetch(
        "SELECT m.id, m.case_id, m.order_id, m.incident_ids, m.causes, m.opened_at, t.done_at, t.done_by, t.outcome"
        " FROM maintenance_task m LEFT JOIN task t ON t.id = m.id WHERE m.agency_id = $1"
        " AND m.opened_at >= $2 AND m.opened_at < $3 ORDER BY m.opened_at DESC, m.id LIMIT $4",
        agency_id,
        since,
        until,
        limit,
    )
    return [dict(row) for row in rows]


def task_json(row: Record) -> dict[str, Any]:
    """A task as the feed tells it."""
    return {
        "id": str(row["id"]),
        "case_id": str(row["case_id"]),
        "order_id": str(row["order_id"]) if row["order_id"] else None,
        "incident_ids": [str(one) for one in row["incident_ids"]],
        "causes": row["causes"],
        "opened_at": rfc3339(row["opened_at"]),
    }
