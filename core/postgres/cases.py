# ruff: noqa: S608 - every statement here is built of this module's own constants
"""Cases: who belongs together, and the compiled form of it that the engine works from.

A case is one aggressor with everyone protected from him, or one person alone. `compile_cases` writes
`protection_case.config` (exactly `core.domain.case.Case`), a higher version, and the routes and roles of every
device of the people concerned, then wakes those who follow: the owner of the shard and the device registries. It is
called in the transaction of every change to an order, a zone, a person's devices or a policy, so that a change and
its effect commit together.

An order is *live* until it is revoked or expired. A person's *primary* case, where her device alarms are raised and
her history is written, is the one in which she is the aggressor, else the one with the lowest number.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.policy import OVERRIDES, STANDARD_RISK, Policy
from core.ids import new_id, shard_of
from core.postgres.database import Connection

MAX_CASES_A_STATEMENT: Final = 5_000
"""Cases compiled by one statement; more are taken in turn."""

DEFAULTS: Final = Policy()
LIVE: Final = "status NOT IN ('revoked', 'expired')"

# Every case in which a person of the given cases has, or ever had, a part: who is primary where may have changed.
_LOCK_AFFECTED: Final = """
    WITH given AS MATERIALIZED (
        SELECT c.id, c.aggressor_id, c.own_person_id FROM protection_case c WHERE c.id = ANY ($1::uuid[])
    ), people AS MATERIALIZED (
        SELECT aggressor_id AS id FROM given WHERE aggressor_id IS NOT NULL
        UNION SELECT own_person_id FROM given WHERE own_person_id IS NOT NULL
        UNION SELECT o.victim_id FROM given JOIN protection_order o ON o.case_id = given.id
        UNION SELECT unnest(o.protected_person_ids) FROM given JOIN protection_order o ON o.case_id = given.id
    ), affected AS MATERIALIZED (
        SELECT id FROM given
        UNION SELECT c.id FROM people JOIN protection_case c ON c.aggressor_id = people.id
        UNION SELECT c.id FROM people JOIN protection_case c ON c.own_person_id = people.id
        UNION SELECT o.case_id FROM people JOIN protection_order o ON o.victim_id = people.id
        UNION SELECT o.case_id FROM people JOIN protection_order o
            ON o.protected_person_ids @> ARRAY[people.id] AND o.protected_person_ids <> '{}'
    )
    SELECT c.id FROM protection_case c WHERE c.id IN (SELECT id FROM affected) ORDER BY c.id FOR NO KEY UPDATE
"""

# A person's parts in live orders, as (case, shard, number, role, rank); $person is put in by name.
_PARTS: Final = f"""
    SELECT c.id AS case_id, c.shard, c.number, 'aggressor' AS role, 0 AS rank
    FROM protection_case c WHERE c.aggressor_id = person.id
    AND EXISTS (SELECT FROM protection_order o WHERE o.case_id = c.id AND o.{LIVE})
    UNION ALL
    SELECT c.id, c.shard, c.number, 'victim', 1
    FROM protection_order o JOIN protection_case c ON c.id = o.case_id WHERE o.victim_id = person.id AND o.{LIVE}
    UNION ALL
    SELECT c.id, c.shard, c.number, 'other', 2
    FROM protection_order o JOIN protection_case c ON c.id = o.case_id
    WHERE o.protected_person_ids @> ARRAY[person.id] AND o.protected_person_ids <> '{{}}' AND o.{LIVE}
"""

# Someone who is a victim in one case and an aggressor in another: the bracelet is his, the phone is hers.
_ROUTE_DEVICES: Final = f"""
    WITH person AS MATERIALIZED (
        SELECT c.aggressor_id AS id FROM protection_case c
        WHERE c.id = ANY ($1::uuid[]) AND c.aggressor_id IS NOT NULL
        UNION SELECT c.own_person_id FROM protection_case c
        WHERE c.id = ANY ($1::uuid[]) AND c.own_person_id IS NOT NULL
        UNION SELECT o.victim_id FROM protection_order o WHERE o.case_id = ANY ($1::uuid[])
        UNION SELECT unnest(o.protected_person_ids) FROM protection_order o WHERE o.case_id = ANY ($1::uuid[])
    ), planned AS MATERIALIZED (
        SELECT device.id, device.role AS old_role, device.routes AS old_routes,
            coalesce(part.routes, own.routes, '{{}}') AS routes,
            CASE WHEN part.routes IS NULL THEN device.role
                 WHEN part.attacks AND part.suffers AND device.kind IN ('phone', 'victim_unit') THEN 'victim'
                 WHEN part.attacks THEN 'aggressor'
                 WHEN part.suffers THEN 'victim'
                 ELSE 'other' END AS role
        FROM person JOIN device ON device.person_id = person.id
        CROSS JOIN LATERAL (
            SELECT array_agg(shard ORDER BY first_rank, first_number) AS routes,
                bool_or(attacks) AS attacks, bool_or(suffers) AS suffers
            FROM (
                SELECT parts.shard, min(least(parts.rank, 1)) AS first_rank,
                    min(parts.number) FILTER (WHERE parts.rank > 0) AS first_number,
                    bool_or(parts.role = 'aggressor') AS attacks, bool_or(parts.role = 'victim') AS suffers
                FROM ({_PARTS}) parts GROUP BY parts.shard
            ) shards
        ) part
        LEFT JOIN LATERAL (
            SELECT ARRAY[c.shard] AS routes FROM protection_case c WHERE c.own_person_id = person.id
        ) own ON true
    )
    UPDATE device SET routes = planned.routes, role = planned.role, changed_xid = pg_current_xact_id()
    FROM planned WHERE device.id = planned.id
    AND (planned.routes <> planned.old_routes OR planned.role <> planned.old_role)
"""

_MS: Final = "(extract(epoch FROM {0}) * 1000)::bigint"

_DEVICES: Final = f"""
    SELECT jsonb_agg(jsonb_build_object(
        'number', d.number, 'id', d.id, 'kind', d.kind, 'interval_s', d.expected_interval_s,
        'since_ms', coalesce({_MS.format("d.fitted_at")}, 0)
    ) ORDER BY d.number)
    FROM device d WHERE d.person_id = person.id AND d.status = 'active'
"""

_PEOPLE: Final = f"""
    SELECT jsonb_agg(jsonb_build_object(
        'number', person.number, 'id', person.id, 'role', member.role,
        'primary', member.role = 'aggressor' OR NOT EXISTS (
            SELECT FROM ({_PARTS}) parts WHERE parts.rank = 0 OR parts.number < c.number
        ),
        'devices', coalesce(({_DEVICES}), '[]')
    ) ORDER BY person.number)
    FROM (
        SELECT DISTINCT ON (named.id) named.id, named.role FROM (
            SELECT o.aggressor_id AS id, 'aggressor' AS role, 0 AS rank
            FROM protection_order o WHERE o.case_id = c.id AND o.{LIVE}
            UNION ALL
            SELECT o.victim_id, 'victim', 1 FROM protection_order o WHERE o.case_id = c.id AND o.{LIVE}
            UNION ALL
            SELECT unnest(o.protected_person_ids), 'other', 2
            FROM protection_order o WHERE o.case_id = c.id AND o.{LIVE}
            UNION ALL
            SELECT person.id, coalesce(
                (SELECT d.role FROM device d WHERE d.person_id = person.id AND d.role <> 'other' LIMIT 1), 'other'
            ), 3
            FROM person WHERE person.id = c.own_person_id AND NOT EXISTS (SELECT FROM ({_PARTS}) parts)
        ) named ORDER BY named.id, named.rank
    ) member
    CROSS JOIN LATERAL (SELECT p.id, p.number FROM person p WHERE p.id = member.id OFFSET 0) person
"""

_ZONES: Final = f"""
    SELECT jsonb_agg(jsonb_build_object(
        'id', z.id, 'kind', z.kind, 'geometry', z.geometry, 'radius_m', z.radius_m, 'warning_m', z.warning_m,
        'schedule', z.schedule, 'valid_from_ms', {_MS.format("z.valid_from")},
        'valid_until_ms', {_MS.format("z.valid_until")}
    ) ORDER BY z.id)
    FROM zone z WHERE z.order_id = o.id AND z.removed_at IS NULL
"""


def _rule_value(name: str) -> str:
    """A value by which an order is judged, as `core.domain.policy.values_of` has it: its own, else its agency's."""

    def agencys(known: str) -> str:
        return f"coalesce((agency.policy ->> '{known}')::float8, {getattr(DEFAULTS, known)})"

    either = agencys(name)
    if name == "p_enter":
        either = f"CASE WHEN o.risk_level = '{STANDARD_RISK}' THEN {either} ELSE {agencys('p_enter_high_risk')} END"
    return f"'{name}', coalesce((o.policy ->> '{name}')::float8, {either})"


_RULE_VALUES: Final = ", ".join(_rule_value(name) for name in OVERRIDES)

_ORDERS: Final = f"""
    SELECT jsonb_agg(jsonb_build_object(
        'number', o.number, 'id', o.id, 'victim', (SELECT p.number FROM person p WHERE p.id = o.victim_id),
        'aggressor', (SELECT p.number FROM person p WHERE p.id = o.aggressor_id),
        'alert_m', o.alert_m, 'warning_m', o.warning_m, 'legal_m', o.legal_m, 'grace_s', o.grace_s, {_RULE_VALUES},
        'valid_from_ms', {_MS.format("o.valid_from")}, 'valid_until_ms', {_MS.format("o.valid_until")},
        'active', o.status = 'in_force', 'time_zone', o.time_zone, 'zones', coalesce(({_ZONES}), '[]')
    ) ORDER BY o.number)
    FROM protection_order o WHERE o.case_id = c.id AND o.{LIVE}
"""

# One look by key for each person and order (OFFSET 0 keeps the planner from joining whole tables instead, which it
# does on fresh tables without statistics): the cost of a case stays the same however many there are.
_COMPILE: Final = f"""
    UPDATE protection_case c SET
        config_version = c.config_version + 1,
        changed_xid = pg_current_xact_id(),
        config = jsonb_build_object(
            'number', c.number, 'id', c.id, 'agency_id', c.agency_id, 'version', c.config_version + 1,
            'people', coalesce(({_PEOPLE}), '[]'), 'orders', coalesce(({_ORDERS}), '[]')
        )
    FROM agency WHERE agency.id = c.agency_id AND c.id = ANY ($1::uuid[])
    RETURNING c.shard
"""


async def compile_cases(connection: Connection, case_ids: Collection[uuid.UUID]) -> None:
    """Compile these cases and every other that shares a person with them; part of the caller's transaction.

    The cases are locked first, in the order of their ids: of two changes to one case the later sees the earlier's.
    """
    if not case_ids:
        return
    rows = await connection.fetch(_LOCK_AFFECTED, list(case_ids))
    affected = [row["id"] for row in rows]
    for start in range(0, len(affected), MAX_CASES_A_STATEMENT):
        await connection.execute(_ROUTE_DEVICES, affected[start : start + MAX_CASES_A_STATEMENT])
    await compile_new_cases(connection, affected)


async def compile_new_cases(connection: Connection, case_ids: Sequence[uuid.UUID]) -> None:
    """Compile these cases alone: for bulk creation, where nobody shares a person and devices have their routes."""
    shards: set[int] = set()
    for start in range(0, len(case_ids), MAX_CASES_A_STATEMENT):
        rows = await connection.fetch(_COMPILE, case_ids[start : start + MAX_CASES_A_STATEMENT])
        shards |= {row["shard"] for row in rows}
    for shard in sorted(shards):
        await connection.execute("SELECT pg_notify('case', $1)", str(shard))
    await connection.execute("SELECT pg_notify('registry', '')")


async def compile_people(connection: Connection, person_ids: Collection[uuid.UUID], now: datetime) -> None:
    """Compile every case these people have a part in; who has devices and no part gets a case of her own."""
    if not person_ids:
        return
    await _give_own_cases(connection, person_ids, now)
    rows = await connection.fetch(
        """
        SELECT id FROM protection_case WHERE aggressor_id = ANY ($1::uuid[]) OR own_person_id = ANY ($1::uuid[])
        UNION SELECT case_id FROM protection_order WHERE victim_id = ANY ($1::uuid[])
        UNION SELECT case_id FROM protection_order
        WHERE protected_person_ids && $1::uuid[] AND protected_person_ids <> '{}'
        """,
        list(person_ids),
    )
    await compile_cases(connection, [row["id"] for row in rows])


async def _give_own_cases(connection: Connection, person_ids: Collection[uuid.UUID], now: datetime) -> None:
    rows = await connection.fetch(
        f"""
        SELECT person.id, person.agency_id, installation.shard_count FROM person CROSS JOIN installation
        WHERE person.id = ANY ($1::uuid[])
        AND EXISTS (SELECT FROM device d WHERE d.person_id = person.id)
        AND NOT EXISTS (SELECT FROM protection_case c WHERE c.own_person_id = person.id)
        AND NOT EXISTS (SELECT FROM ({_PARTS}) parts)
        ORDER BY person.id
        """,
        list(person_ids),
    )
    for row in rows:
        case_id = new_id()
        await connection.execute(
            "INSERT INTO protection_case (id, agency_id, own_person_id, shard, created_at)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            case_id,
            row["agency_id"],
            row["id"],
            shard_of(case_id, row["shard_count"]),
            now,
        )


async def case_of_aggressor(
    connection: Connection, agency_id: uuid.UUID, aggressor_id: uuid.UUID, now: datetime
) -> uuid.UUID:
    """The case of everyone protected from him, made if there is none yet."""
    case_id = new_id()
    shard_count = int(await connection.fetchval("SELECT shard_count FROM installation"))
    await connection.execute(
        "INSERT INTO protection_case (id, agency_id, aggressor_id, shard, created_at)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (aggressor_id) DO NOTHING",
        case_id,
        agency_id,
        aggressor_id,
        shard_of(case_id, shard_count),
        now,
    )
    found: uuid.UUID = await connection.fetchval("SELECT id FROM protection_case WHERE aggressor_id = $1", aggressor_id)
    return found


async def cases_of_agency(
    connection: Connection, agency_id: uuid.UUID, after: uuid.UUID, limit: int
) -> Sequence[uuid.UUID]:
    """At most `limit` cases of an agency beyond `after`, in the order of their ids."""
    rows: list[Any] = await connection.fetch(
        "SELECT id FROM protection_case WHERE agency_id = $1 AND id > $2 ORDER BY id LIMIT $3", agency_id, after, limit
    )
    return [row["id"] for row in rows]
