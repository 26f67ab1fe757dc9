"""Zones: places of an order he must not enter, or must not leave."""

from __future__ import annotations

from typing import Final

from core.postgres.table import Table

ZONES: Final = Table(
    "zone",
    "zone",
    (
        "order_id", "kind", "name", "geometry", "radius_m", "warning_m", "schedule", "disclosed", "valid_from",
        "valid_until", "created_at", "updated_at", "removed_at",
    ),
)  # fmt: skip
