"""Seeding: a named agency with pairs under an order, in bulk; and the small agency that the demo shows.

Tokens and passwords are random and are told once, to whoever seeds; the database keeps only their digests.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.unit_of_work import Unit, act
from core.actions.users import ROLES, add_user
from core.ids import new_id, new_token, shard_of, token_digest
from core.passwords import PasswordDesk
from core.postgres import agencies, keys, users
from core.postgres.bulk import copy_rows
from core.postgres.cases import compile_new_cases
from core.postgres.contacts import CONTACTS
from core.postgres.database import Database
from core.postgres.installation import shard_count
from core.postgres.people import PEOPLE
from core.postgres.units import UNITS
from core.settings import Settings

ALERT_M: Final = 500.0
WARNING_M: Final = 1500.0
INTERVAL_S: Final = 10.0
CHUNK_PAIRS: Final = 5_000
"""Pairs written and compiled by one round of statements."""

Progress = Callable[[int], object]
World = dict[str, Any]


def stay_quiet(_: int) -> None:
    """Progress that is not shown."""


async def seed(
    database: Database,
    settings: Settings,
    pairs: int,
    agency_name: str,
    now: datetime,
    progress: Progress = stay_quiet,
) -> World:
    """Make `pairs` victims, aggressors, phones, bracelets and orders in one transaction; returns ids and secrets.

    The agency of this name is used when there is one. `progress` gets the number of pairs done so far.
    """
    async with act(database, now) as unit:
        agency_id = await agencies.get_or_create(unit.connection, agency_name, now)
        world = await _make_world(unit, settings, agency_id, agency_name)
        shards = await shard_count(unit.connection)
        for start in range(0, pairs, CHUNK_PAIRS):
            count = min(CHUNK_PAIRS, pairs - start)
            chunk = _Chunk(agency_id, shards, now)
            for number in range(start, start + count):
                world["pairs"].append(chunk.add_pair(number))
            await chunk.write(unit)
            progress(start + count)
    return world


async def seed_demo(database: Database, settings: Settings, now: datetime) -> World:
    """The demo's agency: one pair in Almaty, people to tell, two units, a user a role."""
    async with act(database, now) as unit:
        name = f"Almaty demo {now:%Y-%m-%d %H:%M:%S}"  # each demo in an agency of its own: no old route, no old alarm
        agency_id = await agencies.get_or_create(unit.connection, name, now)
        await agencies.update(
            unit.connection, agency_id, {"region": "Almaty", "policy": {"alert_m": ALERT_M}, "language": "ru"}
        )
        world = await _make_world(unit, settings, agency_id, name)
        chunk = _Chunk(agency_id, await shard_count(unit.connection), now)
        pair = chunk.add_pair(0)
        world["pairs"].append(pair)
        await chunk.write(unit)
        await _name_people(unit, agency_id, pair)
        world["contact_id"] = str(await _add_contact(unit, agency_id, uuid.UUID(pair["victim"]["person_id"])))
        world["units"] = [str(unit_id) for unit_id in await _add_units(unit, agency_id)]
    return world


@dataclass
class _Chunk:
    """Rows of some pairs, column by column as COPY takes them."""

    agency_id: uuid.UUID
    shard_count: int
    now: datetime
    people: list[tuple[Any, ...]] = field(default_factory=list)
    cases: list[tuple[Any, ...]] = field(default_factory=list)
    orders: list[tuple[Any, ...]] = field(default_factory=list)
    devices: list[tuple[Any, ...]] = field(default_factory=list)
    tokens: list[tuple[Any, ...]] = field(default_factory=list)

    def add_pair(self, number: int) -> World:
        """One victim with a phone, one aggressor with a bracelet, one order between them."""
        victim_id, aggressor_id, case_id, order_id = new_id(), new_id(), new_id(), new_id()
        shard = shard_of(case_id, self.shard_count)
        self.people.append((victim_id, self.agency_id, self.now, self.now))
        self.people.append((aggressor_id, self.agency_id, self.now, self.now))
        self.cases.append((case_id, self.agency_id, aggressor_id, shard, self.now))
        self.orders.append(
            (
                order_id, self.agency_id, case_id, f"SEED-{number:06d}", victim_id, aggressor_id,
                self.now - timedelta(days=1), ALERT_M, WARNING_M, self.now, self.now,
            )
        )  # fmt: skip
        return {
            "order_id": str(order_id),
            "victim": self._add_device("phone", "victim", victim_id, shard),
            "aggressor": self._add_device("bracelet", "aggressor", aggressor_id, shard),
        }

    def _add_device(self, kind: str, role: str, person_id: uuid.UUID, shard: int) -> dict[str, str]:
        device_id, token = new_id(), new_token("qd")
        self.devices.append(
            (
                device_id, self.agency_id, kind, role, person_id, INTERVAL_S, "active", [shard], self.now, self.now,
            )
        )  # fmt: skip
        self.tokens.append((token_digest(token), device_id, self.agency_id, self.now))
        return {"person_id": str(person_id), "device_id": str(device_id), "token": token}

    async def write(self, unit: Unit) -> None:
        """Copy the rows and compile their cases."""
        connection = unit.connection
        await copy_rows(connection, "person", ("id", "agency_id", "created_at", "updated_at"), self.people)
        await keys.copy_new(connection, [row[0] for row in self.people], self.agency_id, self.now)
        await copy_rows(
            connection, "protection_case", ("id", "agency_id", "aggressor_id", "shard", "created_at"), self.cases
        )
        await copy_rows(
            connection,
            "protection_order",
            (
                "id", "agency_id", "case_id", "reference", "victim_id", "aggressor_id", "valid_from", "alert_m",
                "warning_m", "created_at", "updated_at",
            ),
            self.orders,
        )  # fmt: skip
        await copy_rows(
            connection,
            "device",
            (
                "id", "agency_id", "kind", "role", "person_id", "expected_interval_s", "status",
                "routes", "created_at", "updated_at",
            ),
            self.devices,
        )  # fmt: skip
        await copy_rows(connection, "bearer_token", ("digest", "device_id", "agency_id", "created_at"), self.tokens)
        await compile_new_cases(connection, [row[0] for row in self.cases])


async def _make_world(unit: Unit, settings: Settings, agency_id: uuid.UUID, agency_name: str) -> World:
    """Users, a gateway and a notification route; the world's frame, with no pairs yet."""
    gateway_token = new_token("qg")
    await copy_rows(
        unit.connection,
        "bearer_token",
        ("digest", "gateway_name", "agency_id", "created_at"),
        [(token_digest(gateway_token), "seed", agency_id, unit.now)],
    )
    await agencies.ROUTES.insert(
        unit.connection,
        {
            "id": new_id(),
            "agency_id": agency_id,
            "name": "Duty log",
            "channel": "log",
            "address": "duty",
            "min_severity": "high",
            "created_at": unit.now,
        },
    )
    return {
        "base_url": settings.public_url or f"http://{settings.host}:{settings.port}",
        "stream_url": settings.public_stream_url
        or f"ws://{settings.host}:{settings.resolved_stream_port}/v1/pings/stream",
        "agency": {"id": str(agency_id), "name": agency_name},
        "gateway": {"token": gateway_token},
        "users": await _add_users(unit, agency_id, agency_name),
        "pairs": [],
    }


async def _add_users(unit: Unit, agency_id: uuid.UUID, agency_name: str) -> dict[str, dict[str, str]]:
    desk = PasswordDesk()
    suffix = re.sub(r"[^\w]+", "-", agency_name.lower()).strip("-") or "agency"
    made = {}
    for role in ROLES:
        username = role
        if await users.by_username(unit.connection, username) is not None:
            username = f"{role}.{suffix}.{secrets.token_hex(3)}"
        password = secrets.token_urlsafe(12)
        await add_user(unit, agency_id, username, await desk.hash(password), role, display_name=role.capitalize())
        made[role] = {"username": username, "password": password}
    desk.close()
    return made


async def _name_people(unit: Unit, agency_id: uuid.UUID, pair: World) -> None:
    await PEOPLE.update(
        unit.connection,
        agency_id,
        uuid.UUID(pair["victim"]["person_id"]),
        {
            "identity": {"name": "Әсем Үлгібай", "phone": "+7 700 000 00 01", "address": "Алматы, Үлгі көшесі 1"},
            "language": "kk",
            "safe_contact": {"channel": "sms", "hours": "09:00-18:00"},
            "hazards": {"children": True, "weapons": False, "medical": None},
        },
    )
    await PEOPLE.update(
        unit.connection,
        agency_id,
        uuid.UUID(pair["aggressor"]["person_id"]),
        {"identity": {"name": "Пример Образцов", "phone": "+7 700 000 00 02"}, "hazards": {"weapons": True}},
    )


async def _add_contact(unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID) -> uuid.UUID:
    contact_id = new_id()
    await CONTACTS.insert(
        unit.connection,
        {
            "id": contact_id,
            "agency_id": agency_id,
            "person_id": person_id,
            "name": "Сестра (пример)",
            "relation": "sister",
            "channels": [{"channel": "email", "address": "sister@example.org"}],
            "language": "ru",
            "verified_at": unit.now,
            "consented_at": unit.now,
            "created_at": unit.now,
            "updated_at": unit.now,
        },
    )
    return contact_id


async def _add_units(unit: Unit, agency_id: uuid.UUID) -> list[uuid.UUID]:
    made = []
    for callsign, lat, lon in (("Арлан-1", 43.2471, 76.9286), ("Арлан-2", 43.2292, 76.9571)):
        unit_id = new_id()
        await UNITS.insert(
            unit.connection,
            {
                "id": unit_id,
                "agency_id": agency_id,
                "callsign": callsign,
                "lat": lat,
                "lon": lon,
                "position_at": unit.now,
                "capabilities": ["patrol"],
                "created_at": unit.now,
                "updated_at": unit.now,
            },
        )
        made.append(unit_id)
    return made
