"""Agencies' own sign-in (OpenID Connect providers): one an agency."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.table import Record

COLUMNS: Final = (
    "issuer", "client_id", "client_secret_sealed", "label", "scopes", "role_claim", "role_map", "default_role",
    "email_domains", "provision", "trusts_second_factor", "enabled", "created_at", "updated_at",
)  # fmt: skip
_SELECTED: Final = ", ".join(("agency_id", *COLUMNS))


async def offered(connection: Connection) -> list[Record]:
    """The agencies that sign in by themselves, for anybody: id and the words on the button."""
    return [dict(row) for row in await connection.fetch("SELECT agency_id AS id, label FROM sign_in_providers()")]


async def enabled(connection: Connection, agency_id: uuid.UUID) -> Record | None:
    """An agency's provider if it is in use, before anybody is signed in."""
    row = await connection.fetchrow(f"SELECT {_SELECTED} FROM sign_in_provider($1)", agency_id)  # noqa: S608
    return dict(row) if row is not None else None


async def find(connection: Connection, agency_id: uuid.UUID) -> Record | None:
    """An agency's provider, in use or not."""
    row = await connection.fetchrow(
        f"SELECT {_SELECTED} FROM oidc_provider WHERE agency_id = $1",  # noqa: S608
        agency_id,
    )
    return dict(row) if row is not None else None


async def put(connection: Connection, agency_id: uuid.UUID, values: dict[str, Any], now: datetime) -> Record:
    """Set an agency's provider whole."""
    assert set(values) <= set(COLUMNS)
    names = list(values)
    places = ", ".join(f"${number}" for number in range(3, len(names) + 3))
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in (*names, "updated_at"))
    row = await connection.fetchrow(
        f"INSERT INTO oidc_provider (agency_id, created_at, updated_at, {', '.join(names)})"  # noqa: S608
        f" VALUES ($1, $2, $2, {places}) ON CONFLICT (agency_id) DO UPDATE SET {sets} RETURNING {_SELECTED}",
        agency_id,
        now,
        *values.values(),
    )
    return dict(row)


async def remove(connection: Connection, agency_id: uuid.UUID) -> bool:
    """Forget an agency's provider; False when there was none."""
    row = await connection.fetchrow("DELETE FROM oidc_provider WHERE agency_id = $1 RETURNING 1", agency_id)
    return row is not None
