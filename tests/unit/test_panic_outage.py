"""Who is told of once in an outage, and who each for themselves."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import Any

from api.panic_outage import PanicOutage
from core.clock import utc_now
from core.domain.delivery import PRIORITY_PANIC, Delivery
from core.domain.panic import PanicIn
from core.domain.told import Posted

AGENCY = uuid.UUID(int=1)


class Known:
    """One route of every agency, and nobody else to tell."""

    def to_agency(self, panic: PanicIn) -> list[Delivery]:
        """The route's message."""
        return [
            Delivery(
                agency_id=panic.agency_id or AGENCY, incident_id=None, cause=panic.id, audience="dispatcher",
                recipient="route", channel="log", address="desk", template="incident_dispatcher", language="en",
                priority=PRIORITY_PANIC,
            )
        ]  # fmt: skip

    def to_staff(self, _panic: PanicIn) -> list[Delivery]:
        """Nobody."""
        return []

    async def to_contacts(self, _panic: PanicIn) -> list[Delivery]:
        """Nobody."""
        return []


class Post:
    """Takes everything."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[uuid.UUID] = asyncio.Queue()

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Remember of which panic it was."""
        assert created_at <= utc_now()
        assert attempt == 1
        self.told.put_nowait(delivery.cause)
        return Posted(sent=True)

    async def aclose(self) -> None:
        """Nothing is open."""


def press(**values: Any) -> PanicIn:
    """Somebody of whom only the address is known."""
    return PanicIn(**{
        "id": uuid.uuid4(), "client_id": None, "received_ms": 1, "token_digest": None, "source": "one address",
        "doubts": ["no_token"], "lat": 43.2, "lon": 76.9, **values,
    })  # fmt: skip


async def test_strangers_behind_one_address_are_told_of_where_they_are_elsewhere_or_anothers_to_answer() -> None:
    post = Post()
    outage = PanicOutage(Known(), post, utc_now)  # type: ignore[arg-type]
    first, elsewhere, nowhere, neighbours = press(), press(lat=43.3), press(lat=None), press(agency_id=uuid.UUID(int=2))
    again, known = press(lat=43.2001), press(device_id=uuid.UUID(int=3), doubts=[])
    moved = press(device_id=uuid.UUID(int=3), doubts=[], lat=43.4)
    for one in (first, elsewhere, nowhere, neighbours, again, known, moved):
        outage.tell(one)
    async with asyncio.timeout(10):
        told = {await post.told.get() for _ in range(5)}
    assert told == {first.id, elsewhere.id, nowhere.id, neighbours.id, known.id}
    assert (outage.told_instead(again), outage.told_instead(moved)) == (first.id, known.id)
    await outage.close()
    assert post.told.empty()
