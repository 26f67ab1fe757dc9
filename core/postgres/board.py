"""The board: everything a dispatcher's screen shows, as of one cursor; and the units that can be sent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import rfc3339
from core.domain.scope import Scope
from core.domain.sharing import shared_json
from core.domain.sight import UNLOCKING
from core.postgres import access, feed, incidents, receipts, shares
from core.postgres.database import Connection, Database

UNIT_BOUND: Final = 1_000
"""Units a board shows."""
PARTY_BOUND: Final = 2_000
"""Devices whose positions one agency's feed carries."""


def unit_json(row: Any) -> dict[str, Any]:
    """A unit as the board and the feed show it; whom its crew is related to is told by `/v1/units` alone."""
    return {
        "id": str(row["id"]),
        "agency_id": str(row["agency_id"]),
        "callsign": row["callsign"],
        "status": row["status"],
        "lat": row["lat"],
        "lon": row["lon"],
        "position_at": rfc3339(row["position_at"]) if row["position_at"] else None,
        "capabilities": list(row["capabilities"]),
        "shift_ends_at": rfc3339(row["shift_ends_at"]) if row["shift_ends_at"] else None,
    }


@dataclass(frozen=True, slots=True)
class Board:
    """A snapshot that is exactly what the feed tells up to `cursor`."""

    cursor: int
    incidents: list[dict[str, Any]]
    units: list[dict[str, Any]]
    sealed: list[dict[str, Any]]
    """Grave incidents of cases sealed from who looks: that they are there, and nothing of whom."""
    shared: list[dict[str, Any]]
    """Other agencies' incidents that are this one's concern, as the feed tells them."""
    deliveries: dict[str, dict[str, str]]
    """Incident → message → how far it got."""


async def load(database: Database, scope: Scope) -> Board:
    """The board of the scope's agency: cursor and rows out of one snapshot, so that neither is ahead of the other."""
    agency_id = scope.agency_id
    async with database.transaction(scope, isolation="repeatable_read", readonly=True) as connection:
        cursor = await feed.head(connection, agency_id)
        return Board(
            cursor,
            await incidents.open_of_agency(connection, agency_id),
            [unit_json(row) for row in await units(connection, agency_id)],
            await access.sealed_alarms(connection),
            [shared_json(one) for one in await shares.shared(connection)],
            await receipts.states_of_open(connection, agency_id),
        )


async def units(connection: Connection, agency_id: uuid.UUID) -> Sequence[Any]:
    """The agency's units by call sign."""
    rows: Sequence[Any] = await connection.fetch(
        "SELECT * FROM unit WHERE agency_id = $1 ORDER BY callsign LIMIT $2", agency_id, UNIT_BOUND
    )
    return rows


async def send_units(
    connection: Connection, agency_id: uuid.UUID, unit_ids: Sequence[uuid.UUID], now: datetime
) -> Sequence[Any]:
    """Mark units as dispatched, but for those already under way; returns the agency's units among `unit_ids`."""
    rows: Sequence[Any] = await connection.fetch(
        "UPDATE unit SET status = CASE WHEN status IN ('en_route', 'on_scene') THEN status ELSE 'dispatched' END,"
        " updated_at = $3 WHERE agency_id = $1 AND id = ANY($2) RETURNING *",
        agency_id,
        unit_ids,
        now,
    )
    return rows


async def take_unit(connection: Connection, agency_id: uuid.UUID, unit_id: uuid.UUID, now: datetime) -> Any | None:
    """Mark a unit as dispatched if it is still available; None: another was faster."""
    return await connection.fetchrow(
        "UPDATE unit SET status = 'dispatched', updated_at = $3"
        " WHERE agency_id = $1 AND id = $2 AND status = 'available' RETURNING *",
        agency_id,
        unit_id,
        now,
    )


async def free_units(
    connection: Connection, agency_id: uuid.UUID, unit_ids: Sequence[uuid.UUID], now: datetime
) -> Sequence[Any]:
    """Make units available again that no unresolved incident of the agency has; returns those."""
    rows: Sequence[Any] = await connection.fetch(
        "UPDATE unit u SET status = 'available', updated_at = $3 WHERE agency_id = $1 AND id = ANY($2)"
        " AND status IN ('dispatched', 'en_route', 'on_scene') AND NOT EXISTS (SELECT FROM incident i"
        " WHERE i.agency_id = $1 AND i.state <> 'resolved'"
        " AND i.units @> jsonb_build_array(jsonb_build_object('unit_id', u.id::text))) RETURNING *",
        agency_id,
        unit_ids,
        now,
    )
    return rows


@dataclass(frozen=True, slots=True)
class Party:
    """A device of somebody in an open incident: whose position dispatchers see live."""

    incident_ids: tuple[str, ...]
    person_id: str
    role: str
    device_id: str
    device_number: int
    shard: int
    unlocked: bool
    """Whether who sends help is shown exactly where the person is, without a look (core.domain.sight)."""


async def parties(connection: Connection, agency_id: uuid.UUID) -> list[Party]:
    """The devices of both sides of the agency's open incidents, and of who carries an incident's device."""
    rows = await connection.fetch(
        "SELECT d.id, d.number, d.role, d.person_id, d.routes[1] AS shard, array_agg(DISTINCT i.id::text) AS incidents,"
        " bool_or(CASE WHEN i.victim_id = d.person_id THEN i.type = ANY ($3::text[]) AND NOT i.retrospective"
        " ELSE d.role = 'aggressor' END) AS unlocked"
        " FROM incident i JOIN device d ON d.person_id IN (i.victim_id, i.aggressor_id)"
        " AND d.status IN ('registered', 'active') AND cardinality(d.routes) > 0"
        " WHERE i.agency_id = $1 AND i.state <> 'resolved' GROUP BY d.id ORDER BY max(i.opened_at) DESC LIMIT $2",
        agency_id,
        PARTY_BOUND,
        sorted(UNLOCKING),
    )
    return [
        Party(
            tuple(row["incidents"]), str(row["person_id"]), row["role"], str(row["id"]), row["number"], row["shard"],
            row["unlocked"],
        )
        for row in rows
    ]  # fmt: skip
