"""Units: entered and changed, and seen on every board at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from core.actions import records
from core.actions.escalation import note_progress
from core.actions.escalation_policies import check_users
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.postgres import incidents
from core.postgres.board import unit_json
from core.postgres.table import Record
from core.postgres.units import UNITS, hidden_ids, incidents_of

UNDER_WAY: Final = frozenset({"en_route", "on_scene"})
"""States of a unit that its incident keeps the time of."""


async def add(unit: Unit, asker: records.Asker, unit_id: uuid.UUID | None, values: Mapping[str, Any]) -> Record:
    """Enter a unit that `records.claim` found new; raises NotFound for a conflict with nobody of the agency."""
    await records.check_people(unit, asker.agency_id, list(values.get("conflicts", ())))
    await check_users(unit, asker.agency_id, list(values.get("user_ids", ())))
    return _told(unit, await records.insert(unit, asker, UNITS, unit_id, values))


async def change(unit: Unit, asker: records.Asker, unit_id: uuid.UUID, values: Mapping[str, Any]) -> Record:
    """Change a unit; raises NotFound. On its way or there, the incidents it was sent to say since when.

    Conflicts that are hidden from who asks stay: she can take back only those she knows of.
    """
    if "user_ids" in values:
        await check_users(unit, asker.agency_id, list(values["user_ids"]))
    if "conflicts" in values:
        await records.check_people(unit, asker.agency_id, list(values["conflicts"]))
        before = await UNITS.get(unit.connection, asker.agency_id, unit_id, lock=True)
        hidden = await hidden_ids(unit.connection)
        kept = [one for one in before["conflicts"] if one in hidden]
        values = {**values, "conflicts": [*values["conflicts"], *kept]}
    record = _told(unit, await records.change(unit, asker, UNITS, unit_id, values))
    if record["status"] in UNDER_WAY and "status" in values:
        await _note_step(unit, record)
    return record


async def _note_step(unit: Unit, record: Record) -> None:
    """Keep when a unit was first on its way, and there, on what it was sent to: the response times come of it."""
    found = await incidents_of(unit.connection, record["agency_id"], record["id"])
    changed = []
    for row in await incidents.lock_many(unit.connection, found):
        for sent in row["units"]:
            if sent["unit_id"] == str(record["id"]) and sent[record["status"]] is None:
                sent[record["status"]] = rfc3339(unit.now)
                row["updated_at"] = unit.now
                await note_progress(unit, row)
                changed.append(row)
    if not changed:
        return
    await incidents.update_many(unit.connection, changed)
    for row in changed:
        unit.emit(row["agency_id"], "incident.updated", incidents.incident_json(row))


def _told(unit: Unit, record: Record) -> Record:
    unit.emit(record["agency_id"], "unit.updated", unit_json(record))
    return record
