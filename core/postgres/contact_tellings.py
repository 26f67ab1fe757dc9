"""What has gone out to contacts, and what is still to go."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.postgres.database import Connection

_STOP: Final = "UPDATE delivery SET state = 'cancelled', leased_until = NULL, leased_by = NULL, updated_at = $2"


async def cancel_all(connection: Connection, contact_id: uuid.UUID, now: datetime) -> int:
    """Cancel what is still to go to a contact; what a sender holds is not tried again. Returns how many."""
    status: str = await connection.execute(
        f"{_STOP} WHERE recipient = $1 AND state IN ('queued', 'sending')",
        f"contact:{contact_id}",
        now,
    )
    return int(status.rpartition(" ")[2])


async def cancel_untried(connection: Connection, incident_id: uuid.UUID, template: str, now: datetime) -> int:
    """Cancel what of an incident nobody has tried to send yet. Returns how many."""
    status: str = await connection.execute(
        f"{_STOP} WHERE incident_id = $1 AND template = $3 AND state = 'queued' AND attempts = 0",
        incident_id,
        now,
        template,
    )
    return int(status.rpartition(" ")[2])


async def told(connection: Connection, incident_id: uuid.UUID, template: str) -> set[tuple[uuid.UUID, str]]:
    """(contact, channel) of whom a message of an incident has reached, as far as anybody can know."""
    rows = await connection.fetch(
        "SELECT recipient, channel FROM delivery WHERE incident_id = $1 AND template = $2"
        " AND state NOT IN ('cancelled', 'dead', 'failed') AND (state <> 'queued' OR attempts > 0)",
        incident_id,
        template,
    )
    return {(uuid.UUID(row["recipient"].removeprefix("contact:")), row["channel"]) for row in rows}
