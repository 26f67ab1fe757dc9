"""Queuing deliveries: rows in the transaction that caused them, never after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.domain.delivery import Delivery
from core.postgres.database import Connection

_INSERT = """
    INSERT INTO delivery (id, agency_id, incident_id, cause, audience, recipient, channel, address, secret, language,
                          template, data, priority, step, due_at, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $15)
    ON CONFLICT (id) DO NOTHING
"""


async def insert_deliveries(connection: Connection, deliveries: Sequence[Delivery], now: datetime) -> None:
    """Queue deliveries, due at once, and wake the notifier at commit; one already queued stays as it is."""
    await connection.executemany(
        _INSERT,
        [
            (
                item.id, item.agency_id, item.incident_id, str(item.cause), item.audience, item.recipient, item.channel,
                item.address, item.secret, item.language, item.template, item.data, item.priority, item.step, now,
            )
            for item in deliveries
        ],
    )  # fmt: skip
    await connection.execute("SELECT pg_notify('delivery', '')")
