"""A worker's shards in one hall: what fails in a shared batch is found, set aside, and costs the others nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.clock import utc_now
from core.redis import keys
from core.redis.shard_log import id_key
from geo.hall import Hall
from geo.worker import GeoWorker

BAD = 666


async def test_an_entry_at_fault_in_a_shared_batch_is_set_aside_alone(
    ground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, batches = Hall.pings, []

    def refuse(self: Hall, run: Any, parts: Sequence[Any]) -> Any:
        batches.append(len(parts))
        if (run.records["device"] == BAD).any():
            raise ArithmeticError
        return take(self, run, parts)

    monkeypatch.setattr(Hall, "pings", refuse)
    # Everything is there before the worker is, and turns are far apart: whoever comes after the first shares the next.
    ground.with_settings(engine_cycle_ms=1_000)
    last = {shard: await ground.append(shard, ground.ping(10 + shard, 1)) for shard in range(4)}
    bad = await ground.append(1, ground.ping(BAD, 1))
    last[1] = await ground.append(1, ground.ping(11, 2))
    worker = ground._remember(GeoWorker(ground.settings, ground.posts.worker, ground.client, "geo-1", utc_now))
    await worker.start()

    async def passed() -> bool:
        cursors = [await ground.client.get(keys.cursor(shard)) for shard in last]
        return all(
            cursor is not None and id_key(cursor.decode()) >= id_key(entry)
            for cursor, entry in zip(cursors, last.values(), strict=True)
        )

    await ground.wait_until(passed, "every shard to pass its last entry")

    async def set_aside() -> int:
        return await ground.count("SELECT count(*) FROM poison WHERE source = 'engine:1' AND entry = $1", bad)

    await ground.wait_until(set_aside, "the entry at fault to be set aside")
    assert await ground.count("SELECT count(*) FROM poison") == 1, "nothing else is"
    assert max(batches) > 1, "they shared a batch"
