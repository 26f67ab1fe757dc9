"""The audit: who did or saw what, and when. Rows are only ever added."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from core.ids import new_id
from core.postgres.database import Connection
from core.postgres.table import Record


async def write(
    connection: Connection,
    now: datetime,
    *,
    agency_id: uuid.UUID | None,
    actor_kind: str,
    actor_id: object,
    action: str,
    subject_kind: str | None = None,
    subject_id: uuid.UUID | None = None,
    address: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add a row; `detail` names what was changed or looked for, never a secret."""
    await connection.execute(
        "INSERT INTO audit (id, at, agency_id, actor_kind, actor_id, action, subject_kind, subject_id, address, detail)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new_id(),
        now,
        agency_id,
        actor_kind,
        str(actor_id) if actor_id is not None else None,
        action,
        subject_kind,
        subject_id,
        address,
        detail or {},
    )


async def page(
    connection: Connection,
    agency_id: uuid.UUID,
    *,
    after: uuid.UUID | None,
    limit: int,
    subject_id: uuid.UUID | None = None,
    actor_id: uuid.UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Record]:
    """The agency's rows, oldest first, that fit every condition given."""
    rows = await connection.fetch(
        """
        SELECT id, at, actor_kind, actor_id, action, subject_kind, subject_id, address, detail FROM audit
        WHERE agency_id = $1 AND ($2::uuid IS NULL OR id > $2) AND ($4::uuid IS NULL OR subject_id = $4)
        AND ($5::text IS NULL OR actor_id = $5) AND ($6::timestamptz IS NULL OR at >= $6)
        AND ($7::timestamptz IS NULL OR at < $7)
        ORDER BY id LIMIT $3
        """,
        agency_id,
        after,
        limit,
        subject_id,
        str(actor_id) if actor_id is not None else None,
        since,
        until,
    )
    return [dict(row) for row in rows]
