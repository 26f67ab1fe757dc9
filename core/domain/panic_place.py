"""Which fix an open panic's place becomes: the latest that is good, and not every metre of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import from_ms, rfc3339, to_ms
from core.domain.sight import apart_m

EVERY_MS: Final = 5_000
"""Least time between the fixes of two places told one after the other."""
STILL_MS: Final = 30_000
"""Who does not move is told of this often."""
MOVED_M: Final = 10.0
GOOD_M: Final = 200.0
"""A fix at least so exact is told before one that is newer and worse, for `GOOD_FOR_MS`."""
GOOD_FOR_MS: Final = 60_000
AHEAD_MS: Final = 5_000
"""How far ahead a device's clock may be; beyond it the fix counts from when it came."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A fix of one of her devices."""

    lat: float
    lon: float
    accuracy_m: float | None
    at_ms: int
    received_ms: int

    @property
    def moment_ms(self) -> int:
        """When she was there, as far as can be said."""
        return self.at_ms if self.at_ms <= self.received_ms + AHEAD_MS else self.received_ms

    def as_place(self) -> dict[str, Any]:
        """An incident's `place`."""
        return {
            "lat": self.lat, "lon": self.lon, "accuracy_m": self.accuracy_m, "at": rfc3339(from_ms(self.moment_ms)),
        }  # fmt: skip


def next_place(place: Mapping[str, Any] | None, fixes: Iterable[Seen]) -> Seen | None:
    """The fix to be told after `place` (an incident's, None: none yet); None: nothing that is worth it."""
    known = list(fixes)
    if not known:
        return None
    newest = max(known, key=lambda fix: fix.moment_ms)
    good = [fix for fix in known if _is_good(fix) and newest.moment_ms - fix.moment_ms < GOOD_FOR_MS]
    best = max(good, key=lambda fix: fix.moment_ms, default=newest)
    if place is None or place.get("lat") is None or place.get("at") is None:
        return best
    later_ms = best.moment_ms - to_ms(datetime.fromisoformat(place["at"]))
    moved_m = apart_m((place["lat"], place["lon"]), (best.lat, best.lon))
    return best if later_ms >= (EVERY_MS if moved_m >= MOVED_M else STILL_MS) else None


def _is_good(fix: Seen) -> bool:
    return fix.accuracy_m is not None and fix.accuracy_m <= GOOD_M
