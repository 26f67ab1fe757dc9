"""One socket's place in the feed: its cursor and the frames that wait for it, bounded."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

from core.domain.scope import Scope

QUEUE_FRAMES: Final = 1_000
"""Frames that may wait for a socket."""
PAGE: Final = 200
"""Events read at once; a socket with less room than that is not read for."""
SLOW_S: Final = 5.0
"""How long a socket may have no room before it is closed (1013); it resumes by its cursor."""


class SubscriptionEnded(Exception):  # noqa: N818
    """The socket is to be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Subscription:
    """Frames for one socket. Events come in order, none missing; positions are latest only."""

    def __init__(self, agency_id: uuid.UUID, after: int | None, on_room: Callable[[], None]) -> None:
        self.agency_id = agency_id
        self._on_room = on_room
        self.cursor = after
        """Id of the last event queued; None: from now, not yet known."""
        self.placed = False
        """Whether the cursor was checked against what the feed still has."""
        self.scope: Scope | None = None
        """Who watches; None: somebody who is shown no positions."""
        self.wants_all_positions = True
        self._frames: deque[str] = deque()
        self._position: str | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._ended: SubscriptionEnded | None = None
        self._full_since: float | None = None

    @property
    def has_room(self) -> bool:
        """Whether a page of events may be read for it; ends the subscription when it had none for too long."""
        if len(self._frames) + PAGE <= QUEUE_FRAMES:
            self._full_since = None
            return True
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since > SLOW_S:
            self.end(1013, "The feed is not read fast enough; resume from the last cursor.")
        return False

    @property
    def waiting(self) -> int:
        """Frames not yet taken."""
        return len(self._frames)

    def push(self, frame: str) -> None:
        """Queue a frame; one that finds no room ends the subscription, which resumes by its cursor."""
        if len(self._frames) >= QUEUE_FRAMES:
            self.end(1013, "The feed is not read fast enough; resume from the last cursor.")
            return
        self._frames.append(frame)
        self._ready.set()

    def push_position(self, frame: str) -> None:
        """Put the latest positions beside the queue; what was not taken is replaced, and all come next."""
        self.wants_all_positions = self._position is not None
        self._position = frame
        self._ready.set()

    def end(self, code: int, reason: str) -> None:
        """Have the socket closed, at once; a second call does nothing."""
        if self._ended is None:
            self._ended = SubscriptionEnded(code, reason)
            self._ready.set()
            self._over.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended is not None

    async def over(self) -> None:
        """Wait for the end, also while a frame is stuck on its way; raises SubscriptionEnded."""
        await self._over.wait()
        assert self._ended is not None
        raise self._ended

    async def next(self) -> str:
        """The next frame; raises SubscriptionEnded when the socket is to be closed."""
        while True:
            if self._ended is not None:
                raise self._ended
            if self._frames:
                frame = self._frames.popleft()
                if self._full_since is not None and len(self._frames) + PAGE == QUEUE_FRAMES:
                    self._on_room()
                return frame
            if self._position is not None:
                frame, self._position = self._position, None
                return frame
            self._ready.clear()
            await self._ready.wait()
