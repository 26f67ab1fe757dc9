"""Pushes go first: what makes a phone sound is not written turn by turn with a letter.

A message costs some milliseconds of the one thread there is, and asyncio looks for news only once everything that is
ready has run: a panic's push that arrives among the other messages of the panic before it waits for all of them. So
other lanes begin one message at a time, with a look for news between two, and none while a push is about to be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

PUSHED: Final = frozenset({"fcm", "webpush"})
"""Channels that make a phone sound within the second."""
WRITTEN_S: Final = 0.01
"""After a push has begun, until it is written to its connection."""
STAND_BACK_S: Final = 0.05
"""The longest that what is claimed together stands back: neither a push that hangs nor a flood of them holds it up."""


class PushesFirst:
    """One process's; lanes share it."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._none = asyncio.Event()
        self._none.set()

    def wanted(self, channel: str) -> None:
        """Something of this channel is due; others stand back where it is a push."""
        if channel in PUSHED:
            self._wanted.add(channel)
            self._none.clear()

    def begun(self, channel: str) -> None:
        """What was due of this channel has begun, or there was nothing."""
        if channel in self._wanted:
            asyncio.get_running_loop().call_later(WRITTEN_S, self._written, channel)

    def _written(self, channel: str) -> None:
        self._wanted.discard(channel)
        if not self._wanted:
            self._none.set()

    async def stand_back(self, channel: str, until: float) -> None:
        """Have the loop look for news; while a push is wanted, wait, at most until a moment of the loop's clock. A
        push's own channel stands back for nothing."""
        if channel in PUSHED:
            return
        await asyncio.sleep(0)
        if not self._none.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._none.wait()

    @staticmethod
    def deadline() -> float:
        """Until when, on the loop's clock, what is claimed now stands back."""
        return asyncio.get_running_loop().time() + STAND_BACK_S
