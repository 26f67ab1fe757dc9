"""Two agencies with a pair each, what is kept of them at any age, and a run of the rules at any moment."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from core.actions import retention
from core.actions.retention import Room, Run
from core.clock import utc_now
from core.domain.ping import Role
from core.ids import new_id
from core.postgres.agencies import get_or_create
from core.postgres.database import Database
from core.postgres.pings import TABLES
from core.signing import new_signer

ROOM = Room(victim_days=30, aggressor_days=455)


class Side:
    """One agency's pair: her phone, his bracelet, their order."""

    def __init__(self, agency_id: uuid.UUID) -> None:
        self.agency_id = agency_id
        self.her, self.him, self.case_id, self.order_id = (new_id() for _ in range(4))
        self.phone = self.bracelet = 0


class Land:
    """What the tests prepare and look up, as the owner."""

    def __init__(self, database: Database, posts: Any, now: datetime) -> None:
        self.database, self.posts, self.now = database, posts, now
        self.signer = new_signer()

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    async def count(self, table: str) -> int:
        (row,) = await self.rows(f"SELECT count(*) AS n FROM {table}")
        return int(row["n"])

    async def side(self, name: str, **periods: int) -> Side:
        long_ago = self.now - timedelta(days=2000)
        async with self.database.transaction() as connection:
            side = Side(await get_or_create(connection, name, long_ago))
            for person in (side.her, side.him):
                await connection.execute(
                    "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
                    person, side.agency_id, long_ago,
                )  # fmt: skip
            await connection.execute(
                "INSERT INTO protection_case (id, agency_id, aggressor_id, shard, created_at)"
                " VALUES ($1, $2, $3, 0, $4)",
                side.case_id, side.agency_id, side.him, long_ago,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO protection_order (id, agency_id, case_id, victim_id, aggressor_id, valid_from, alert_m,"
                " warning_m, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 500, 900, $6, $6)",
                side.order_id, side.agency_id, side.case_id, side.her, side.him, self.now - timedelta(days=200),
            )  # fmt: skip
            side.phone, side.bracelet = [
                await connection.fetchval(
                    "INSERT INTO device (id, agency_id, kind, role, person_id, created_at, updated_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING number",
                    new_id(), side.agency_id, kind, role, person, long_ago,
                )
                for kind, role, person in (("phone", "victim", side.her), ("bracelet", "aggressor", side.him))
            ]  # fmt: skip
            if periods:
                await connection.execute(
                    "INSERT INTO retention_policy (agency_id, periods, updated_at) VALUES ($1, $2, $3)",
                    side.agency_id, periods, self.now,
                )  # fmt: skip
        return side

    async def fix(self, role: Role, number: int, days_ago: float) -> datetime:
        at = self.now - timedelta(days=days_ago)
        async with self.database.transaction() as connection:
            await connection.execute("SELECT make_ping_day($1, $2)", TABLES[role], at.date())
            await connection.execute(
                "INSERT INTO ping (role, live_at, device_number, seq, at, received_at, flags, lat, lon, accuracy_m,"
                " speed_mps, heading_deg, altitude_m, battery_pct)"
                " VALUES ($1, $2, $3, 1, $2, $2, 0, 43.2, 76.9, 8, 0, 0, 0, 50)",
                int(role), at, number,
            )  # fmt: skip
        return at

    async def incident(self, side: Side, resolved_days_ago: float) -> uuid.UUID:
        """A resolved incident with everything that hangs on one."""
        incident_id, delivery_id = new_id(), new_id()
        at = self.now - timedelta(days=resolved_days_ago)
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO incident (id, type, family, severity, state, episode_id, agency_id, case_id, order_id,"
                " victim_id, aggressor_id, subject, occurred_at, opened_at, updated_at, resolved_at, place, outcome)"
                " VALUES ($1, 'proximity', 'proximity', 'high', 'resolved', $1, $2, $3, $4, $5, $6, $7, $8, $8, $8, $8,"
                " $9, 'warned')",
                incident_id, side.agency_id, side.case_id, side.order_id, side.her, side.him, f"o:{incident_id}", at,
                {"lat": 43.2, "lon": 76.9},
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO timeline (id, incident_id, at, kind, data) VALUES ($1, $2, $3, 'note', $4)",
                new_id(), incident_id, at, {"lat": 43.2, "by": "x"},
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO incident_snapshot (incident_id, agency_id, case_id, window_from, window_until, copied_at,"
                " log) VALUES ($1, $2, $3, $4, $5, $5, 'x')",
                incident_id, side.agency_id, side.case_id, at - timedelta(hours=1), at + timedelta(hours=1),
            )  # fmt: skip
            for party, number in (("victim", side.phone), ("aggressor", side.bracelet)):
                await connection.execute(
                    "INSERT INTO incident_fix (incident_id, agency_id, party, device_number, live_at, seq, at,"
                    " received_at, flags, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m, battery_pct)"
                    " VALUES ($1, $2, $3, $4, $5, 1, $5, $5, 0, 43.2, 76.9, 8, 0, 0, 0, 50)",
                    incident_id, side.agency_id, party, number, at,
                )  # fmt: skip
            await connection.execute(
                "INSERT INTO panic (id, agency_id, person_id, incident_id, lat, lon, received_at, verified, created_at)"
                " VALUES ($1, $2, $3, $4, 43.2, 76.9, $5, true, $5)",
                new_id(), side.agency_id, side.her, incident_id, at,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO delivery (id, agency_id, incident_id, cause, audience, recipient, channel, template, data,"
                " address, state, due_at, created_at, updated_at) VALUES ($1, $2, $3, 'c', 'contact', 'contact:1',"
                " 'email', 't', $4, 'a@example.org', 'sent', $5, $5, $5)",
                delivery_id, side.agency_id, incident_id, {"text": "come"}, at,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO delivery_attempt (delivery_id, attempt, started_at, result, detail)"
                " VALUES ($1, 1, $2, 'sent', 'a@example.org took it')",
                delivery_id, at,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO delivery_receipt (delivery_id, state, agency_id, at, noted_at)"
                " VALUES ($1, 'seen', $2, $3, $3)",
                delivery_id, side.agency_id, at,
            )  # fmt: skip
        await self.transition(side, resolved_days_ago, incident_id)
        return incident_id

    async def transition(self, side: Side, days_ago: float, incident_id: uuid.UUID | None = None) -> uuid.UUID:
        transition_id = new_id()
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO transition (id, shard, agency_id, case_id, order_id, incident_id, at, evaluated_at, kind,"
                " from_state, to_state, body) VALUES ($1, 0, $2, $3, $4, $5, $6, $6, 'proximity', 'clear', 'warning',"
                " $7)",
                transition_id, side.agency_id, side.case_id, side.order_id, incident_id,
                self.now - timedelta(days=days_ago), {"victim_position": {"lat": 43.2}, "p_within": 0.3},
            )  # fmt: skip
        return transition_id

    async def hold(self, side: Side, column: str, value: uuid.UUID) -> uuid.UUID:
        hold_id = new_id()
        async with self.database.transaction() as connection:
            await connection.execute(
                f"INSERT INTO legal_hold (id, agency_id, {column}, reason, placed_at) VALUES ($1, $2, $3, 'court', $4)",
                hold_id, side.agency_id, value, self.now,
            )  # fmt: skip
        return hold_id

    async def lift(self, hold_id: uuid.UUID) -> None:
        async with self.database.transaction() as connection:
            await connection.execute("UPDATE legal_hold SET lifted_at = $2 WHERE id = $1", hold_id, self.now)

    async def end_order(self, side: Side, days_ago: float) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE protection_order SET status = 'revoked', revoked_at = $2 WHERE id = $1",
                side.order_id, self.now - timedelta(days=days_ago),
            )  # fmt: skip

    async def run(self, *, later_days: float = 0, room: Room = ROOM) -> Run:
        """The rules as the service applies them, some days from now."""
        moment = self.now + timedelta(days=later_days)
        return await retention.apply(
            self.posts.retention, room, lambda: moment, lambda: self.signer, started_by="service"
        )

    async def days(self, role: Role) -> list[date]:
        prefix = TABLES[role] + "_"
        rows = await self.rows("SELECT relname FROM pg_class WHERE relname LIKE $1 AND relkind = 'r'", prefix + "2%")
        return sorted(date.fromisoformat(row["relname"].removeprefix(prefix)) for row in rows)


@pytest.fixture
async def land(database: Database, posts: Any) -> Land:
    return Land(database, posts, utc_now().replace(microsecond=0))
