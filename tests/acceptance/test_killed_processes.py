"""Any process killed at any moment: nothing acknowledged is lost, nothing is doubled, work resumes."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("system")

TAKEOVER_S = 20.0


async def history_seqs(system: Any, device_id: str) -> list[int]:
    """Sequence numbers in history, repeats included."""
    rows = await system.fetch(
        "SELECT seq FROM ping JOIN device ON device.number = device_number WHERE device.id = $1 ORDER BY seq",
        uuid.UUID(device_id),
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize("target", ["geo", "historian", "notifier", "api", "ingest"])
async def test_a_killed_process_loses_nothing_and_doubles_nothing(
    system: Any, play: Any, eventually: Any, target: str
) -> None:
    pair = system.pair()
    async with play(system, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(3000)
        for step in range(20):
            victim.at(0)
            aggressor.at(2900 - step * 50)
            await asyncio.sleep(0.02)
        killing = asyncio.create_task(system.kill(target))
        for step in range(40):
            victim.at(0)
            aggressor.at(max(80, 1900 - step * 80))
            await asyncio.sleep(0.05)
        await killing

        async def incidents() -> list[Any]:
            # Devices go on pinging; on a system this young the very first pings may lie before their configuration.
            victim.at(0)
            aggressor.at(80)
            return list(
                await system.fetch(
                    "SELECT id, type FROM incident WHERE order_id = $1 AND family = 'proximity'",
                    uuid.UUID(pair["order_id"]),
                )
            )

        found = await eventually(incidents, f"the breach's incident with {target} killed", TAKEOVER_S)
        assert await victim.device.wait_acked(TAKEOVER_S), "her pings were not acknowledged after the kill"
        assert await aggressor.device.wait_acked(TAKEOVER_S), "his pings were not acknowledged after the kill"
        sent = aggressor.device.counts.recorded
        assert aggressor.device.counts.rejected == {}
    assert len(found) == 1, "one breach, one incident"

    async def all_there() -> bool:
        return len(await history_seqs(system, pair["aggressor"]["device_id"])) >= sent

    await eventually(all_there, f"all {sent} pings in history", TAKEOVER_S)
    seqs = await history_seqs(system, pair["aggressor"]["device_id"])
    assert len(seqs) == len(set(seqs)) == sent

    async def told() -> list[str]:
        return list(system.hooks.ids_about(str(found[0]["id"])))

    await eventually(told, "the webhook to be told", TAKEOVER_S)
    opened = await system.fetch(
        "SELECT count(*) FROM feed WHERE kind = 'incident.opened' AND data->>'id' = $1", str(found[0]["id"])
    )
    assert opened[0][0] == 1, "one incident is opened once on every screen"


async def test_a_feed_resumes_from_its_cursor_after_the_api_was_killed(system: Any, play: Any) -> None:
    pair = system.pair()
    board = await system.get("/v1/board")
    await system.kill("api")
    async with play(system, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(50)
        async with system.feed(after=board["cursor"]) as feed:
            incident = await feed.incident("opened", pair, "proximity")
    assert incident["state"] == "open"


@contextlib.asynccontextmanager
async def commits_hang(system: Any) -> AsyncIterator[None]:
    """What is committed meanwhile is on disk, and whoever committed it is not told: it waits for a standby."""
    async with system.database() as connection:
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        async with system.database() as connection:
            await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await connection.execute("SELECT pg_reload_conf()")


async def test_the_api_killed_between_commit_and_answer_leaves_one_panic(system: Any, eventually: Any) -> None:
    pair, panic_id = system.pair(), str(uuid.uuid4())
    body = {"id": panic_id, "lat": 43.24, "lon": 76.95}
    headers = {"Authorization": f"Bearer {pair['victim']['token']}"}

    async def committing() -> bool:
        return bool(
            await system.fetch(
                "SELECT FROM pg_stat_activity WHERE application_name LIKE 'qorgan-panic%' AND wait_event = 'SyncRep'"
            )
        )

    async with httpx.AsyncClient(base_url=system.api_url, timeout=30) as phone:
        async with commits_hang(system):
            pressing = asyncio.create_task(phone.post("/v1/panic", json=body, headers=headers))
            await eventually(committing, "the panic's commit")
            killing = asyncio.create_task(system.kill("api"))
            with pytest.raises(httpx.TransportError):
                await pressing
        await killing
        again = await phone.post("/v1/panic", json=body, headers=headers)
    assert again.status_code == 200, "it was taken before"
    rows = await system.fetch(
        "SELECT incident_id FROM panic WHERE device_id = $1", uuid.UUID(pair["victim"]["device_id"])
    )
    assert [str(row["incident_id"]) for row in rows] == [again.json()["incident_id"]]

    async def told() -> list[str]:
        return list(system.hooks.ids_about(again.json()["incident_id"]))

    assert len(set(await eventually(told, "the webhook to be told", TAKEOVER_S))) == 1
    [incident] = await system.fetch("SELECT detail FROM incident WHERE id = $1", rows[0]["incident_id"])
    assert '"presses": 1' in incident["detail"], "the second asking is no second press"
