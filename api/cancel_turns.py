"""Wishes to cancel that wait are judged here, each in its turn and once its panic is there to be judged.

Her phone was told "cancelled" long ago. A wish whose panic is no row yet waits for it: judged before, a right PIN would
be lost and a duress PIN would open a panic beside her own press. Of a panic that nobody here knows to wait, the wait is
bounded: it may never have come, and a duress PIN is heard all the same.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final

import structlog

from api.panic_index import PanicIndex
from api.panic_rows import PanicRows
from core.domain.panic import CancelIn
from core.errors import NotAllowed, StoreUnavailable

log = structlog.get_logger(__name__)

PANIC_WAIT_S: Final = 15.0
"""How long a wish waits for a panic that does not wait here: another process may be about to bring it."""
CANCELS_FOR_S: Final = 1.0
"""How long one round judges: each takes two slow hashes, and what was pressed meanwhile is not to wait for all."""
AGAIN_S: Final = 30.0
"""Between two tries of a wish that failed as none should: it costs its slow hashes each time, and others wait."""

Key = uuid.UUID | tuple[uuid.UUID, str, int]


class CancelTurns:
    """The drain's wishes to cancel."""

    def __init__(self, rows: PanicRows, index: PanicIndex, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._index = index
        self._monotonic = monotonic
        self._round_ends = float("inf")
        self._waits_until: dict[Key, float] = {}
        self._again_at: dict[Key, float] = {}

    def begin_round(self) -> None:
        """Judge again for a while."""
        self._round_ends = self._monotonic() + CANCELS_FOR_S

    async def judge(self, wish: CancelIn) -> bool:
        """Whether it is done with. Raises StoreUnavailable."""
        if self._monotonic() > self._round_ends:
            return False
        key = _key(wish)
        if self._monotonic() < self._again_at.get(key, 0.0):
            return False
        try:
            if not await self._is_due(wish, key):
                return False
            await self._rows.commit_cancel(wish, lambda: True)
        except NotAllowed:
            pass
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("panic_not_drained", error=type(error).__name__)
            self._again_at[key] = self._monotonic() + AGAIN_S
            return False
        self._waits_until.pop(key, None)
        self._again_at.pop(key, None)
        return True

    async def _is_due(self, wish: CancelIn, key: Key) -> bool:
        if await self._rows.knows(wish.panic_id, wish.device_id):
            return True
        now = self._monotonic()
        until = self._waits_until.setdefault(key, now + PANIC_WAIT_S)
        return now >= until and self._index.panic(wish.panic_id, wish.device_id) is None


def _key(wish: CancelIn) -> Key:
    return wish.id or (wish.device_id, wish.panic_id, wish.received_ms)
