"""Periodic work on incidents: what follows from time passing, not from anything that comes in.

Each step is a transaction of its own that one process at a time does; its deadlines are rows, so a process that dies
or a PostgreSQL that was away only makes it late. Every step is idempotent: what it told it marks in the same commit.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Final

from core.actions import outages, tasks
from core.actions.incidents import fold_again
from core.actions.notices import notice_of, tell_welfare
from core.actions.step_clock import StepClock
from core.actions.unit_of_work import Unit
from core.actions.untold import tell_untold
from core.clock import Clock, rfc3339
from core.domain.rest import BAD_FIX_M, both_at_rest
from core.ids import derived_id
from core.postgres import incidents as store
from core.postgres import maintenance, separations
from core.postgres.database import Database
from core.postgres.incidents import Line, Row

INTERVAL_S: Final = 2.0
BATCH: Final = 200
"""Incidents, stays and pairs taken by one step; the next call takes the rest."""
WELFARE_AFTER: Final = timedelta(minutes=30)
"""How long both must be at rest inside before a welfare check is asked."""
WARNING_LASTS: Final = timedelta(minutes=5)
STILL_INSIDE_AFTER: Final = timedelta(hours=1)
"""How long after it was resolved a breach that never ended opens a new incident."""
HEARD_WITHIN: Final = timedelta(minutes=10)
FALSE_SPAN: Final = timedelta(days=7)
FALSE_MANY: Final = 3
"""A pair with more false incidents than this within `FALSE_SPAN` is a maintenance task."""


async def ask_welfare(unit: Unit) -> None:
    """Ask for a welfare check where both have been at rest inside for long; once an incident."""
    since = unit.now - WELFARE_AFTER
    candidates = await separations.welfare_candidates(unit.connection, since, BATCH)
    if not candidates:
        return
    rests: dict[uuid.UUID, list[separations.Rest]] = {}
    for rest in await separations.rests(unit.connection, candidates, since, BAD_FIX_M, outages.ROLES):
        rests.setdefault(rest.incident_id, []).append(rest)
    at_rest = [one for one in candidates if both_at_rest(rests.get(one, ()), since, unit.now)]
    rows = [row for row in await store.lock_many(unit.connection, at_rest) if row["inside"]]
    lines: list[Line] = []
    for row in rows:
        row["detail"] = {**row["detail"], "welfare_check_at": rfc3339(unit.now)}
        row["updated_at"] = unit.now
        said = {"inside_since": rfc3339(row["inside_since"])}
        lines.append((derived_id("timeline", row["id"], "welfare"), row["id"], unit.now, "welfare_check", None, said))
    if not rows:
        return
    await store.update_many(unit.connection, rows)
    await store.add_lines(unit.connection, lines)
    for row in rows:
        unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))
        unit.emit(row["agency_id"], "notice.welfare_check", _welfare_json(row))
    await tell_welfare(unit, [notice_of(row, derived_id("welfare", row["id"])) for row in rows])


def _welfare_json(row: Row) -> dict[str, str | None]:
    return {
        "incident_id": str(row["id"]),
        "order_id": str(row["order_id"]) if row["order_id"] else None,
        "inside_since": rfc3339(row["inside_since"]),
    }


async def tell_lasting_warnings(unit: Unit) -> None:
    """Tell of stays in the warning ring that last; once a stay, and no incident."""
    for stay in await separations.take_lasting_warnings(unit.connection, unit.now - WARNING_LASTS, unit.now, BATCH):
        unit.emit(
            stay.agency_id,
            "notice.warning",
            {
                "order_id": str(stay.order_id),
                "zone_id": str(stay.zone_id) if stay.zone_id is not None else None,
                "since": rfc3339(stay.since),
                "distance_m": stay.distance_m,
                "severity": "medium",
            },
        )


async def reopen_still_inside(unit: Unit) -> None:
    """Open a new incident where he is still inside long after the last one was resolved: level, not edge."""
    found = await separations.still_inside(
        unit.connection, unit.now - STILL_INSIDE_AFTER, unit.now - HEARD_WITHIN, BATCH
    )
    for one in found:
        await fold_again(unit, [one["transition_id"]], one["incident_id"], link=False)


async def open_maintenance(unit: Unit) -> None:
    """Make a task of each pair whose incidents keep being false. It suppresses nothing."""
    opened = await maintenance.open_due(unit.connection, unit.now - FALSE_SPAN, unit.now, FALSE_MANY, BATCH)
    for task in opened:
        unit.emit(task["agency_id"], "notice.maintenance", maintenance.task_json(task))
    await tasks.tell_maintenance(unit, opened)


STEPS: Final = (outages.look, ask_welfare, tell_lasting_warnings, reopen_still_inside, open_maintenance, tell_untold)


class IncidentClock(StepClock):
    """Does the periodic work on incidents."""

    def __init__(self, database: Database, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        super().__init__("incident_clock", STEPS, database, clock, interval_s)
