"""Users and their refresh tokens (their SHA-256, never themselves)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

USERS: Final = Table(
    "app_user",
    "user",
    ("username", "password_hash", "role", "display_name", "language", "created_at", "disabled_at"),
)


async def by_username(connection: Connection, username: str) -> Record | None:
    """The user of this name, however it is capitalised; None when there is none."""
    row = await connection.fetchrow(
        f"SELECT {USERS.selected} FROM app_user WHERE lower(username) = lower($1)",  # noqa: S608
        username,
    )
    return dict(row) if row is not None else None


async def by_id(connection: Connection, user_id: uuid.UUID) -> Record | None:
    """The user, of whatever agency; for the owner of a refresh token only."""
    row = await connection.fetchrow(f"SELECT {USERS.selected} FROM app_user WHERE id = $1", user_id)  # noqa: S608
    return dict(row) if row is not None else None


async def add_refresh_token(
    connection: Connection, digest: bytes, user_id: uuid.UUID, family_id: uuid.UUID, now: datetime, expires_at: datetime
) -> None:
    """Remember a refresh token; one family is one sign-in and all that was refreshed from it."""
    await connection.execute(
        "INSERT INTO refresh_token (digest, user_id, family_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        digest,
        user_id,
        family_id,
        now,
        expires_at,
    )


async def lock_refresh_token(connection: Connection, digest: bytes) -> Record | None:
    """A refresh token's row, locked: of two that spend it at once the later finds it spent."""
    row = await connection.fetchrow(
        "SELECT digest, user_id, family_id, expires_at, used_at, revoked_at FROM refresh_token"
        " WHERE digest = $1 FOR UPDATE",
        digest,
    )
    return dict(row) if row is not None else None


async def spend_refresh_token(connection: Connection, digest: bytes, now: datetime) -> None:
    """Mark a refresh token used."""
    await connection.execute("UPDATE refresh_token SET used_at = $2 WHERE digest = $1", digest, now)


async def revoke_family(connection: Connection, family_id: uuid.UUID, now: datetime) -> None:
    """End every refresh token that came of one sign-in."""
    await connection.execute(
        "UPDATE refresh_token SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL", family_id, now
    )


async def revoke_of_user(connection: Connection, user_id: uuid.UUID, now: datetime) -> None:
    """End every refresh token of a user: her password changed, or she is disabled."""
    await connection.execute(
        "UPDATE refresh_token SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", user_id, now
    )
