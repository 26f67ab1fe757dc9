"""What one connection may be told is durable: pure bookkeeping, no clock and no socket.

Model: every ping has a number: its `seq`, or, while the connection has sent no `seq` at all, the count of frames.
Numbers are counted into the generation that fills, sealed with it, and become durable or lost with it.
`news()` is the greatest durable number, held below the least one that is not durable and the least one dropped.

A *gap* is opened by what was dropped or lost, and closed by the peer sending again from it; what had been counted
above it then says nothing any more, because the peer, not having been told, sends that again too.
"""

from __future__ import annotations

from typing import Final

NEVER: Final = 1 << 63
"""Greater than any number."""
NONE: Final = -1

Mark = tuple[int, int]


class Ledger:
    """Numbers that came, are being appended, are durable, are missing."""

    __slots__ = ("_durable", "_epoch", "_filling_low", "_high", "_sealed_low", "acked", "frames", "gap", "numbered")

    def __init__(self) -> None:
        self.frames = 0
        """Frames counted so far."""
        self.numbered = False
        """Whether the peer has ever sent a `seq`."""
        self.acked = NONE
        """The greatest number told."""
        self.gap = NEVER
        """The least number dropped or lost; NEVER: none."""
        self._high = NONE
        self._filling_low = NEVER
        self._sealed_low = NEVER
        self._durable = NONE
        self._epoch = 0

    def number_of(self, seq: int | None) -> int:
        """The number of the ping of the frame just counted in `frames`; NEVER: it has none and needs none."""
        if seq is None:
            return NEVER if self.numbered else self.frames
        if not self.numbered:
            self.numbered = True
            self._restart(NONE)  # counted frames and sequence numbers do not compare
        return seq

    def count(self, low: int, high: int) -> None:
        """Numbers from `low` to `high` are in the filling generation, or were answered."""
        if low == NEVER:
            return
        if low <= self.gap and self.gap != NEVER and self.numbered:
            self.gap = NEVER
            self._restart(low - 1)
        if low <= self.acked:
            self.acked = low - 1  # sent again, so to be told again
        if low < self._filling_low:
            self._filling_low = low
        if high > self._high:
            self._high = high

    def _restart(self, number: int) -> None:
        """Nothing above `number` counts until it comes again."""
        self._epoch += 1
        self._high = self._durable = self.acked = number
        self._filling_low = self._sealed_low = NEVER

    def drop(self, low: int) -> None:
        """Numbers from `low` on were not taken."""
        if low < self.gap:
            self.gap = low

    def seal(self) -> Mark:
        """The filling generation is closed."""
        self._sealed_low, self._filling_low = self._filling_low, NEVER
        return self._high, self._epoch

    def durable(self, mark: Mark) -> None:
        """The sealed generation is on disk."""
        high, epoch = mark
        if epoch == self._epoch:
            self._sealed_low = NEVER
            if high > self._durable:
                self._durable = high

    def lost(self, mark: Mark) -> None:
        """The sealed generation may not be in the log."""
        if mark[1] == self._epoch:
            low, self._sealed_low = self._sealed_low, NEVER
            self.drop(low)

    def news(self) -> int | None:
        """The number to tell now; None when nothing is new. The caller sets `acked` once it is told."""
        number = min(self._durable, self._filling_low - 1, self._sealed_low - 1, self.gap - 1)
        return number if number > self.acked else None
