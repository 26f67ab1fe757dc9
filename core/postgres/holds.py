"""Legal holds: what must not be erased while it is wanted in court."""

from __future__ import annotations

import uuid

from core.postgres.database import Connection


async def is_held(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether something of a person is held: herself, or a case she is in."""
    return bool(await connection.fetchval("SELECT is_held($1)", person_id))
