# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Whether an order protects: the gap until both devices work, and how often it was violated."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.ping import SHIFT_MOCK, TWO_BITS, YES
from core.postgres.database import Connection
from core.postgres.reports import FINDING
from core.postgres.table import Record

_FORGED: Final = f"((flags >> {SHIFT_MOCK}) & {TWO_BITS}) = {YES}"

# The first fix of a person's devices from a moment on; `$person`, `$kinds` and `$since` are put in by name.
_FIRST_FIX: Final = """
    SELECT min(first.live_at) FROM device d CROSS JOIN LATERAL (
        SELECT p.live_at FROM ping p
        WHERE p.role IN (0, 1, 2) AND p.device_number = d.number AND p.live_at >= {since} AND p.lat <> 'NaN'
        AND NOT {forged} ORDER BY p.live_at LIMIT 1
    ) first WHERE d.person_id = {person} AND d.last_seen_at >= {since} {kinds}
"""


def _first_fix(person: str, kinds: str = "") -> str:
    since = "coalesce(o.issued_at, o.valid_from)"
    return _FIRST_FIX.format(since=since, person=person, kinds=kinds, forged=_FORGED)


async def unprotected(
    connection: Connection, after: uuid.UUID, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` live orders beyond `after` whose devices have not both worked yet; none of `without`."""
    rows = await connection.fetch(
        """
        SELECT id FROM protection_order WHERE protected_at IS NULL AND status NOT IN ('revoked', 'expired') AND id > $1
        AND id <> ALL ($3::uuid[]) ORDER BY id LIMIT $2
        """,
        after,
        limit,
        list(without),
    )
    return [row["id"] for row in rows]


async def find_first_fixes(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[Record]:
    """Look for the first accepted fixes under these orders and keep them; returns the orders that protect from now on.

    Hers is a fix of any device of hers, his one of a bracelet; a fix that its device calls forged is none.
    """
    rows = await connection.fetch(
        f"""
        WITH found AS MATERIALIZED (
            SELECT o.id, coalesce(o.victim_fix_at, ({_first_fix("o.victim_id")})) AS hers,
                coalesce(o.aggressor_fix_at, ({_first_fix("o.aggressor_id", "AND d.kind = 'bracelet'")})) AS his
            FROM protection_order o WHERE o.id = ANY ($1::uuid[]) AND o.protected_at IS NULL
        )
        UPDATE protection_order o SET victim_fix_at = found.hers, aggressor_fix_at = found.his,
            protected_at = CASE WHEN num_nonnulls(found.hers, found.his) = 2 THEN greatest(found.hers, found.his) END
        FROM found WHERE o.id = found.id
        AND (found.hers IS DISTINCT FROM o.victim_fix_at OR found.his IS DISTINCT FROM o.aggressor_fix_at)
        RETURNING o.id, o.agency_id, o.case_id, o.issued_at, o.served_at, o.valid_from, o.protected_at
        """,
        list(order_ids),
    )
    return [dict(row) for row in rows if row["protected_at"] is not None]


async def gaps(
    connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime, limit: int
) -> list[Record]:
    """Orders whose protection was promised in [since, until), the longest unprotected first."""
    rows = await connection.fetch(
        """
        SELECT id AS order_id, reference, region, status, issued_at, served_at, valid_from, victim_fix_at,
            aggressor_fix_at, protected_at, updated_at
        FROM protection_order
        WHERE agency_id = $1 AND coalesce(issued_at, valid_from) >= $2 AND coalesce(issued_at, valid_from) < $3
        ORDER BY coalesce(protected_at, 'infinity') - coalesce(issued_at, valid_from) DESC, id LIMIT $4
        """,
        agency_id,
        since,
        until,
        limit,
    )
    return [dict(row) for row in rows]


async def gap_figures(
    connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime, now: datetime, limit_s: float
) -> Record:
    """Of the orders promised in [since, until): how many protect, and how long the others and they took, in seconds."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS orders, count(gap.closed) AS protected, count(*) - count(gap.closed) AS unprotected,
            count(*) FILTER (WHERE gap.s > $5) AS over_limit,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY gap.s) FILTER (WHERE gap.closed IS NOT NULL) AS median_s,
            percentile_cont(0.9) WITHIN GROUP (ORDER BY gap.s) FILTER (WHERE gap.closed IS NOT NULL) AS p90_s,
            max(gap.s) AS longest_s
        FROM protection_order o CROSS JOIN LATERAL (
            SELECT o.protected_at AS closed, greatest(extract(epoch FROM coalesce(o.protected_at,
                CASE WHEN o.status IN ('revoked', 'expired') THEN o.updated_at ELSE $4 END)
                - coalesce(o.issued_at, o.valid_from)), 0)::float8 AS s
        ) gap
        WHERE o.agency_id = $1 AND coalesce(o.issued_at, o.valid_from) >= $2
        AND coalesce(o.issued_at, o.valid_from) < $3
        """,
        agency_id,
        since,
        until,
        now,
        limit_s,
    )
    return dict(row)


async def violations(
    connection: Connection, agency_id: uuid.UUID, case_id: uuid.UUID, order_id: uuid.UUID | None
) -> dict[str, Any]:
    """How often this order, and this man any order of his case, was violated; as `core.domain.violation` finds it."""
    row = await connection.fetchrow(
        f"""
        SELECT count(*) AS aggressor, count(*) FILTER (WHERE i.order_id = $3) AS of_order, max(i.occurred_at) AS last_at
        FROM incident i JOIN protection_order o ON o.id = i.order_id CROSS JOIN LATERAL ({FINDING}) found
        WHERE i.case_id = $1 AND i.agency_id = $2 AND i.family = 'proximity' AND NOT i.exercise
        AND found.reason = 'proved'
        """,
        case_id,
        agency_id,
        order_id,
    )
    return {"order": row["of_order"], "aggressor": row["aggressor"], "last_at": row["last_at"]}


async def cases_to_count(
    connection: Connection, since: datetime, after: uuid.UUID, limit: int, without: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """At most `limit` cases beyond `after` with an incident of distance touched since; none of `without`."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT case_id FROM incident
        WHERE family = 'proximity' AND updated_at > $1 AND case_id > $2 AND NOT exercise AND case_id <> ALL ($4::uuid[])
        ORDER BY case_id LIMIT $3
        """,
        since,
        after,
        limit,
        list(without),
    )
    return [row["case_id"] for row in rows]


async def latest_orders(connection: Connection, case_ids: Sequence[uuid.UUID]) -> list[Record]:
    """(case_id, agency_id, order_id) of the latest incident of distance of each case."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (case_id) case_id, agency_id, order_id FROM incident
        WHERE case_id = ANY ($1::uuid[]) AND family = 'proximity' ORDER BY case_id, updated_at DESC
        """,
        list(case_ids),
    )
    return [dict(row) for row in rows]
