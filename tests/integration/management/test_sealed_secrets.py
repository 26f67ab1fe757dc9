"""Secrets of signing in are sealed with their agency's key; what was sealed otherwise works and is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.actions.keys import seal_leftovers
from core.clock import utc_now
from core.domain.sealing import AGENCY
from core.postgres.database import Database
from core.secret_box import VERSION, SecretBox
from tests.integration.management.provider import CLIENT_SECRET, Provider
from tests.integration.management.test_oidc import configure, provider, sign_in
from tests.integration.management.test_second_factors import enrol
from tests.integration.management.visitor import Visitor

__all__ = ["provider"]


@pytest.fixture
async def visitor(office: Any) -> AsyncIterator[Visitor]:
    async with Visitor(office.context) as made:
        yield made


async def sealed_totp(database: Database) -> bytes:
    async with database.connection() as connection:
        return bytes(await connection.fetchval("SELECT secret_sealed FROM user_totp"))


async def test_a_one_time_code_secret_is_sealed_with_the_agency_s_key(
    office: Any, visitor: Visitor, hands: Any, database: Database
) -> None:
    await visitor.sign_in()
    app, _ = await enrol(visitor, hands)
    sealed = await sealed_totp(database)
    assert sealed[:17] == bytes([AGENCY]) + office.agency_id.bytes
    assert app.secret.encode() not in sealed
    async with database.transaction() as connection:  # another user's row opens nothing
        await connection.execute(
            "INSERT INTO user_totp (user_id, agency_id, secret_sealed, created_at, confirmed_at)"
            " SELECT $1, agency_id, secret_sealed, created_at, confirmed_at FROM user_totp",
            office.users["supervisor"]["id"],
        )
    async with Visitor(office.context) as other:
        assert (await other.sign_in("supervisor", otp=app.at(hands()))).status_code == 503


async def test_what_was_sealed_under_the_token_key_works_and_is_moved_at_the_next_start(
    office: Any, visitor: Visitor, hands: Any, database: Database
) -> None:
    await visitor.sign_in()
    app, _ = await enrol(visitor, hands)
    box = SecretBox(office.context.token_key)
    user_id = office.users["dispatcher"]["id"]
    older = box.seal("one-time-code secret", user_id, app.secret.encode())
    assert older[:1] == VERSION
    async with database.transaction() as connection:
        await connection.execute("UPDATE user_totp SET secret_sealed = $1", older)
    assert (await visitor.sign_in(otp=app.at(hands()))).status_code == 200

    assert await seal_leftovers(database, utc_now, box=box) == 1
    assert await seal_leftovers(database, utc_now, box=box) == 0
    assert (await sealed_totp(database))[0] == AGENCY
    hands.forward(seconds=30)
    assert (await visitor.sign_in(otp=app.at(hands()))).status_code == 200


async def test_an_older_secret_whose_token_key_is_gone_stays_as_it_is(
    office: Any, visitor: Visitor, hands: Any, database: Database
) -> None:
    await visitor.sign_in()
    await enrol(visitor, hands)
    older = SecretBox(b"k" * 32).seal("one-time-code secret", office.users["dispatcher"]["id"], b"lost")
    async with database.transaction() as connection:
        await connection.execute("UPDATE user_totp SET secret_sealed = $1", older)
    assert await seal_leftovers(database, utc_now, box=SecretBox(office.context.token_key)) == 0
    assert await sealed_totp(database) == older


async def test_a_provider_s_client_secret_is_sealed_with_the_agency_s_key_in_either_form(
    office: Any, visitor: Visitor, provider: Provider, database: Database
) -> None:
    await configure(office, provider)
    async with database.connection() as connection:
        sealed = bytes(await connection.fetchval("SELECT client_secret_sealed FROM oidc_provider"))
    assert sealed[0] == AGENCY
    assert (await sign_in(office, visitor)).status_code == 200
    box = SecretBox(office.context.token_key)
    older = box.seal("client secret", office.agency_id, CLIENT_SECRET.encode())
    async with database.transaction() as connection:
        await connection.execute("UPDATE oidc_provider SET client_secret_sealed = $1", older)
    assert (await sign_in(office, visitor)).status_code == 200
    assert await seal_leftovers(database, utc_now, box=box) == 1
    assert (await sign_in(office, visitor)).status_code == 200
