"""Others' incidents that are an agency's concern: on its ground, or its help was asked. It sees little, and can say
that it has taken notice: then nobody else is called."""

from __future__ import annotations

import uuid
from typing import Any

from core.actions.escalation import note_progress
from core.actions.records import Asker
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.incident import State
from core.errors import NotFound
from core.ids import derived_id
from core.postgres import agencies, audit, shares
from core.postgres import incidents as store


async def note_look(unit: Unit, asker: Asker, incident_id: uuid.UUID) -> None:
    """Write into the audit of the agency whose incident it is that another's user looked at it.

    `unit` acts for the service itself: the asker's own scope reaches neither. Raises NotFound.
    """
    row = await _row(unit, asker, incident_id)
    await _audit(unit, asker, row, "shared_incident.read")


async def acknowledge(unit: Unit, asker: Asker, incident_id: uuid.UUID) -> None:
    """Take an incident of another agency in hand, if nobody has; it stays theirs. Raises NotFound."""
    row = await _row(unit, asker, incident_id)
    await shares.acknowledge(unit.connection, incident_id, asker.agency_id, asker.user_id, unit.now)
    await _audit(unit, asker, row, "shared_incident.acknowledged")
    if row["state"] != State.OPEN:
        return
    agency = await agencies.get(unit.connection, asker.agency_id)
    row["state"] = str(State.ACKNOWLEDGED)
    row["acknowledged_at"] = row["updated_at"] = unit.now
    row["version"] += 1
    row["detail"] = {**row["detail"], "acknowledged_by_agency": {"id": str(agency["id"]), "name": agency["name"]}}
    await note_progress(unit, row)
    await store.update_many(unit.connection, [row])
    line_id = derived_id("timeline", "shared", incident_id, asker.agency_id, rfc3339(unit.now))
    data: dict[str, Any] = {"version": row["version"], "agency": agency["name"]}
    await store.add_lines(unit.connection, [(line_id, incident_id, unit.now, "acknowledge", asker.user_id, data)])
    unit.emit(row["agency_id"], "incident.acknowledged", store.incident_json(row))


async def _row(unit: Unit, asker: Asker, incident_id: uuid.UUID) -> store.Row:
    share = await shares.lock(unit.connection, incident_id, asker.agency_id)
    rows = await store.lock_many(unit.connection, [incident_id]) if share is not None else []
    if not rows:
        raise NotFound("There is no such incident.")
    return rows[0]


async def _audit(unit: Unit, asker: Asker, row: store.Row, action: str) -> None:
    await audit.write(
        unit.connection, unit.now, agency_id=row["agency_id"], actor_kind="user", actor_id=asker.user_id,
        action=action, subject_kind="incident", subject_id=row["id"], address=asker.address or None,
        detail={"agency_id": str(asker.agency_id)}, role=asker.role, session_id=asker.session_id,
        purpose=asker.purpose or None, person_ids=[row["victim_id"]],
    )  # fmt: skip
