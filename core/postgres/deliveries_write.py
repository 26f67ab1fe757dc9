"""Queuing deliveries: rows in the transaction that caused them, never after it; to whom they go is sealed."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.domain.delivery import Delivery, bears_seen_link
from core.domain.sealing import Owner, Spot, agency, person
from core.ids import token_digest
from core.postgres import keys
from core.postgres.database import Connection

SEEN_TOKEN: Final = "seen_token"  # noqa: S105 - a name
"""Fact of a delivery's data, never told but in the link."""
SEEN_TOKEN_BYTES: Final = 16
"""128 random bits: a link short enough for a text message."""

_INSERT: Final = """
    INSERT INTO delivery (id, agency_id, incident_id, cause, audience, recipient, channel, target_sealed,
                          address_digest, language, template, data, priority, step, due_at, created_at, updated_at,
                          seen_digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $15, $16)
    ON CONFLICT (id) DO NOTHING
"""


async def insert_deliveries(connection: Connection, deliveries: Sequence[Delivery], now: datetime) -> None:
    """Queue deliveries, due at once, and wake the notifier's channels at commit; one already queued stays as it is.

    The digest tells which go to one address, so that one dead receiver does not fill a channel. The token of the link
    "I have seen it" is sealed with the address; the table bears its digest alone.
    """
    owners = {_owner(item): item.agency_id for item in deliveries}
    deks = await keys.ensure(connection, owners, now)
    rows = []
    for item in deliveries:
        dek = deks[_owner(item)]
        token = secrets.token_urlsafe(SEEN_TOKEN_BYTES) if bears_seen_link(item.template, item.channel) else None
        private = item.private if token is None else {**item.private, SEEN_TOKEN: token}
        target = {"address": item.address, "secret": item.secret, "data": private}
        rows.append(
            (
                item.id, item.agency_id, item.incident_id, str(item.cause), item.audience, item.recipient, item.channel,
                dek.seal(Spot("delivery", "target", item.id), target), dek.digest("address", item.address),
                item.language, item.template, item.data, item.priority, item.step, now,
                token_digest(token) if token is not None else None,
            )
        )  # fmt: skip
    await connection.executemany(_INSERT, rows)
    await connection.execute(
        "SELECT pg_notify('delivery', $1)", " ".join(sorted({item.channel for item in deliveries}))
    )


def _owner(item: Delivery) -> Owner:
    return person(item.person_id) if item.person_id is not None else agency(item.agency_id)
