"""Radio: when a device reaches the network, and how late what it says gets out.

While the radio is away the device goes on recording and keeps what it cannot send; when the radio is back, the
backlog goes out first, oldest first. Dropouts come from a fixed list, at random from a seed, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

DROPOUTS_MAX: Final = 100_000
"""Random dropouts a radio may go through."""


class Radio:
    """A radio whose moments are seconds since the start; they must not go back by more than a dropout.

    `dropouts`: [(from, until)] while it is away. `mean_up_s` and `mean_down_s`: random dropouts beside those, both
    lasting exponentially; None for no random ones. `delay_s`: mean lateness of each ping, itself exponential.
    """

    def __init__(
        self,
        *,
        dropouts: Sequence[tuple[float, float]] = (),
        mean_up_s: float | None = None,
        mean_down_s: float = 0.0,
        delay_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        if any(until < begin for begin, until in dropouts):
            raise ValueError("A dropout must end after it begins.")
        if (mean_up_s is not None and mean_up_s <= 0) or mean_down_s < 0 or delay_s < 0:
            raise ValueError("A radio's times must not be negative, and it must be up some of the time.")
        self._dropouts = sorted(dropouts)
        self._mean_up_s = mean_up_s
        self._mean_down_s = mean_down_s
        self._delay_s = delay_s
        self._random = np.random.default_rng(seed)
        self._lateness = np.random.default_rng([seed, 1])  # its own, so that dropouts depend on no ping
        self._chance: list[tuple[float, float]] = []
        self._decided_s = 0.0
        self._last_release_s = 0.0

    def _decide(self, elapsed_s: float) -> None:
        while self._mean_up_s is not None and self._decided_s <= elapsed_s and len(self._chance) < DROPOUTS_MAX:
            begin = self._decided_s + float(self._random.exponential(self._mean_up_s))
            self._decided_s = begin + float(self._random.exponential(self._mean_down_s))
            self._chance.append((begin, self._decided_s))

    def is_up(self, elapsed_s: float) -> bool:
        """Whether the network is reached at that moment."""
        self._decide(elapsed_s)
        away = any(begin <= elapsed_s < until for begin, until in self._dropouts)
        return not away and not any(begin <= elapsed_s < until for begin, until in self._chance[-2:])

    def release_s(self, elapsed_s: float) -> float:
        """When a ping recorded at `elapsed_s` gets out; never before one recorded earlier."""
        late_s = float(self._lateness.exponential(self._delay_s)) if self._delay_s > 0 else 0.0
        self._last_release_s = max(self._last_release_s, elapsed_s + late_s)
        return self._last_release_s
