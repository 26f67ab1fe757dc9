"""Two agencies with a pair each, and the database as each service connects to it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.auth import Actor, make_access_token
from api.deps import ApiContext
from api.ingest.registry import Registry
from api.live.tail import FeedTail
from core.clock import utc_now
from core.domain.scope import Scope
from core.ids import new_id
from core.postgres.database import Database
from core.settings import Settings

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ROLES = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")


@dataclass
class Side:
    """An agency with a user a role and one pair under an order, with an incident."""

    agency_id: uuid.UUID
    users: dict[str, uuid.UUID]
    victim_id: uuid.UUID
    aggressor_id: uuid.UUID
    case_id: uuid.UUID
    order_id: uuid.UUID
    phone_id: uuid.UUID
    incident_id: uuid.UUID

    def scope(self, role: str = "dispatcher") -> Scope:
        """One of its users."""
        return Scope(self.agency_id, self.users[role], role)


async def make_side(database: Database) -> Side:
    """An agency with everything of it."""
    side = Side(new_id(), {role: new_id() for role in ROLES}, *(new_id() for _ in range(6)))
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO agency (id, name, created_at) VALUES ($1, $2, $3)", side.agency_id, f"A {side.agency_id}", NOW
        )
        for role, user_id in side.users.items():
            await connection.execute(
                "INSERT INTO app_user (id, agency_id, username, password_hash, role, created_at)"
                " VALUES ($1, $2, $3, '-', $4, $5)",
                user_id, side.agency_id, f"{role}-{user_id}", role, NOW,
            )  # fmt: skip
        for person_id in (side.victim_id, side.aggressor_id):
            await connection.execute(
                "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
                person_id, side.agency_id, NOW,
            )  # fmt: skip
        await connection.execute(
            "INSERT INTO protection_case (id, agency_id, aggressor_id, shard, created_at) VALUES ($1, $2, $3, 0, $4)",
            side.case_id, side.agency_id, side.aggressor_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO protection_order (id, agency_id, case_id, victim_id, aggressor_id, valid_from, alert_m,"
            " warning_m, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 500, 1500, $6, $6)",
            side.order_id, side.agency_id, side.case_id, side.victim_id, side.aggressor_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO device (id, agency_id, kind, role, person_id, status, routes, created_at, updated_at)"
            " VALUES ($1, $2, 'phone', 'victim', $3, 'active', '{0}', $4, $4)",
            side.phone_id, side.agency_id, side.victim_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, case_id, order_id, victim_id,"
            " aggressor_id, subject, occurred_at, opened_at, updated_at)"
            " VALUES ($1, 'proximity', 'proximity', 'critical', $1, $2, $3, $4, $5, $6, $7, $8, $8, $8)",
            side.incident_id, side.agency_id, side.case_id, side.order_id, side.victim_id, side.aggressor_id,
            f"order:{side.order_id}", NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO timeline (id, incident_id, at, kind) VALUES ($1, $2, $3, 'opened')",
            new_id(), side.incident_id, NOW,
        )  # fmt: skip
    return side


@pytest.fixture
async def here(database: Database) -> Side:
    """An agency."""
    return await make_side(database)


@pytest.fixture
async def elsewhere(database: Database, here: Side) -> Side:
    """Another agency, of strangers."""
    del here
    return await make_side(database)


@pytest.fixture
def count(posts: Any) -> Callable[..., Any]:
    """How many rows of a table a user of the API sees, where a condition holds."""

    async def look(scope: Scope | None, table: str, condition: str = "true", *arguments: Any) -> int:
        async with posts.api.connection(scope) as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {condition}", *arguments))

    return look


@dataclass
class Office:
    """The API as its users reach it."""

    context: ApiContext
    client: httpx.AsyncClient

    async def call(self, scope: Scope, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request of a user."""
        actor = Actor(scope.user_id, scope.agency_id, scope.role, scope.role)
        token = make_access_token(actor, self.context.token_key, self.context.clock(), 900)
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, json=body)

    async def status(self, scope: Scope, path: str) -> int:
        """What reading a page is answered with."""
        return (await self.call(scope, "GET", path)).status_code


@pytest.fixture
async def office(settings: Settings, posts: Any, redis_client: Any) -> AsyncIterator[Office]:
    """An API on the test's stores, connected as the services are."""
    registry = Registry(posts.device, utc_now)
    await registry.start()
    tail = FeedTail(settings, posts.device, redis_client, utc_now)
    await tail.start()
    context = ApiContext(settings, posts.api, redis_client, device_database=posts.device, registry=registry, tail=tail)
    transport = httpx.ASGITransport(create_app(context), client=("192.0.2.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as client:
        yield Office(context, client)
    context.passwords.close()
    await tail.stop()
    await registry.stop()
