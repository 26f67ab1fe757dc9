"""Deliveries that were sent, and an API that hears what became of them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from api.auth import Actor, make_access_token
from api.deps import ApiContext
from api.ingest.registry import Registry
from core.actions.unit_of_work import act
from core.domain.delivery import Delivery
from core.ids import new_id, new_token, token_digest
from core.postgres.database import Database
from core.settings import Settings

PUBLIC = "https://qorgan.test"
RECEIPTS_SECRET = "whsec_" + base64.b64encode(b"r" * 32).decode()


@dataclass
class Stage:
    """The API on the test's stores, an agency in it with its users and a phone."""

    client: httpx.AsyncClient
    context: ApiContext
    database: Database
    clock: Any
    outbox: Any
    users: dict[str, uuid.UUID]
    device_token: str

    def bearer(self, role: str) -> dict[str, str]:
        """A signed-in user's header."""
        actor = Actor(self.users[role], self.outbox.agency_id, role, role)
        return {"authorization": f"Bearer {make_access_token(actor, self.context.token_key, self.clock(), 9000)}"}

    async def queue(self, **fields: Any) -> Delivery:
        """Queue a delivery as actions do."""
        values: dict[str, Any] = {
            "agency_id": self.outbox.agency_id, "incident_id": self.outbox.incident_id, "cause": new_id(),
            "audience": "contact", "recipient": f"contact:{new_id()}", "channel": "probe", "address": "+77010000000",
            "template": "panic_contact", "data": {"type": "panic", "severity": "critical", "incident_id": "1"},
        } | fields  # fmt: skip
        item = Delivery(**values)
        async with act(self.database, self.clock()) as unit:
            unit.queue(item)
        return item

    async def states(self, delivery_id: uuid.UUID) -> list[str]:
        """The delivery's state, and every state its incident's timeline and the feed were told."""
        row = await self.outbox.get(delivery_id)
        lines = await self.outbox.rows(
            "SELECT data ->> 'state' AS state FROM timeline WHERE data ->> 'delivery_id' = $1 ORDER BY at, id",
            str(delivery_id),
        )
        events = await self.outbox.rows(
            "SELECT data ->> 'state' AS state FROM feed WHERE data ->> 'delivery_id' = $1 ORDER BY id", str(delivery_id)
        )
        assert sorted(one["state"] for one in lines) == sorted(one["state"] for one in events)
        return [row["state"], *(one["state"] for one in events)]


@pytest.fixture
async def stage(
    settings: Settings, posts: Any, database: Database, redis_client: Any, outbox: Any, clock: Any, tmp_path: Path
) -> AsyncIterator[Stage]:
    """The API, connected as services are, with two gateways."""
    gateways = [
        {
            "name": "twilio", "preset": "twilio", "values": {"account_sid": "AC1", "from": "+1"},
            "secrets": {"auth_token": "s3cret"},
        },
        {"name": "local", "preset": "json", "url": "https://sms.test", "secrets": {"token": "t0ken"}},
    ]  # fmt: skip
    path = tmp_path / "sms.json"
    path.write_text(json.dumps({"gateway": gateways}))
    settings = settings.model_copy(
        update={
            "public_url": PUBLIC,
            "sms_gateways_file": path,
            "webpush_hosts": "push.test",
            "email_receipts_secret": SecretStr(RECEIPTS_SECRET),
        }
    )
    users, token = {}, new_token("qd")
    async with database.transaction() as connection:
        for role in ("admin", "supervisor", "dispatcher", "officer"):
            users[role] = new_id()
            await connection.execute(
                "INSERT INTO app_user (id, agency_id, username, role, created_at) VALUES ($1, $2, $3, $3, $4)",
                users[role], outbox.agency_id, role, clock(),
            )  # fmt: skip
        await connection.execute("UPDATE device SET status = 'active' WHERE id = $1", outbox.device_id)
        await connection.execute(
            "INSERT INTO bearer_token (digest, device_id, agency_id, created_at) VALUES ($1, $2, $3, $4)",
            token_digest(token), outbox.device_id, outbox.agency_id, clock(),
        )  # fmt: skip
    registry = Registry(posts.device, clock)
    context = ApiContext(
        settings, posts.api, redis_client, clock=clock, device_database=posts.device, registry=registry
    )
    await registry.start()
    transport = httpx.ASGITransport(create_app(context), client=("8.8.8.8", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://inside.test") as client:
        yield Stage(client, context, database, clock, outbox, users, token)
    context.passwords.close()
    await registry.stop()
