"""What an engine asks of devices is committed with its state by the shard's owner, and outlives it."""

from __future__ import annotations

import struct
from typing import Any

from api.ingest.asked import AskedIntervals
from core.clock import utc_now
from core.domain.ping import unpack_records
from core.redis import keys
from core.redis.asked import ENTRIES_MAX
from geo.memory import EngineChanges
from geo.worker import GeoWorker
from tests.integration.geo.conftest import CountingEngine


class AskingEngine(CountingEngine):
    """Asks each device for as many seconds as its ping's sequence number."""

    def __init__(self, shard: int) -> None:
        super().__init__(shard)
        self._asks: list[tuple[int, float]] = []

    def process(self, entries: Any) -> Any:
        for entry in entries:
            if entry.kind == "p":
                records = unpack_records(entry.payload)
                self._asks += zip(records["device"].tolist(), records["seq"].tolist(), strict=True)
        return super().process(entries)

    def take_changes(self) -> EngineChanges:
        changes = super().take_changes()
        changes.asks.extend(self._asks)
        self._asks = []
        return changes


async def test_asks_are_committed_followed_and_left_to_the_next_owner(ground: Any) -> None:
    def worker(instance: str) -> Any:
        return ground._remember(
            GeoWorker(
                ground.settings, ground.posts.worker, ground.client, instance, utc_now, engine_factory=AskingEngine
            )
        )

    asked = AskedIntervals(ground.settings, ground.client, None, utc_now)
    await asked.look()
    first = worker("geo-1")
    await first.start()
    await ground.wait_until(lambda: first.owned().get(1), "the shard")
    await ground.append(1, ground.ping(7, 15), ground.ping(8, 5), ground.ping(7, 5))
    await ground.wait_until(lambda: ground.client.hget(keys.asked(1), "8"), "the commit")
    await asked.look()
    assert (asked._asked[7], asked._asked[8]) == (5.0, 5.0), "the newest of each counts"
    await first.stop()
    second = worker("geo-2")
    await second.start()
    await ground.wait_until(lambda: second.owned().get(1), "the next owner")
    await ground.append(1, ground.ping(8, 0))
    await ground.wait_until(lambda: _gone(ground), "the end of what was asked")
    await asked.look()
    assert asked._asked == {7: 5.0}


async def test_whoever_is_too_far_behind_to_have_seen_all_reads_all(ground: Any) -> None:
    asked = AskedIntervals(ground.settings, ground.client, None, utc_now)
    await asked.look()
    await ground.client.hset(keys.asked(1), "7", "5")  # the change itself was trimmed away
    for _ in range(ENTRIES_MAX):
        await ground.client.xadd(keys.asks(1), {"a": struct.pack(keys.ASK_FORMAT, 9, 15.0)})
    await asked.look()
    await asked.look()
    assert asked._asked == {7: 5.0}


async def _gone(ground: Any) -> bool:
    return not await ground.client.hexists(keys.asked(1), "8")
