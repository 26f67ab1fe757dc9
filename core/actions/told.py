"""What was told while PostgreSQL was away becomes rows: sent, with its true time, and never sent again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from core.actions.deliveries import FEED_KIND, TIMELINE_KIND
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.told import ToldIn
from core.errors import QorganError
from core.ids import derived_id
from core.postgres import deliveries, deliveries_told
from core.postgres.deliveries_write import insert_deliveries

log = structlog.get_logger(__name__)


async def note_told(unit: Unit, told: Sequence[ToldIn], incident_id: uuid.UUID) -> None:
    """Have the deliveries that went out by the routes last known as rows that are sent.

    What the panic's own transaction has queued under the same id is marked; what it has not (a route or contact that
    is no longer one) is added, so that everybody who was told is on record.
    """
    if not told:
        return
    await unit.write_deliveries()
    there = await deliveries_told.known(unit.connection, [one.delivery.id for one in told])
    for one in told:
        if one.delivery.id not in there:
            await _add(unit, one, incident_id)
    rows = await deliveries_told.mark_told(unit.connection, told, unit.now)
    await deliveries.add_timeline(
        unit.connection,
        [
            (derived_id("timeline", row["id"], "sent"), row["incident_id"], row["sent_at"], TIMELINE_KIND, _line(row))
            for row in rows
        ],
    )
    for row in rows:
        unit.emit(
            row["agency_id"],
            FEED_KIND,
            {
                "incident_id": str(row["incident_id"]), "delivery_id": str(row["id"]), "channel": row["channel"],
                "audience": row["audience"], "state": "sent", "at": rfc3339(row["sent_at"]),
            },
        )  # fmt: skip


async def note_late(unit: Unit, told: Sequence[ToldIn]) -> list[ToldIn]:
    """The same for what is left over when the panic's rows are there already; returns what it took."""
    taken = []
    for panic_id in sorted({one.panic_id for one in told}):
        incident_id = await deliveries_told.incident_of(unit.connection, panic_id)
        if incident_id is not None:
            mine = [one for one in told if one.panic_id == panic_id]
            await note_told(unit, mine, incident_id)
            taken += mine
    return taken


async def _add(unit: Unit, one: ToldIn, incident_id: uuid.UUID) -> None:
    try:
        async with unit.connection.transaction():
            await insert_deliveries(unit.connection, [replace(one.delivery, incident_id=incident_id)], unit.now)
    except QorganError as error:  # who it was for was erased meanwhile: nothing is kept of it
        log.warning("told_not_kept", delivery_id=str(one.delivery.id), code=error.code)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "delivery_id": str(row["id"]), "channel": row["channel"], "audience": row["audience"],
        "template": row["template"], "state": "sent", "attempts": 1, "by": "last_known_routes",
    }  # fmt: skip
