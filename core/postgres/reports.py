"""Figures over an agency's incidents, deliveries and devices; no names, no places."""

from __future__ import annotations

import uuid
from datetime import datetime

from core.postgres.database import Connection
from core.postgres.table import Record


async def incidents(connection: Connection, agency_id: uuid.UUID, since: datetime, until: datetime) -> list[Record]:
    """Incidents opened in [since, until) by type, severity, state and outcome, with median times in seconds."""
    rows = await connection.fetch(
        """
        SELECT type, severity, state, outcome, false_alarm_cause, count(*) AS count,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - opened_at))
                FILTER (WHERE acknowledged_at IS NOT NULL) AS median_acknowledge_s,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM dispatched_at - opened_at))
                FILTER (WHERE dispatched_at IS NOT NULL) AS median_dispatch_s,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - opened_at))
                FILTER (WHERE resolved_at IS NOT NULL) AS median_resolve_s
        FROM incident WHERE agency_id = $1 AND opened_at >= $2 AND opened_at < $3 AND NOT exercise
        GROUP BY type, severity, state, outcome, false_alarm_cause
        ORDER BY type, severity, state, outcome, false_alarm_cause
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
