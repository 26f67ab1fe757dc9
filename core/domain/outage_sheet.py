"""The outage sheet: whom to see to first while the service cannot see anybody, by district, on paper.

It needs PostgreSQL alone: the last decided state and distance of each pair, and how far he can be by now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from core.domain.outage import UNKNOWN_MPS

PAIRS_MAX: Final = 200
"""Pairs an agency's sheet lists, the riskiest."""
RISKS: Final = {"extreme": 0, "high": 1, "standard": 2}
STATES: Final = {"breach": 0, "warning": 1}


class SheetPair(msgspec.Struct, frozen=True, kw_only=True):
    """A protected person and whom an order keeps from her, as they were last known."""

    order_id: str
    reference: str
    district: str
    risk: str
    """standard | high | extreme"""
    state: str
    """Last decided: clear | warning | breach | unknown."""
    distance_m: float | None
    known_at: datetime | None
    """When that was decided."""
    alert_m: float
    her_seen_at: datetime | None
    his_seen_at: datetime | None
    her: str = ""
    him: str = ""
    reach: str = ""
    """How she may be reached: channel, address and hours."""
    language: str = ""
    sealed: bool = False

    def reaches_in_s(self, now: datetime) -> float | None:
        """Until he can be within the alert radius, at a car's pace since they were last known; None: never known."""
        if self.distance_m is None or self.known_at is None:
            return None
        driven_m = UNKNOWN_MPS * max(0.0, (now - self.known_at) / timedelta(seconds=1))
        return max(0.0, self.distance_m - self.alert_m - driven_m) / UNKNOWN_MPS


def riskiest(pairs: Sequence[SheetPair], now: datetime) -> list[SheetPair]:
    """The riskiest first: inside, then in warning, then who can be there by now, then by risk level and time."""

    def key(pair: SheetPair) -> tuple[int, int, int, float, str]:
        seconds = pair.reaches_in_s(now)
        near = 0 if seconds == 0.0 else 1 if seconds is not None else 2
        reach = pair.distance_m if seconds == 0.0 and pair.distance_m is not None else seconds
        return (
            STATES.get(pair.state, 2),
            near,
            RISKS.get(pair.risk, 2),
            math.inf if reach is None else reach,
            pair.order_id,
        )

    return sorted(pairs, key=key)[:PAIRS_MAX]


def by_district(pairs: Sequence[SheetPair]) -> list[tuple[str, list[SheetPair]]]:
    """Pairs in their order by district, the district of the riskiest first."""
    found: dict[str, list[SheetPair]] = {}
    for pair in pairs:
        found.setdefault(pair.district, []).append(pair)
    return list(found.items())
