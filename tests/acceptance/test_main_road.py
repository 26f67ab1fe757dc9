"""The main job, end to end: real sockets, separate processes, real stores."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("system")


async def breach(system: Any, play: Any, pair: dict[str, Any]) -> dict[str, Any]:
    """Bring him from 3 km to 60 m; the opened incident."""
    async with system.feed() as feed, play(system, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(3000)
        assert await victim.device.wait_acked(10)
        assert await aggressor.device.wait_acked(10)
        victim.at(0)
        aggressor.at(60)
        return dict(await feed.incident("opened", pair, "proximity"))


async def test_a_breach_is_an_incident_a_message_history_and_a_frame_on_the_feed(
    system: Any, play: Any, eventually: Any
) -> None:
    pair = system.pair()
    incident = await breach(system, play, pair)
    assert incident["order_id"] == pair["order_id"]
    assert incident["severity"] == "critical"
    assert incident["state"] == "open"
    assert incident["distance_m"] == pytest.approx(60, abs=5)
    assert incident["place"] is not None

    stored = await system.get(f"/v1/incidents/{incident['id']}")
    assert stored["type"] == "proximity"
    assert stored["timeline"], "the incident has no timeline"

    async def told() -> bool:
        return bool(system.hooks.ids_about(incident["id"]))

    await eventually(told, "the webhook to be told")

    async def in_history() -> bool:
        rows = await system.fetch(
            "SELECT count(*) FROM ping JOIN device ON device.number = device_number WHERE device.id = ANY($1::uuid[])",
            [pair["victim"]["device_id"], pair["aggressor"]["device_id"]],
        )
        return bool(rows[0][0] == 4)

    await eventually(in_history, "four pings in history")


async def test_a_panic_is_an_incident_a_message_and_a_frame_on_the_feed(system: Any, eventually: Any) -> None:
    pair = system.pair()
    panic_id = str(uuid.uuid4())
    body = {"id": panic_id, "lat": 43.24, "lon": 76.95, "accuracy_m": 12, "mode": "silent", "trigger": "button"}
    headers = {"Authorization": f"Bearer {pair['victim']['token']}"}
    async with system.feed() as feed, httpx.AsyncClient(base_url=system.api_url, headers=headers) as phone:
        answer = await phone.post("/v1/panic", json=body)
        assert answer.status_code == 201
        assert answer.json()["panic_id"] == panic_id
        incident = await feed.incident("opened", pair, "panic")
        assert incident["id"] == answer.json()["incident_id"]
        assert incident["severity"] == "critical"

        again = await phone.post("/v1/panic", json=body)
        assert again.status_code == 200, "the same press twice is one panic"
        assert again.json()["incident_id"] == incident["id"]
    rows = await system.fetch("SELECT count(*) FROM panic WHERE incident_id = $1", uuid.UUID(incident["id"]))
    assert rows[0][0] == 1

    async def told() -> bool:
        return bool(system.hooks.ids_about(incident["id"]))

    await eventually(told, "the webhook to be told")


async def test_an_aggressor_has_no_panic_button(system: Any) -> None:
    pair = system.pair()
    async with httpx.AsyncClient(base_url=system.api_url) as client:
        answer = await client.post(
            "/v1/panic",
            json={"id": str(uuid.uuid4())},
            headers={"Authorization": f"Bearer {pair['aggressor']['token']}"},
        )
    assert answer.status_code == 403
    assert answer.json()["code"] == "device_forbidden"


async def test_a_stale_command_is_refused_and_a_right_one_reaches_every_screen(system: Any, play: Any) -> None:
    pair = system.pair()
    incident = await breach(system, play, pair)
    async with system.feed() as feed:
        done = await system.command(incident, "acknowledge")
        assert done.status_code == 200, done.text
        seen = await feed.incident("acknowledged", pair, "proximity")
        assert seen["state"] == "acknowledged"
        assert seen["version"] > incident["version"]
    stale = await system.command(incident, "resolve", outcome="victim_safe")
    assert stale.status_code == 409
    assert stale.json()["code"] == "version_stale"
    inside = await system.command(seen, "resolve", outcome="victim_safe")
    assert inside.status_code == 409
    assert inside.json()["code"] == "still_inside"
    custody = await system.command(seen, "resolve", outcome="custody")
    assert custody.status_code == 200, custody.text
    assert custody.json()["state"] == "resolved"


async def test_a_ping_sent_twice_happens_once(system: Any, eventually: Any) -> None:
    pair = system.pair()
    start = datetime.now(UTC) - timedelta(seconds=10)
    pings = [{"seq": n, "at": (start + timedelta(seconds=n)).isoformat(), "lat": 43.2, "lon": 76.9} for n in range(3)]
    headers = {"Authorization": f"Bearer {pair['victim']['token']}"}
    async with httpx.AsyncClient(base_url=system.api_url, headers=headers) as phone:
        for _ in range(3):
            answer = await phone.post("/v1/pings", json={"pings": pings})
            assert answer.status_code == 202, answer.text
        # A later ping of the same device: once it is in history, so is everything before it.
        last = {"seq": 99, "at": datetime.now(UTC).isoformat(), "lat": 43.2, "lon": 76.9}
        assert (await phone.post("/v1/pings", json={"pings": [last]})).status_code == 202

    async def rows() -> list[int]:
        found = await system.fetch(
            "SELECT seq FROM ping JOIN device ON device.number = device_number WHERE device.id = $1 ORDER BY seq",
            uuid.UUID(pair["victim"]["device_id"]),
        )
        return [row[0] for row in found]

    async def arrived() -> bool:
        return 99 in await rows()

    await eventually(arrived, "the last ping in history")
    assert await rows() == [0, 1, 2, 99]


async def test_an_old_snapshot_and_the_events_since_equal_a_fresh_snapshot(system: Any, play: Any) -> None:
    board = await system.get("/v1/board")
    held = {incident["id"]: incident for incident in board["incidents"]}
    async with system.feed(after=board["cursor"]) as feed:
        pairs = [system.pair() for _ in range(3)]
        opened = await asyncio.gather(*(breach(system, play, pair) for pair in pairs))
        assert (await system.command(opened[0], "acknowledge")).status_code == 200
        acknowledged = await feed.incident("acknowledged", pairs[0], "proximity")
        assert (await system.command(acknowledged, "resolve", outcome="custody")).status_code == 200
        await feed.incident("resolved", pairs[0], "proximity")
        fresh = await system.get("/v1/board")
        await feed.first(
            lambda f: f.get("cursor") is not None and int(f["cursor"]) >= int(fresh["cursor"]), "the board's cursor"
        )
        for frame in feed.frames:
            if frame.get("cursor") is None or int(frame["cursor"]) > int(fresh["cursor"]):
                continue
            if "state" in frame["data"] and frame["kind"] != "delivery.updated":
                held[frame["data"]["id"]] = frame["data"]
    still_open = {id_: incident for id_, incident in held.items() if incident["state"] != "resolved"}
    assert still_open == {incident["id"]: incident for incident in fresh["incidents"]}
