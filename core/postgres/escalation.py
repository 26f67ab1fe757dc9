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


async def clocks(connection: Connection, row: Row) -> Clocks:
    """An incident's deadlines and policy."""
    rows = await connection.fetch(
        "SELECT w.body AS policy, d.* FROM (SELECT (" + CHOSEN.format(what="body") + ") AS body"  # noqa: S608
        " FROM (SELECT $2::uuid AS agency_id, $3::text AS type, $4::text AS severity) w) w"
        " LEFT JOIN escalation_deadline d ON d.incident_id = $1 ORDER BY d.due_at",
        row["id"],
        row["agency_id"],
        row["type"],
        row["severity"],
    )
    known = [(one["settled_at"] is None, _deadline(one)) for one in rows if one["kind"] is not None]
    return Clocks(rows[0]["policy"], [one for runs, one in known if runs], [one for runs, one in known if not runs])


def _deadline(row: Any) -> Deadline:
    return Deadline(row["kind"], row["step"], row["due_at"], row["turn"], row["unit_id"], row["round"])


async def settle(
    connection: Connection, incident_id: uuid.UUID, outcomes: Sequence[tuple[Deadline, str]], now: datetime
) -> None:
    """Say of deadlines what became of them: told, nobody, together, stopped."""
    await connection.executemany(
        "UPDATE escalation_deadline SET settled_at = $8, outcome = $9 WHERE incident_id = $1 AND round = $2"
        " AND kind = $3 AND unit_id = $4 AND step = $5 AND turn = $6 AND due_at = $7 AND settled_at IS NULL",
        [
            (incident_id, one.round, one.kind, one.unit_id, one.step, one.turn, one.due_at, now, outcome)
            for one, outcome in outcomes
        ],
    )


async def add(connection: Connection, row: Row, deadlines: Sequence[Deadline]) -> None:
    """Run deadlines of an incident; one that ran before is not begun again."""
    await connection.executemany(
        "INSERT INTO escalation_deadline (incident_id, round, kind, unit_id, step, turn, agency_id, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        [
            (row["id"], one.round, one.kind, one.unit_id, one.step, one.turn, row["agency_id"], one.due_at)
            for one in deadlines
        ],
    )


async def cancel_told(
    connection: Connection, incident_id: uuid.UUID, why: Sequence[str], now: datetime, *, elsewhere: bool
) -> None:
    """Take back what steps of these kinds queued and no provider was given yet; `elsewhere`: to other agencies too."""
    if elsewhere:
        await connection.execute("SELECT take_back_elsewhere($1, $2, $3)", incident_id, list(why), now)
    await connection.execute(
        "UPDATE delivery SET state = 'cancelled', updated_at = $3 WHERE incident_id = $1 AND state = 'queued'"
        " AND data ->> 'event' = 'incident.escalated' AND data ->> 'why' = ANY ($2::text[])",
        incident_id,
        list(why),
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
