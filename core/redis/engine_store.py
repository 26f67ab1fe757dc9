"""The engine's state between processes: one atomic, fenced step writes all that a stretch of the log changed.

Model: state, live positions, geo index, transitions, what devices are asked, and the log cursor of a shard share its
slot, and one Lua script writes them together, cursor last: either all of a stretch of the log has happened, or none of
it. The script refuses a token smaller than the greatest seen. A new owner raises the token first and reads after, so
what it reads cannot change under it.

Failure: StoreUnavailable leaves it open whether the step happened: load again and go on from the cursor found.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from core.domain.transition import Transition, encode
from core.redis import keys
from core.redis.client import Client
from core.redis.live import LATITUDE_MAX_DEG, LiveFix
from core.redis.script import FENCE, Script, translated
from core.redis.shard_log import START

STATE_PAGE_FIELDS: Final = 2_000
"""Fields asked for at once when state is loaded, so that a large shard does not hold up the store."""
TRANSITIONS_PER_ENTRY_MAX: Final = 100
"""Transitions one entry of the transitions stream carries."""
LONGITUDE_MAX_DEG: Final = 180.0

FORGET_MAX: Final = 1_000
ASKS_KEPT: Final = 1_000
"""Entries of a shard's `asks` kept for those who follow it; who finds more than one look takes reads the hash."""

_ASK: Final = struct.Struct(keys.ASK_FORMAT)

_CLAIM: Final = Script(FENCE + "return 1")
_FORGET: Final = Script(
    FENCE + "redis.call('HDEL', KEYS[2], unpack(ARGV, 2)) redis.call('ZREM', KEYS[3], unpack(ARGV, 2)) return 1"
)

# The values travel as two arguments, their lengths and all of them joined: packing tens of thousands of arguments one
# by one costs the client more than all the rest of a step. unpack() takes some 8,000 values at most; 996 is a multiple
# of the two and three values that a field or a place takes.
_COMMIT: Final = Script(
    FENCE
    + """
if ARGV[8] ~= '' and (redis.call('GET', KEYS[2]) or '0-0') ~= ARGV[8] then
  return redis.error_reply('CURSORMOVED the state is not what it was')
end
local lengths, values = ARGV[9], ARGV[10]
local index, from = 1, 1
local function next_value()
  local length = struct.unpack('<I4', lengths, index)
  index = index + 4
  from = from + length
  return string.sub(values, from - length, from - 1)
end
local function put(command, key, count)
  while count > 0 do
    local some = math.min(996, count)
    local part = {}
    for k = 1, some do part[k] = next_value() end
    redis.call(command, key, unpack(part, 1, some))
    count = count - some
  end
end
put('HSET', KEYS[3], tonumber(ARGV[3]))
put('HDEL', KEYS[3], tonumber(ARGV[4]))
put('HSET', KEYS[4], tonumber(ARGV[5]))
put('GEOADD', KEYS[5], tonumber(ARGV[6]))
for _ = 1, tonumber(ARGV[7]) do redis.call('XADD', KEYS[6], '*', 't', next_value()) end
put('HSET', KEYS[7], tonumber(ARGV[11]))
put('HDEL', KEYS[7], tonumber(ARGV[12]))
if ARGV[13] ~= '' then redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[14], '*', 'a', ARGV[13]) end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
)


class EngineStore:
    """State of every shard's engine, through one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def claim(self, shard: int, token: int) -> None:
        """Raise the shard's token: from here on nobody with a smaller one writes. Raises LeaseLost if greater."""
        await _CLAIM(self._client, [keys.owner(shard)], [token])

    async def load(self, shard: int) -> tuple[str, dict[bytes, bytes]]:
        """The cursor and every state field of a shard this caller has claimed."""
        fields: dict[bytes, bytes] = {}
        with translated():
            cursor = await self._client.get(keys.cursor(shard))
            position = 0
            while True:
                position, page = await self._client.hscan(keys.state(shard), position, count=STATE_PAGE_FIELDS)
                fields.update(page)
                if not position:
                    break
        return (cursor.decode() if cursor else START), fields

    async def commit(
        self,
        shard: int,
        token: int,
        cursor: str,
        *,
        state: Mapping[bytes, bytes | None],
        live: Sequence[tuple[int, bytes]] = (),
        places: Sequence[tuple[float, float, int]] = (),
        transitions: Sequence[Transition] = (),
        asks: Sequence[tuple[int, float]] = (),
        expected: str | None = None,
    ) -> None:
        """Write what the log up to `cursor` changed, in one atomic step; raises LeaseLost or StoreUnavailable.

        With `expected`, the cursor must stand there: a step sent twice happens once, and a store that lost its data
        is not given a part of the state for the whole.
        `places` are (lon, lat, device number); those the index cannot hold (the poles) are left out. `asks` are
        (device number, seconds between its pings), 0 where it is asked for no more than is expected of it.
        """
        set_fields: list[bytes] = []
        deleted: list[bytes] = []
        for field, value in state.items():
            if value is None:
                deleted.append(field)
            else:
                set_fields += (field, value)
        live_fields = [part for number, value in live for part in (b"%d" % number, value)]
        geo_fields = [
            part
            for lon, lat, number in places
            if abs(lat) <= LATITUDE_MAX_DEG and abs(lon) <= LONGITUDE_MAX_DEG
            for part in (repr(lon).encode(), repr(lat).encode(), b"%d" % number)
        ]
        entries = [
            encode(transitions[start : start + TRANSITIONS_PER_ENTRY_MAX])
            for start in range(0, len(transitions), TRANSITIONS_PER_ENTRY_MAX)
        ]
        parts = (set_fields, deleted, live_fields, geo_fields, entries)
        asked = [part for number, seconds in asks if seconds for part in (b"%d" % number, b"%g" % seconds)]
        unasked = [b"%d" % number for number, seconds in asks if not seconds]
        values = [value for part in (*parts, asked, unasked) for value in part]
        lengths = struct.pack(f"<{len(values)}I", *map(len, values))
        await _COMMIT(
            self._client,
            [
                keys.owner(shard), keys.cursor(shard), keys.state(shard), keys.live(shard), keys.geo(shard),
                keys.transitions(shard), keys.asked(shard), keys.asks(shard),
            ],
            [
                token, cursor, *map(len, parts), expected or "", lengths, b"".join(values), len(asked), len(unasked),
                b"".join(_ASK.pack(number, seconds) for number, seconds in asks), ASKS_KEPT,
            ],
        )  # fmt: skip

    async def cursor(self, shard: int) -> str:
        """Id of the last log entry whose effects are committed."""
        with translated():
            value = await self._client.get(keys.cursor(shard))
        return value.decode() if value else START

    async def seen_token(self, shard: int) -> int:
        """The greatest lease token the shard's keys have seen."""
        with translated():
            return int(await self._client.get(keys.owner(shard)) or 0)

    async def forget_before(self, shard: int, token: int, before_ms: int) -> int:
        """Drop live positions received before a moment, so that nobody is "near" where she was yesterday."""
        position, forgotten = 0, 0
        while True:
            with translated():
                position, page = await self._client.hscan(keys.live(shard), position, count=STATE_PAGE_FIELDS)
            stale = [number for number, fix in page.items() if LiveFix.unpack(fix).received_ms < before_ms]
            for start in range(0, len(stale), FORGET_MAX):
                part = stale[start : start + FORGET_MAX]
                await _FORGET(self._client, [keys.owner(shard), keys.live(shard), keys.geo(shard)], [token, *part])
            forgotten += len(stale)
            if not position:
                return forgotten

    async def ingest_runs(self) -> bool:
        """Whether any ingest process has beaten lately; while none does, silence waits."""
        with translated():
            return bool(await self._client.exists(keys.INGEST_BEAT))
