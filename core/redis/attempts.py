"""Attempts to sign in, counted by all processes of an installation together.

Model: a sorted set a bucket holds the attempts of its window, scored by when in ms; at most its limit, for a refused
attempt is not kept. An attempt that succeeds is taken back, so only failures count. A key is a keyed digest made by the
caller: nothing here tells a name or an address.

Failure: StoreUnavailable; the caller counts in memory meanwhile.
"""

from __future__ import annotations

from typing import Final

from core.redis.client import Client
from core.redis.script import Script, translated

_TAKE: Final = Script(
    """
local now, window, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return math.max(1, tonumber(oldest[2]) + window - now)
end
redis.call('ZADD', KEYS[1], now, ARGV[4])
redis.call('PEXPIRE', KEYS[1], window)
return 0
"""
)


async def take(client: Client, key: str, mark: str, now_ms: int, window_ms: int, limit: int) -> int:
    """Count an attempt under `mark`; 0, or how many ms to wait because the window is full. Raises StoreUnavailable."""
    return int(await _TAKE(client, [key], [now_ms, window_ms, limit, mark]))


async def take_back(client: Client, key: str, mark: str) -> None:
    """Forget an attempt; raises StoreUnavailable."""
    with translated():
        await client.zrem(key, mark)
