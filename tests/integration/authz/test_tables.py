"""Every table there is: what bears a person or anything of an agency is under row-level security."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from core.clock import utc_now
from core.postgres.database import Database
from core.postgres.migrate import migrate
from infra.embedded import EmbeddedStores

OF_SOMEBODY = (
    "agency_id", "person_id", "case_id", "order_id", "device_id", "device_number", "incident_id", "user_id",
    "victim_id", "aggressor_id",
)  # fmt: skip
"""Columns that make a row somebody's."""

GROUPS = ("qorgan_api", "qorgan_device", "qorgan_worker", "qorgan_historian", "qorgan_sealer", "qorgan_retention")

TABLES = """
SELECT c.oid::regclass::text AS name, c.relrowsecurity AS secured, c.relispartition AS partition,
    c.relkind::text AS kind,
    (SELECT count(*) FROM pg_policy p
        WHERE p.polrelid = c.oid AND 'qorgan_api'::regrole = ANY (p.polroles)) AS policies,
    ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT attisdropped)
        AS columns,
    ARRAY(SELECT g || ':' || privilege FROM unnest($1::text[]) g,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
        WHERE has_table_privilege(g, c.oid, privilege)) AS grants
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.relname NOT LIKE '\\_pogo%'
ORDER BY 1
"""


@pytest.fixture
async def tables(database: Database) -> list[Any]:
    """Every table of the schema."""
    async with database.connection() as connection:
        found: list[Any] = await connection.fetch(TABLES, list(GROUPS))
    assert len(found) > 40
    return found


def is_somebodys(table: Any) -> bool:
    """Whether its rows are of a person, a case or an agency."""
    return table["name"] == "agency" or any(name in OF_SOMEBODY for name in table["columns"])


async def test_whatever_is_somebodys_is_secured_and_has_a_policy(tables: list[Any]) -> None:
    bare = [
        table["name"]
        for table in tables
        if is_somebodys(table) and not table["partition"] and not (table["secured"] and table["policies"])
    ]
    assert not bare, f"call secure_by_agency (migration 0004) for {bare}"


async def test_no_view_reads_past_a_policy(tables: list[Any]) -> None:
    assert not [table["name"] for table in tables if table["kind"] in ("v", "m", "f")], (
        "a view reads as its owner: make it a function with security_invoker in mind"
    )


async def test_what_is_nobodys_bears_nothing_free_to_the_api(tables: list[Any]) -> None:
    open_to_the_api = {
        table["name"]
        for table in tables
        if not table["secured"] and any(grant.startswith("qorgan_api:") for grant in table["grants"])
    }
    assert open_to_the_api <= {
        "creation",
        "installation",
        "log_cursor",
        "service_outage",
        "signing_key",
        "spent_challenge",
    }


async def test_a_partition_can_be_added_to_by_the_historian_and_read_by_nobody(
    tables: list[Any], database: Database
) -> None:
    async with database.transaction() as connection:
        await connection.execute("SELECT make_ping_day('ping_victim', '2026-05-01')")
        (day,) = [row for row in await connection.fetch(TABLES, list(GROUPS)) if row["name"] == "ping_victim_20260501"]
    partitions = {table["name"]: table["grants"] for table in [*tables, day] if table["partition"]}
    assert partitions.pop("ping_victim_20260501") == []
    assert {name: sorted(grants) for name, grants in partitions.items()} == {
        name: ["qorgan_historian:INSERT"] for name in ("ping_other", "ping_victim", "ping_aggressor")
    }


async def test_the_audit_is_only_added_to(tables: list[Any]) -> None:
    (audit,) = [table for table in tables if table["name"] == "audit"]
    verbs = {grant.split(":")[1] for grant in audit["grants"]}
    assert verbs <= {"SELECT", "INSERT"}


async def test_no_group_role_is_above_the_law(database: Database) -> None:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb FROM pg_roles"
            " WHERE rolname = ANY ($1)",
            list(GROUPS),
        )
    assert len(rows) == len(GROUPS)
    assert not [dict(row) for row in rows if any(tuple(row)[1:])]


async def test_functions_that_look_past_the_policies_are_given_to_few_and_pin_where_they_look(
    database: Database,
) -> None:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT p.oid::regprocedure::text AS name, has_function_privilege('public', p.oid, 'EXECUTE') AS open,"
            " coalesce(array_to_string(p.proconfig, ','), '') AS settings"
            " FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef"
        )
    assert len(rows) > 5
    assert not [row["name"] for row in rows if row["open"]]
    assert not [row["name"] for row in rows if "search_path=" not in row["settings"]]


async def test_databases_of_one_cluster_may_migrate_at_the_same_time(stores: EmbeddedStores) -> None:
    admin = await asyncpg.connect(stores.database_url.replace("/qorgan?", "/postgres?"))
    names = [f"together_{number}" for number in range(3)]
    try:
        for name in names:
            await admin.execute(f"CREATE DATABASE {name}")
        urls = [stores.database_url.replace("/qorgan?", f"/{name}?") for name in names]
        assert await asyncio.gather(*(migrate(url, 2, utc_now()) for url in urls)) == [2, 2, 2]
    finally:
        for name in names:
            await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()
