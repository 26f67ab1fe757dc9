"""A token bucket: how many messages a channel may hand over in a moment, some of them kept for panics. Pure."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

BURST_S: Final = 2.0
"""So many seconds' worth may go out at once."""
URGENT_SHARE: Final = 0.25
"""Of a full bucket, what only priority 0 may take."""


class Bucket:
    """`rate_per_s` messages a second; infinite when the channel has no limit."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._size = max(1.0, rate_per_s * BURST_S)
        self._kept = math.ceil(self._size * URGENT_SHARE) if 1.0 < self._size < math.inf else 0
        self._level = self._size
        self._at: datetime | None = None

    def room(self, now: datetime) -> tuple[int, int]:
        """How many messages may go now: of any kind, and of those that are not urgent."""
        if math.isinf(self._rate_per_s):
            return 1_000_000, 1_000_000
        if self._at is not None:
            passed_s = max(0.0, (now - self._at).total_seconds())
            self._level = min(self._size, self._level + passed_s * self._rate_per_s)
        self._at = now
        return int(self._level), max(0, int(self._level) - self._kept)

    def take(self, count: int) -> None:
        """So many go out."""
        if not math.isinf(self._rate_per_s):
            self._level = max(0.0, self._level - count)
