"""Protection orders."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.domain.policy import STANDARD_RISK, Policy
from core.postgres.database import Connection
from core.postgres.table import Record, Table

ORDERS: Final = Table(
    "protection_order",
    "order",
    (
        "case_id", "reference", "issuer", "legal_ground", "restraints", "victim_id", "protected_person_ids",
        "aggressor_id", "relationship", "cohabiting", "risk_level", "issued_at", "served_at", "valid_from",
        "valid_until", "status", "time_zone", "region", "legal_m", "alert_m", "warning_m", "grace_s",
        "policy", "warn_aggressor", "sealed", "exceptions", "version", "created_at", "updated_at",
    ),
)  # fmt: skip


async def overlaps(connection: Connection, order: Record) -> list[uuid.UUID]:
    """Other live orders between the same two people that hold at some same time."""
    rows = await connection.fetch(
        """
        SELECT id FROM protection_order
        WHERE victim_id = $1 AND aggressor_id = $2 AND id <> $3 AND status NOT IN ('revoked', 'expired')
        AND (valid_until IS NULL OR valid_until > $4) AND ($5::timestamptz IS NULL OR valid_from < $5)
        ORDER BY id
        """,
        order["victim_id"],
        order["aggressor_id"],
        order["id"],
        order["valid_from"],
        order["valid_until"],
    )
    return [row["id"] for row in rows]


async def contradicted_by(connection: Connection, agency_id: uuid.UUID, policy: Policy) -> list[uuid.UUID]:
    """Live orders of an agency that under this policy of its would leave a state at a probability that enters it."""
    rows = await connection.fetch(
        """
        SELECT id FROM protection_order
        WHERE agency_id = $1 AND policy <> '{}' AND status NOT IN ('revoked', 'expired')
        AND coalesce((policy ->> 'p_exit')::float8, $2) >= coalesce(
            (policy ->> 'p_enter')::float8, CASE WHEN risk_level = $5 THEN $3::float8 ELSE $4::float8 END)
        ORDER BY id
        """,
        agency_id,
        policy.p_exit,
        policy.p_enter,
        policy.p_enter_high_risk,
        STANDARD_RISK,
    )
    return [row["id"] for row in rows]


async def expire(connection: Connection, now: datetime, limit: int) -> list[Record]:
    """Mark at most `limit` orders whose time is over as expired; returns them. One process at a time takes each."""
    rows = await connection.fetch(
        f"""
        UPDATE protection_order SET status = 'expired', version = version + 1, updated_at = $1 WHERE id IN (
            SELECT id FROM protection_order WHERE valid_until <= $1 AND status NOT IN ('revoked', 'expired')
            ORDER BY valid_until LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING {ORDERS.selected}
        """,  # noqa: S608
        now,
        limit,
    )
    return [dict(row) for row in rows]
