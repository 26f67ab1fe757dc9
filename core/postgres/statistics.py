# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Counts for the figures: nobody's name or id leaves here, only how many, by what."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Final, NamedTuple

from core.domain.statistics import HELD_LIABLE, UNKNOWN
from core.postgres.database import Connection
from core.postgres.reports import FINDING
from core.postgres.table import Record, Table

CALLS: Final = Table(
    "call_record",
    "call",
    (
        "person_id", "order_id", "received_at", "channel", "region", "violence", "injury", "sex", "age_band",
        "recorded_by", "created_at", "updated_at",
    ),
)  # fmt: skip
COURT_OUTCOMES: Final = Table(
    "court_outcome",
    "court outcome",
    (
        "order_id", "decided_at", "proceeding", "result", "article", "sex", "age_band", "recorded_by", "created_at",
    ),
)  # fmt: skip


class _Measure(NamedTuple):
    """Where a measure is counted: rows, when each was, and what of it is known."""

    rows: str
    at: str
    region: str = "o.region"
    person: str | None = None
    """Whose sex and age: an alias of `person`, or of a row that has them."""
    kind: str | None = None
    """An alias of `call_record`: which violence, which injury."""
    where: str = "true"


_ORDER_PARTS: Final = """
    LEFT JOIN person p ON p.id = {victim}
    LEFT JOIN LATERAL (
        SELECT c.violence, c.injury FROM call_record c WHERE c.order_id = {order} ORDER BY c.received_at LIMIT 1
    ) k ON true
"""
_ORDERS: Final = "protection_order o" + _ORDER_PARTS.format(victim="o.victim_id", order="o.id")
_INCIDENTS: Final = "incident x LEFT JOIN protection_order o ON o.id = x.order_id" + _ORDER_PARTS.format(
    victim="x.victim_id", order="x.order_id"
)
_PANICS: Final = "panic x JOIN incident i ON i.id = x.incident_id LEFT JOIN protection_order o ON o.id = i.order_id" + (
    _ORDER_PARTS.format(victim="x.person_id", order="i.order_id")
)
_COURT: Final = "court_outcome x LEFT JOIN protection_order o ON o.id = x.order_id"
_LIABLE: Final = ", ".join(f"'{result}'" for result in sorted(HELD_LIABLE))

_MEASURES: Final[dict[str, _Measure]] = {
    "calls": _Measure("call_record x", "x.received_at", "x.region", "x", "x"),
    "panics": _Measure(_PANICS, "x.received_at", person="p", kind="k", where="NOT i.exercise"),
    "orders": _Measure(_ORDERS, "coalesce(o.issued_at, o.valid_from)", person="p", kind="k"),
    "orders_served": _Measure(
        _ORDERS, "coalesce(o.issued_at, o.valid_from)", person="p", kind="k", where="o.served_at IS NOT NULL"
    ),
    "breaches": _Measure(
        _INCIDENTS, "x.occurred_at", person="p", kind="k", where="x.type IN ('proximity', 'zone') AND NOT x.exercise"
    ),
    "violations": _Measure(
        _INCIDENTS + f" CROSS JOIN LATERAL ({FINDING.replace('i.', 'x.')}) found",
        "x.occurred_at",
        person="p",
        kind="k",
        where="x.type = 'proximity' AND NOT x.exercise AND found.reason = 'proved'",
    ),
    "incidents_resolved": _Measure(
        _INCIDENTS, "x.occurred_at", person="p", kind="k", where="x.state = 'resolved' AND NOT x.exercise"
    ),
    "false_alarms": _Measure(
        _INCIDENTS,
        "x.occurred_at",
        person="p",
        kind="k",
        where="x.state = 'resolved' AND NOT x.exercise AND x.outcome IN ('false_alarm', 'technical')",
    ),
    "court_outcomes": _Measure(_COURT, "x.decided_at", person="x"),
    "held_liable": _Measure(_COURT, "x.decided_at", person="x", where=f"x.result IN ({_LIABLE})"),
}

_SPAN: Final = """
    {at} >= ($1::date)::timestamp AT TIME ZONE a.time_zone AND {at} < ($2::date)::timestamp AT TIME ZONE a.time_zone
"""


def _own(rows: str) -> str:
    return "o" if rows.startswith("protection_order") else "x"


async def count(
    connection: Connection, measure: str, begins: date, ends: date, agency_id: uuid.UUID | None
) -> list[Record]:
    """How many of a measure in [begins, ends), by agency, region, month, sex, age_band, violence and injury.

    Months and days are those of each agency's own time zone. `agency_id` None: of every agency that may be seen.
    """
    what = _MEASURES[measure]
    own = _own(what.rows)
    sex, band = (f"{what.person}.sex", f"{what.person}.age_band") if what.person else ("NULL", "NULL")
    violence, injury = (f"{what.kind}.violence", f"{what.kind}.injury") if what.kind else ("NULL", "NULL")
    rows = await connection.fetch(
        f"""
        SELECT a.name AS agency, coalesce({what.region}, a.region, '{UNKNOWN}') AS region,
            to_char({what.at} AT TIME ZONE a.time_zone, 'YYYY-MM') AS month, coalesce({sex}, '{UNKNOWN}') AS sex,
            coalesce({band}, '{UNKNOWN}') AS age_band, coalesce({violence}, '{UNKNOWN}') AS violence,
            coalesce({injury}, '{UNKNOWN}') AS injury, count(*) AS count
        FROM {what.rows} JOIN agency a ON a.id = {own}.agency_id
        WHERE ($3::uuid IS NULL OR {own}.agency_id = $3) AND {_SPAN.format(at=what.at)} AND {what.where}
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        """,
        begins,
        ends,
        agency_id,
    )
    return [dict(row) for row in rows]


async def funnel(connection: Connection, begins: date, ends: date, agency_id: uuid.UUID | None) -> dict[str, int]:
    """Of the calls of [begins, ends): how many led to an order, that to service, a breach, a court, a penalty."""
    row = await connection.fetchrow(
        f"""
        SELECT count(*) AS call, count(o.id) AS order, count(o.served_at) AS served,
            count(*) FILTER (WHERE o.served_at IS NOT NULL AND broken.found) AS breach,
            count(*) FILTER (WHERE o.served_at IS NOT NULL AND broken.found AND judged.found) AS court,
            count(*) FILTER (WHERE o.served_at IS NOT NULL AND broken.found AND judged.liable) AS held_liable
        FROM call_record x JOIN agency a ON a.id = x.agency_id LEFT JOIN protection_order o ON o.id = x.order_id
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM incident i WHERE i.order_id = o.id
            AND i.type IN ('proximity', 'zone') AND NOT i.exercise) AS found) broken
        CROSS JOIN LATERAL (SELECT count(*) > 0 AS found, coalesce(bool_or(c.result IN ({_LIABLE})), false) AS liable
            FROM court_outcome c WHERE c.order_id = o.id) judged
        WHERE ($3::uuid IS NULL OR x.agency_id = $3) AND {_SPAN.format(at="x.received_at")}
        """,
        begins,
        ends,
        agency_id,
    )
    return dict(row)


async def response_times(connection: Connection, begins: date, ends: date, agency_id: uuid.UUID | None) -> list[Record]:
    """Medians and ninetieth percentiles of the steps after an alert, in seconds, with how many each is of.

    From the opening of an incident of high or critical severity: `seen` (acknowledged), `dispatched`, `on_scene` (the
    first unit there). One row of every region, and one of all (`region` null).
    """
    rows = await connection.fetch(
        f"""
        WITH taken AS (
            SELECT coalesce(o.region, a.region, '{UNKNOWN}') AS region, step.name,
                extract(epoch FROM step.at - x.opened_at)::float8 AS s
            FROM incident x JOIN agency a ON a.id = x.agency_id LEFT JOIN protection_order o ON o.id = x.order_id
            CROSS JOIN LATERAL (VALUES ('seen', x.acknowledged_at), ('dispatched', x.dispatched_at), ('on_scene', (
                SELECT min((sent ->> 'on_scene')::timestamptz) FROM jsonb_array_elements(x.units) sent
            ))) step (name, at)
            WHERE ($3::uuid IS NULL OR x.agency_id = $3) AND {_SPAN.format(at="x.occurred_at")} AND NOT x.exercise
            AND NOT x.retrospective AND x.severity IN ('high', 'critical') AND step.at >= x.opened_at
        )
        SELECT region, name AS step, count(*) AS count, percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS median_s,
            percentile_cont(0.9) WITHIN GROUP (ORDER BY s) AS p90_s
        FROM taken GROUP BY GROUPING SETS ((region, name), (name)) ORDER BY region NULLS FIRST, name
        """,
        begins,
        ends,
        agency_id,
    )
    return [dict(row) for row in rows]


async def gap_times(connection: Connection, begins: date, ends: date, agency_id: uuid.UUID | None) -> list[Record]:
    """Medians and ninetieth percentiles of unprotected gaps that have ended, in seconds; regions, and all (null)."""
    rows = await connection.fetch(
        f"""
        WITH ended AS (
            SELECT coalesce(o.region, a.region, '{UNKNOWN}') AS region,
                greatest(extract(epoch FROM o.protected_at - coalesce(o.issued_at, o.valid_from)), 0)::float8 AS s
            FROM protection_order o JOIN agency a ON a.id = o.agency_id
            WHERE ($3::uuid IS NULL OR o.agency_id = $3) AND o.protected_at IS NOT NULL
            AND {_SPAN.format(at="coalesce(o.issued_at, o.valid_from)")}
        )
        SELECT region, count(*) AS count, percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS median_s,
            percentile_cont(0.9) WITHIN GROUP (ORDER BY s) AS p90_s
        FROM ended GROUP BY GROUPING SETS ((region), ()) ORDER BY region NULLS FIRST
        """,
        begins,
        ends,
        agency_id,
    )
    return [dict(row) for row in rows if row["count"]]


async def traits(connection: Connection, person_id: uuid.UUID) -> Record | None:
    """A person's coarse attributes; None: there is no such person."""
    row = await connection.fetchrow("SELECT sex, age_band, region_code FROM person WHERE id = $1", person_id)
    return None if row is None else dict(row)
