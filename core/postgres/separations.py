"""Separations as they stand: the last state told of each order and zone, and what has lasted too long."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import from_ms
from core.domain.transition import Transition
from core.postgres.database import Connection

NO_ZONE: Final = uuid.UUID(int=0)
"""Stands for the zone of what is told of an order as a whole."""

Key = tuple[uuid.UUID, str, uuid.UUID]
"""Order, kind, zone."""


def key_of(item: Transition) -> Key | None:
    """What a transition tells the state of; None when it is of a device."""
    if item.order_id is None:
        return None
    return item.order_id, item.kind, item.zone_id or NO_ZONE


async def keep(connection: Connection, transitions: Sequence[Transition]) -> None:
    """Take the newest of the transitions of each order and zone; a state already newer stays.

    A stay in the warning ring, and whether it was told, goes on until the state is clear.
    """
    newest: dict[Key, Transition] = {}
    for item in transitions:
        if (key := key_of(item)) is not None:
            newest[key] = item
    if not newest:
        return
    keys = sorted(newest)
    items = [newest[key] for key in keys]
    await connection.execute(
        "INSERT INTO separation AS held (order_id, kind, zone_id, agency_id, case_id, state, since, evaluated_at,"
        " distance_m, closing_mps, transition_id) SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[],"
        " $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::float8[], $10::float8[], $11::uuid[])"
        " ON CONFLICT (order_id, kind, zone_id) DO UPDATE SET state = excluded.state, since = excluded.since,"
        " evaluated_at = excluded.evaluated_at, transition_id = excluded.transition_id,"
        " distance_m = coalesce(excluded.distance_m, held.distance_m), closing_mps = excluded.closing_mps,"
        " told_at = CASE WHEN excluded.state = 'clear' THEN NULL ELSE held.told_at END"
        " WHERE excluded.evaluated_at >= held.evaluated_at",
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        [item.agency_id for item in items],
        [item.case_id for item in items],
        [item.to_state for item in items],
        [from_ms(item.at_ms) for item in items],
        [from_ms(item.evaluated_ms) for item in items],
        [item.distance_m for item in items],
        [item.closing_mps for item in items],
        [item.id for item in items],
    )


async def of_cases(connection: Connection, case_ids: Sequence[uuid.UUID]) -> dict[Key, str]:
    """By order, kind and zone: the last states of cases."""
    rows = await connection.fetch(
        "SELECT order_id, kind, zone_id, state FROM separation WHERE case_id = ANY($1)", case_ids
    )
    return {(row["order_id"], row["kind"], row["zone_id"]): row["state"] for row in rows}


async def inside_of_order(connection: Connection, order_id: uuid.UUID) -> Mapping[str, Sequence[str]]:
    """By family (`proximity`, `zone`): of what he is inside now; zones by their ids."""
    rows = await connection.fetch(
        "SELECT kind, zone_id FROM separation WHERE order_id = $1 AND state = 'breach' ORDER BY zone_id", order_id
    )
    return {kind: [str(row["zone_id"]) for row in rows if row["kind"] == kind] for kind in ("proximity", "zone")}


@dataclass(frozen=True, slots=True)
class Lasting:
    """A stay in the warning ring that lasts."""

    order_id: uuid.UUID
    zone_id: uuid.UUID | None
    agency_id: uuid.UUID
    case_id: uuid.UUID
    since: datetime
    distance_m: float | None


async def take_lasting_warnings(connection: Connection, since: datetime, now: datetime, limit: int) -> list[Lasting]:
    """Stays in warning that began before `since`, of orders in force, without an open incident; each once."""
    rows = await connection.fetch(
        """
        WITH due AS (
            SELECT s.order_id, s.kind, s.zone_id FROM separation s
            JOIN protection_order o ON o.id = s.order_id AND o.status = 'in_force'
            WHERE s.state = 'warning' AND s.told_at IS NULL AND s.since <= $1 AND s.kind IN ('proximity', 'zone')
                AND NOT EXISTS (SELECT FROM incident i WHERE i.subject = 'order:' || s.order_id AND i.family = s.kind
                    AND i.state <> 'resolved')
            ORDER BY s.since LIMIT $3 FOR UPDATE OF s SKIP LOCKED
        )
        UPDATE separation s SET told_at = $2 FROM due
        WHERE (s.order_id, s.kind, s.zone_id) = (due.order_id, due.kind, due.zone_id)
        RETURNING s.order_id, s.zone_id, s.agency_id, s.case_id, s.since, s.distance_m
        """,
        since,
        now,
        limit,
    )
    return [
        Lasting(
            row["order_id"], row["zone_id"] if row["zone_id"] != NO_ZONE else None, row["agency_id"], row["case_id"],
            row["since"], row["distance_m"],
        )
        for row in rows
    ]  # fmt: skip


async def still_inside(
    connection: Connection, resolved_before: datetime, heard_since: datetime, limit: int
) -> list[dict[str, Any]]:
    """Breaches that go on though their incident was resolved while he was inside: `transition_id`, `incident_id`.

    Only of orders in force, and only while his device (and, of a distance, hers) is heard: a bracelet in a drawer of
    the police proves nothing.
    """
    rows = await connection.fetch(
        """
        SELECT s.transition_id, last.id AS incident_id FROM separation s
        JOIN protection_order o ON o.id = s.order_id AND o.status = 'in_force'
        CROSS JOIN LATERAL (
            SELECT i.id, i.state, i.inside, i.resolved_at FROM incident i
            WHERE i.case_id = s.case_id AND i.subject = 'order:' || s.order_id AND i.family = s.kind
            ORDER BY i.opened_at DESC, i.id DESC LIMIT 1
        ) last
        WHERE s.state = 'breach' AND last.state = 'resolved' AND last.inside AND last.resolved_at <= $1
            AND EXISTS (SELECT FROM device d WHERE d.person_id = o.aggressor_id AND d.last_seen_at >= $2)
            AND (s.kind = 'zone'
                OR EXISTS (SELECT FROM device d WHERE d.person_id = o.victim_id AND d.last_seen_at >= $2))
        ORDER BY s.since LIMIT $3
        """,
        resolved_before,
        heard_since,
        limit,
    )
    return [dict(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Rest:
    """Where one party was over a span: the least box that holds nine tenths of the good fixes."""

    incident_id: uuid.UUID
    role: str
    fixes: int
    first_at: datetime
    last_at: datetime
    south: float
    north: float
    west: float
    east: float
    """Longitudes are counted from the incident's, so that a box across the date line stays small."""


async def welfare_candidates(connection: Connection, inside_before: datetime, limit: int) -> list[uuid.UUID]:
    """Open incidents of a distance breached since before `inside_before`, of which no welfare check was asked yet."""
    rows = await connection.fetch(
        "SELECT id FROM incident WHERE state <> 'resolved' AND family = 'proximity' AND inside AND NOT retrospective"
        " AND inside_since <= $1 AND opened_at <= $1 AND NOT detail ? 'welfare_check_at' ORDER BY id LIMIT $2",
        inside_before,
        limit,
    )
    return [row["id"] for row in rows]


async def rests(
    connection: Connection, incident_ids: Sequence[uuid.UUID], since: datetime, accuracy_max_m: float, roles: Any
) -> list[Rest]:
    """Where the parties of incidents were since; fixes worse than `accuracy_max_m` say nothing of rest.

    `roles`: role name → its number in the history.
    """
    rows = await connection.fetch(
        """
        SELECT i.id, d.role, count(*) AS fixes, min(p.live_at) AS first_at, max(p.live_at) AS last_at,
            percentile_cont(ARRAY[0.05, 0.95]) WITHIN GROUP (ORDER BY p.lat) AS lats,
            percentile_cont(ARRAY[0.05, 0.95]) WITHIN GROUP (ORDER BY
                p.lon - 360 * round((p.lon - coalesce((i.place->>'lon')::float8, 0)) / 360)) AS lons
        FROM incident i
        JOIN device d ON d.person_id IN (i.victim_id, i.aggressor_id) AND d.status = 'active'
        JOIN unnest($3::text[], $4::smallint[]) AS known (role, number) ON known.role = d.role
        JOIN ping p ON p.role = known.number AND p.device_number = d.number AND p.live_at >= $2
            AND p.lat <> 'NaN' AND (p.accuracy_m = 'NaN' OR p.accuracy_m <= $5)
        WHERE i.id = ANY($1) GROUP BY i.id, d.role
        """,
        incident_ids,
        since,
        list(roles),
        list(roles.values()),
        accuracy_max_m,
    )
    return [
        Rest(
            row["id"], row["role"], row["fixes"], row["first_at"], row["last_at"],
            row["lats"][0], row["lats"][1], row["lons"][0], row["lons"][1],
        )
        for row in rows
    ]  # fmt: skip
