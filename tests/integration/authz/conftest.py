"""Two agencies with a pair each, and the database as each service connects to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from core.domain.scope import Scope
from core.ids import new_id
from core.postgres.database import Database

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
