"""Rows of deliveries that went out before they were rows, by the routes last known."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.clock import from_ms
from core.domain.told import ToldIn
from core.postgres.database import Connection

MAX_PROVIDER_ID_CHARACTERS: Final = 300

_MARK: Final = """
WITH told AS (
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS t (id, sent_at, provider_id)
)
UPDATE delivery d
SET state = 'sent', attempts = greatest(d.attempts, 1), sent_at = told.sent_at, provider_id = told.provider_id,
    created_at = least(d.created_at, told.sent_at), last_error = NULL, leased_until = NULL, leased_by = NULL,
    updated_at = $4
FROM told WHERE d.id = told.id AND d.state = 'queued'
RETURNING d.id, d.agency_id, d.incident_id, d.channel, d.audience, d.template, d.sent_at
"""


async def mark_told(connection: Connection, told: Sequence[ToldIn], now: datetime) -> list[dict[str, Any]]:
    """Mark as sent what still waits to be; returns the rows it changed. What the notifier has in hand, or has brought
    to an end, stays as it is."""
    ordered = sorted(told, key=lambda one: one.delivery.id)
    rows = await connection.fetch(
        _MARK,
        [one.delivery.id for one in ordered],
        [from_ms(one.sent_ms) for one in ordered],
        [_clean(one.provider_id) for one in ordered],
        now,
    )
    return [dict(row) for row in rows]


async def known(connection: Connection, delivery_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these deliveries are rows."""
    rows = await connection.fetch("SELECT id FROM delivery WHERE id = ANY ($1::uuid[])", list(delivery_ids))
    return {row["id"] for row in rows}


async def incident_of(connection: Connection, panic_id: uuid.UUID) -> uuid.UUID | None:
    """The incident of a panic; None when PostgreSQL has no such panic."""
    found: uuid.UUID | None = await connection.fetchval("SELECT incident_id FROM panic WHERE id = $1", panic_id)
    return found


def _clean(text: str | None) -> str | None:
    """What a provider said, in a form PostgreSQL takes: no NUL, no half surrogate, bounded."""
    if text is None:
        return None
    return text[:MAX_PROVIDER_ID_CHARACTERS].replace("\x00", "").encode("utf-8", "replace").decode()
