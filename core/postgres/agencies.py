"""Agencies, and the routes by which they want to be told."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.errors import NotFound
from core.ids import new_id
from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable
from core.postgres.table import Record

ROUTES: Final = SealedTable(
    "notification_route",
    "notification route",
    ("name", "channel", "address", "secret", "language", "min_severity", "enabled", "created_at"),
    private=("secret",),
)

_COLUMNS: Final = (
    "id, name, kind, region, time_zone, language, jurisdiction, names_officials, policy, recompile_after, created_at"
)
_CHANGEABLE: Final = frozenset(
    {"name", "kind", "region", "time_zone", "language", "jurisdiction", "names_officials", "policy", "recompile_after"}
)


async def get(connection: Connection, agency_id: uuid.UUID, *, lock: bool = False) -> Record:
    """An agency; raises NotFound. `lock` keeps others from changing it, not from adding rows that refer to it."""
    return await _get(connection, agency_id, " FOR NO KEY UPDATE" if lock else "")


async def get_held(connection: Connection, agency_id: uuid.UUID) -> Record:
    """An agency as it stays until the transaction ends: its policy and a new order do not miss each other."""
    return await _get(connection, agency_id, " FOR SHARE")


async def _get(connection: Connection, agency_id: uuid.UUID, locking: str) -> Record:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM agency WHERE id = $1{locking}",  # noqa: S608
        agency_id,
    )
    if row is None:
        raise NotFound("There is no agency with this id.")
    return dict(row)


async def get_or_create(connection: Connection, name: str, now: datetime) -> uuid.UUID:
    """The id of the agency of this name, made if there is none."""
    await connection.execute(
        "INSERT INTO agency (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        new_id(),
        name,
        now,
    )
    found: uuid.UUID = await connection.fetchval("SELECT id FROM agency WHERE name = $1", name)
    return found


async def by_name(connection: Connection, name: str) -> uuid.UUID:
    """The id of the agency of this name; raises NotFound."""
    found: uuid.UUID | None = await connection.fetchval("SELECT id FROM agency WHERE name = $1", name)
    if found is None:
        raise NotFound("There is no agency of this name.")
    return found


async def update(connection: Connection, agency_id: uuid.UUID, values: dict[str, Any]) -> Record:
    """Set columns of an agency; returns it whole."""
    assert set(values) <= _CHANGEABLE
    if values:
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, start=2))
        await connection.execute(f"UPDATE agency SET {sets} WHERE id = $1", agency_id, *values.values())  # noqa: S608
    return await get(connection, agency_id)


async def lock_recompiling(connection: Connection) -> Record | None:
    """One agency with cases that still bear an earlier policy, locked; None when there is none or others have it."""
    row = await connection.fetchrow(
        "SELECT id, recompile_after FROM agency WHERE recompile_after IS NOT NULL ORDER BY id LIMIT 1"
        " FOR NO KEY UPDATE SKIP LOCKED"
    )
    return dict(row) if row is not None else None
