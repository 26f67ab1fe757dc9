"""A command goes out once with a device's next acknowledgement: by stream, over HTTP, through a gateway."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.deps import ApiContext
from api.ingest.device_commands import DeviceCommands
from api.ingest.stream import DeviceStream
from core.clock import utc_now
from core.ids import new_id
from core.postgres import aggressor_warnings as store

Ping = Callable[..., dict[str, Any]]


class Road:
    """A way in whose commands are looked for when the test says so."""

    def __init__(self, door: Any, waiting: DeviceCommands, http: httpx.AsyncClient, fleet: Any) -> None:
        self.door = door
        self.waiting = waiting
        self.http = http
        self._fleet = fleet

    async def command(self, device: Any) -> uuid.UUID:
        """Have a device told something, and look."""
        command_id, now = new_id(), utc_now()
        values = {
            "agency_id": self._fleet.agency_id, "device_id": device.id, "kind": "show_message",
            "body": {"message": "reminder"}, "created_at": now, "expires_at": now + timedelta(minutes=10),
        }  # fmt: skip
        async with self._fleet.database.transaction() as connection:
            await store.add_command(connection, command_id, values)
        await self.waiting.look()
        return command_id

    async def post(self, sender: Any, pings: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The commands that an HTTP answer bears."""
        await self.door.registry.refresh()
        answer = await self.http.post(
            "/v1/pings",
            content=msgspec.json.encode({"pings": pings}),
            headers={"Authorization": f"Bearer {sender.token}"},
        )
        assert answer.status_code == 202, answer.text
        found: list[dict[str, Any]] = answer.json()["commands"]
        return found


@pytest.fixture
async def road(posts: Any, settings: Any, open_door: Any, fleet: Any) -> AsyncIterator[Road]:
    """Registry, appender, stream and API, connected as devices are served."""
    door = await open_door()
    await door.stream.stop()
    waiting = DeviceCommands(posts.device, utc_now)
    door.stream = DeviceStream(door.settings, door.registry, door.appender, None, waiting)
    await door.stream.start()
    context = ApiContext(
        settings=door.settings, database=posts.device, redis=door.redis, registry=door.registry, appender=door.appender,
        device_commands=waiting,
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(context)), base_url="http://test") as http:
        yield Road(door, waiting, http, fleet)


def said(command_id: uuid.UUID, **more: Any) -> dict[str, Any]:
    """A command as a device reads it."""
    return {"kind": "show_message", "id": str(command_id), "message": "reminder", **more}


async def test_over_the_stream_it_comes_with_the_next_acknowledgement_once(
    road: Road, fleet: Any, make_ping: Ping
) -> None:
    device = await fleet.device((1,), interval_s=60)
    peer = await road.door.open(device)
    await peer.send(make_ping(1))
    assert (await peer.acked(1))["commands"] == []
    command_id = await road.command(device)
    await peer.send(make_ping(2))
    assert (await peer.acked(2))["commands"] == [said(command_id)]
    await road.waiting.look()
    await peer.send(make_ping(3))
    assert (await peer.acked(3))["commands"] == []


async def test_over_http_and_through_a_gateway_by_the_devices_id(road: Road, fleet: Any, make_ping: Ping) -> None:
    device, other = await fleet.device((1,)), await fleet.device((1,))
    command_id = await road.command(device)
    assert await road.post(other, [make_ping(1)]) == []
    assert await road.post(device, [make_ping(1)]) == [said(command_id)]
    assert await road.post(device, [make_ping(2)]) == []
    gateway = await fleet.gateway()
    command_id = await road.command(device)
    told = await road.post(gateway, [make_ping(5, device_id=str(device.id)), make_ping(5, device_id=str(other.id))])
    assert told == [said(command_id, device_id=str(device.id))]


async def test_one_whose_connection_broke_before_it_was_heard_is_told_again(
    road: Road, fleet: Any, make_ping: Ping
) -> None:
    device = await fleet.device((1,), interval_s=60)
    peer = await road.door.open(device)
    await peer.send(make_ping(1))
    await peer.acked(1)
    command_id = await road.command(device)
    await peer.send(make_ping(2))
    assert (await peer.acked(2))["commands"] == [said(command_id)]
    await road.waiting.look()
    assert await taken(fleet, command_id) is False, "nobody knows whether it arrived"
    await peer.socket.close()
    while road.door.stream.connections:
        await asyncio.sleep(0)
    peer = await road.door.open(device)
    await road.waiting.look()
    await peer.send(make_ping(3))
    assert (await peer.acked(3))["commands"] == [said(command_id)]
    road.door.stream._lending.settle()
    await peer.send(make_ping(4))
    assert (await peer.acked(4))["commands"] == []
    road.door.stream._lending.settle()
    await road.waiting.look()
    assert await taken(fleet, command_id) is True


async def test_what_a_silent_connection_was_lent_is_forgotten_when_it_has_expired(
    road: Road, fleet: Any, make_ping: Ping, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await fleet.device((1,), interval_s=60)
    peer = await road.door.open(device)
    await peer.send(make_ping(1))
    await peer.acked(1)
    command_id = await road.command(device)
    await peer.send(make_ping(2))
    assert (await peer.acked(2))["commands"] == [said(command_id)]
    await road.waiting.look()
    assert set(road.waiting._lent) == {command_id}
    monkeypatch.setattr(road.waiting, "_clock", lambda: utc_now() + timedelta(minutes=11))
    await road.waiting.look()
    assert not road.waiting._lent
    await peer.send(make_ping(3))  # it is heard after all
    assert (await peer.acked(3))["commands"] == []
    road.door.stream._lending.settle()
    assert not road.waiting._lent


async def taken(fleet: Any, command_id: uuid.UUID) -> bool:
    async with fleet.database.connection() as connection:
        at = await connection.fetchval("SELECT taken_at FROM device_command WHERE id = $1", command_id)
    return at is not None


async def test_commands_for_those_who_are_away_hide_nobody_s(
    road: Road, fleet: Any, make_ping: Ping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ingest.device_commands.PAGE", 3)
    old, away, new = await fleet.device((1,)), await fleet.device((1,)), await fleet.device((1,))
    oldest = await road.command(old)
    for _ in range(8):
        await road.command(away)
    newest = await road.command(new)
    assert await road.post(new, [make_ping(1)]) == [said(newest)], "at the first look"
    for _ in range(3):
        await road.waiting.look()
    assert await road.post(old, [make_ping(1)]) == [said(oldest)], "and the oldest in its turn"
    for _ in range(4):
        await road.waiting.look()
    assert await road.post(old, [make_ping(2)]) == []
    assert len(await road.post(away, [make_ping(1)])) == 8
