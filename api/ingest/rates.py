"""How many pings a device may send, and which it has sent already: small memories of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

BURST_S: Final = 60.0
"""A device may spend this many seconds of its rate at once: an uploaded backlog is no attack."""
MAX_REMEMBERED: Final = 50_000
"""Pings remembered to tell a repeat."""

Key = tuple[int, int, int | None]
"""Device number, at_ms, seq."""


class Bucket:
    """What one device has left; taken from at each ping, filled up only when it runs out."""

    __slots__ = ("filled_at", "left")

    def __init__(self, left: float, filled_at: float) -> None:
        self.left = left
        self.filled_at = filled_at


class Rates:
    """A token bucket a device, shared by all its connections; as many as devices were ever seen."""

    def __init__(self, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_S)
        self._monotonic = monotonic
        self._buckets: dict[int, Bucket] = {}

    def bucket(self, number: int) -> Bucket:
        """The bucket of the device with this number."""
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket(self._burst, self._monotonic())
        return bucket

    def refill(self, bucket: Bucket, taken: int = 1) -> bool:
        """Add what has come since the last time; whether the bucket held the `taken` just taken from it."""
        now = self._monotonic()
        before = bucket.left + taken + (now - bucket.filled_at) * self._per_second
        bucket.left = min(self._burst, before) - taken
        bucket.filled_at = now
        return bucket.left >= 0

    def take(self, number: int, count: int) -> bool:
        """Take for `count` pings at once; what is not to be had is not taken."""
        bucket = self.bucket(number)
        bucket.left -= count
        if bucket.left >= 0 or self.refill(bucket, count):
            return True
        bucket.left += count
        return False


class RecentPings:
    """Durable pings of late, to tell a repeat: best effort, bounded, the oldest forgotten first."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()
        self._limit = limit

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[Key]) -> None:
        """Remember pings that are durable now."""
        for key in keys:
            self._keys[key] = None
        while len(self._keys) > self._limit:
            self._keys.popitem(last=False)
