"""Cursors: up to where a log has been taken into PostgreSQL, moved in the transaction that took it.

A cursor is also the fence. A new owner claims it with its lease's token, which waits for a transaction of the
owner before it that is still open; after that the older token moves it no more. Moving it needs the place it
was expected at, so what was taken twice is committed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from core.postgres.database import Connection


class Move(NamedTuple):
    """One cursor's step: from `expected` to `entry`, under the token of `lease`."""

    name: str
    lease: str
    token: int
    expected: str
    entry: str


async def claim(connection: Connection, tokens: Mapping[str, int], now: datetime) -> dict[str, str]:
    """Claim cursors {name: token} and return where they stand; one that has seen a greater token is left out."""
    rows = await connection.fetch(
        """
        INSERT INTO log_cursor AS known (name, token, updated_at)
        SELECT name, token, $3 FROM unnest($1::text[], $2::bigint[]) AS asked (name, token) ORDER BY name
        ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE known.token <= excluded.token
        RETURNING name, entry
        """,
        list(tokens),
        list(tokens.values()),
        now,
    )
    return {row["name"]: row["entry"] for row in rows}


async def advance(connection: Connection, moves: Sequence[Move], now: datetime) -> set[str]:
    """Move cursors; returns the names that did NOT move (another owner, or another place than expected).

    Call it first in the transaction: it locks the cursors, so nothing else is done in vain. If any name comes
    back, roll back.
    """
    rows = await connection.fetch(
        """
        WITH asked AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
                AS asked (name, lease, token, expected, entry)
        )
        UPDATE log_cursor SET entry = asked.entry, updated_at = $6
        FROM asked JOIN lease ON lease.name = asked.lease AND lease.token = asked.token
        WHERE log_cursor.name = asked.name AND log_cursor.token = asked.token AND log_cursor.entry = asked.expected
        RETURNING log_cursor.name
        """,
        *(list(column) for column in zip(*moves, strict=True)),
        now,
    )
    return {move.name for move in moves} - {row["name"] for row in rows}


async def places(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """Where cursors stand; a cursor that was never claimed is left out."""
    rows = await connection.fetch("SELECT name, entry FROM log_cursor WHERE name = ANY($1::text[])", list(names))
    return {row["name"]: row["entry"] for row in rows}
