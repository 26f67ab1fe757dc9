"""Units: whom a dispatcher can send."""

from __future__ import annotations

from typing import Final

from core.postgres.table import Table

UNITS: Final = Table(
    "unit",
    "unit",
    (
        "callsign", "status", "lat", "lon", "position_at", "capabilities", "shift_ends_at", "conflicts", "created_at",
        "updated_at",
    ),
)  # fmt: skip
