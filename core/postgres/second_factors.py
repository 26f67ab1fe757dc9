"""What a user has beside her password: one-time codes (sealed secret, last used step), recovery codes, passkeys."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.postgres.database import Connection
from core.postgres.table import Record, Table

PASSKEYS: Final = Table(
    "user_passkey",
    "passkey",
    (
        "user_id",
        "credential_id",
        "public_key",
        "sign_count",
        "name",
        "transports",
        "backed_up",
        "created_at",
        "last_used_at",
    ),
)


async def totp(connection: Connection, user_id: uuid.UUID, *, lock: bool = False) -> Record | None:
    """The user's one-time-code secret, sealed, confirmed or only begun."""
    row = await connection.fetchrow(
        "SELECT user_id, secret_sealed, confirmed_at, last_step FROM user_totp WHERE user_id = $1"  # noqa: S608
        + (" FOR NO KEY UPDATE" if lock else ""),
        user_id,
    )
    return dict(row) if row is not None else None


async def begin_totp(connection: Connection, user: Record, secret_sealed: bytes, now: datetime) -> bool:
    """Keep a secret that is not confirmed yet, in place of one begun before; False when one is confirmed."""
    row = await connection.fetchrow(
        "INSERT INTO user_totp (user_id, agency_id, secret_sealed, created_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (user_id) DO UPDATE SET secret_sealed = $3, created_at = $4, last_step = 0"
        " WHERE user_totp.confirmed_at IS NULL RETURNING 1",
        user["id"],
        user["agency_id"],
        secret_sealed,
        now,
    )
    return row is not None


async def confirm_totp(connection: Connection, user_id: uuid.UUID, now: datetime) -> None:
    """Let the secret count from now on."""
    await connection.execute("UPDATE user_totp SET confirmed_at = $2 WHERE user_id = $1", user_id, now)


async def use_step(connection: Connection, user_id: uuid.UUID, step: int) -> bool:
    """Use a code's step; False when it, or a later one, was used before."""
    row = await connection.fetchrow(
        "UPDATE user_totp SET last_step = $2 WHERE user_id = $1 AND last_step < $2 RETURNING 1", user_id, step
    )
    return row is not None


async def remove_totp(connection: Connection, user_id: uuid.UUID) -> bool:
    """Forget the secret; False when there was none."""
    row = await connection.fetchrow("DELETE FROM user_totp WHERE user_id = $1 RETURNING 1", user_id)
    return row is not None


async def replace_recovery_codes(connection: Connection, user: Record, digests: list[bytes], now: datetime) -> None:
    """Have these recovery codes and no others."""
    await connection.execute("DELETE FROM user_recovery_code WHERE user_id = $1", user["id"])
    await connection.execute(
        "INSERT INTO user_recovery_code (digest, user_id, agency_id, created_at)"
        " SELECT digest, $2, $3, $4 FROM unnest($1::bytea[]) digest",
        digests,
        user["id"],
        user["agency_id"],
        now,
    )


async def use_recovery_code(connection: Connection, user_id: uuid.UUID, digest: bytes, now: datetime) -> bool:
    """Use a recovery code; False when the user has no such code, or it was used before."""
    row = await connection.fetchrow(
        "UPDATE user_recovery_code SET used_at = $3 WHERE user_id = $1 AND digest = $2 AND used_at IS NULL RETURNING 1",
        user_id,
        digest,
        now,
    )
    return row is not None


async def recovery_codes_left(connection: Connection, user_id: uuid.UUID) -> int:
    """How many recovery codes are unused."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM user_recovery_code WHERE user_id = $1 AND used_at IS NULL", user_id
        )
    )


async def passkeys(connection: Connection, user_id: uuid.UUID) -> list[Record]:
    """The user's passkeys, oldest first."""
    rows = await connection.fetch(
        f"SELECT {PASSKEYS.selected} FROM user_passkey WHERE user_id = $1 ORDER BY created_at, id",  # noqa: S608
        user_id,
    )
    return [dict(row) for row in rows]


async def lock_passkey(connection: Connection, user_id: uuid.UUID, credential_id: bytes) -> Record | None:
    """The user's passkey of this credential, locked: its counter is read and raised by one at a time."""
    row = await connection.fetchrow(
        f"SELECT {PASSKEYS.selected} FROM user_passkey WHERE user_id = $1 AND credential_id = $2"  # noqa: S608
        " FOR NO KEY UPDATE",
        user_id,
        credential_id,
    )
    return dict(row) if row is not None else None


async def use_passkey(
    connection: Connection, passkey_id: uuid.UUID, sign_count: int, now: datetime, *, backed_up: bool
) -> None:
    """Note that a passkey was used."""
    await connection.execute(
        "UPDATE user_passkey SET sign_count = $2, last_used_at = $3, backed_up = $4 WHERE id = $1",
        passkey_id,
        sign_count,
        now,
        backed_up,
    )


async def rename_passkey(connection: Connection, user_id: uuid.UUID, passkey_id: uuid.UUID, name: str) -> Record | None:
    """The user's passkey under another name; None when she has none of this id."""
    row = await connection.fetchrow(
        f"UPDATE user_passkey SET name = $3 WHERE user_id = $1 AND id = $2 RETURNING {PASSKEYS.selected}",  # noqa: S608
        user_id,
        passkey_id,
        name,
    )
    return dict(row) if row is not None else None


async def remove_passkey(connection: Connection, user_id: uuid.UUID, passkey_id: uuid.UUID) -> bool:
    """Forget a passkey; False when the user has none of this id."""
    row = await connection.fetchrow(
        "DELETE FROM user_passkey WHERE user_id = $1 AND id = $2 RETURNING 1", user_id, passkey_id
    )
    return row is not None


async def remove_all(connection: Connection, user_id: uuid.UUID) -> None:
    """Forget everything a user has beside her password: she has lost it."""
    for table in ("user_totp", "user_recovery_code", "user_passkey"):
        await connection.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)  # noqa: S608


async def required_roles(connection: Connection, agency_id: uuid.UUID) -> list[str]:
    """The roles of which an agency wants a second factor."""
    found = await connection.fetchval("SELECT second_factor_roles FROM sign_in_policy WHERE agency_id = $1", agency_id)
    return list(found or [])


async def require_roles(connection: Connection, agency_id: uuid.UUID, roles: list[str], now: datetime) -> None:
    """Set the roles of which an agency wants a second factor."""
    await connection.execute(
        "INSERT INTO sign_in_policy (agency_id, second_factor_roles, updated_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (agency_id) DO UPDATE SET second_factor_roles = $2, updated_at = $3",
        agency_id,
        roles,
        now,
    )
