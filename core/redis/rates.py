"""Rate limits that every process of an installation shares: one key a name, one step a request.

The generic cell rate algorithm (ITU-T I.371): each request moves the moment at which the name's next one would be due
by the spacing of its rate; who is further ahead of the present than the burst allows waits. A name is never an
address or a token itself but what the caller made of it; nothing of it outlives its burst.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.redis.client import Client
from core.redis.script import Script

MAX_TRACKED: Final = 50_000
"""Names the memory of one process keeps; the one longest unused is forgotten first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen."""

    per_second: float
    burst: float
    """Requests that may come at once, after a silence."""

    @property
    def spacing_ms(self) -> float:
        """Time one request takes up."""
        return 1000.0 / self.per_second

    @property
    def ahead_ms(self) -> float:
        """How far ahead of the present a name may be and still be let in."""
        return (self.burst - 1.0) * self.spacing_ms


_STEP: Final = Script(
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local spacing, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = due - now - ahead
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', due + spacing), 'PX', math.ceil(due + spacing - now))
return 0
"""
)


class SharedRates:
    """Rates kept in Redis, the same for every process."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    async def wait_ms(self, name: str, rate: Rate) -> float:
        """Take one request of `name`; 0 when it may pass, else the milliseconds to wait (it was not taken).

        Raises StoreUnavailable.
        """
        return float(await _STEP(self._redis, [f"{self._prefix}:{name}"], [rate.spacing_ms, max(0.0, rate.ahead_ms)]))


class OwnRates:
    """The same in the memory of one process, for as long as Redis is away."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, max_tracked: int = MAX_TRACKED) -> None:
        self._monotonic = monotonic
        self._max_tracked = max_tracked
        self._due_ms: OrderedDict[str, float] = OrderedDict()

    def wait_ms(self, name: str, rate: Rate) -> float:
        """Take one request of `name`; 0 when it may pass, else the milliseconds to wait (it was not taken)."""
        now_ms = self._monotonic() * 1000
        due_ms = max(self._due_ms.get(name, 0.0), now_ms)
        wait_ms = due_ms - now_ms - max(0.0, rate.ahead_ms)
        if wait_ms > 0:
            return float(math.ceil(wait_ms))
        self._due_ms[name] = due_ms + rate.spacing_ms
        self._due_ms.move_to_end(name)
        while len(self._due_ms) > self._max_tracked:
            self._due_ms.popitem(last=False)
        return 0.0


def longest(waits: Sequence[float]) -> float:
    """The longest of several waits; 0 of none."""
    return max(waits, default=0.0)
