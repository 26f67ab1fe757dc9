"""Changes of cases, for the shard's log: which versions are new, and their compiled configuration.

`changed_xid` finds every committed change without gaps: a poll returns rows whose transaction is at or above
the mark, and the next mark is the oldest transaction that was still open, so what commits late is seen later.
Rows may come twice; versions tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.postgres.database import Connection


class CaseConfiguration(NamedTuple):
    """A case's compiled configuration (core.domain.case.Case as JSON)."""

    number: int
    version: int
    body: bytes


async def changed_since(connection: Connection, shard: int, mark: int) -> tuple[int, dict[int, int]]:
    """({case number: version} changed at or above the transaction mark, 0 for all; the next mark first)."""
    row = await connection.fetchrow(
        """
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS mark,
            coalesce(array_agg(number), '{}') AS numbers, coalesce(array_agg(config_version), '{}') AS versions
        FROM protection_case
        WHERE shard = $1 AND changed_xid >= $2::text::xid8 AND config IS NOT NULL
        """,
        shard,
        str(mark),
    )
    return row["mark"], dict(zip(row["numbers"], row["versions"], strict=True))


async def load(connection: Connection, shard: int, numbers: Sequence[int]) -> list[CaseConfiguration]:
    """The present configurations of these cases of a shard."""
    rows = await connection.fetch(
        """
        SELECT number, config_version, config::text AS body FROM protection_case
        WHERE shard = $1 AND number = ANY($2::bigint[]) AND config IS NOT NULL ORDER BY number
        """,
        shard,
        list(numbers),
    )
    return [CaseConfiguration(row["number"], row["config_version"], row["body"].encode()) for row in rows]
