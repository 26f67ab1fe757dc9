"""What is handed over once: codes (their SHA-256), and the challenges that were answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.postgres.database import Connection
from core.postgres.table import Record


async def add(
    connection: Connection,
    digest: bytes,
    user: Record,
    purpose: str,
    now: datetime,
    expires_at: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    """Remember a code; a user has one of a purpose at a time, and those of the past go."""
    await connection.execute(
        "DELETE FROM sign_in_code WHERE user_id = $1 AND (purpose = $2 OR expires_at < $3)", user["id"], purpose, now
    )
    await connection.execute(
        "INSERT INTO sign_in_code (digest, agency_id, user_id, purpose, detail, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        digest,
        user["agency_id"],
        user["id"],
        purpose,
        detail or {},
        now,
        expires_at,
    )


async def use(connection: Connection, digest: bytes, purpose: str, now: datetime) -> Record | None:
    """The code's user and detail, now used; None when no such code holds."""
    row = await connection.fetchrow(
        "UPDATE sign_in_code SET used_at = $3 WHERE digest = $1 AND purpose = $2 AND used_at IS NULL"
        " AND expires_at > $3 RETURNING user_id, detail",
        digest,
        purpose,
        now,
    )
    return dict(row) if row is not None else None


async def peek(connection: Connection, digest: bytes, purpose: str, now: datetime) -> dict[str, Any] | None:
    """The detail of a code that holds, which goes on to hold; None when no such code does."""
    row = await connection.fetchrow(
        "SELECT detail FROM sign_in_code WHERE digest = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3",
        digest,
        purpose,
        now,
    )
    return dict(row["detail"]) if row is not None else None


async def spend_challenge(connection: Connection, digest: bytes, now: datetime, expires_at: datetime) -> bool:
    """Whether a challenge is answered for the first time; those that hold no longer are forgotten."""
    await connection.execute("DELETE FROM spent_challenge WHERE expires_at < $1", now)
    row = await connection.fetchrow(
        "INSERT INTO spent_challenge (digest, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1",
        digest,
        expires_at,
    )
    return row is not None
