"""Taking out of Redis what says where somebody is now."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from core.redis import keys
from core.redis.client import Client
from core.redis.script import translated


async def forget(client: Client, worn: Iterable[tuple[int, Sequence[int]]], person_ids: Sequence[uuid.UUID]) -> None:
    """Forget the last fixes of devices, (number, shards) each, and that these people pressed. Raises StoreUnavailable.

    What the engine still knows of them it forgets by itself once its cases no longer name them, and their pings leave
    the log as it is trimmed.
    """
    with translated():
        for number, shards in worn:
            for shard in shards:
                await client.hdel(keys.live(shard), str(number))
                await client.zrem(keys.geo(shard), str(number))
                await client.hdel(keys.asked(shard), str(number))
        for person_id in person_ids:
            await client.zrem(keys.PRESSED, str(person_id))
