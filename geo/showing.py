"""What screens are shown of a device: its newest fix, at most once a second on the log's clock."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import FLAG_PRIMARY
from geo.frame import Floats
from geo.rows import LIVE_ROW, Devices, Rows
from geo.track import FIX_SIGMA, LIVE, RADIUS_68_SIGMA, Times

SHOW_MS: Final = 1_000
"""A device's live position is shown at most this often."""


def keep(devices: Devices, rows: Rows, records: NDArray[np.void], now_ms: Times, fixes: Floats) -> None:
    """Note what of n new fixes is to be shown, of primary copies only; `devices` is changed in place."""
    due = (now_ms - devices.shown_ms.take(rows) >= SHOW_MS) & devices.primary.take(rows)
    due &= (records["flags"] & np.uint32(FLAG_PRIMARY)) != 0
    some = due.nonzero()[0]
    if not some.size:
        return
    if some.size < len(rows):
        rows, records, now_ms = rows.take(some), records.take(some), now_ms.take(some)
        fixes = fixes.take(some, axis=0)
    live = np.empty(len(some), dtype=LIVE_ROW)
    for name in ("lat", "lon", "speed_mps", "heading_deg", "battery_pct", "flags"):
        live[name] = records[name]
    live["accuracy_m"] = fixes[:, FIX_SIGMA] * RADIUS_68_SIGMA
    live["at_ms"] = fixes[:, LIVE]
    live["received_ms"] = now_ms
    devices.shown_ms[rows] = now_ms
    devices.shown.append((devices.number.take(rows), devices.slot.take(rows), live))
