"""Users, and how one of them is found before anybody is signed in."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

USERS: Final = Table(
    "app_user",
    "user",
    (
        "username",
        "password_hash",
        "role",
        "display_name",
        "language",
        "created_at",
        "disabled_at",
        "password_set_at",
        "provider_subject",
    ),
)


async def _found(connection: Connection, function: str, value: Any) -> Record | None:
    row = await connection.fetchrow(f"SELECT {USERS.selected} FROM {function}($1)", value)  # noqa: S608
    return dict(row) if row is not None else None


async def by_username(connection: Connection, username: str) -> Record | None:
    """The user of this name, however it is capitalised, of whatever agency; None when there is none."""
    return await _found(connection, "sign_in_by_name", username)


async def by_refresh_token(connection: Connection, digest: bytes) -> Record | None:
    """The user a refresh token was given to, whether or not it still holds."""
    return await _found(connection, "sign_in_by_refresh_token", digest)


async def by_passkey(connection: Connection, credential_id: bytes) -> Record | None:
    """The user a passkey belongs to."""
    return await _found(connection, "sign_in_by_passkey", credential_id)


async def by_code(connection: Connection, digest: bytes) -> Record | None:
    """The user a one-time code was made for, whether or not it still holds."""
    return await _found(connection, "sign_in_by_code", digest)


async def by_subject(connection: Connection, agency_id: uuid.UUID, subject: str) -> Record | None:
    """The user who is `subject` to her agency's own sign-in."""
    row = await connection.fetchrow(
        f"SELECT {USERS.selected} FROM app_user WHERE agency_id = $1 AND provider_subject = $2",  # noqa: S608
        agency_id,
        subject,
    )
    return dict(row) if row is not None else None


async def note_attempts(connection: Connection, user_id: uuid.UUID, now: datetime, before: datetime) -> bool:
    """Whether it is time to tell again that somebody guesses: last told before `before`; then it counts as told."""
    row = await connection.fetchrow(
        "UPDATE app_user SET attempts_noticed_at = $2"
        " WHERE id = $1 AND (attempts_noticed_at IS NULL OR attempts_noticed_at < $3) RETURNING 1",
        user_id,
        now,
        before,
    )
    return row is not None


async def replace_hash(connection: Connection, user_id: uuid.UUID, was: str, now_is: str) -> None:
    """Keep a hash of the same password by today's parameters; nothing when the password changed meanwhile."""
    await connection.execute(
        "UPDATE app_user SET password_hash = $3 WHERE id = $1 AND password_hash = $2", user_id, was, now_is
    )
