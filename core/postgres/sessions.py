"""Sessions of users and their refresh tokens (the tokens' SHA-256, never themselves)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.errors import NotFound
from core.postgres.database import Connection
from core.postgres.table import Record

CHANNEL: Final = "session"
"""NOTIFY channel: a session has ended."""
MAX_LISTED: Final = 100

_COLUMNS: Final = (
    "id, agency_id, user_id, created_at, last_seen_at, confirmed_at, expires_at, address, user_agent, method,"
    " second_factor, enrol_only, ended_at, ended_because"
)


async def add(connection: Connection, values: dict[str, Any]) -> None:
    """Begin a session."""
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO user_session ({', '.join(values)}) VALUES ({places})",  # noqa: S608
        *values.values(),
    )


async def get(connection: Connection, user_id: uuid.UUID, session_id: uuid.UUID, *, lock: bool = False) -> Record:
    """A session of this user; raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM user_session WHERE id = $1 AND user_id = $2"  # noqa: S608
        + (" FOR NO KEY UPDATE" if lock else ""),
        session_id,
        user_id,
    )
    if row is None:
        raise NotFound("There is no session with this id.")
    return dict(row)


async def open_of_user(connection: Connection, user_id: uuid.UUID, now: datetime) -> list[Record]:
    """A user's sessions that go on, the one last seen first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM user_session"  # noqa: S608
        " WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY last_seen_at DESC, id LIMIT $3",
        user_id,
        now,
        MAX_LISTED,
    )
    return [dict(row) for row in rows]


async def see(
    connection: Connection, session_id: uuid.UUID, now: datetime, expires_at: datetime, address: str | None
) -> None:
    """Note that a session goes on."""
    await connection.execute(
        "UPDATE user_session SET last_seen_at = $2, expires_at = $3, address = coalesce($4, address) WHERE id = $1",
        session_id,
        now,
        expires_at,
        address,
    )


async def confirm(connection: Connection, session_id: uuid.UUID, now: datetime) -> None:
    """Note that the user has just proved again who she is."""
    await connection.execute("UPDATE user_session SET confirmed_at = $2 WHERE id = $1", session_id, now)


async def make_whole(connection: Connection, session_id: uuid.UUID, second_factor: str) -> None:
    """Let a session that could only enrol a second factor do everything, now that there is one."""
    await connection.execute(
        "UPDATE user_session SET enrol_only = false, second_factor = $2 WHERE id = $1 AND enrol_only",
        session_id,
        second_factor,
    )


async def end(connection: Connection, session_ids: list[uuid.UUID], now: datetime, because: str) -> list[uuid.UUID]:
    """End sessions and their refresh tokens, and wake every process; returns those that went on until now."""
    if not session_ids:
        return []
    rows = await connection.fetch(
        "UPDATE user_session SET ended_at = $2, ended_because = $3 WHERE id = ANY($1) AND ended_at IS NULL"
        " RETURNING id",
        session_ids,
        now,
        because,
    )
    await connection.execute(
        "UPDATE refresh_token SET revoked_at = $2 WHERE family_id = ANY($1) AND revoked_at IS NULL", session_ids, now
    )
    if rows:
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return [row["id"] for row in rows]


async def end_of_user(
    connection: Connection, user_id: uuid.UUID, now: datetime, because: str, *, but: uuid.UUID | None = None
) -> list[uuid.UUID]:
    """End every session of a user but one, expired ones too: an access token may outlive its refresh token."""
    rows = await connection.fetch(
        "SELECT id FROM user_session WHERE user_id = $1 AND ended_at IS NULL AND id IS DISTINCT FROM $2 ORDER BY id",
        user_id,
        but,
    )
    return await end(connection, [row["id"] for row in rows], now, because)


async def ended_since(connection: Connection, since: datetime) -> dict[uuid.UUID, datetime]:
    """Sessions of anybody that ended at or after `since`, and when."""
    return {row["id"]: row["ended_at"] for row in await connection.fetch("SELECT * FROM ended_sessions($1)", since)}


# refresh tokens ---------------------------------------------------------------------------------------------------


async def add_token(
    connection: Connection,
    digest: bytes,
    user: Record,
    session_id: uuid.UUID,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Remember a refresh token of a session."""
    await connection.execute(
        "INSERT INTO refresh_token (digest, user_id, agency_id, family_id, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        digest,
        user["id"],
        user["agency_id"],
        session_id,
        now,
        expires_at,
    )


async def lock_token(connection: Connection, digest: bytes) -> Record | None:
    """A refresh token's row, locked: of two that spend it at once the later finds it spent."""
    row = await connection.fetchrow(
        "SELECT digest, user_id, family_id, expires_at, used_at, revoked_at FROM refresh_token"
        " WHERE digest = $1 FOR UPDATE",
        digest,
    )
    return dict(row) if row is not None else None


async def spend_token(connection: Connection, digest: bytes, now: datetime) -> None:
    """Mark a refresh token used."""
    await connection.execute("UPDATE refresh_token SET used_at = $2 WHERE digest = $1", digest, now)
