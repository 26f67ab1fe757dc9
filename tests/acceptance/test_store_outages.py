"""PostgreSQL away, Valkey away, under load: everything acknowledged ends in its place, once."""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(300)]

OUTAGE_S = float(os.environ.get("QORGAN_TEST_OUTAGE_S", "60"))
RECOVERY_S = 45.0
PING_EVERY_S = 0.25


async def stream_during(outage: float, party: Any, metres: Any) -> None:
    """Send pings through the outage, as a device does that knows nothing of it."""
    steps = int(outage / PING_EVERY_S)
    for step in range(steps):
        party.at(metres(step / steps))
        await asyncio.sleep(PING_EVERY_S)


async def count_pings(system: Any, device_id: str) -> tuple[int, int]:
    """Rows in history and how many of them are different."""
    rows = await system.fetch(
        "SELECT count(*), count(DISTINCT seq) FROM ping JOIN device ON device.number = device_number"
        " WHERE device.id = $1",
        uuid.UUID(device_id),
    )
    return int(rows[0][0]), int(rows[0][1])


async def silence_incidents(system: Any, pair: dict[str, Any]) -> int:
    """Incidents of silence about a pair's devices, which spoke all the time."""
    rows = await system.fetch(
        "SELECT count(*) FROM incident WHERE family = 'silence' AND device_id = ANY($1::uuid[])",
        [pair["victim"]["device_id"], pair["aggressor"]["device_id"]],
    )
    return int(rows[0][0])


async def press(system: Any, pair: dict[str, Any], panic_id: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as phone:
        return await phone.post(
            "/v1/panic",
            json={"id": panic_id, "lat": 43.24, "lon": 76.95},
            headers={"Authorization": f"Bearer {pair['victim']['token']}"},
        )


async def test_postgresql_away_for_a_minute_under_load(system: Any, play: Any, eventually: Any) -> None:
    pair, panicking = system.pair(), system.pair()
    async with play(system, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(4000)
        assert await aggressor.device.wait_acked(10)
        async with system.feed() as feed:
            system.stores.postgres.kill()
            away = asyncio.create_task(stream_during(OUTAGE_S, victim, lambda _: 0))
            coming = asyncio.create_task(stream_during(OUTAGE_S, aggressor, lambda part: 4000 - part * 3950))
            panic_id = str(uuid.uuid4())
            answer = await press(system, panicking, panic_id)
            assert answer.status_code == 201, answer.text
            assert answer.json()["incident_id"] is None
            await feed.first(lambda f: f["kind"] == "provisional", "the panic as provisional", 15)
            await asyncio.gather(away, coming)
            assert await aggressor.device.wait_acked(10), "pings are taken while PostgreSQL is away"
            sent = aggressor.device.counts.recorded
            system.stores.postgres.start()  # in this thread: the store dies with the thread that started it

        async def panic_rows() -> list[Any]:
            return list(await system.fetch("SELECT incident_id FROM panic WHERE id = $1", uuid.UUID(panic_id)))

        rows = await eventually(panic_rows, "the panic's row", RECOVERY_S)
        assert len(rows) == 1
        again = await press(system, panicking, panic_id)
        assert again.status_code == 200
        assert again.json()["incident_id"] == str(rows[0]["incident_id"])

        async def breach() -> list[Any]:
            return list(
                await system.fetch(
                    "SELECT id FROM incident WHERE order_id = $1 AND family = 'proximity'", uuid.UUID(pair["order_id"])
                )
            )

        assert len(await eventually(breach, "the breach during the outage", RECOVERY_S)) == 1

        async def history() -> bool:
            return await count_pings(system, pair["aggressor"]["device_id"]) == (sent, sent)

        await eventually(history, f"all {sent} pings in history, once", RECOVERY_S)
    assert await silence_incidents(system, pair) == 0, "an outage of ours is nobody's silence"


async def test_valkey_away_for_a_minute_under_load(system: Any, play: Any, eventually: Any) -> None:
    pair, panicking = system.pair(), system.pair()
    async with play(system, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(4000)
        assert await aggressor.device.wait_acked(10)
        async with system.feed() as feed:
            system.stores.valkey.kill()
            away = asyncio.create_task(stream_during(OUTAGE_S, victim, lambda _: 0))
            coming = asyncio.create_task(stream_during(OUTAGE_S, aggressor, lambda part: 4000 - part * 3950))
            answer = await press(system, panicking, str(uuid.uuid4()))
            assert answer.status_code == 201, answer.text
            assert answer.json()["incident_id"] is not None, "panic shares nothing with telemetry"
            await feed.incident("opened", panicking, "panic")
            await feed.first(lambda f: f["kind"] == "health", "word that Valkey is away", 15)
            async with httpx.AsyncClient(base_url=system.api_url) as phone:
                refused = await phone.post(
                    "/v1/pings",
                    json={"pings": [{"at": datetime.now(UTC).isoformat(), "lat": 43.2, "lon": 76.9}]},
                    headers={"Authorization": f"Bearer {panicking['victim']['token']}"},
                )
            assert refused.status_code == 503, refused.text
            assert refused.json()["code"] == "ingest_unavailable"
            assert "retry-after" in refused.headers
            await asyncio.gather(away, coming)
            system.stores.valkey.start()  # in this thread: the store dies with the thread that started it
            assert await aggressor.device.wait_acked(RECOVERY_S), "what the device kept was not taken after recovery"
            sent = aggressor.device.counts.recorded
            assert aggressor.device.counts.dropped == 0
            aggressor.at(50)
            sent += 1
            await feed.incident("opened", pair, "proximity", RECOVERY_S)

        async def history() -> bool:
            return await count_pings(system, pair["aggressor"]["device_id"]) == (sent, sent)

        await eventually(history, f"all {sent} pings in history, once", RECOVERY_S)
    assert await silence_incidents(system, pair) == 0, "an outage of ours is nobody's silence"
