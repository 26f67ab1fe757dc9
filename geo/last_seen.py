"""What devices said last of themselves, kept until it is written: times, battery and strap by device number."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import SHIFT_STRAP, UNKNOWN, two_bits

GROWTH: Final = 1.5


class NumberMap:
    """A growing array indexed by device number."""

    def __init__(self, fill: object, dtype: Any) -> None:
        self._fill = fill
        self.values: NDArray[Any] = np.full(1024, fill, dtype=dtype)

    def reach(self, number: int) -> None:
        """Make room for `number`."""
        if number >= len(self.values):
            size = max(number + 1, int(len(self.values) * GROWTH))
            grown = np.full(size, self._fill, dtype=self.values.dtype)
            grown[: len(self.values)] = self.values
            self.values = grown


class LastSeen:
    """Collects from batches, gives out the devices that have waited longest to be written."""

    def __init__(self) -> None:
        self._seen_ms = NumberMap(0, np.int64)
        self._written_ms = NumberMap(0, np.int64)
        self._battery = NumberMap(np.nan, np.float32)
        self._strap = NumberMap(UNKNOWN, np.uint8)

    def add(self, records: NDArray[np.void], received_ms: NDArray[np.int64]) -> None:
        """Take in records of known devices in the order they were received."""
        numbers = records["device"].astype(np.int64)
        top = int(numbers.max(initial=0))
        for column in (self._seen_ms, self._written_ms, self._battery, self._strap):
            column.reach(top)
        self._seen_ms.values[numbers] = received_ms  # of equal indices the last one stays
        told = ~np.isnan(records["battery_pct"])
        self._battery.values[numbers[told]] = records["battery_pct"][told]
        strap = two_bits(records["flags"], SHIFT_STRAP)
        self._strap.values[numbers[strap != UNKNOWN]] = strap[strap != UNKNOWN]

    def due(self, limit: int) -> tuple[list[int], list[int], list[float], list[int]]:
        """(numbers, times, batteries, straps) of at most `limit` devices heard since they were written."""
        fresh = np.flatnonzero(self._seen_ms.values > self._written_ms.values)
        if len(fresh) > limit:
            fresh = fresh[np.argpartition(self._written_ms.values[fresh], limit)[:limit]]
        return (
            fresh.tolist(),
            self._seen_ms.values[fresh].tolist(),
            self._battery.values[fresh].tolist(),
            self._strap.values[fresh].tolist(),
        )

    def wrote(self, numbers: list[int], seen_ms: list[int]) -> None:
        """Note what has been written."""
        self._written_ms.values[np.array(numbers, dtype=np.int64)] = seen_ms


class RoleMap:
    """Device number → Role, as far as known."""

    UNKNOWN_ROLE: Final = 255

    def __init__(self) -> None:
        self._roles = NumberMap(self.UNKNOWN_ROLE, np.uint8)

    def learn(self, pairs: list[tuple[int, int]]) -> None:
        """Take in (device number, role)."""
        if pairs:
            numbers, roles = np.array(pairs, dtype=np.int64).T
            self._roles.reach(int(numbers.max()))
            self._roles.values[numbers] = roles

    def of(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """The roles of devices, UNKNOWN_ROLE where not known."""
        known = self._roles.values
        inside = numbers < len(known)
        roles: NDArray[np.uint8] = np.where(inside, known[np.where(inside, numbers, 0)], self.UNKNOWN_ROLE)
        return roles
