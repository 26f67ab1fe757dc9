"""The other ends of every channel, for a test that counts: how often did the message of each delivery arrive?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from infra.bench.receivers import Receivers, listening_receivers

HELD_S = 60.0


class Post(Receivers):
    """Receivers that keep every arrival, and may be told to hold their answers back."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: Counter[uuid.UUID] = Counter()
        """Deliveries by their ids, with how often each came."""
        self.webhooks: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        """Ids of webhooks by their event and the incident they speak of."""
        self._answering = threading.Event()
        self._answering.set()

    def note(self, text: str) -> None:
        """A message bore this delivery id."""
        self.arrived[uuid.UUID(text)] += 1
        self._answering.wait(HELD_S)

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if path == "/webhook":
            told = json.loads(body)
            self.webhooks[told["type"], told["data"]["incident_id"]].add(headers["webhook-id"])
        return super()._answer(path, headers, body)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nobody is answered meanwhile: what is sent arrives, and its sender does not know."""
        self._answering.clear()
        try:
            yield
        finally:
            self._answering.set()


@contextlib.contextmanager
def post_office() -> Iterator[Post]:
    """Receivers that listen in a thread of their own, so that nothing a test does delays their answers."""
    post = Post()
    loop = asyncio.new_event_loop()
    listening, closing = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with listening_receivers(post):
            listening.set()
            await closing.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="post-office", daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield post
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()
