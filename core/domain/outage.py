"""Mass silence: when many devices of one place or one agency fall silent together, it is one event.

A group is an agency, or one of its districts: a cell of about ten kilometres in which devices were last seen. Silence
of a group is an outage when at least `SILENT_LEAST` of its devices became late or silent within `WINDOW`, and they are
at least `SILENT_SHARE` of those that were heard shortly before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

SILENT_LEAST: Final = 20
"""Devices that must fall silent together."""
SILENT_SHARE: Final = 0.3
"""Share of the devices that were live that they must be."""
WINDOW: Final = timedelta(minutes=2)
"""How close together."""
LIVE_BEFORE: Final = timedelta(minutes=15)
"""Who was heard within this was live."""
JOINS: Final = timedelta(hours=1)
"""How long an outage takes those who fall silent after the rest; one that lasts for days must hide nobody new."""
HOLD: Final = timedelta(seconds=30)
"""How long single silences wait to be judged; then they are told one by one."""
OVER_SHARE: Final = 0.2
"""An outage is over when at most this share of those it took is still silent."""
PAIRS_MAX: Final = 100
"""Pairs an outage lists."""

CELL_M: Final = 10_000.0
METRES_PER_DEGREE: Final = 111_195.0
UNKNOWN_MPS: Final = 15.0
"""Speed taken for somebody who is not seen."""


def cell_of(lat: float, lon: float) -> str:
    """The district of a position: `row:column` of a grid of about `CELL_M`, counted from the equator and Greenwich."""
    row = math.floor(lat * METRES_PER_DEGREE / CELL_M)
    return f"{row}:{math.floor(lon * _columns_per_degree(row))}"


def cell_box(cell: str) -> tuple[float, float, float, float]:
    """South, north, west and east of a cell, degrees."""
    row, column = (int(part) for part in cell.split(":"))
    height, per_degree = CELL_M / METRES_PER_DEGREE, _columns_per_degree(row)
    return row * height, (row + 1) * height, column / per_degree, (column + 1) / per_degree


def _columns_per_degree(row: int) -> float:
    middle = (row + 0.5) * CELL_M / METRES_PER_DEGREE
    return max(METRES_PER_DEGREE * math.cos(math.radians(min(abs(middle), 89.9))) / CELL_M, 1e-3)


def is_outage(silent: int, live: int) -> bool:
    """Whether `silent` devices fallen silent together, of `live` that were heard before, are an outage.

    `live` counts the silent ones too; it may be less than them when the history lags behind.
    """
    return silent >= SILENT_LEAST and silent >= SILENT_SHARE * max(live, silent)


def is_over(taken: int, still_silent: int) -> bool:
    """Whether most of the `taken` devices are heard again."""
    return still_silent <= OVER_SHARE * taken


@dataclass(frozen=True, slots=True)
class PairInDark:
    """A pair of whom somebody is not heard."""

    order_id: str
    case_id: str
    victim_id: str
    aggressor_id: str
    silent: str
    """victim | aggressor | both"""
    state: str
    """Last known: clear | warning | breach."""
    distance_m: float | None
    """Between their last positions; None: one was never seen."""
    alert_m: float
    closing_mps: float | None

    @property
    def time_to_reach_s(self) -> float | None:
        """Until he can be inside from where they were last seen; at a car's pace unless he was seen to come faster."""
        if self.distance_m is None:
            return None
        speed = max(self.closing_mps if self.closing_mps is not None else 0.0, UNKNOWN_MPS)
        return round(max(0.0, self.distance_m - self.alert_m) / speed, 1)

    def line(self) -> dict[str, Any]:
        """As an outage's detail lists it."""
        return {
            "order_id": self.order_id,
            "case_id": self.case_id,
            "victim_id": self.victim_id,
            "aggressor_id": self.aggressor_id,
            "silent": self.silent,
            "state": self.state,
            "distance_m": round(self.distance_m) if self.distance_m is not None else None,
            "time_to_reach_s": self.time_to_reach_s,
        }


def ranked(pairs: list[PairInDark]) -> list[PairInDark]:
    """By danger: inside first, then inside warning, then by the time to reach; the never seen last. At most
    `PAIRS_MAX`."""
    order = {"breach": 0, "warning": 1}

    def key(pair: PairInDark) -> tuple[int, float, str]:
        seconds = pair.time_to_reach_s
        return order.get(pair.state, 2), seconds if seconds is not None else math.inf, pair.order_id

    return sorted(pairs, key=key)[:PAIRS_MAX]
