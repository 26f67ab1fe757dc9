"""Bearer tokens of devices and gateways, and enrolment codes; only digests are ever stored."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any

from core.postgres.database import Connection
from core.postgres.table import Record


async def add_device_token(
    connection: Connection, digest: bytes, device_id: uuid.UUID, agency_id: uuid.UUID, now: datetime
) -> None:
    """Let a device in by a token, which is later than any it was given before, whatever this host's clock says."""
    await connection.execute(
        "INSERT INTO bearer_token (digest, device_id, agency_id, created_at) VALUES ($1, $2, $3, greatest($4,"
        " (SELECT max(created_at) + interval '1 microsecond' FROM bearer_token WHERE device_id = $2)))",
        digest,
        device_id,
        agency_id,
        now,
    )


async def revoke_device_tokens(
    connection: Connection, device_id: uuid.UUID, now: datetime, but: bytes | None = None
) -> int:
    """End every token of a device, but the one of the digest `but`; returns how many held until now."""
    rows = await connection.fetch(
        "UPDATE bearer_token SET revoked_at = $2, changed_xid = pg_current_xact_id()"
        " WHERE device_id = $1 AND revoked_at IS NULL AND digest IS DISTINCT FROM $3 RETURNING 1",
        device_id,
        now,
        but,
    )
    return len(rows)


async def let_earlier_expire(connection: Connection, used: Collection[bytes], until: datetime) -> None:
    """Let the tokens that devices had before those of the digests `used` hold no longer than `until`.

    Rows that somebody holds are passed by, so that this waits for nobody: who holds one is ending it.
    """
    await connection.execute(
        """
        UPDATE bearer_token SET expires_at = least(expires_at, $2), replaced_at = least(expires_at, $2),
            changed_xid = pg_current_xact_id()
        WHERE digest IN (
            SELECT earlier.digest FROM bearer_token used JOIN bearer_token earlier
                ON earlier.device_id = used.device_id AND earlier.created_at < used.created_at
            WHERE used.digest = ANY ($1::bytea[]) AND used.revoked_at IS NULL
                AND earlier.revoked_at IS NULL AND earlier.replaced_at IS NULL
            FOR UPDATE OF earlier SKIP LOCKED
        )
        """,
        list(used),
        until,
    )


async def was_replaced(connection: Connection, digest: bytes) -> bool:
    """Whether a newer token was asked for since this one was issued; holds its row until the transaction ends."""
    return bool(
        await connection.fetchval(
            """
            SELECT replaced_at IS NOT NULL OR EXISTS (
                SELECT FROM bearer_token newer WHERE newer.device_id = t.device_id
                AND newer.created_at > t.created_at AND newer.revoked_at IS NULL
            )
            FROM bearer_token t WHERE digest = $1 FOR UPDATE OF t
            """,
            digest,
        )
    )


async def replace_now(connection: Connection, device_id: uuid.UUID, but: bytes, now: datetime) -> int:
    """End every token of a device but that of the digest `but`, which takes their place; returns how many held."""
    rows = await connection.fetch(
        "UPDATE bearer_token SET revoked_at = $2, replaced_at = least(replaced_at, $2),"
        " changed_xid = pg_current_xact_id()"
        " WHERE device_id = $1 AND revoked_at IS NULL AND digest <> $3 RETURNING 1",
        device_id,
        now,
        but,
    )
    return len(rows)


async def forget_replaced(connection: Connection, device_id: uuid.UUID) -> None:
    """Let no token of a device stand as replaced: it begins anew, and what it had before says nothing any more."""
    await connection.execute(
        "UPDATE bearer_token SET replaced_at = NULL, changed_xid = pg_current_xact_id()"
        " WHERE device_id = $1 AND replaced_at IS NOT NULL",
        device_id,
    )


async def mark_reused(connection: Connection, digest: bytes, now: datetime) -> Record | None:
    """Note, once, that a replaced token of a device came again; its `device_id` and `agency_id` then, and `confirmed`:
    whether a newer one was confirmed, which ended it at once, and not only used."""
    row = await connection.fetchrow(
        "UPDATE bearer_token SET reused_at = $2 WHERE digest = $1 AND reused_at IS NULL AND replaced_at IS NOT NULL"
        " AND device_id IS NOT NULL RETURNING device_id, agency_id, revoked_at IS NOT NULL AS confirmed",
        digest,
        now,
    )
    return dict(row) if row is not None else None


async def replaced_at(connection: Connection, digest: bytes) -> datetime | None:
    """From when on a newer token stands in the place of this one; None when none does."""
    found: datetime | None = await connection.fetchval("SELECT replaced_at FROM bearer_token WHERE digest = $1", digest)
    return found


async def let_gateway_expire(
    connection: Connection, agency_id: uuid.UUID, name: str, now: datetime, until: datetime
) -> int:
    """Let the tokens of a gateway hold no longer than `until`; returns how many held."""
    rows = await connection.fetch(
        "UPDATE bearer_token SET expires_at = least(expires_at, $4), changed_xid = pg_current_xact_id()"
        " WHERE agency_id = $1 AND gateway_name = $2 AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > $3) RETURNING 1",
        agency_id,
        name,
        now,
        until,
    )
    return len(rows)


async def has_live_token(connection: Connection, device_id: uuid.UUID, now: datetime) -> bool:
    """Whether some token of the device holds."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM bearer_token WHERE device_id = $1 AND revoked_at IS NULL"
            " AND (expires_at IS NULL OR expires_at > $2))",
            device_id,
            now,
        )
    )


async def add_gateway_token(
    connection: Connection,
    digest: bytes,
    name: str,
    agency_id: uuid.UUID,
    now: datetime,
    expires_at: datetime | None,
) -> None:
    """Let a gateway in by a token."""
    await connection.execute(
        "INSERT INTO bearer_token (digest, gateway_name, agency_id, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5)",
        digest,
        name,
        agency_id,
        now,
        expires_at,
    )


async def gateways(connection: Connection, agency_id: uuid.UUID, limit: int) -> list[Record]:
    """The agency's gateways, by name; a gateway is named, its token is not told again."""
    rows = await connection.fetch(
        "SELECT gateway_name AS name, created_at, expires_at, revoked_at FROM bearer_token"
        " WHERE agency_id = $1 AND gateway_name IS NOT NULL ORDER BY gateway_name, created_at LIMIT $2",
        agency_id,
        limit,
    )
    return [dict(row) for row in rows]


async def gateway_name_taken(connection: Connection, agency_id: uuid.UUID, name: str) -> bool:
    """Whether a gateway of this name holds a token that was not revoked."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM bearer_token"
            " WHERE agency_id = $1 AND gateway_name = $2 AND revoked_at IS NULL)",
            agency_id,
            name,
        )
    )


async def revoke_gateway(connection: Connection, agency_id: uuid.UUID, name: str, now: datetime) -> int:
    """End every token of a gateway; returns how many held until now."""
    rows = await connection.fetch(
        "UPDATE bearer_token SET revoked_at = $3, changed_xid = pg_current_xact_id()"
        " WHERE agency_id = $1 AND gateway_name = $2 AND revoked_at IS NULL RETURNING 1",
        agency_id,
        name,
        now,
    )
    return len(rows)


async def add_code(
    connection: Connection, digest: bytes, device_id: uuid.UUID, now: datetime, expires_at: datetime
) -> None:
    """Remember an enrolment code; a device has one at a time, so earlier unused ones go."""
    await connection.execute("DELETE FROM enrolment WHERE device_id = $1 AND used_at IS NULL", device_id)
    await connection.execute(
        "INSERT INTO enrolment (code_digest, device_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        digest,
        device_id,
        now,
        expires_at,
    )


async def spend_code(connection: Connection, digest: bytes, now: datetime) -> Any:
    """The id and agency of the device whose code this is, now spent; None when no such code holds."""
    return await connection.fetchrow(
        "UPDATE enrolment SET used_at = $2 FROM device WHERE code_digest = $1 AND used_at IS NULL AND expires_at > $2"
        " AND device.id = enrolment.device_id RETURNING device.id, device.agency_id",
        digest,
        now,
    )


async def drop_codes(connection: Connection, device_id: uuid.UUID) -> None:
    """Let no code of this device be used any more."""
    await connection.execute("DELETE FROM enrolment WHERE device_id = $1 AND used_at IS NULL", device_id)


async def notify_registry(connection: Connection) -> None:
    """Wake every process that holds devices and tokens in memory, at commit."""
    await connection.execute("SELECT pg_notify('registry', '')")
