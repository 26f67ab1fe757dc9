"""The shard's log: pings, ticks, configuration and answers of history in the order they became durable.

Model: one stream a shard. An entry's id is its time of receipt on Redis' clock, so order and time are the
log's own. Pings are appended by ingest, unfenced; all else by the shard's owner, fenced by its
lease token. Readers keep their own cursors; the log is trimmed only below what both the engine and the
historian have durably passed.

Failure: Redis away or unwilling raises StoreUnavailable, and what was being appended may or may not be there:
append it again (the engine and history drop what they have seen). A fenced append by a worker that was
replaced raises LeaseLost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.errors import Misconfigured, StoreUnavailable
from core.redis import keys
from core.redis.client import AWAY, Client, RedisCluster
from core.redis.script import FENCE, Script, raise_for, translated

PAUSED: Final = b"paused"
START: Final = "0-0"
"""The id before the first entry."""
BLOCK_MS_MAX: Final = 2_000
"""Longest a read may block; well below the client's own timeout."""
REPLICA_WAIT_MS: Final = 2_000
"""Longest an append waits for replicas to have it on disk."""

_APPEND_FENCED: Final = Script(
    FENCE
    + """
local id
for i = 2, #ARGV, 2 do id = redis.call('XADD', KEYS[2], '*', 'k', ARGV[i], 'b', ARGV[i + 1]) end
return id
"""
)

_TRIM: Final = Script(
    """
local function parts(id)
  local dash = string.find(id, '-', 1, true)
  return tonumber(string.sub(id, 1, dash - 1)), tonumber(string.sub(id, dash + 1))
end
local function less(a, b)
  local a1, a2 = parts(a)
  local b1, b2 = parts(b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end
local history = redis.call('GET', KEYS[3])
if not history or less(history, ARGV[1]) then
  history = ARGV[1]
  redis.call('SET', KEYS[3], history)
end
local cursor = redis.call('GET', KEYS[2])
if not cursor then return 0 end
local floor = history
if less(cursor, history) then floor = cursor end
if ARGV[2] == '=' then return redis.call('XTRIM', KEYS[1], 'MINID', '=', floor) end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', floor, 'LIMIT', 100000)
"""
)


def id_key(entry: str) -> tuple[int, int]:
    """An entry id as a pair that sorts as the log does."""
    ms, _, n = entry.partition("-")
    return int(ms), int(n or 0)


def parse_streams(reply: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """The (id, fields) pairs of an XREAD of one stream; an entry already trimmed away is left out."""
    if not reply:
        return []
    rows = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], tuple):
        rows = rows[0]
    return [(entry_id.decode(), fields) for entry_id, fields in rows if fields]


def parse_entry(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry:
    """One log entry as the engine reads it."""
    ms, n = id_key(entry_id)
    return Entry(ms, n, fields.get(b"k", b"").decode(), fields.get(b"b", b""), fields.get(b"x"))


class ShardLog:
    """The logs of every shard, through one client; no call crosses shards unless it says so."""

    def __init__(self, client: Client, *, replicas: int = 0) -> None:
        """`replicas` must have an append on disk before it is answered; raises Misconfigured on a cluster."""
        if replicas and isinstance(client, RedisCluster):
            raise Misconfigured(
                "QORGAN_REDIS_REPLICAS waits on one connection and a cluster has many; set it to 0, and have the"
                " cluster itself require replicas (min-replicas-to-write)."
            )
        self._client = client
        self._replicas = replicas

    async def append(self, shard: int, kind: str, payload: bytes, extras: bytes | None = None) -> str:
        """Append one entry, unfenced; returns its id once it is on disk."""
        (entry_id,) = await self.append_many([(shard, kind, payload, extras)])
        return entry_id

    async def append_many(self, entries: Sequence[tuple[int, str, bytes, bytes | None]]) -> list[str]:
        """Append (shard, kind, payload, extras) entries in one round trip; ids in the same order.

        When it raises, some may have been appended: append all of them again.
        """
        pipeline = self._client.pipeline(transaction=False)
        for shard, kind, payload, extras in entries:
            rare = () if extras is None else ("x", extras)
            pipeline.execute_command("XADD", keys.pings(shard), "*", "k", kind, "b", payload, *rare)
        if self._replicas:
            pipeline.execute_command("WAITAOF", 1, self._replicas, REPLICA_WAIT_MS)
        with translated():
            results = await pipeline.execute(raise_on_error=False)
        for result in results:
            if isinstance(result, Exception):
                raise_for(result)
        if self._replicas:
            _, replicas = results.pop()
            if replicas < self._replicas:
                raise StoreUnavailable("Too few replicas have the pings on disk; send them again.")
        return [entry_id.decode() for entry_id in results]

    async def append_flush(self, flush: Mapping[int, tuple[bytes, bytes | None]]) -> dict[int, str]:
        """Append one PINGS entry a shard, {shard: (packed records, extras)}, in one round trip; {shard: id}.

        Returns once everything is on disk (and on `replicas` replicas' disks); raises StoreUnavailable else.
        """
        ids = await self.append_many([(shard, PINGS, payload, extras) for shard, (payload, extras) in flush.items()])
        return dict(zip(flush, ids, strict=True))

    async def append_tick(self, shard: int, token: int, paused: bool) -> str:
        """Append a tick as the shard's owner; raises LeaseLost when another owner has been seen."""
        return await self._append_fenced(shard, token, [TICK, PAUSED if paused else b""])

    async def append_configurations(self, shard: int, token: int, payloads: Sequence[bytes]) -> str:
        """Append CONFIGURATION entries (JSON lists of cases) as the shard's owner; the last one's id."""
        return await self._append_fenced(shard, token, [part for body in payloads for part in (CONFIGURATION, body)])

    async def append_past(self, shard: int, token: int, payload: bytes) -> str:
        """Append a PAST entry (`core.domain.past.encode_past`) as the shard's owner; its id."""
        return await self._append_fenced(shard, token, [PAST, payload])

    async def _append_fenced(self, shard: int, token: int, arguments: Sequence[Any]) -> str:
        entry_id = await _APPEND_FENCED(self._client, [keys.owner(shard), keys.pings(shard)], [token, *arguments])
        assert isinstance(entry_id, bytes)
        return entry_id.decode()

    async def read(self, shard: int, after_id: str, count: int, block_ms: int | None = None) -> list[Entry]:
        """Up to `count` entries after `after_id`, oldest first; waits up to `block_ms` for the first one."""
        return [parse_entry(entry_id, fields) for entry_id, fields in await self.read_raw(
            keys.pings(shard), after_id, count, block_ms
        )]  # fmt: skip

    async def read_raw(
        self, stream: str, after_id: str, count: int, block_ms: int | None = None
    ) -> list[tuple[str, dict[bytes, bytes]]]:
        """As `read`, of any stream, as (id, fields)."""
        block = () if not block_ms else ("BLOCK", min(block_ms, BLOCK_MS_MAX))
        with translated():
            return parse_streams(
                await self._client.execute_command("XREAD", "COUNT", count, *block, "STREAMS", stream, after_id)
            )

    async def read_many(self, after: Mapping[int, str], count: int) -> dict[int, list[Entry]]:
        """Up to `count` entries of each shard after its id, in one round trip, without waiting."""
        pipeline = self._client.pipeline(transaction=False)
        for shard, after_id in after.items():
            pipeline.execute_command("XREAD", "COUNT", count, "STREAMS", keys.pings(shard), after_id)
        with translated():
            replies = await pipeline.execute(raise_on_error=False)
        entries: dict[int, list[Entry]] = {}
        for shard, reply in zip(after, replies, strict=True):
            if isinstance(reply, Exception):
                raise_for(reply)
            entries[shard] = [parse_entry(entry_id, fields) for entry_id, fields in parse_streams(reply)]
        return entries

    async def trim(self, shard: int, history_id: str, *, exact: bool = False) -> int:
        """Note that history durably has everything up to `history_id`, and drop what the engine has passed too.

        Only whole blocks of the log are dropped unless `exact`. Returns how many entries went.
        """
        trimmed = await _TRIM(
            self._client,
            [keys.pings(shard), keys.cursor(shard), keys.history(shard)],
            [history_id, "=" if exact else "~"],
        )
        return int(trimmed)

    async def trim_transitions(self, shard: int, applied_id: str) -> int:
        """Drop the transitions up to and including `applied_id`, which PostgreSQL has; returns how many went."""
        ms, n = id_key(applied_id)
        with translated():
            return int(
                await self._client.execute_command("XTRIM", keys.transitions(shard), "MINID", "=", f"{ms}-{n + 1}")
            )


__all__ = ["AWAY", "PAUSED", "START", "ShardLog", "id_key", "parse_entry", "parse_streams"]
