"""A victim whom somebody is about to erase, and the ledger of those who were."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.actions import erasure
from core.erasure_ledger import ErasureLedger
from core.postgres import deliveries
from core.signing import KeyRing, new_signer

IDENTITY = {"name": "Айгүл Сейітқызы", "phone": "+77015550102"}
SAFE = {"channel": "email", "address": "aigul@neighbour.example"}


@pytest.fixture
def ledger(tmp_path: Path) -> ErasureLedger:
    signer = new_signer()
    return ErasureLedger(tmp_path / "ledger" / "erasures.jsonl", signer, KeyRing([signer.public_key_bytes]))


class Case:
    """A protected person with a phone, a contact, an order, a panic, pings; and what the tests do with her."""

    def __init__(self, office: Any, posts: Any, client: Any, ledger: ErasureLedger, query: Any) -> None:
        self.office, self.posts, self.redis, self.ledger, self.query = office, posts, client, ledger, query
        self.her = self.him = ""
        self.phone: dict[str, Any] = {}
        self.order: dict[str, Any] = {}

    @property
    def her_id(self) -> uuid.UUID:
        return uuid.UUID(self.her)

    async def begin(self) -> None:
        self.her = await self.office.person(identity=IDENTITY, safe_contact=SAFE, safe_word="алма", needs=["deaf"])
        self.him = await self.office.person()
        self.order = await self.office.order(self.her, self.him, reference="Қаулы 17-4")
        self.phone = await self.office.enrolled("phone", self.her, push_token="push-7")
        channels = [{"channel": "email", "address": "sister@example.org"}]
        contact = {"person_id": self.her, "name": "Әпке", "channels": channels}
        assert (await self.office.post("/v1/contacts", contact)).status_code == 201

    async def code(self) -> str:
        """The latest code that was sent to her safe contact, as the notifier would send it."""
        async with self.posts.worker.transaction() as connection:
            far = datetime.max.replace(tzinfo=self.office.context.clock().tzinfo)
            claimed = await deliveries.claim_due(
                connection, channel="email", now=far, leased_until=far, holder="test", limit=10
            )
        sent = [one for one in claimed if one.template == "erasure_code"]
        assert {(one.audience, one.address) for one in sent} == {("victim", SAFE["address"])}
        return str(sent[-1].data["code"])

    async def asked_and_confirmed(self) -> None:
        path = f"/v1/people/{self.her}/erasure"
        assert (await self.office.post(path, {})).status_code == 202
        assert (await self.office.post(f"{path}/confirm", {"code": await self.code()})).json()["state"] == "confirmed"

    async def carry_out(self) -> int:
        return await erasure.carry_out_due(self.posts.device, self.redis, self.ledger, self.office.context.clock())

    async def state(self) -> str:
        return str((await self.office.get(f"/v1/people/{self.her}/erasure")).json()["state"])

    async def told(self) -> dict[str, Any]:
        return dict((await self.office.get(f"/v1/people/{self.her}")).json())


@pytest.fixture
async def case(office: Any, posts: Any, redis_client: Any, ledger: ErasureLedger, query: Any) -> Case:
    made = Case(office, posts, redis_client, ledger, query)
    await made.begin()
    return made
