# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Tasks: rows from the day their deadline is known, told when they open, done by somebody or by what happened."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from core.clock import rfc3339
from core.postgres.database import Connection
from core.postgres.table import Record

_COLUMNS: Final = (
    "id, agency_id, kind, case_id, order_id, opens_at, due_at, detail, created_at, opened_at, done_at, done_by, outcome"
)
MAX_OPEN: Final = 1_000
"""Tasks a list shows at most."""


@dataclass(frozen=True)
class NewTask:
    """A task to be made once; `id` follows from what it is about."""

    id: uuid.UUID
    agency_id: uuid.UUID
    kind: str
    case_id: uuid.UUID | None
    order_id: uuid.UUID | None
    opens_at: datetime
    due_at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)


async def add(connection: Connection, tasks: Sequence[NewTask], now: datetime) -> list[uuid.UUID]:
    """Make the tasks that are not there yet; returns those made."""
    rows = await connection.fetch(
        """
        INSERT INTO task (id, agency_id, kind, case_id, order_id, opens_at, due_at, detail, created_at)
        SELECT new.id, new.agency_id, new.kind, new.case_id, new.order_id, new.opens_at, new.due_at, new.detail, $9
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[],
            $8::jsonb[]) AS new (id, agency_id, kind, case_id, order_id, opens_at, due_at, detail)
        ON CONFLICT (id) DO NOTHING RETURNING id
        """,
        [task.id for task in tasks],
        [task.agency_id for task in tasks],
        [task.kind for task in tasks],
        [task.case_id for task in tasks],
        [task.order_id for task in tasks],
        [task.opens_at for task in tasks],
        [task.due_at for task in tasks],
        [dict(task.detail) for task in tasks],
        now,
    )
    return [row["id"] for row in rows]


async def due_to_open(
    connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` tasks whose time has come and that nobody was told of; none of `without`."""
    rows = await connection.fetch(
        """
        SELECT id FROM task WHERE opened_at IS NULL AND done_at IS NULL AND opens_at <= $1 AND id <> ALL ($3::uuid[])
        ORDER BY opens_at, due_at LIMIT $2
        """,
        now,
        limit,
        list(without),
    )
    return [row["id"] for row in rows]


async def due_to_open_of(connection: Connection, now: datetime, order_id: uuid.UUID) -> list[uuid.UUID]:
    """The reminders of one order whose time has come and that nobody was told of."""
    rows = await connection.fetch(
        "SELECT id FROM task WHERE order_id = $2 AND kind = 'order_expiring' AND opened_at IS NULL AND done_at IS NULL"
        " AND opens_at <= $1",
        now,
        order_id,
    )
    return [row["id"] for row in rows]


async def gaps_among(connection: Connection, task_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """The orders of those of the tasks that are about an unprotected gap."""
    rows = await connection.fetch(
        "SELECT order_id FROM task WHERE id = ANY ($1::uuid[]) AND kind = 'unprotected_gap' AND order_id IS NOT NULL",
        list(task_ids),
    )
    return [row["order_id"] for row in rows]


async def open_now(connection: Connection, now: datetime, task_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Those of the tasks that were waiting, now on the list, in the order in which they were to open."""
    rows = await connection.fetch(
        f"""
        WITH opened AS (
            UPDATE task SET opened_at = $1 WHERE id IN (
                SELECT id FROM task WHERE id = ANY ($2::uuid[]) AND opened_at IS NULL AND done_at IS NULL
                AND opens_at <= $1 ORDER BY id FOR UPDATE SKIP LOCKED
            ) RETURNING {_COLUMNS}
        ) SELECT * FROM opened ORDER BY opens_at, due_at, id
        """,
        now,
        list(task_ids),
    )
    return [dict(row) for row in rows]


async def close(
    connection: Connection,
    now: datetime,
    outcome: str,
    *,
    kind: str,
    order_ids: Sequence[uuid.UUID] = (),
    case_ids: Sequence[uuid.UUID] = (),
    before: Record | None = None,
) -> list[Record]:
    """Close tasks of a kind about these orders or cases, by what happened; returns those that had been on the list.

    `before`: only those on the list that opened no later than this task, which itself stays.
    """
    rows = await connection.fetch(
        f"""
        UPDATE task SET done_at = $1, outcome = $2
        WHERE kind = $3 AND (order_id = ANY ($4::uuid[]) OR case_id = ANY ($5::uuid[])) AND done_at IS NULL
        AND ($6::uuid IS NULL OR (id <> $6 AND opened_at IS NOT NULL AND opens_at <= $7))
        RETURNING {_COLUMNS}
        """,
        now,
        outcome,
        kind,
        list(order_ids),
        list(case_ids),
        None if before is None else before["id"],
        None if before is None else before["opens_at"],
    )
    return [dict(row) for row in rows if row["opened_at"] is not None]


async def close_ids(connection: Connection, now: datetime, outcome: str, task_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Close open tasks by what happened; returns them."""
    rows = await connection.fetch(
        f"UPDATE task SET done_at = $1, outcome = $2 WHERE id = ANY ($3::uuid[]) AND done_at IS NULL"
        f" RETURNING {_COLUMNS}",
        now,
        outcome,
        list(task_ids),
    )
    return [dict(row) for row in rows]


async def get(connection: Connection, agency_id: uuid.UUID, task_id: uuid.UUID) -> Record | None:
    """An agency's task that is or was on the list, locked until the transaction ends; None: there is none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM task WHERE id = $1 AND agency_id = $2 AND opened_at IS NOT NULL FOR NO KEY UPDATE",
        task_id,
        agency_id,
    )
    return None if row is None else dict(row)


async def set_done(
    connection: Connection, task_id: uuid.UUID, now: datetime, user_id: uuid.UUID, outcome: str
) -> Record:
    """The task as done by somebody."""
    row = await connection.fetchrow(
        f"UPDATE task SET done_at = $2, done_by = $3, outcome = $4 WHERE id = $1 RETURNING {_COLUMNS}",
        task_id,
        now,
        user_id,
        outcome,
    )
    return dict(row)


async def listing(
    connection: Connection,
    agency_id: uuid.UUID,
    *,
    done: bool,
    kind: str | None,
    order_id: uuid.UUID | None,
    limit: int,
) -> list[Record]:
    """An agency's tasks: open ones, the most urgent first; or those done, the latest first."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM task
        WHERE agency_id = $1 AND opened_at IS NOT NULL AND (done_at IS NOT NULL) = $2
        AND ($3::text IS NULL OR kind = $3) AND ($4::uuid IS NULL OR order_id = $4)
        ORDER BY CASE WHEN $2 THEN -extract(epoch FROM done_at) ELSE extract(epoch FROM due_at) END, id LIMIT $5
        """,
        agency_id,
        done,
        kind,
        order_id,
        limit,
    )
    return [dict(row) for row in rows]


def task_json(task: Record) -> dict[str, Any]:
    """A task as the feed tells it."""
    return {
        "id": str(task["id"]),
        "kind": task["kind"],
        "case_id": str(task["case_id"]) if task["case_id"] else None,
        "order_id": str(task["order_id"]) if task["order_id"] else None,
        "opened_at": rfc3339(task["opened_at"]),
        "due_at": rfc3339(task["due_at"]),
        "detail": task["detail"],
        "done_at": rfc3339(task["done_at"]) if task["done_at"] else None,
        "outcome": task["outcome"],
    }
