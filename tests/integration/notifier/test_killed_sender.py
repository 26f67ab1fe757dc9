"""A sender in a process of its own, killed while the provider has the message but nobody knows."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

PROGRAM = """
import asyncio, sys
from core.clock import utc_now
from core.postgres.database import Database
from core.key_rings import LocalRing
from core.settings import Settings
from core.vault import Vault
from notifier.channels.webhook import WebhookChannel
from notifier.sender import Sender

async def main(url):
    settings = Settings(database_url=url)
    database = Database(url, size=4, vault=Vault(LocalRing({"test": bytes(range(32))})))
    await database.open()
    sender = Sender(settings, database, {"webhook": WebhookChannel(settings.delivery_timeout_s)}, utc_now)
    await sender.start()
    await sender.wait()

asyncio.run(main(sys.argv[1]))
"""
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
async def launch(database_url: str) -> AsyncIterator[Callable[[], Awaitable[asyncio.subprocess.Process]]]:
    """Starts senders in processes of their own; whichever still lives in the end is killed."""
    processes: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, database_url)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_sender_s_message_goes_out_again_in_seconds_under_the_same_id(
    outbox: Any, provider: Any, make_answer: Any, launch: Any
) -> None:
    provider.answer = lambda _: make_answer(hang=True)
    delivery_id = await outbox.put("webhook", f"{provider.url}/hook", secret=SECRET)
    doomed = await launch()
    first = await asyncio.wait_for(provider.arrived.get(), 30)
    doomed.kill()
    await doomed.wait()
    killed_at = time.monotonic()

    provider.answer = lambda _: make_answer()
    await launch()
    second = await asyncio.wait_for(provider.arrived.get(), 30)
    assert time.monotonic() - killed_at < 15  # far below the lease of 30 s, whatever else the machine does
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(delivery_id)
    while (await outbox.get(delivery_id))["state"] != "sent":
        await asyncio.sleep(0.05)  # until the other process has marked it
    assert await outbox.attempts(delivery_id) == ["abandoned", "sent"]
    assert provider.arrived.empty()
