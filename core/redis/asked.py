"""What devices are asked for, as those who answer them read it; the shard's owner writes it with its commit.

Model: a shard's `asked` hash holds every device asked for more than is expected of it, its `asks` stream the changes.
A reader notes the stream's end, reads the hash, and follows the stream from there: what it knows is then never older
than one look. Beside them `PRESSED` holds who pressed a panic lately, for the moments in which PostgreSQL, which
knows the open panics, has not been asked yet or is away.

Failure: StoreUnavailable; what was read before stays as good as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from core.redis import keys
from core.redis.client import Client
from core.redis.script import raise_for, translated
from core.redis.shard_log import START, parse_streams

PAGE_FIELDS: Final = 5_000
ENTRIES_MAX: Final = 500
"""Changes read at once from a shard: fewer than are kept, so whoever finds fewer has missed none."""
PRESSES_MAX: Final = 10_000

_ASK: Final = struct.Struct(keys.ASK_FORMAT)


async def read_all(client: Client, shard: int) -> tuple[str, dict[int, float]]:
    """(id of the newest change it surely contains, {device number: seconds}) of a shard."""
    asked: dict[int, float] = {}
    with translated():
        newest = await client.execute_command("XREVRANGE", keys.asks(shard), "+", "-", "COUNT", 1)
        position = 0
        while True:
            position, page = await client.hscan(keys.asked(shard), position, count=PAGE_FIELDS)
            asked.update((int(number), float(seconds)) for number, seconds in page.items())
            if not position:
                break
    return (newest[0][0].decode() if newest else START), asked


async def read_changes(client: Client, after: Mapping[int, str]) -> dict[int, tuple[str, dict[int, float]]]:
    """{shard: (newest id, {device number: seconds})} of what changed after each shard's id, in one round trip.

    0 seconds: no more than is expected. A shard without changes is left out. Of one with `ENTRIES_MAX` the
    id is "": the first of them may be gone, and `read_all` is to be asked.
    """
    pipeline = client.pipeline(transaction=False)
    for shard, after_id in after.items():
        pipeline.execute_command("XREAD", "COUNT", ENTRIES_MAX, "STREAMS", keys.asks(shard), after_id)
    with translated():
        replies = await pipeline.execute(raise_on_error=False)
    changes: dict[int, tuple[str, dict[int, float]]] = {}
    for shard, reply in zip(after, replies, strict=True):
        if isinstance(reply, Exception):
            raise_for(reply)
        entries = parse_streams(reply)
        if len(entries) >= ENTRIES_MAX:
            changes[shard] = ("", {})
        elif entries:
            changes[shard] = (entries[-1][0], dict(
                ask for _, fields in entries for ask in _ASK.iter_unpack(fields.get(b"a", b""))
            ))  # fmt: skip
    return changes


async def note_press(client: Client, person_id: str, now_ms: int, keep_ms: int) -> None:
    """Say that she pressed a panic now; presses older than `keep_ms` are dropped."""
    with translated():
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("ZADD", keys.PRESSED, now_ms, person_id)
        pipeline.execute_command("ZREMRANGEBYSCORE", keys.PRESSED, "-inf", now_ms - keep_ms)
        pipeline.execute_command("PEXPIRE", keys.PRESSED, keep_ms)
        await pipeline.execute()


async def read_presses(client: Client, since_ms: int) -> list[tuple[str, int]]:
    """(person id, when in ms) of those who pressed since a moment, newest first."""
    with translated():
        found = await client.execute_command(
            "ZRANGE", keys.PRESSED, "+inf", since_ms, "BYSCORE", "REV", "LIMIT", 0, PRESSES_MAX, "WITHSCORES"
        )
    if found and isinstance(found[0], (list, tuple)):
        return [(person.decode(), int(float(score))) for person, score in found]
    return [(found[k].decode(), int(float(found[k + 1]))) for k in range(0, len(found), 2)]
