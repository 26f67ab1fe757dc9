"""Leases: who may work on what. The token of a lease only grows, and PostgreSQL alone issues it.

A lease that ran out but that nobody took is still its holder's to renew, so that PostgreSQL being away for a
while moves nothing: the one who could take it needs PostgreSQL too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from core.postgres.database import Connection


def lease_name(kind: str, shard: int) -> str:
    """Name of a shard's lease, as in `geo:3`."""
    return f"{kind}:{shard}"


def shard_of_lease(name: str) -> int:
    """The shard a lease's name ends in."""
    return int(name.rpartition(":")[2])


async def take(
    connection: Connection, kind: str, holder: str, limit: int, now: datetime, expires_at: datetime
) -> dict[str, int]:
    """Take up to `limit` leases of a kind that are free or have run out; {name: new token}."""
    rows = await connection.fetch(
        """
        UPDATE lease SET holder = $2, token = token + 1, expires_at = $5
        WHERE name IN (
            SELECT name FROM lease
            WHERE name LIKE $1 || ':%' AND (holder IS NULL OR expires_at IS NULL OR expires_at < $4)
            ORDER BY name LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING name, token
        """,
        kind,
        holder,
        limit,
        now,
        expires_at,
    )
    return {row["name"]: row["token"] for row in rows}


async def renew(connection: Connection, holder: str, held: Mapping[str, int], expires_at: datetime) -> set[str]:
    """Extend the leases of {name: token} that are still the holder's; returns the names that no longer are."""
    if not held:
        return set()
    rows = await connection.fetch(
        """
        UPDATE lease SET expires_at = $4
        FROM unnest($2::text[], $3::bigint[]) AS mine (name, token)
        WHERE lease.name = mine.name AND lease.token = mine.token AND lease.holder = $1
        RETURNING lease.name
        """,
        holder,
        list(held),
        list(held.values()),
        expires_at,
    )
    return set(held) - {row["name"] for row in rows}


async def give_back(connection: Connection, holder: str, held: Mapping[str, int]) -> None:
    """Free leases at once, so that a successor need not wait until they run out; the token stays."""
    await connection.execute(
        """
        UPDATE lease SET holder = NULL, expires_at = NULL
        FROM unnest($2::text[], $3::bigint[]) AS mine (name, token)
        WHERE lease.name = mine.name AND lease.token = mine.token AND lease.holder = $1
        """,
        holder,
        list(held),
        list(held.values()),
    )


async def outgrow(connection: Connection, name: str, seen: int) -> None:
    """See to it that the next token is greater than one a store has seen.

    It always is, unless PostgreSQL was restored from an older backup than the store it issues tokens for.
    """
    await connection.execute("UPDATE lease SET token = $2 WHERE name = $1 AND token < $2", name, seen)
