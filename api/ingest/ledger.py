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


class Ledger:
    """Numbers that came, are being appended, are durable, are missing."""

    __slots__ = ("_durable", "_high", "_low", "_sealed_high", "_sealed_low", "acked", "frames", "gap", "numbered")

    def __init__(self) -> None:
        self.frames = 0
        """Frames counted so far."""
        self.numbered = False
        """Whether the peer has ever sent a `seq`."""
        self.acked = 0
        """The greatest number told, or what is below all that came."""
        self.gap = NEVER
        """The least number dropped or lost; NEVER: none."""
        self._high = NONE
        self._low = NEVER
        """Bounds of what came; `_low` of what is in the filling generation alone."""
        self._sealed_high = NONE
        self._sealed_low = NEVER
        """The same of the generation being appended."""
        self._durable = NONE

    def number_of(self, seq: int | None) -> int:
        """The number of the ping of the frame just counted in `frames`; NEVER: it has none and needs none."""
        if seq is None:
            return NEVER if self.numbered else self.frames
        if not self.numbered:
            self.numbered = True
            self._restart(seq - 1)  # counted frames and sequence numbers do not compare
        return seq

    def count(self, low: int, high: int) -> None:
        """Numbers from `low` to `high` are in the filling generation, or were answered."""
        if low <= self.acked:
            self.acked = low - 1  # sent again, so to be told again
        elif low == NEVER:
            return
        if low <= self.gap != NEVER and self.numbered:
            self.gap = NEVER
            filling, sealed = self._low, self._sealed_low
            self._restart(min(low, filling, sealed) - 1)
            # What came from below the gap and is not durable yet is still waited for.
            self._low = filling if filling < low else NEVER
            self._sealed_low = sealed if sealed < low else NEVER
        if low < self._low:
            self._low = low
        if high > self._high:
            self._high = high

    def _restart(self, number: int) -> None:
        """Nothing above `number` counts until it comes again."""
        self._high = self._sealed_high = self._durable = self.acked = number
        self._low = self._sealed_low = NEVER

    def drop(self, low: int) -> None:
        """Numbers from `low` on were not taken."""
        if low < self.gap:
            self.gap = low

    def seal(self) -> None:
        """The filling generation is closed; there is one sealed generation at a time."""
        self._sealed_high = self._high
        self._sealed_low = self._low
        self._low = NEVER

    def durable(self) -> None:
        """The sealed generation is on disk."""
        self._sealed_low = NEVER
        if self._sealed_high > self._durable:
            self._durable = self._sealed_high

    def lost(self) -> None:
        """The sealed generation may not be in the log."""
        self.drop(self._sealed_low)
        self._sealed_low = NEVER

    def news(self) -> int | None:
        """The number to tell now; None when nothing is new. The caller sets `acked` once it is told."""
        number = min(self._durable, self._low - 1, self._sealed_low - 1, self.gap - 1)
        return number if number > self.acked else None
