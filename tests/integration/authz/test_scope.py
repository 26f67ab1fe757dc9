"""A scope is set with the transaction's BEGIN and ends with it."""

from __future__ import annotations

import dataclasses

import pytest

from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.scope import Scope
from core.ids import new_id
from core.postgres.database import Database

SCOPE = Scope(new_id(), new_id(), "dispatcher")
SEEN = "SELECT current_setting('qorgan.agency_id', true), current_setting('qorgan.role', true)"


async def test_a_transaction_acts_for_its_scope_and_the_next_for_nobody(database: Database) -> None:
    async with act(database, utc_now(), SCOPE) as unit:
        assert tuple(await unit.connection.fetchrow(SEEN)) == (str(SCOPE.agency_id), "dispatcher")
        async with unit.connection.transaction():
            assert tuple(await unit.connection.fetchrow(SEEN)) == (str(SCOPE.agency_id), "dispatcher")
    async with database.transaction() as connection:
        assert not any(await connection.fetchrow(SEEN))
    async with database.connection() as connection:
        assert not any(await connection.fetchrow(SEEN))


async def test_a_scope_outlives_no_failure(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(SCOPE):
            raise ZeroDivisionError
    async with database.connection() as connection:
        assert not any(await connection.fetchrow(SEEN))


async def test_a_single_statement_can_act_for_a_scope(database: Database) -> None:
    async with database.connection(SCOPE) as connection:
        assert tuple(await connection.fetchrow(SEEN)) == (str(SCOPE.agency_id), "dispatcher")


async def test_isolation_and_reading_only_stay_with_a_scope(database: Database) -> None:
    async with database.transaction(SCOPE, isolation="repeatable_read", readonly=True) as connection:
        assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
        assert (await connection.fetchrow(SEEN))[0] == str(SCOPE.agency_id)


async def test_a_role_that_is_no_word_opens_nothing(database: Database) -> None:
    with pytest.raises(ValueError, match="word"):
        async with database.transaction(dataclasses.replace(SCOPE, role="x'; SELECT 1; --")):
            pass
