"""Who looked at whom, read out of the audit: for the person herself, for her agency's managers, and over everybody."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.postgres.audit import first_id
from core.postgres.database import Connection
from core.postgres.table import Record

READERS_MAX: Final = 1000
"""Users a report names."""
OUTSIDE_MAX: Final = 100
"""People named of one user."""


async def at_person(connection: Connection, person_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[Record]:
    """Who looked at a person's data as she may know it, newest first; the database leaves out what she may not."""
    rows = await connection.fetch("SELECT * FROM looks_at($1, $2, $3)", person_id, before, limit)
    return [dict(row) for row in rows]


async def readers_of(
    connection: Connection, agency_id: uuid.UUID, person_id: uuid.UUID, since: datetime, until: datetime
) -> list[Record]:
    """The agency's users who looked at a person in a span, the last first: how often, as what, why, from where."""
    rows = await connection.fetch(
        """
        SELECT a.actor_id::uuid AS user_id, u.username, u.display_name, count(*) AS looks, min(a.at) AS first_at,
            max(a.at) AS last_at, array_agg(DISTINCT a.role) FILTER (WHERE a.role IS NOT NULL) AS roles,
            array_agg(DISTINCT a.action) AS actions,
            coalesce(array_agg(DISTINCT a.purpose) FILTER (WHERE a.purpose IS NOT NULL), '{}') AS purposes,
            coalesce(array_agg(DISTINCT a.address) FILTER (WHERE a.address IS NOT NULL), '{}') AS addresses
        FROM audit a LEFT JOIN app_user u ON u.id::text = a.actor_id
        WHERE a.agency_id = $1 AND a.person_ids @> ARRAY[$2::uuid] AND a.person_ids <> '{}' AND a.actor_kind = 'user'
            AND a.at >= $3 AND a.at < $4
        GROUP BY a.actor_id, u.username, u.display_name ORDER BY max(a.at) DESC LIMIT $5
        """,
        agency_id,
        person_id,
        since,
        until,
        READERS_MAX,
    )
    return [dict(row) for row in rows]


async def readers(connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime) -> list[Record]:
    """What each of the agency's users looked at in a span: {user_id, role, looks, people, outside}.

    `outside`: whom she opened one by one though no incident of theirs was open in the span and she changed nothing of
    theirs. Lists, boards and live positions show what there is: they are counted, but nobody chose them.
    """
    rows = await connection.fetch(
        """
        WITH look AS (
            SELECT a.actor_id, max(a.role) AS role, person, count(*) AS looks,
                bool_or(a.action NOT LIKE '%.listed' AND a.action NOT IN ('board.read', 'person.watched')) AS chosen,
                bool_or(a.action LIKE '%.created' OR a.action LIKE '%.changed' OR a.action IN ('incident.acknowledge',
                    'incident.dispatch', 'incident.note', 'incident.resolve', 'incident.reopen')) AS worked
            FROM audit a, unnest(a.person_ids) AS person
            WHERE a.agency_id = $1 AND a.id >= $4 AND a.at >= $2 AND a.at < $3 AND a.actor_kind = 'user'
                AND a.person_ids <> '{}'
            GROUP BY a.actor_id, person),
        busy AS (
            SELECT victim_id AS person FROM incident
            WHERE agency_id = $1 AND opened_at < $3 AND (resolved_at IS NULL OR resolved_at >= $2)
            UNION SELECT aggressor_id FROM incident
            WHERE agency_id = $1 AND opened_at < $3 AND (resolved_at IS NULL OR resolved_at >= $2))
        SELECT actor_id::uuid AS user_id, coalesce(max(role), '') AS role, sum(looks)::bigint AS looks,
            count(*) AS people, coalesce((array_agg(person ORDER BY person) FILTER (
                WHERE chosen AND NOT worked AND person NOT IN (SELECT person FROM busy WHERE person IS NOT NULL)
            ))[1:$5], '{}') AS outside
        FROM look GROUP BY actor_id ORDER BY count(*) DESC LIMIT $6
        """,
        agency_id,
        since,
        until,
        first_id(since),
        OUTSIDE_MAX,
        READERS_MAX,
    )
    return [dict(row) for row in rows]
