"""Client-made ids: the same create again is answered by what is there, another under its id is refused."""

from __future__ import annotations

import uuid
from datetime import datetime

from core.errors import Conflict
from core.postgres.database import Connection


async def claim(connection: Connection, record_id: uuid.UUID, kind: str, body_digest: bytes, now: datetime) -> bool:
    """Whether this id is new; False when the same was created before.

    Raises Conflict `id_reused` when it was used for something else. Two at once: the later waits for the earlier.
    """
    added = await connection.fetchval(
        "INSERT INTO creation (id, kind, body_digest, created_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING RETURNING true",
        record_id,
        kind,
        body_digest,
        now,
    )
    if added:
        return True
    row = await connection.fetchrow("SELECT kind, body_digest FROM creation WHERE id = $1", record_id)
    if row["kind"] != kind or row["body_digest"] != body_digest:
        raise Conflict("This id was used for something else; make a new one.", code="id_reused")
    return False
