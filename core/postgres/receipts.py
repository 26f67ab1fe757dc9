"""Receipts: how far deliveries got after a provider took them, each noted once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection

STATES_MAX: Final = 5_000
"""Messages of which a board tells the state, the newest first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A delivery as a receipt finds it."""

    id: uuid.UUID
    agency_id: uuid.UUID
    incident_id: uuid.UUID | None
    audience: str
    recipient: str
    channel: str
    template: str
    state: str
    attempts: int
    created_at: datetime


_STANDING = "id, agency_id, incident_id, audience, recipient, channel, template, state, attempts, created_at"


async def lock(connection: Connection, delivery_id: uuid.UUID) -> Standing | None:
    """A delivery, held until the transaction ends; None: there is none."""
    row = await connection.fetchrow(
        f"SELECT {_STANDING} FROM delivery WHERE id = $1 FOR NO KEY UPDATE",  # noqa: S608
        delivery_id,
    )
    return Standing(**dict(row)) if row is not None else None


async def by_seen_digest(connection: Connection, digest: bytes) -> Standing | None:
    """The delivery whose link bears the token of this digest."""
    row = await connection.fetchrow(
        f"SELECT {_STANDING} FROM delivery WHERE seen_digest = $1",  # noqa: S608
        digest,
    )
    return Standing(**dict(row)) if row is not None else None


async def by_provider_id(connection: Connection, provider_id: str) -> uuid.UUID | None:
    """The text message that a gateway knows by this id (`<gateway>:<id>`)."""
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT id FROM delivery WHERE channel = 'sms' AND provider_id = $1 ORDER BY created_at DESC LIMIT 1",
        provider_id,
    )
    return found


async def add(
    connection: Connection, standing: Standing, state: str, at: datetime, now: datetime, detail: str | None
) -> bool:
    """Note a receipt; False when it was noted before."""
    added = await connection.fetchval(
        "INSERT INTO delivery_receipt (delivery_id, state, agency_id, at, noted_at, detail)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
        standing.id,
        state,
        standing.agency_id,
        at,
        now,
        detail,
    )
    return bool(added)


async def set_state(
    connection: Connection, delivery_id: uuid.UUID, state: str, at: datetime, now: datetime, detail: str | None
) -> None:
    """A delivery got to `state`; `detail`: why it failed.

    A receipt that came before our own mark takes the delivery from its sender.
    """
    await connection.execute(
        """
        UPDATE delivery SET state = $2, updated_at = $4, leased_by = NULL, leased_until = NULL,
            sent_at = coalesce(sent_at, $3),
            last_error = CASE WHEN $2 = 'failed' THEN $5 END,
            delivered_at = CASE WHEN $2 = 'failed' THEN delivered_at ELSE coalesce(delivered_at, $3) END,
            seen_at = CASE WHEN $2 IN ('seen', 'acknowledged') THEN coalesce(seen_at, $3) ELSE seen_at END
        WHERE id = $1
        """,
        delivery_id,
        state,
        at,
        now,
        detail,
    )


async def of_deliveries(connection: Connection, delivery_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[Any]]:
    """Receipts by delivery, in the order they came."""
    rows = await connection.fetch(
        "SELECT delivery_id, state, at, detail FROM delivery_receipt WHERE delivery_id = ANY ($1::uuid[])"
        " ORDER BY delivery_id, at, noted_at",
        list(delivery_ids),
    )
    found: dict[uuid.UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(row["delivery_id"], []).append(
            {"state": row["state"], "at": row["at"], "detail": row["detail"]}
        )
    return found


async def states_of_open(connection: Connection, agency_id: uuid.UUID) -> dict[str, dict[str, str]]:
    """Incident → delivery → state, for what the feed has told of an agency's open incidents."""
    rows = await connection.fetch(
        "SELECT d.incident_id, d.id, d.state FROM incident i JOIN delivery d ON d.incident_id = i.id"
        " WHERE i.agency_id = $1 AND i.state <> 'resolved' AND d.state NOT IN ('queued', 'sending', 'cancelled')"
        " ORDER BY d.created_at DESC, d.id LIMIT $2",
        agency_id,
        STATES_MAX,
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(str(row["incident_id"]), {})[str(row["id"])] = row["state"]
    return found


async def of_incident(connection: Connection, incident_id: uuid.UUID, limit: int) -> list[dict[str, Any]]:
    """Who has been told of an incident and how far that got, in the order it was queued; no address."""
    rows = await connection.fetch(
        """
        SELECT id, audience, recipient, channel, template, language, priority, step, state, attempts, last_error,
               created_at, sent_at, delivered_at, seen_at, updated_at
        FROM delivery WHERE incident_id = $1 ORDER BY created_at, id LIMIT $2
        """,
        incident_id,
        limit,
    )
    return [dict(row) for row in rows]
