# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Figures over an agency's incidents, deliveries and devices, and what is found of one; no names, no places."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from core.domain.violation import P_VIOLATION, VIOLATION_OF_REASON
from core.postgres.database import Connection
from core.postgres.table import Record

# What an incident `i` of the order `o` shows of a violation, as `core.domain.violation` has it.
#
# A transition of a stay within the alert radius tells the greatest probability of the stay so far and its moment; one
# that does not tell the moment counts from the stay's entry, so that the order must have been served before all of it.
# One that left within a day of the incident's resolution belongs to it all the same. A stay that lasts may yet see
# service; one found in hindsight tells its own end, and stands apart from those seen as they happened.
FINDING: Final = f"""
    SELECT told.*, CASE
        WHEN o.id IS NULL OR i.family <> 'proximity' THEN 'not_proximity'
        WHEN NOT coalesce(o.served_at <= coalesce(told.last_at, i.occurred_at), false) THEN 'not_served'
        WHEN NOT coalesce(told.legal_m, o.legal_m) > 0 THEN 'radius_unknown'
        WHEN told.p_legal IS NULL THEN 'probability_unknown'
        WHEN told.p_legal >= {P_VIOLATION} THEN 'proved'
        ELSE 'probability' END AS reason
    FROM (
        SELECT max(moment.last_at) AS last_at, max(moment.legal_m) AS legal_m,
            max(moment.p_legal) FILTER (WHERE moment.counts) AS p_legal,
            (array_agg(moment.at ORDER BY moment.p_legal DESC, moment.at) FILTER (WHERE moment.counts))[1] AS at,
            (array_agg(moment.body ORDER BY moment.p_legal DESC NULLS LAST, moment.at))[1] AS body
        FROM (
            SELECT seen.*, seen.legal_m > 0 AND seen.p_legal IS NOT NULL AND o.served_at <= seen.at AS counts
            FROM (
                SELECT t.incident_id, t.from_state, t.body, lag(t.incident_id) OVER stays AS incident_before,
                    coalesce((t.body #>> '{{detail,p_legal_at}}')::timestamptz, CASE WHEN t.from_state = 'breach'
                        THEN coalesce(lag(t.at) OVER stays, i.occurred_at) ELSE t.at END) AS at,
                    coalesce((t.body #>> '{{detail,until}}')::timestamptz, CASE WHEN t.to_state = 'breach'
                        AND lead(t.id) OVER stays IS NULL THEN 'infinity' ELSE t.at END) AS last_at,
                    coalesce((t.body #>> '{{detail,policy,legal_m}}')::float8, o.legal_m) AS legal_m,
                    (t.body #>> '{{detail,p_legal}}')::float8 AS p_legal
                FROM transition t
                WHERE i.family = 'proximity' AND t.case_id = i.case_id AND t.evaluated_at >= i.occurred_at
                AND t.evaluated_at <= coalesce(i.resolved_at, 'infinity') + interval '1 day'
                AND t.order_id = i.order_id AND t.kind = 'proximity'
                WINDOW stays AS (PARTITION BY t.body -> 'retrospective' ORDER BY t.evaluated_at, t.at)
            ) seen
            WHERE seen.incident_id = i.id OR (
                seen.incident_id IS NULL AND seen.incident_before = i.id AND seen.from_state = 'breach'
            )
        ) moment
    ) told
"""


async def finding(connection: Connection, agency_id: uuid.UUID, incident_id: uuid.UUID) -> Record | None:
    """What an incident of the agency shows of a violation; None when it has none of that id."""
    row = await connection.fetchrow(
        f"""
        SELECT i.id AS incident_id, i.type, i.state, i.occurred_at, i.opened_at, i.retrospective, i.exercise,
            i.order_id, o.reference AS order_reference, o.served_at, coalesce(found.legal_m, o.legal_m) AS legal_m,
            found.p_legal, found.at AS p_legal_at, found.reason, found.body ->> 'rule_version' AS rule_version,
            found.body #> '{{detail,policy}}' AS policy
        FROM incident i LEFT JOIN protection_order o ON o.id = i.order_id CROSS JOIN LATERAL ({FINDING}) found
        WHERE i.id = $1 AND i.agency_id = $2
        """,
        incident_id,
        agency_id,
    )
    return None if row is None else {**row, "violation": VIOLATION_OF_REASON[row["reason"]]}


async def incidents(connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime) -> list[Record]:
    """Incidents opened in [since, until) by type, severity, state and outcome, with median times in seconds."""
    rows = await connection.fetch(
        f"""
        SELECT type, severity, i.state, outcome, false_alarm_cause, count(*) AS count,
            count(*) FILTER (WHERE found.reason = 'proved') AS violations,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - opened_at))
                FILTER (WHERE acknowledged_at IS NOT NULL) AS median_acknowledge_s,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM dispatched_at - opened_at))
                FILTER (WHERE dispatched_at IS NOT NULL) AS median_dispatch_s,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - opened_at))
                FILTER (WHERE resolved_at IS NOT NULL) AS median_resolve_s
        FROM incident i LEFT JOIN protection_order o ON o.id = i.order_id CROSS JOIN LATERAL ({FINDING}) found
        WHERE i.agency_id = $1 AND opened_at >= $2 AND opened_at < $3 AND NOT exercise
        GROUP BY type, severity, i.state, outcome, false_alarm_cause
        ORDER BY type, severity, i.state, outcome, false_alarm_cause
        """,
        agency_id,
        since,
        until,
    )
    return [dict(row) for row in rows]


async def deliveries(connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime) -> list[Record]:
    """Deliveries made in [since, until) by channel, audience and state, with the median seconds to being sent."""
    rows = await connection.fetch(
        """
        SELECT channel, audience, state, count(*) AS count,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - created_at))
                FILTER (WHERE sent_at IS NOT NULL) AS median_sent_s
        FROM delivery WHERE agency_id = $1 AND created_at >= $2 AND created_at < $3
        GROUP BY channel, audience, state ORDER BY channel, audience, state
        """,
        agency_id,
        since,
        until,
    )
    return [dict(row) for row in rows]


async def devices(connection: Connection, agency_id: uuid.UUID, now: datetime) -> list[Record]:
    """The agency's devices by kind and status: how many, how many silent for two intervals, how many low."""
    rows = await connection.fetch(
        """
        SELECT kind, status, count(*) AS count,
            count(*) FILTER (WHERE status = 'active' AND (last_seen_at IS NULL
                OR last_seen_at < $2::timestamptz - make_interval(secs => 2 * expected_interval_s + 60))) AS silent,
            count(*) FILTER (WHERE status = 'active' AND battery_pct < 20) AS low_battery
        FROM device WHERE agency_id = $1 GROUP BY kind, status ORDER BY kind, status
        """,
        agency_id,
        now,
    )
    return [dict(row) for row in rows]
