"""Protection orders."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.policy import STANDARD_RISK, Policy
from core.postgres.database import Connection
from core.postgres.sealed_table import SUFFIX, SealedTable
from core.postgres.table import Record


async def _protected(connection: Connection, order_id: uuid.UUID, values: Mapping[str, Any]) -> uuid.UUID | None:
    if "victim_id" in values:
        given: uuid.UUID = values["victim_id"]
        return given
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT victim_id FROM protection_order WHERE id = $1", order_id
    )
    return found


ORDERS: Final = SealedTable(
    "protection_order",
    "order",
    (
        "case_id", "reference", "issuer", "legal_ground", "restraints", "victim_id", "protected_person_ids",
        "aggressor_id", "relationship", "cohabiting", "risk_level", "issued_at", "served_at", "valid_from",
        "valid_until", "status", "time_zone", "region", "legal_m", "alert_m", "warning_m", "grace_s",
        "policy", "warn_aggressor", "sealed", "exceptions", "version", "created_at", "updated_at", "term",
        "extended_at", "revoked_at", "victim_fix_at", "aggressor_fix_at", "protected_at",
    ),
    private=("legal_ground", "exceptions"), person=_protected, absent={"exceptions": []}, needed=False,
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


async def due_to_expire(
    connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` orders whose time is over and that are not marked so; none of `without`."""
    rows = await connection.fetch(
        """
        SELECT id FROM protection_order WHERE valid_until <= $1 AND status NOT IN ('revoked', 'expired')
        AND id <> ALL ($3::uuid[]) ORDER BY valid_until LIMIT $2
        """,
        now,
        limit,
        list(without),
    )
    return [row["id"] for row in rows]


async def expire(connection: Connection, now: datetime, order_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Mark those of the orders as expired whose time is over; returns them. One process at a time takes each."""
    rows = await connection.fetch(
        f"""
        UPDATE protection_order SET status = 'expired', version = version + 1, updated_at = $1 WHERE id IN (
            SELECT id FROM protection_order
            WHERE id = ANY ($2::uuid[]) AND valid_until <= $1 AND status NOT IN ('revoked', 'expired')
            ORDER BY id FOR UPDATE SKIP LOCKED
        ) RETURNING {ORDERS.selected}
        """,  # noqa: S608
        now,
        list(order_ids),
    )
    return await ORDERS.read(connection, rows)


async def keep_versions(
    connection: Connection,
    order_ids: Sequence[uuid.UUID],
    now: datetime,
    action: str,
    *,
    actor_id: uuid.UUID | None = None,
    fields: Sequence[str] = (),
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Keep the orders as they are now among their versions; a version that is kept already stays as it is."""
    await connection.execute(
        """
        INSERT INTO order_version (order_id, version, agency_id, at, action, actor_id, fields, detail, body)
        SELECT o.id, o.version, o.agency_id, $2, $3, $4, $5::text[], $6::jsonb, to_jsonb(o)
        FROM protection_order o WHERE o.id = ANY ($1::uuid[])
        ON CONFLICT (order_id, version) DO NOTHING
        """,
        list(order_ids),
        now,
        action,
        actor_id,
        sorted(fields),
        dict(detail or {}),
    )


async def versions(connection: Connection, agency_id: uuid.UUID, order_id: uuid.UUID) -> list[Record]:
    """Every version of an order, the first one first; what of it does not open now is absent."""
    rows = await connection.fetch(
        """
        SELECT version, at, action, actor_id, fields, detail, body FROM order_version
        WHERE order_id = $1 AND agency_id = $2 ORDER BY version
        """,
        order_id,
        agency_id,
    )
    bodies = await ORDERS.read(connection, [version_row(row["body"]) for row in rows])
    return [{**row, "body": told(row["body"], body)} for row, body in zip(rows, bodies, strict=True)]


def version_row(body: Mapping[str, Any]) -> Record:
    """The order's row as a version kept it: what is sealed as bytes again."""
    sealed = {name: body.get(name + SUFFIX) for name in ORDERS.private}
    return {
        "id": uuid.UUID(body["id"]),
        **{name: body.get(name) for name in ORDERS.private},
        **{name + SUFFIX: bytes.fromhex(text[2:]) if text is not None else None for name, text in sealed.items()},
    }


def told(body: Mapping[str, Any], opened: Record) -> dict[str, Any]:
    """A version's body with what was opened of it."""
    plain = {name: value for name, value in body.items() if not name.endswith(SUFFIX)}
    return plain | {name: opened[name] for name in ORDERS.private if name in body}


async def open_incidents(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """(order, incident) of every incident of these orders that is not resolved."""
    rows = await connection.fetch(
        "SELECT order_id, id FROM incident WHERE order_id = ANY ($1::uuid[]) AND state <> 'resolved' ORDER BY id",
        list(order_ids),
    )
    return [(row["order_id"], row["id"]) for row in rows]
