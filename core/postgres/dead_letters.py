"""Dead letters: deliveries that reached nobody, and what somebody does about them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection

MAX_LISTED: Final = 500

_COLUMNS: Final = (
    "id, incident_id, cause, audience, recipient, channel, template, language, priority, state, attempts,"
    " last_error, created_at, updated_at, dismissed_at"
)
_DEAD: Final = "state IN ('dead', 'failed')"


async def list_dead(
    connection: Connection, agency_id: uuid.UUID, limit: int, *, dismissed: bool = False
) -> list[dict[str, Any]]:
    """An agency's dead letters, the latest first; without addresses and secrets."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM delivery WHERE agency_id = $1 AND {_DEAD} AND ($3 OR dismissed_at IS NULL)"  # noqa: S608
        " ORDER BY updated_at DESC, id LIMIT $2",
        agency_id,
        min(limit, MAX_LISTED),
        dismissed,
    )
    return [dict(row) for row in rows]


async def list_attempts(connection: Connection, delivery_id: uuid.UUID) -> list[dict[str, Any]]:
    """A delivery's attempts in order."""
    rows = await connection.fetch(
        "SELECT attempt, started_at, ended_at, result, detail FROM delivery_attempt"
        " WHERE delivery_id = $1 ORDER BY attempt",
        delivery_id,
    )
    return [dict(row) for row in rows]


async def lock(connection: Connection, agency_id: uuid.UUID, delivery_id: uuid.UUID) -> dict[str, Any] | None:
    """An agency's dead letter, held until the transaction ends: `kept`, whether its address is still kept;
    `incident_detail`; `taken_back`, whether it is for a contact whom she no longer wants told."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS}, num_nonnulls(address, target_sealed) > 0 AS kept,
            (SELECT i.detail FROM incident i WHERE i.id = delivery.incident_id) AS incident_detail,
            audience = 'contact' AND NOT EXISTS (
                SELECT FROM contact c WHERE 'contact:' || c.id = delivery.recipient AND c.revoked_at IS NULL
            ) AS taken_back
        FROM delivery WHERE id = $1 AND agency_id = $2 AND {_DEAD} FOR NO KEY UPDATE
        """,  # noqa: S608
        delivery_id,
        agency_id,
    )
    return dict(row) if row is not None else None


async def retry(connection: Connection, delivery_id: uuid.UUID, now: datetime) -> None:
    """Queue a dead letter once more with all its attempts; it keeps its id, so that nobody is told twice."""
    await connection.execute(
        "UPDATE delivery SET state = 'queued', due_at = $2, forgiven = attempts, last_error = NULL,"
        " dismissed_at = NULL, updated_at = $2 WHERE id = $1",
        delivery_id,
        now,
    )
    await connection.execute("SELECT pg_notify('delivery', '')")


async def dismiss(connection: Connection, delivery_id: uuid.UUID, now: datetime) -> None:
    """Leave it dead, seen."""
    await connection.execute("UPDATE delivery SET dismissed_at = $2 WHERE id = $1", delivery_id, now)


async def count(connection: Connection) -> int:
    """Dead letters of every agency that nobody has seen to."""
    return int(
        await connection.fetchval(f"SELECT count(*) FROM delivery WHERE {_DEAD} AND dismissed_at IS NULL")  # noqa: S608
    )


async def waiting(connection: Connection, now: datetime) -> dict[str, tuple[int, float]]:
    """Channel → how many deliveries are not yet sent, and the age of the oldest in seconds."""
    rows = await connection.fetch(
        "SELECT channel, count(*) AS count, extract(epoch FROM $1 - min(created_at)) AS age_s FROM delivery"
        " WHERE state IN ('queued', 'sending') GROUP BY channel",
        now,
    )
    return {row["channel"]: (int(row["count"]), max(0.0, float(row["age_s"]))) for row in rows}
