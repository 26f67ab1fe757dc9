"""Rotas of who is on call, and who stands in for whom."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.domain.on_call import Override
from core.postgres.database import Connection
from core.postgres.table import Record

ROTA: Final = "id, agency_id, duty, body, created_at, updated_at, updated_by"
OVERRIDE: Final = "id, agency_id, duty, user_id, instead_of, from_at, until_at, created_by, created_at"
OVERRIDES_MAX: Final = 500


async def rotas(connection: Connection, agency_ids: Sequence[uuid.UUID]) -> list[Record]:
    """The rotas of agencies."""
    rows = await connection.fetch(
        f"SELECT {ROTA} FROM on_call_rota WHERE agency_id = ANY ($1::uuid[]) ORDER BY duty",  # noqa: S608
        list(agency_ids),
    )
    return [dict(row) for row in rows]


async def put_rota(connection: Connection, values: Record) -> Record:
    """Set the agency's rota of a duty."""
    row = await connection.fetchrow(
        "INSERT INTO on_call_rota (id, agency_id, duty, body, created_at, updated_at, updated_by)"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT (agency_id, duty) DO UPDATE SET body = excluded.body,"
        f" updated_at = excluded.updated_at, updated_by = excluded.updated_by RETURNING {ROTA}",
        values["id"],
        values["agency_id"],
        values["duty"],
        values["body"],
        values["now"],
        values["user_id"],
    )
    return dict(row)


async def drop_rota(connection: Connection, agency_id: uuid.UUID, duty: str) -> uuid.UUID | None:
    """Take a rota back; its id, or None where there was none."""
    found: uuid.UUID | None = await connection.fetchval(
        "DELETE FROM on_call_rota WHERE agency_id = $1 AND duty = $2 RETURNING id", agency_id, duty
    )
    return found


async def overrides(connection: Connection, agency_ids: Sequence[uuid.UUID], since: datetime) -> list[Record]:
    """Stand-ins of agencies that are not over, in the order in which they were entered."""
    rows = await connection.fetch(
        f"SELECT {OVERRIDE} FROM on_call_override WHERE agency_id = ANY ($1::uuid[]) AND until_at > $2"  # noqa: S608
        " ORDER BY created_at, id LIMIT $3",
        list(agency_ids),
        since,
        OVERRIDES_MAX,
    )
    return [dict(row) for row in rows]


async def add_override(connection: Connection, values: Record) -> Record:
    """Have somebody stand in."""
    row = await connection.fetchrow(
        "INSERT INTO on_call_override (id, agency_id, duty, user_id, instead_of, from_at, until_at, created_by,"  # noqa: S608
        f" created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {OVERRIDE}",
        values["id"],
        values["agency_id"],
        values["duty"],
        values["user_id"],
        values["instead_of"],
        values["from_at"],
        values["until_at"],
        values["created_by"],
        values["created_at"],
    )
    return dict(row)


async def drop_override(connection: Connection, agency_id: uuid.UUID, override_id: uuid.UUID) -> bool:
    """Take a stand-in back; False where there was none."""
    return bool(
        await connection.fetchval(
            "DELETE FROM on_call_override WHERE agency_id = $1 AND id = $2 RETURNING true", agency_id, override_id
        )
    )


def as_override(row: Record) -> Override:
    """A row as the rota reads it."""
    return Override(row["user_id"], row["instead_of"], row["from_at"], row["until_at"])
