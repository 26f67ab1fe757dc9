"""Turns: work that can wait gives way to what cannot, on one event loop.

Whoever takes a turn begins a moment after the one before, and later the longer the loop takes to come round: so
thousands of messages that are to be sent at once do not keep a panic that arrives meanwhile from being taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

BREATH_S: Final = 0.002
"""Between two turns on a loop that has nothing else to do."""
LATE_S: Final = 0.02
"""A loop that comes round later than this has enough to do."""
REST_MAX_S: Final = 0.25
"""Longest that a turn is put off for that."""


class Turns:
    """One after the other, in the order in which they were asked for."""

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._monotonic = monotonic
        self._lock = asyncio.Lock()

    async def take(self, needless: asyncio.Event) -> None:
        """Wait for one's turn; it is passed on at once when `needless` is set by then."""
        async with self._lock:
            if needless.is_set():
                return
            asked = self._monotonic()
            await self._sleep(BREATH_S)
            late_s = self._monotonic() - asked - BREATH_S
            if late_s > LATE_S:
                await self._sleep(min(late_s, REST_MAX_S))
