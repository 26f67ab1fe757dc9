"""A cancelling while PostgreSQL is away: answered alike whatever the PIN, judged when it is back, in plain nowhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from api import even_time
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
