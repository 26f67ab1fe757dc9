"""Receivers that hang, refuse, say "too many", talk rubbish or fail: one panic, told to all of them, and to a good one.

The real notifier in its own process; what is awaited is what it writes down.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(300)]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RETRY_AFTER_S = 3
WAIT_S = 90.0
ANSWERS = {
    "good": b"HTTP/1.1 204 No Content\r\n\r\n",
    "hangs": None,
    "says too many": b"HTTP/1.1 429 Too Many Requests\r\nretry-after: %d\r\ncontent-length: 0\r\n\r\n" % RETRY_AFTER_S,
    "talks rubbish": b"\x00\xffSSH-2.0-OpenSSH_9.6\r\n\r\n",
    "fails": b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
}
REFUSES = "refuses"


@dataclass
class Receiver:
    """One webhook's other end, which has its manners until it is mended."""

    manners: str
    port: int = 0
    ids: list[str] = field(default_factory=list)
    mended: bool = False
    server: asyncio.Server | None = None
    callers: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.callers.add(task)
        task.add_done_callback(self.callers.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
            self.ids.append(headers["webhook-id"])
            answer = ANSWERS["good" if self.mended or self.manners == REFUSES else self.manners]
            if answer is None:
                await reader.read()  # until its caller gives up
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def listen(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            if self.callers:
                await asyncio.wait(self.callers)  # each ends as soon as its caller does
            await self.server.wait_closed()

    async def mend(self) -> None:
        self.mended = True
        if self.server is None:
            await self.listen()


@pytest.fixture
async def receivers(system: Any) -> AsyncIterator[dict[str, Receiver]]:
    """One of each kind, as routes of the agency."""
    made = {manners: Receiver(manners) for manners in (*ANSWERS, REFUSES)}
    for one in made.values():
        if one.manners == REFUSES:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                one.port = taken.getsockname()[1]
        else:
            await one.listen()
    for one in made.values():
        await system.fetch(
            "INSERT INTO notification_route (id, agency_id, name, channel, address, secret, min_severity, created_at)"
            " SELECT gen_random_uuid(), id, $1, 'webhook', $2, $3, 'critical', now() FROM agency",
            one.manners, f"http://127.0.0.1:{one.port}/", SECRET,
        )  # fmt: skip
    yield made
    await system.fetch("DELETE FROM notification_route WHERE name = ANY ($1)", list(made))
    for one in made.values():
        await one.close()


async def test_a_panic_reaches_the_good_at_once_and_the_rude_when_they_are_mended(
    system: Any, receivers: dict[str, Receiver], eventually: Callable[..., Awaitable[Any]]
) -> None:
    routes = await system.fetch("SELECT id, name FROM notification_route WHERE name = ANY ($1)", list(receivers))
    names = {f"route:{row['id']}": row["name"] for row in routes}
    pair = system.pair()
    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as phone:
        answer = await phone.post(
            "/v1/panic",
            json={"id": str(uuid.uuid4())},
            headers={"Authorization": f"Bearer {pair['victim']['token']}"},
        )
    assert answer.status_code == 201, answer.text
    incident_id = uuid.UUID(answer.json()["incident_id"])

    async def deliveries() -> dict[str, Any]:
        rows = await system.fetch(
            "SELECT * FROM delivery WHERE incident_id = $1 AND template = 'incident_dispatcher'", incident_id
        )
        return {names[row["recipient"]]: row for row in rows if row["recipient"] in names}

    async def attempts(name: str) -> list[Any]:
        delivery_id = (await deliveries())[name]["id"]
        rows = await system.fetch("SELECT * FROM delivery_attempt WHERE delivery_id = $1 ORDER BY attempt", delivery_id)
        return list(rows)

    rude = receivers.keys() - {"good"}

    async def all_were_rude() -> bool:
        return all([await attempts(name) for name in rude])

    async def all_sent() -> bool:
        return {row["state"] for row in (await deliveries()).values()} == {"sent"}

    await eventually(all_were_rude, "an attempt at each", WAIT_S)
    first = {name: (await attempts(name))[0] for name in receivers}
    assert {name: one["result"] for name, one in first.items()} == {
        "good": "sent", "hangs": "retryable", "says too many": "throttled", "talks rubbish": "retryable",
        "fails": "retryable", "refuses": "retryable",
    }  # fmt: skip
    assert first["good"]["ended_at"] < first["hangs"]["ended_at"], "who hangs keeps nobody else waiting"
    for one in receivers.values():
        await one.mend()
    await eventually(all_sent, "all to be told in the end", WAIT_S)
    rows = await deliveries()
    for name, receiver in receivers.items():
        own = str(rows[name]["id"])
        others = await system.fetch(
            "SELECT id FROM delivery WHERE recipient = $1 AND id <> $2", rows[name]["recipient"], rows[name]["id"]
        )  # of others' incidents meanwhile
        assert set(receiver.ids) - {str(row["id"]) for row in others} == {own}, "the same id at every attempt"
    told_to_wait, again = (await attempts("says too many"))[:2]
    assert (again["started_at"] - told_to_wait["ended_at"]).total_seconds() >= RETRY_AFTER_S - 0.1
    assert (await attempts("good"))[0]["attempt"] == len(await attempts("good")) == 1
