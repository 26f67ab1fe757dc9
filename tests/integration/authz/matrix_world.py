"""Two agencies with something of everything that has an address, made through the routes wherever there is one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from api.auth import Actor, make_access_token
from api.deps import ApiContext
from core.actions.unit_of_work import act
from core.actions.users import ROLES, add_user
from core.clock import rfc3339, utc_now
from core.ids import new_id
from core.postgres import agencies
from core.postgres.database import Database

REASON = "Nobody else of us is on duty tonight."
POINT = {"type": "Point", "coordinates": [76.91, 43.21]}


@dataclass
class World:
    """One agency: its users by role, tokens, what path parameters may be, and words that are its alone."""

    agency_id: uuid.UUID
    users: dict[str, uuid.UUID]
    related: dict[str, uuid.UUID]
    """Users of the same roles who are related to her."""
    places: dict[str, str] = field(default_factory=dict)
    """Path or body parameter → the id of this agency's thing."""
    words: list[str] = field(default_factory=list)
    """Names, numbers and words of its people: nobody else's answer may bear one."""
    tokens: dict[str, str] = field(default_factory=dict)
    """victim, aggressor, gateway, revoked → a token."""
    of_case: set[str] = field(default_factory=set)
    """Ids and words of the case that its related users must not see."""

    def actor(self, role: str, *, related: bool = False, **more: Any) -> Actor:
        """A user of a role."""
        user_id = (self.related if related else self.users)[role]
        return Actor(user_id, self.agency_id, role, f"{role}-{user_id}", **more)

    @property
    def traces(self) -> set[str]:
        """Everything by which this agency's data is known."""
        ids = {str(self.agency_id), *(str(one) for one in (*self.users.values(), *self.related.values()))}
        return ids | set(self.places.values()) | set(self.words) | set(self.tokens.values())


async def make_world(context: ApiContext, client: httpx.AsyncClient, database: Database, mark: str) -> World:
    """An agency whose every word bears `mark`."""
    now = utc_now()
    world = await _people_of(context, database, mark, now)
    make = Maker(context, client, world)
    await _matter(make, mark, now)
    await _papers(make, mark, now)
    await _rows(make, database, mark, now)
    return world


async def _people_of(context: ApiContext, database: Database, mark: str, now: datetime) -> World:
    async with act(database, now) as unit:
        agency_id = await agencies.get_or_create(unit.connection, f"Agency {mark}", now)
        made: list[dict[str, uuid.UUID]] = [{}, {}]
        for number, users in enumerate(made):
            for role in ROLES:
                users[role] = (await add_user(unit, agency_id, f"{role}{number}.{mark}", None, role))["id"]
        clerk = await add_user(unit, agency_id, f"clerk.{mark}", None, "officer")
    places = {"agency_id": str(agency_id), "user_id": str(clerk["id"])}
    return World(agency_id, made[0], made[1], places, words=[f"Agency {mark}"])


@dataclass
class Maker:
    """Makes things as a user of the agency."""

    context: ApiContext
    client: httpx.AsyncClient
    world: World

    async def ask(self, role: str, method: str, path: str, body: Any = None, expect: tuple[int, ...] = ()) -> Any:
        """An answer's JSON; anything but the expected fails."""
        now = self.context.clock()
        token = make_access_token(self.world.actor(role), self.context.token_key, now, 900)
        answer = await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, json=body)
        assert answer.status_code in (expect or (200, 201, 202, 204)), f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    async def make(self, name: str, path: str, body: Any, role: str = "admin") -> str:
        """Make a thing and keep its id as a parameter's value."""
        made = await self.ask(role, "POST", path, body)
        self.world.places[name] = str(made["id"])
        return str(made["id"])


async def _matter(make: Maker, mark: str, now: datetime) -> None:
    """Her, him, their order, and what they wear."""
    world = make.world
    phone = f"+7701{abs(hash(mark)) % 10**7:07d}"
    world.words += [f"Her {mark}", f"Him {mark}", phone, f"word {mark}"]
    her = {"identity": {"name": f"Her {mark}", "phone": phone}, "safe_word": f"word {mark}"}
    her |= {"safe_contact": {"channel": "log", "address": "desk"}}
    victim = await make.make("victim_id", "/v1/people", her)
    aggressor = await make.make("aggressor_id", "/v1/people", {"identity": {"name": f"Him {mark}"}})
    world.places["person_id"] = victim
    parties = {"victim_id": victim, "aggressor_id": aggressor, "reference": f"Order {mark}", "legal_m": 100}
    await make.make("order_id", "/v1/orders", parties)
    world.words.append(f"Order {mark}")
    for kind, person, who in (("phone", victim, "victim"), ("bracelet", aggressor, "aggressor")):
        device = await make.ask("admin", "POST", "/v1/devices", {"kind": kind, "person_id": person})
        world.places["device_id" if who == "victim" else "bracelet_id"] = str(device["id"])
        enrolled = await make.client.post("/v1/devices/enrol", json={"code": device["enrolment_code"]})
        world.tokens[who] = enrolled.json()["token"]
    lost = await make.ask("admin", "POST", "/v1/devices", {"kind": "phone", "person_id": victim})
    enrolled = await make.client.post("/v1/devices/enrol", json={"code": lost["enrolment_code"]})
    world.tokens["revoked"] = enrolled.json()["token"]
    await make.ask("admin", "POST", f"/v1/devices/{lost['id']}/revoke")
    world.tokens["gateway"] = (await make.ask("admin", "POST", "/v1/gateways", {"name": f"gate {mark}"}))["token"]
    world.places["name"] = f"gate {mark}"
    zone = {"type": "Feature", "geometry": POINT}
    zone["properties"] = {"order_id": world.places["order_id"], "kind": "exclusion", "radius_m": 200.0}
    await make.make("zone_id", "/v1/zones", zone)
    contact = {"person_id": victim, "name": f"Sister {mark}", "channels": [{"channel": "log", "address": "desk"}]}
    await make.make("contact_id", "/v1/contacts", contact)
    world.words.append(f"Sister {mark}")
    pressed = await make.client.post(
        "/v1/panic",
        json={"id": str(new_id()), "note": f"note {mark}", "lat": 43.2123, "lon": 76.9123},
        headers={"Authorization": f"Bearer {world.tokens['victim']}"},
    )
    assert pressed.status_code == 201, pressed.text
    world.places["incident_id"] = pressed.json()["incident_id"]
    world.places["panic_id"] = pressed.json()["panic_id"]
    world.words.append(f"note {mark}")


async def _papers(make: Maker, mark: str, now: datetime) -> None:
    """What is kept beside a case."""
    world, later = make.world, rfc3339(now + timedelta(hours=2))
    places = world.places
    await make.make("unit_id", "/v1/units", {"callsign": f"Unit {mark}"})
    await make.make("route_id", "/v1/notification-routes", {"name": mark, "channel": "log", "address": f"desk {mark}"})
    suspension = {"order_id": places["order_id"], "reason": f"hearing {mark}", "ends_at": later}
    await make.make("suspension_id", "/v1/suspensions", suspension, "caseworker")
    consent = {"person_id": places["victim_id"], "recipient": "caseworker", "fields": ["name"]}
    consent |= {"manner": "written", "valid_until": later}
    await make.make("consent_id", "/v1/consents", consent)
    await make.make("handover_id", "/v1/handovers", {"consent_id": places["consent_id"]})
    await make.make("call_id", "/v1/calls", {"channel": "102", "person_id": places["victim_id"]})
    outcome = {"order_id": places["order_id"], "proceeding": "criminal", "result": "fine"}
    await make.make("outcome_id", "/v1/court-outcomes", outcome)
    hold = {"person_id": places["victim_id"], "reason": "court_order", "reference": f"inquiry {mark}"}
    await make.make("hold_id", "/v1/audit/holds", {**hold, "ends_at": later})
    legal = {"person_id": places["aggressor_id"], "reason": "inquiry", "reference": f"file {mark}"}
    await make.make("legal_hold_id", "/v1/holds", legal)
    evidence = f"/v1/incidents/{places['incident_id']}/evidence"
    await make.make("export_id", evidence, {"reason": f"For the court {mark}"})
    look = {"reason_code": "missing", "reason": REASON}
    await make.make("look_id", f"/v1/people/{places['victim_id']}/look", look, "dispatcher")
    world.words += [f"Unit {mark}", f"desk {mark}", f"hearing {mark}", f"inquiry {mark}", f"For the court {mark}"]
    for user_id in world.related.values():
        body = {"user_id": str(user_id), "person_id": places["victim_id"], "relation": "relative"}
        await make.ask("supervisor", "POST", "/v1/conflicts", body)


async def _rows(make: Maker, database: Database, mark: str, now: datetime) -> None:
    """What no route makes: a task, a passkey, a session; and a case that was sealed and broken open."""
    world, places = make.world, make.world.places
    user_id = world.users["admin"]
    places |= {name: str(new_id()) for name in ("task_id", "passkey_id", "session_id", "timer_id", "stand_in_id")}
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO panic_timer (id, agency_id, person_id, device_id, due_at, started_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $6, $5, $5)",
            uuid.UUID(places["timer_id"]), world.agency_id, uuid.UUID(places["victim_id"]),
            uuid.UUID(places["device_id"]), now, now + timedelta(hours=2),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO on_call_override (id, agency_id, duty, user_id, from_at, until_at, created_at)"
            " VALUES ($1, $2, 'supervisor', $3, $4, $5, $4)",
            uuid.UUID(places["stand_in_id"]), world.agency_id, user_id, now, now + timedelta(days=1),
        )  # fmt: skip
        case_id = await connection.fetchval(
            "SELECT case_id FROM protection_order WHERE id = $1", uuid.UUID(places["order_id"])
        )
        await connection.execute(
            "INSERT INTO task (id, agency_id, kind, case_id, order_id, opens_at, due_at, created_at, opened_at)"
            " VALUES ($1, $2, 'order_expiring', $3, $4, $5, $5, $5, $5)",
            uuid.UUID(places["task_id"]), world.agency_id, case_id, uuid.UUID(places["order_id"]), now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO user_passkey (id, agency_id, user_id, credential_id, public_key, sign_count, name, created_at)"
            " VALUES ($1, $2, $3, $4, '', 0, $5, $6)",
            uuid.UUID(places["passkey_id"]), world.agency_id, user_id, mark.encode(), f"key {mark}", now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO user_session (id, agency_id, user_id, created_at, last_seen_at, confirmed_at, expires_at,"
            " method) VALUES ($1, $2, $3, $4, $4, $4, $5, 'password')",
            uuid.UUID(places["session_id"]), world.agency_id, user_id, now, now + timedelta(days=1),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO break_glass (id, agency_id, user_id, asked_kind, asked_id, case_ids, reason_code, reason,"
            " from_at, until_at) VALUES ($1, $2, $3, 'case', $4, $5, 'emergency', $6, $7, $8)",
            glass_id := new_id(), world.agency_id, world.users["dispatcher"], case_id, [case_id], REASON, now,
            now + timedelta(hours=1),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO delivery (id, agency_id, incident_id, cause, audience, recipient, channel, address,"
            " template, state, due_at, created_at, updated_at) VALUES ($1, $2, $3, 'test', 'dispatcher', 'route:1',"
            " 'log', 'desk', 'incident_dispatcher', 'dead', $4, $4, $4)",
            delivery_id := new_id(), world.agency_id, uuid.UUID(places["incident_id"]), now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO drill (id, agency_id, kind, person_id, device_id, started_at, answers_by)"
            " VALUES ($1, $2, 'device', $3, $4, $5, $5)",
            drill_id := new_id(), world.agency_id, uuid.UUID(places["victim_id"]), uuid.UUID(places["device_id"]), now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, jurisdiction_agency_id, subject,"
            " occurred_at, opened_at, updated_at)"
            " VALUES ($1, 'outage', 'outage', 'high', $1, $2, $2, $4, $3, $3, $3)",
            outage_id := new_id(), world.agency_id, now, f"outage {mark}",
        )  # fmt: skip
    places |= {"glass_id": str(glass_id), "case_id": str(case_id), "delivery_id": str(delivery_id)}
    places |= {"drill_id": str(drill_id), "outage_id": str(outage_id)}
    places["subscription_id"] = str(new_id())
    world.words.append(f"key {mark}")
    world.of_case |= {places[name] for name in ("victim_id", "aggressor_id", "order_id", "case_id", "incident_id")}
    world.of_case |= {word for word in world.words if word.startswith(("Her", "Him", "Order", "Sister", "note", "+77"))}
