"""An agency with a user a role, and a client of the application over real stores."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from api.app import create_app
from api.auth import Actor, make_access_token
from api.deps import ApiContext
from api.ingest.registry import Registry
from core.actions.unit_of_work import act
from core.actions.users import ROLES, add_user
from core.clock import utc_now
from core.passwords import PasswordDesk
from core.postgres import agencies
from core.postgres.database import Database
from core.settings import Settings

PASSWORD = "correct horse battery"


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = utc_now().replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


class Office:
    """One agency's users at their screens."""

    def __init__(
        self, client: httpx.AsyncClient, context: ApiContext, database: Database, agency_id: uuid.UUID,
        users: dict[str, Any],
    ) -> None:  # fmt: skip
        self.client = client
        self.context = context
        self.database = database
        """As the owner, to prepare and to look."""
        self.agency_id = agency_id
        self.users = users

    def headers(self, role: str) -> dict[str, str]:
        user = self.users[role]
        actor = Actor(user["id"], self.agency_id, role, user["username"])
        token = make_access_token(actor, self.context.token_key, self.context.clock(), 900)
        return {"Authorization": f"Bearer {token}"}

    async def call(self, role: str, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, path, headers=self.headers(role), **more)

    async def post(self, path: str, body: Any, role: str = "caseworker") -> httpx.Response:
        return await self.call(role, "POST", path, json=body)

    async def get(self, path: str, role: str = "supervisor") -> httpx.Response:
        return await self.call(role, "GET", path)

    async def patch(self, path: str, body: Any, role: str = "caseworker") -> httpx.Response:
        return await self.call(role, "PATCH", path, json=body)

    async def person(self, **more: Any) -> str:
        answer = await self.post("/v1/people", {"identity": {"name": "Үлгі"}, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def order(self, victim_id: str, aggressor_id: str, **more: Any) -> dict[str, Any]:
        answer = await self.post("/v1/orders", {"victim_id": victim_id, "aggressor_id": aggressor_id, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def enrolled(self, kind: str, person_id: str | None, **more: Any) -> dict[str, Any]:
        """A device with its token."""
        body = {"kind": kind, **({"person_id": person_id} if person_id else {}), **more}
        device = (await self.post("/v1/devices", body)).json()
        enrolment = await self.client.post("/v1/devices/enrol", json={"code": device["enrolment_code"]})
        assert enrolment.status_code == 200, enrolment.text
        return {**device, **enrolment.json()}


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def context(settings: Settings, posts: Any, redis_client: Any, hands: Hands) -> AsyncIterator[ApiContext]:
    registry = Registry(posts.device, hands)
    await registry.start()
    made = ApiContext(settings, posts.api, redis_client, clock=hands, device_database=posts.device, registry=registry)
    made.passwords = PasswordDesk(Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1))
    yield made
    made.passwords.close()
    await registry.stop()


@pytest.fixture
async def client(context: ApiContext) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(context), client=("192.0.2.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as made:
        yield made


@pytest.fixture
async def open_office(client: httpx.AsyncClient, context: ApiContext, database: Database) -> Callable[[str], Any]:
    """Makes an agency of some name with a user a role."""
    numbers = itertools.count()

    async def make(name: str) -> Office:
        number = next(numbers)
        users: dict[str, Any] = {}
        password_hash = context.passwords.hash_now(PASSWORD)
        async with act(database, context.clock()) as unit:
            agency_id = await agencies.get_or_create(unit.connection, name, context.clock())
            for role in ROLES:
                username = role if number == 0 else f"{role}{number}"
                users[role] = await add_user(unit, agency_id, username, password_hash, role)
        return Office(client, context, database, agency_id, users)

    return make


@pytest.fixture
async def office(open_office: Callable[[str], Any]) -> Office:
    made: Office = await open_office("Here")
    return made


@pytest.fixture
async def elsewhere(open_office: Callable[[str], Any], office: Office) -> Office:
    made: Office = await open_office("Elsewhere")
    return made
