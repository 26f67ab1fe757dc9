"""A cancelling while PostgreSQL is away: answered alike whatever the PIN, judged when it is back, in plain nowhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from api import even_time
from api.last_known import LastKnown
from api.panic_desk import PanicDesk, PanicDrain
from api.panic_outage import PanicOutage
from core.clock import now_ms, utc_now
from core.domain.delivery import Delivery
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import Posted
from core.ids import token_digest
from core.redis import keys

Query = Callable[..., Any]
PIN, DURESS_PIN, WRONG_PIN = "258036", "91191147", "77007755"
RECOVERY_S = 20.0


@pytest.fixture
async def gated_api(
    settings: Any, gated_database: Any, redis_client: Any, pair: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """An API whose way to PostgreSQL can be shut, and her PINs in it."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    async with serve(settings, gated_database, redis_client) as served:
        async with served.client(pair.phone_token) as phone:
            assert (await phone.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})).status_code == 204
        yield served


async def incident_where(query: Query, field: str) -> Any:
    """The incident, once its detail has a field."""
    async with asyncio.timeout(RECOVERY_S):
        while not (rows := await query("SELECT state, do_not_call, detail FROM incident WHERE detail ? $1", field)):
            await asyncio.sleep(0.05)
    return rows[0]


@pytest.mark.parametrize(
    ("pin", "marked", "quiet"),
    [(PIN, "close_by", False), (DURESS_PIN, "duress", True), (WRONG_PIN, "cancel_unverified", True)],
)
async def test_a_cancelling_is_answered_alike_and_judged_on_recovery(
    gated_api: Any,
    gate: Any,
    pair: Any,
    query: Query,
    settings: Any,
    redis_client: Any,
    pin: str,
    marked: str,
    quiet: bool,
) -> None:
    panic_id = str(uuid.uuid4())
    async with gated_api.client(pair.phone_token) as phone:
        await gate.shut()
        assert (await phone.post("/v1/panic", json={"id": panic_id})).json()["incident_id"] is None
        answer = await phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": pin})
        assert (answer.status_code, answer.content) == (200, b'{"state":"cancelled"}')
        assert (await phone.get(f"/v1/panic/{panic_id}")).json()["state"] == "cancelled"
        written = b"".join(path.read_bytes() for path in Path(settings.data_dir).rglob("*") if path.is_file())
        streamed = b"".join(b"".join(fields.values()) for _, fields in await redis_client.xrange(keys.PANICS))
        assert streamed
        assert pin.encode() not in written + streamed
        await gate.open()
        row = await incident_where(query, marked)
        assert (await phone.get(f"/v1/panic/{panic_id}")).json()["state"] == "cancelled"
    assert (row["state"], row["do_not_call"]) == ("open", quiet)


async def test_a_cancelling_while_postgresql_is_away_is_judged_once(
    gated_api: Any, gate: Any, pair: Any, query: Query
) -> None:
    panic_id = str(uuid.uuid4())
    async with gated_api.client(pair.phone_token) as phone:
        assert (await phone.post("/v1/panic", json={"id": panic_id})).status_code == 201
        await gate.shut()
        answers = [await phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": one}) for one in (PIN, DURESS_PIN)]
        assert answers[0].content == answers[1].content == b'{"state":"cancelled"}'
        await gate.open()
        await incident_where(query, "duress")
    lines = await query("SELECT kind, data->>'pin' AS pin FROM timeline ORDER BY ordinal")
    assert [line["pin"] for line in lines if line["kind"] == "cancel_asked"] == ["right", "duress"]


@dataclass
class Refusing:
    """Providers that take nothing yet, and ask to be tried again at once."""

    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Remember for whom it was."""
        assert created_at <= utc_now()
        assert attempt > 0
        self.arrived.put_nowait(delivery.audience)
        return Posted(sent=False, again_in_s=0.03)

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_after_a_cancelling_nobody_can_check_her_contacts_are_tried_no_more(
    settings: Any, posts_at: Any, gated_database: Any, gate: Any, redis_client: Any, pair: Any
) -> None:
    database = posts_at(gated_database.url).device
    known, post = LastKnown(settings, database, utc_now), Refusing()
    outage = PanicOutage(known, post, utc_now, staff_after_s=900)
    desk = PanicDesk(settings, database, redis_client, None, None, utc_now, outage=outage)
    drain = PanicDrain(desk, 60.0)
    await known.start()
    await drain.start()
    try:
        await gate.shut()
        panic = PanicIn(
            id=uuid.uuid4(), client_id=None, received_ms=now_ms(), source="s", device_id=pair.phone_id,
            token_digest=token_digest(pair.phone_token).hex(), person_id=pair.victim_id, agency_id=pair.agency_id,
        )  # fmt: skip
        assert (await desk.take(panic)).incident_id is None
        tried: list[str] = []
        async with asyncio.timeout(RECOVERY_S):
            while not {"contact", "dispatcher"} <= set(tried):
                tried.append(await post.arrived.get())
            wish = CancelIn(id=uuid.uuid4(), panic_id=str(panic.id), device_id=pair.phone_id, received_ms=now_ms())
            assert await desk.cancel(wish) is True
            while not post.arrived.empty():
                post.arrived.get_nowait()
            assert [await post.arrived.get() for _ in range(4)] == ["dispatcher"] * 4
    finally:
        await drain.stop()
        await known.stop()
