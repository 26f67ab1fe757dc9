"""How often he came to the edge and turned back, and what may be said to him of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from core.domain.transition import Transition
from core.postgres.database import Connection

PER_ORDER: Final = 200
"""Transitions of one order looked back at, the newest."""


@dataclass(frozen=True, slots=True)
class EdgeOrder:
    """An order, as far as its edge is concerned."""

    id: uuid.UUID
    agency_id: uuid.UUID
    case_id: uuid.UUID
    victim_id: uuid.UUID
    aggressor_id: uuid.UUID
    alert_m: float
    warning_m: float
    warn_aggressor: bool
    policy: dict[str, Any]
    """Its agency's, as set."""


async def orders(connection: Connection, order_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, EdgeOrder]:
    """These orders by id."""
    rows = await connection.fetch(
        "SELECT o.id, o.agency_id, o.case_id, o.victim_id, o.aggressor_id, o.alert_m, o.warning_m, o.warn_aggressor,"
        " a.policy FROM protection_order o JOIN agency a ON a.id = o.agency_id WHERE o.id = ANY ($1::uuid[])",
        order_ids,
    )
    return {row["id"]: EdgeOrder(**row) for row in rows}


async def recent(
    connection: Connection, order_ids: Sequence[uuid.UUID], since: datetime
) -> dict[uuid.UUID, list[Transition]]:
    """By order: its separations and approaches since a moment, in the order they were decided."""
    rows = await connection.fetch(
        "SELECT o.id, t.body FROM unnest($1::uuid[]) AS o (id) CROSS JOIN LATERAL ("
        " SELECT body, evaluated_at, id FROM transition WHERE order_id = o.id AND kind IN ('proximity', 'approach')"
        " AND evaluated_at >= $2 ORDER BY evaluated_at DESC, id DESC LIMIT $3) t ORDER BY t.evaluated_at, t.id",
        order_ids,
        since,
        PER_ORDER,
    )
    found: dict[uuid.UUID, list[Transition]] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(msgspec.convert(row["body"], Transition))
    return found


Decided = tuple[uuid.UUID, EdgeOrder, datetime, datetime, float]
"""A warning that may be said: id, order, when it was decided, from when, within which radius."""


async def add_warnings(connection: Connection, warnings: Sequence[Decided]) -> None:
    """Keep what may be said to aggressors; one that is there already stays."""
    await connection.executemany(
        "INSERT INTO aggressor_warning (id, agency_id, case_id, order_id, aggressor_id, decided_at, release_at,"
        " radius_m) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        [
            (warning_id, order.agency_id, order.case_id, order.id, order.aggressor_id, decided, release, radius_m)
            for warning_id, order, decided, release, radius_m in warnings
        ],
    )


async def end_warnings(connection: Connection, order_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """He turned back: what was not said yet is not said."""
    await connection.execute(
        "UPDATE aggressor_warning SET left_at = $2 WHERE order_id = ANY ($1::uuid[]) AND left_at IS NULL"
        " AND release_at > $2",
        order_ids,
        now,
    )
