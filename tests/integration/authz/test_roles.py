"""What a service's login can do: see its scope's agency, and nothing beyond."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from core.clock import utc_now
from core.domain.scope import Scope
from core.errors import Misconfigured, NotFound
from core.ids import new_id
from core.postgres.database import Database
from core.postgres.logins import GROUPS, drop_logins, make_logins, set_logins, url_as
from core.postgres.table import Table
from infra.embedded import EmbeddedStores

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ROLES = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")
OF_AN_AGENCY = (
    "agency", "app_user", "person", "protection_case", "protection_order", "device", "incident", "timeline",
)  # fmt: skip


@pytest.mark.parametrize("table", OF_AN_AGENCY)
async def test_the_api_sees_its_scopes_agency_and_without_a_scope_nothing(
    table: str, here: Any, elsewhere: Any, count: Callable[..., Any]
) -> None:
    assert await count(None, table) == 0
    for role in ROLES:
        assert await count(here.scope(role), table) > 0
    key = "id" if table != "timeline" else "incident_id"
    stranger = {
        "agency": elsewhere.agency_id, "app_user": elsewhere.users["admin"], "person": elsewhere.victim_id,
        "protection_case": elsewhere.case_id, "protection_order": elsewhere.order_id, "device": elsewhere.phone_id,
        "incident": elsewhere.incident_id, "timeline": elsewhere.incident_id,
    }[table]  # fmt: skip
    for role in ROLES:
        assert await count(here.scope(role), table, f"{key} = $1", stranger) == 0
    assert await count(elsewhere.scope(), table, f"{key} = $1", stranger) > 0


async def test_nothing_can_be_put_into_another_agency(posts: Any, here: Any, elsewhere: Any) -> None:
    people = Table("person", "person", ("created_at", "updated_at"))
    with pytest.raises(NotFound):
        async with posts.api.transaction(here.scope()) as connection:
            await connection.execute(
                "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
                new_id(), elsewhere.agency_id, NOW,
            )  # fmt: skip
    with pytest.raises(NotFound):
        async with posts.api.transaction(here.scope()) as connection:
            await connection.execute("UPDATE person SET agency_id = $1", elsewhere.agency_id)
    with pytest.raises(NotFound):
        async with posts.api.transaction(here.scope()) as connection:
            await people.get(connection, elsewhere.agency_id, elsewhere.victim_id)
    async with posts.api.transaction(here.scope()) as connection:
        assert await connection.execute("UPDATE person SET language = 'en'") == "UPDATE 2"


async def test_every_table_the_api_may_read_is_empty_to_a_user_of_no_agency(posts: Any, here: Any) -> None:
    del here
    nobody = Scope(new_id(), new_id(), "admin")
    async with posts.api.transaction(nobody) as connection:
        names = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND relrowsecurity AND has_table_privilege(c.oid, 'SELECT')"
        )
        for row in names:
            assert await connection.fetchval(f"SELECT count(*) FROM {row['name']}") == 0, row["name"]


@pytest.mark.parametrize("kind", GROUPS)
async def test_a_login_cannot_rise(kind: str, posts: Any, here: Any) -> None:
    del here
    pool: Database = getattr(posts, kind)
    others = [role for name, role in GROUPS.items() if name != kind]
    attempts = [
        *(f"SET ROLE {role}" for role in (*others, "postgres")),
        "SET SESSION AUTHORIZATION postgres",
        "ALTER TABLE person DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON person USING (true)",
        "DROP POLICY by_scope ON person",
        "ALTER ROLE current_user BYPASSRLS",
        "CREATE ROLE another LOGIN",
        f"GRANT {others[0]} TO current_user",
        "CREATE TABLE mine (a int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "TRUNCATE audit",
        "SELECT secure_by('person', 'true', 'SELECT')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY person TO PROGRAM 'cat'",
    ]
    for attempt in attempts:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidGrantOperationError)):
            async with pool.transaction() as connection:
                await connection.execute(attempt)


async def test_turning_row_security_off_gives_an_error_and_no_row(posts: Any, here: Any) -> None:
    del here
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with posts.api.transaction() as connection:
            await connection.execute("SET LOCAL row_security = off")
            await connection.fetch("SELECT * FROM person")


async def test_each_service_sees_only_what_it_works_with(posts: Any, here: Any) -> None:
    refused = {
        "device": ("app_user", "refresh_token", "user_conflict", "break_glass", "audit", "creation"),
        "worker": ("app_user", "refresh_token", "bearer_token", "user_conflict", "break_glass", "enrolment"),
        "historian": ("person", "protection_order", "incident", "app_user", "contact", "feed", "audit", "delivery"),
    }
    for kind, tables in refused.items():
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with getattr(posts, kind).connection() as connection:
                    await connection.fetchval(f"SELECT count(*) FROM {table}")
    for pool in (posts.device, posts.worker):
        async with pool.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM person WHERE agency_id = $1", here.agency_id) == 2


async def test_the_historian_adds_to_history_and_reads_none_of_it(
    posts: Any, database: Database, here: Any, count: Callable[..., Any]
) -> None:
    async with database.connection() as connection:
        number = await connection.fetchval("SELECT number FROM device WHERE id = $1", here.phone_id)
    lately = utc_now()
    async with posts.historian.transaction() as connection:
        await connection.execute("SELECT make_ping_day('ping_victim', $1)", lately.date())
    insert = (
        "INSERT INTO ping_victim SELECT 1, $1, $2, 1, $1, $1, 0, 43, 76, 'NaN', 'NaN', 'NaN', 'NaN', 'NaN'"
        " ON CONFLICT DO NOTHING"
    )
    async with posts.historian.transaction() as connection:
        assert await connection.execute(insert, lately, number) == "INSERT 0 1"
    for table in ("ping_victim", f"ping_victim_{lately:%Y%m%d}"):
        for pool in posts.all:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with pool.connection() as connection:
                    await connection.fetch(f"SELECT * FROM {table}")
    async with posts.historian.connection() as connection:
        assert await connection.fetch("SELECT * FROM ping") == []
    assert await count(here.scope(), "ping") == 1
    assert await count(None, "ping") == 0


async def test_a_service_that_row_level_security_does_not_bind_does_not_start(
    database_url: str, logins: dict[str, str]
) -> None:
    owner = Database(database_url, role=GROUPS["api"])
    with pytest.raises(Misconfigured, match="row-level security does not bind"):
        await owner.open()
    login = urlsplit(logins["worker"])
    stranger = Database(url_as(database_url, str(login.username), str(login.password)), role=GROUPS["api"])
    with pytest.raises(Misconfigured, match="no member of qorgan_api"):
        await stranger.open()
    guess = Database(url_as(database_url, str(login.username), "guess"))
    with pytest.raises(Misconfigured, match="refuses the user"):
        await guess.open()


async def test_logins_are_made_for_one_run_and_gone_after_it(stores: EmbeddedStores, database_url: str) -> None:
    made = await make_logins(database_url)
    assert made.keys() == GROUPS.keys()
    again = await make_logins(database_url)
    assert not set(made.values()) & set(again.values())
    pool = Database(made["api"], role=GROUPS["api"])
    await pool.open()
    await pool.close()
    await drop_logins(database_url, made)
    await drop_logins(database_url, again)
    gone = Database(made["api"], role=GROUPS["api"])
    with pytest.raises(Misconfigured):
        await gone.open()


async def test_logins_that_stay_take_a_new_password(database_url: str) -> None:
    for password in ("first", "second"):
        assert await set_logins(database_url, {"worker": password}) == ["qorgan_login_worker"]
        pool = Database(url_as(database_url, "qorgan_login_worker", password), role=GROUPS["worker"])
        await pool.open()
        await pool.close()
    with pytest.raises(Misconfigured):
        await Database(url_as(database_url, "qorgan_login_worker", "first"), role=GROUPS["worker"]).open()


async def test_nobody_enters_the_embedded_postgres_without_a_password(stores: EmbeddedStores) -> None:
    assert stores.postgres is not None
    for user in ("postgres", "qorgan_api", "nobody"):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(f"postgresql://{user}@/qorgan?host={stores.postgres.socket_directory}")
    assert stores.data_dir.joinpath("postgres.password").stat().st_mode & 0o777 == 0o600
