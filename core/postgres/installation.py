"""What was fixed when the database was made."""

from __future__ import annotations

from core.postgres.database import Connection


async def shard_count(connection: Connection) -> int:
    """The number of shards; never changes."""
    return int(await connection.fetchval("SELECT shard_count FROM installation"))
