"""Who is silent now, what of it belongs to an outage, and the pairs an outage leaves in the dark."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.outage import PairInDark
from core.postgres.database import Connection

EARTH_RADIUS_M: Final = 6_371_008.8


@dataclass(frozen=True, slots=True)
class Silence:
    """A device that is not heard."""

    device_id: uuid.UUID
    person_id: uuid.UUID | None
    role: str
    state: str
    """late | silent"""
    agency_id: uuid.UUID
    case_id: uuid.UUID
    since: datetime
    cell: str | None
    transition_id: uuid.UUID
    held: bool = False
    outage_id: uuid.UUID | None = None


async def keep(connection: Connection, silences: Sequence[Silence], now: datetime) -> None:
    """Note devices that are late, or silent; one that was late before fell silent then."""
    await connection.execute(
        "INSERT INTO silence AS held (device_id, person_id, role, state, agency_id, case_id, since, noted_at, cell,"
        " transition_id, held, outage_id) SELECT a, b, c, k, d, e, f, $11, g, h, i, j FROM unnest($1::uuid[],"
        " $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::text[], $8::uuid[], $9::bool[],"
        " $10::uuid[], $12::text[]) AS s (a, b, c, d, e, f, g, h, i, j, k) ON CONFLICT (device_id) DO UPDATE SET"
        " state = excluded.state, since = excluded.since, cell = excluded.cell, case_id = excluded.case_id,"
        " transition_id = excluded.transition_id, held = excluded.held,"
        " outage_id = coalesce(excluded.outage_id, held.outage_id),"
        " noted_at = CASE held.state WHEN 'late' THEN held.noted_at ELSE excluded.noted_at END",
        [one.device_id for one in silences],
        [one.person_id for one in silences],
        [one.role for one in silences],
        [one.agency_id for one in silences],
        [one.case_id for one in silences],
        [one.since for one in silences],
        [one.cell for one in silences],
        [one.transition_id for one in silences],
        [one.held for one in silences],
        [one.outage_id for one in silences],
        now,
        [one.state for one in silences],
    )


async def forget(connection: Connection, device_ids: Sequence[uuid.UUID]) -> None:
    """Devices are heard again."""
    await connection.execute("DELETE FROM silence WHERE device_id = ANY($1)", device_ids)


async def forget_retired(connection: Connection, limit: int) -> None:
    """Drop the silences of devices that nobody wears any more."""
    await connection.execute(
        "DELETE FROM silence WHERE device_id IN (SELECT s.device_id FROM silence s JOIN device d ON d.id = s.device_id"
        " WHERE d.status NOT IN ('registered', 'active') LIMIT $1)",
        limit,
    )


async def victims_silent(connection: Connection, case_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, set[uuid.UUID]]:
    """By case: the protected persons' devices that are silent."""
    found: dict[uuid.UUID, set[uuid.UUID]] = {}
    for row in await connection.fetch(
        "SELECT case_id, device_id FROM silence WHERE case_id = ANY($1) AND role = 'victim' AND state = 'silent'",
        case_ids,
    ):
        found.setdefault(row["case_id"], set()).add(row["device_id"])
    return found


async def fallen_silent(
    connection: Connection, agency_ids: Sequence[uuid.UUID], since: datetime
) -> dict[tuple[uuid.UUID, str | None], int]:
    """By agency and cell: how many devices are not heard since, or wait to be judged, and belong to no outage."""
    rows = await connection.fetch(
        "SELECT agency_id, cell, count(*) AS count FROM silence WHERE agency_id = ANY($1)"
        " AND (noted_at >= $2 OR held) AND outage_id IS NULL GROUP BY agency_id, cell",
        agency_ids,
        since,
    )
    return {(row["agency_id"], row["cell"]): row["count"] for row in rows}


async def agencies_with_silence(connection: Connection, since: datetime, least: int) -> list[uuid.UUID]:
    """Agencies of which at least `least` devices fell silent since, or wait to be judged."""
    rows = await connection.fetch(
        "SELECT agency_id FROM silence WHERE (noted_at >= $1 OR held) AND outage_id IS NULL GROUP BY agency_id"
        " HAVING count(*) >= $2 ORDER BY agency_id",
        since,
        least,
    )
    return [row["agency_id"] for row in rows]


async def open_outages(
    connection: Connection, agency_ids: Sequence[uuid.UUID], since: datetime
) -> dict[str, uuid.UUID]:
    """By subject: the outages of agencies that go on and began since."""
    rows = await connection.fetch(
        "SELECT id, subject FROM incident WHERE family = 'outage' AND state <> 'resolved' AND agency_id = ANY($1)"
        " AND opened_at >= $2",
        agency_ids,
        since,
    )
    return {row["subject"]: row["id"] for row in rows}


async def outages_of_people(connection: Connection, person_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """By person: the outage that took one of her devices."""
    rows = await connection.fetch(
        "SELECT person_id, outage_id FROM silence WHERE person_id = ANY($1) AND outage_id IS NOT NULL", person_ids
    )
    return {row["person_id"]: row["outage_id"] for row in rows}


async def live_of_agency(connection: Connection, agency_id: uuid.UUID, since: datetime) -> int:
    """How many devices of an agency were heard since."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM device WHERE agency_id = $1 AND status = 'active' AND last_seen_at >= $2",
            agency_id,
            since,
        )
    )


async def live_places(
    connection: Connection, agency_id: uuid.UUID, since: datetime, every: int, roles: Mapping[str, int]
) -> list[tuple[float, float]]:
    """Latitude and longitude of the last fixes since of every so-many-th device of an agency that was heard since."""
    rows = await connection.fetch(
        """
        SELECT fix.lat, fix.lon FROM device d
        JOIN unnest($4::text[], $5::smallint[]) AS known (role, number) ON known.role = d.role
        CROSS JOIN LATERAL (
            SELECT p.lat, p.lon FROM ping p WHERE p.role = known.number AND p.device_number = d.number
            AND p.live_at >= $2 AND p.lat <> 'NaN' ORDER BY p.live_at DESC LIMIT 1
        ) fix
        WHERE d.agency_id = $1 AND d.status = 'active' AND d.last_seen_at >= $2 AND d.number % $3 = 0
        """,
        agency_id,
        since,
        every,
        list(roles),
        list(roles.values()),
    )
    return [(row["lat"], row["lon"]) for row in rows]


async def give_to_outage(
    connection: Connection, outage_id: uuid.UUID, agency_id: uuid.UUID, cell: str | None, since: datetime
) -> list[uuid.UUID]:
    """Let an outage take the devices of its group that are not heard since or wait; returns their transitions.

    A group without a cell is the whole agency.
    """
    rows = await connection.fetch(
        "UPDATE silence SET outage_id = $1, held = false WHERE agency_id = $2 AND outage_id IS NULL"
        " AND (noted_at >= $4 OR held) AND ($3::text IS NULL OR cell = $3) RETURNING transition_id",
        outage_id,
        agency_id,
        cell,
        since,
    )
    return [row["transition_id"] for row in rows]


async def release_held(connection: Connection, before: datetime, limit: int) -> list[uuid.UUID]:
    """Stop waiting for silences noted before: they stand alone. Returns their transitions."""
    rows = await connection.fetch(
        "UPDATE silence SET held = false WHERE device_id IN (SELECT device_id FROM silence WHERE held"
        " AND noted_at <= $1 ORDER BY noted_at LIMIT $2) RETURNING transition_id",
        before,
        limit,
    )
    return [row["transition_id"] for row in rows]


async def count_of_outage(connection: Connection, outage_id: uuid.UUID) -> tuple[int, int]:
    """How many of an outage's devices are still silent, and how many it took (each once, however often it fell)."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM silence WHERE outage_id = $1) AS silent,"
        " (SELECT count(DISTINCT body->>'device_id') FROM transition WHERE incident_id = $1 AND kind = 'device')"
        " AS taken",
        outage_id,
    )
    return row["silent"], row["taken"]


async def link_to_outage(connection: Connection, outage_id: uuid.UUID, transition_ids: Sequence[uuid.UUID]) -> None:
    """Write that transitions belong to an outage, unless an incident in hand has them."""
    await connection.execute(
        "UPDATE transition t SET incident_id = $1 WHERE t.id = ANY($2) AND NOT EXISTS (SELECT FROM incident i"
        " WHERE i.id = t.incident_id AND i.state <> 'resolved')",
        outage_id,
        transition_ids,
    )


async def ended_outages(connection: Connection, limit: int) -> list[uuid.UUID]:
    """Outages that are resolved, by the clock or by a person, and still hold somebody."""
    rows = await connection.fetch(
        "SELECT DISTINCT i.id FROM ("
        " SELECT outage_id AS id FROM silence WHERE outage_id IS NOT NULL UNION SELECT t.incident_id FROM separation s"
        " JOIN transition t ON t.id = s.transition_id WHERE s.kind = 'assurance' AND s.state = 'unknown'"
        " AND t.incident_id IS NOT NULL) held"
        " JOIN incident i ON i.id = held.id AND i.family = 'outage' AND i.state = 'resolved' ORDER BY i.id LIMIT $1",
        limit,
    )
    return [row["id"] for row in rows]


async def let_go(connection: Connection, outage_id: uuid.UUID) -> list[uuid.UUID]:
    """An outage is over: whoever is still silent, or whose separation is still unknown, stands alone again.

    Returns the transitions that told of it.
    """
    gone = await connection.fetch(
        "UPDATE silence SET outage_id = NULL, held = false WHERE outage_id = $1 RETURNING transition_id, state",
        outage_id,
    )
    unknown = await connection.fetch(
        "SELECT s.transition_id FROM transition t JOIN separation s ON s.transition_id = t.id"
        " WHERE t.incident_id = $1 AND s.kind = 'assurance' AND s.state = 'unknown'",
        outage_id,
    )
    silent = [row for row in gone if row["state"] == "silent"]  # who is late will be told when that is more
    return [row["transition_id"] for row in (*silent, *unknown)]


async def singles(connection: Connection, transition_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """The open incidents that nobody has taken in hand and that tell of no more than these silences."""
    rows = await connection.fetch(
        "SELECT i.id FROM transition t JOIN incident i ON i.id = t.incident_id WHERE t.id = ANY($1)"
        " AND i.state = 'open' AND i.type = 'silence' AND i.severity = 'medium' ORDER BY i.id",
        transition_ids,
    )
    return [row["id"] for row in rows]


async def pairs_in_dark(
    connection: Connection, outage_id: uuid.UUID, since: datetime, roles: Mapping[str, int], limit: int
) -> list[PairInDark]:
    """The pairs of which an outage took a device, with the distance between the last positions since.

    At most `limit` orders are measured, those inside or in warning first.
    """
    rows = await connection.fetch(
        """
        WITH taken AS (
            SELECT person_id FROM silence WHERE outage_id = $1 AND person_id IS NOT NULL
        ), orders AS (
            SELECT o.id, o.case_id, o.victim_id, o.aggressor_id, o.alert_m, s.state, s.distance_m, s.closing_mps,
                o.victim_id IN (SELECT person_id FROM taken) AS her,
                o.aggressor_id IN (SELECT person_id FROM taken) AS his
            FROM protection_order o LEFT JOIN separation s ON s.order_id = o.id AND s.kind = 'proximity'
            WHERE o.status = 'in_force' AND (o.victim_id IN (SELECT person_id FROM taken)
                OR o.aggressor_id IN (SELECT person_id FROM taken))
            ORDER BY CASE s.state WHEN 'breach' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, s.distance_m NULLS LAST, o.id
            LIMIT $5
        ), known AS (
            SELECT * FROM unnest($3::text[], $4::smallint[]) AS known (role, number)
        )
        SELECT orders.*, CASE WHEN hers.lat IS NULL OR him.lat IS NULL THEN orders.distance_m ELSE
            2 * $6::float8 * asin(least(1, sqrt(sin(radians(hers.lat - him.lat) / 2) ^ 2 + cos(radians(hers.lat))
                * cos(radians(him.lat)) * sin(radians(hers.lon - him.lon) / 2) ^ 2))) END AS apart_m
        FROM orders
        LEFT JOIN LATERAL (
            SELECT fix.lat, fix.lon FROM device d JOIN known ON known.role = d.role CROSS JOIN LATERAL (
                SELECT p.lat, p.lon, p.live_at FROM ping p WHERE p.role = known.number AND p.device_number = d.number
                AND p.live_at >= $2 AND p.lat <> 'NaN' ORDER BY p.live_at DESC LIMIT 1) fix
            WHERE d.person_id = orders.victim_id ORDER BY fix.live_at DESC LIMIT 1
        ) hers ON true
        LEFT JOIN LATERAL (
            SELECT fix.lat, fix.lon FROM device d JOIN known ON known.role = d.role CROSS JOIN LATERAL (
                SELECT p.lat, p.lon, p.live_at FROM ping p WHERE p.role = known.number AND p.device_number = d.number
                AND p.live_at >= $2 AND p.lat <> 'NaN' ORDER BY p.live_at DESC LIMIT 1) fix
            WHERE d.person_id = orders.aggressor_id ORDER BY fix.live_at DESC LIMIT 1
        ) him ON true
        """,
        outage_id,
        since,
        list(roles),
        list(roles.values()),
        limit,
        EARTH_RADIUS_M,
    )
    return [_pair(row) for row in rows]


def _pair(row: Any) -> PairInDark:
    return PairInDark(
        order_id=str(row["id"]),
        case_id=str(row["case_id"]),
        victim_id=str(row["victim_id"]),
        aggressor_id=str(row["aggressor_id"]),
        silent="both" if row["her"] and row["his"] else "victim" if row["her"] else "aggressor",
        state=row["state"] or "clear",
        distance_m=row["apart_m"],
        alert_m=row["alert_m"],
        closing_mps=row["closing_mps"],
    )
