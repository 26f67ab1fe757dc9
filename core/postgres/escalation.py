"""Deadlines of incidents and the policies they come from; rows, so that they outlive whoever waits for them.

Who changes an incident's deadlines holds the incident's row: an acknowledgement and a step that is due never meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.escalation import Deadline
from core.postgres.database import Connection
from core.postgres.incidents import COLUMNS, Row
from core.postgres.table import Record

CHOSEN: Final = """
    SELECT p.{what} FROM escalation_policy p WHERE p.agency_id = w.agency_id AND p.severity = w.severity
    AND p.type IN (w.type, 'any') ORDER BY p.type = 'any' LIMIT 1
"""
"""The policy for an incident `w`: its type's own before the one for any."""

_START: Final = f"""
    WITH wanted AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::uuid[], $9::timestamptz[])
            AS w (id, agency_id, type, severity, round, jurisdiction, since)
    ), stopped AS (
        UPDATE escalation_deadline d SET settled_at = $7::timestamptz, outcome = 'stopped' FROM wanted w
        WHERE d.incident_id = w.id AND d.settled_at IS NULL
    ), added AS (
        INSERT INTO escalation_deadline (incident_id, round, kind, step, turn, agency_id, due_at)
        SELECT w.id, w.round, 'unacknowledged', (plan ->> 0)::smallint, (plan ->> 1)::smallint, w.agency_id,
            w.since + make_interval(secs => (plan ->> 2)::float8)
        FROM wanted w CROSS JOIN LATERAL jsonb_array_elements(coalesce(({CHOSEN.format(what="plan")}), $8::jsonb -> w.severity)) AS plan
        ON CONFLICT DO NOTHING RETURNING incident_id, due_at
    ), shared AS (
        INSERT INTO incident_share (incident_id, agency_id, owner_agency_id, reason, since)
        SELECT w.id, w.jurisdiction, w.agency_id, 'jurisdiction', $7 FROM wanted w
        WHERE w.jurisdiction IS DISTINCT FROM w.agency_id AND w.jurisdiction IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    UPDATE incident i SET next_deadline_at = n.due_at, escalation_step = 0, jurisdiction_agency_id = w.jurisdiction
    FROM wanted w LEFT JOIN (SELECT incident_id, min(due_at) AS due_at FROM added GROUP BY 1) n ON n.incident_id = w.id
    WHERE i.id = w.id RETURNING i.id, i.next_deadline_at
"""  # noqa: S608, E501


async def start(
    connection: Connection,
    rows: Sequence[Row],
    since: Sequence[datetime],
    defaults: Mapping[str, Any],
    now: datetime,
) -> dict[uuid.UUID, datetime | None]:
    """Run the clocks of incidents' acknowledgement, each from a moment, instead of any that ran; when each is due.

    `defaults`: by severity, the plan (core.domain.escalation.plan_of) where an agency has no policy. The agency in
    whose jurisdiction an incident is (`jurisdiction_agency_id`) is given a share of it where it is another's. One
    statement, however many they are.
    """
    found = await connection.fetch(
        _START,
        [row["id"] for row in rows],
        [row["agency_id"] for row in rows],
        [row["type"] for row in rows],
        [row["severity"] for row in rows],
        [row["version"] for row in rows],
        [row["jurisdiction_agency_id"] for row in rows],
        now,
        defaults,
        list(since),
    )
    return {row["id"]: row["next_deadline_at"] for row in found}


async def plan(connection: Connection, agency_id: uuid.UUID, type_: str, severity: str) -> list[Any] | None:
    """The plan of the acknowledgement's clock by an agency's own policy; None: it has none."""
    found: list[Any] | None = await connection.fetchval(
        f"SELECT ({CHOSEN.format(what='plan')}) FROM (SELECT $1::uuid AS agency_id, $2::text AS type,"  # noqa: S608
        " $3::text AS severity) w",
        agency_id,
        type_,
        severity,
    )
    return found


@dataclass(frozen=True, slots=True)
class Clocks:
    """What runs, and what ran, for an incident."""

    policy: Mapping[str, Any] | None
    """As its agency set it for its type and severity; None: the default."""
    pending: list[Deadline]
    over: list[Deadline]


async def clocks_of(connection: Connection, rows: Sequence[Row]) -> dict[uuid.UUID, Clocks]:
    """The deadlines and policies of incidents, by incident; one statement, however many they are."""
    found = await connection.fetch(
        "SELECT w.of_incident, w.policy, d.* FROM (SELECT w.of_incident, (" + CHOSEN.format(what="body") + ") AS policy"  # noqa: S608
        " FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS w (of_incident, agency_id, type, severity)) w"
        " LEFT JOIN escalation_deadline d ON d.incident_id = w.of_incident ORDER BY d.due_at",
        [row["id"] for row in rows],
        [row["agency_id"] for row in rows],
        [row["type"] for row in rows],
        [row["severity"] for row in rows],
    )
    clocks: dict[uuid.UUID, Clocks] = {}
    for one in found:
        kept = clocks.setdefault(one["of_incident"], Clocks(one["policy"], [], []))
        if one["kind"] is not None:
            (kept.pending if one["settled_at"] is None else kept.over).append(_deadline(one))
    return clocks


def _deadline(row: Any) -> Deadline:
    return Deadline(row["kind"], row["step"], row["due_at"], row["turn"], row["unit_id"], row["round"])


Outcome = tuple[uuid.UUID, Deadline, str]
"""An incident, a deadline of it, and what became of that: told, nobody, together, stopped."""


async def settle(connection: Connection, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Say of deadlines what became of them; one statement, however many they are."""
    if not outcomes:
        return
    await connection.execute(
        "UPDATE escalation_deadline d SET settled_at = $9, outcome = w.outcome FROM unnest($1::uuid[], $2::int[],"
        " $3::text[], $4::uuid[], $5::int[], $6::int[], $7::timestamptz[], $8::text[])"
        " AS w (incident_id, round, kind, unit_id, step, turn, due_at, outcome)"
        " WHERE d.incident_id = w.incident_id AND d.round = w.round AND d.kind = w.kind AND d.unit_id = w.unit_id"
        " AND d.step = w.step AND d.turn = w.turn AND d.due_at = w.due_at AND d.settled_at IS NULL",
        [incident_id for incident_id, _, _ in outcomes],
        [one.round for _, one, _ in outcomes],
        [one.kind for _, one, _ in outcomes],
        [one.unit_id for _, one, _ in outcomes],
        [one.step for _, one, _ in outcomes],
        [one.turn for _, one, _ in outcomes],
        [one.due_at for _, one, _ in outcomes],
        [outcome for _, _, outcome in outcomes],
        now,
    )


async def add(connection: Connection, deadlines: Sequence[tuple[Row, Deadline]]) -> None:
    """Run deadlines of incidents; one that ran before is not begun again."""
    if not deadlines:
        return
    await connection.executemany(
        "INSERT INTO escalation_deadline (incident_id, round, kind, unit_id, step, turn, agency_id, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        [
            (row["id"], one.round, one.kind, one.unit_id, one.step, one.turn, row["agency_id"], one.due_at)
            for row, one in deadlines
        ],
    )


@dataclass(frozen=True, slots=True)
class Gone:
    """The reason of steps of an incident is gone."""

    incident_id: uuid.UUID
    why: str
    elsewhere: bool
    """Other agencies may have been told too."""


async def cancel_told(connection: Connection, gone: Sequence[Gone], now: datetime) -> None:
    """Take back what steps queued whose reason is gone, and no provider was given yet."""
    if abroad := [one for one in gone if one.elsewhere]:
        await connection.execute(
            "SELECT take_back_elsewhere(w.id, ARRAY[w.why], $3) FROM unnest($1::uuid[], $2::text[]) AS w (id, why)",
            [one.incident_id for one in abroad],
            [one.why for one in abroad],
            now,
        )
    if gone:
        await connection.execute(
            "UPDATE delivery d SET state = 'cancelled', updated_at = $3 FROM unnest($1::uuid[], $2::text[])"
            " AS w (incident_id, why) WHERE d.incident_id = w.incident_id AND d.state = 'queued'"
            " AND d.data ->> 'event' = 'incident.escalated' AND d.data ->> 'why' = w.why",
            [one.incident_id for one in gone],
            [one.why for one in gone],
            now,
        )


async def due(connection: Connection, now: datetime, limit: int, without: Sequence[uuid.UUID] = ()) -> list[uuid.UUID]:
    """Incidents with a deadline that is over, the longest overdue first."""
    rows = await connection.fetch(
        "SELECT incident_id FROM escalation_deadline WHERE settled_at IS NULL AND due_at <= $1"
        " AND incident_id <> ALL ($3::uuid[]) GROUP BY 1 ORDER BY min(due_at) LIMIT $2",
        now,
        limit,
        without,
    )
    return [row["incident_id"] for row in rows]


async def next_due(connection: Connection, without: Sequence[uuid.UUID] = ()) -> datetime | None:
    """When the next deadline is over, of incidents other than these."""
    found: datetime | None = await connection.fetchval(
        "SELECT due_at FROM escalation_deadline WHERE settled_at IS NULL AND incident_id <> ALL ($1::uuid[])"
        " ORDER BY due_at LIMIT 1",
        without,
    )
    return found


async def lock_free(connection: Connection, incident_ids: Sequence[uuid.UUID]) -> list[Row]:
    """Of these incidents those that nobody works on just now, locked in the order of their ids."""
    rows = await connection.fetch(
        f"SELECT {', '.join(COLUMNS)} FROM incident WHERE id = ANY($1) ORDER BY id"  # noqa: S608
        " FOR NO KEY UPDATE SKIP LOCKED",
        incident_ids,
    )
    return [dict(row) for row in rows]


# policies -----------------------------------------------------------------------------------------------------------

POLICY: Final = "id, agency_id, type, severity, body, created_at, updated_at, updated_by"


async def policies(connection: Connection, agency_id: uuid.UUID) -> list[Record]:
    """An agency's own policies."""
    rows = await connection.fetch(
        f"SELECT {POLICY} FROM escalation_policy WHERE agency_id = $1"  # noqa: S608
        " ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), type",
        agency_id,
    )
    return [dict(row) for row in rows]


async def put_policy(connection: Connection, values: Record) -> Record:
    """Set the agency's policy for a type and severity."""
    row = await connection.fetchrow(
        "INSERT INTO escalation_policy (id, agency_id, type, severity, body, plan, created_at, updated_at, updated_by)"  # noqa: S608
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT (agency_id, severity, type) DO UPDATE"
        " SET body = excluded.body, plan = excluded.plan, updated_at = excluded.updated_at,"
        f" updated_by = excluded.updated_by RETURNING {POLICY}",
        values["id"],
        values["agency_id"],
        values["type"],
        values["severity"],
        values["body"],
        values["plan"],
        values["now"],
        values["user_id"],
    )
    return dict(row)


async def drop_policy(connection: Connection, agency_id: uuid.UUID, kind: str, severity: str) -> uuid.UUID | None:
    """Take a policy back: the default stands again. Its id, or None where there was none."""
    found: uuid.UUID | None = await connection.fetchval(
        "DELETE FROM escalation_policy WHERE agency_id = $1 AND type = $2 AND severity = $3 RETURNING id",
        agency_id,
        kind,
        severity,
    )
    return found
