"""Placing and lifting holds: a court's on a person, a case or an incident; a person's own on where she was."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from core.actions.erasure import Who
from core.actions.records import Asker, check_people, note
from core.actions.subject_export import note as note_own
from core.actions.subject_export import refuse_kept_away
from core.actions.unit_of_work import Unit
from core.domain.retention import before, read_periods
from core.errors import Conflict, NotFound
from core.ids import new_id
from core.postgres import holds, retention
from core.postgres.holds import LEGAL_HOLDS
from core.postgres.table import Record


async def place(unit: Unit, asker: Asker, values: Mapping[str, Any]) -> Record:
    """Keep everything of a person, a case or an incident from being erased until it is lifted; audited.

    Raises NotFound for what is not the agency's; Conflict `person_erased` for who was erased a moment ago.
    """
    await holds.lock(unit.connection)
    if values.get("person_id") is not None:
        await check_people(unit, asker.agency_id, [values["person_id"]])
    if not await holds.is_there(unit.connection, asker.agency_id, values.get("case_id"), values.get("incident_id")):
        raise NotFound("There is no such case or incident.")
    hold = await LEGAL_HOLDS.insert(
        unit.connection,
        {
            "id": new_id(), "agency_id": asker.agency_id, **values, "placed_by": asker.user_id, "placed_at": unit.now,
        },
    )  # fmt: skip
    # The row waited for an erasure that was under way; whoever asks afterwards waits for this.
    if hold["person_id"] is not None and await holds.is_erased(unit.connection, hold["person_id"]):
        raise Conflict("The person was erased; nothing is kept of her.", code="person_erased")
    await _note(unit, asker, "legal_hold.placed", hold, reason=hold["reason"])
    return hold


async def lift(unit: Unit, asker: Asker, hold_id: uuid.UUID, reason: str) -> Record:
    """Let the rules go on with what was held; audited. Raises NotFound; Conflict when it was lifted before."""
    hold = await LEGAL_HOLDS.get(unit.connection, asker.agency_id, hold_id, lock=True)
    if hold["lifted_at"] is not None:
        raise Conflict("This hold was lifted before.", code="state_forbids")
    hold = await LEGAL_HOLDS.update(
        unit.connection,
        asker.agency_id,
        hold_id,
        {"lifted_at": unit.now, "lifted_by": asker.user_id, "lift_reason": reason},
    )
    await _note(unit, asker, "legal_hold.lifted", hold, reason=reason)
    return hold


async def _note(unit: Unit, asker: Asker, action: str, hold: Record, **detail: Any) -> None:
    people = await holds.people_of(unit.connection, hold)
    await note(unit, asker, action, "legal_hold", hold["id"], people=people, **detail)


async def place_own(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> Record:
    """Keep a person's own fixes that are there now, from now back; asked again, up to the new now."""
    await refuse_kept_away(unit, person_id)
    periods = read_periods(await retention.policy_of(unit.connection, agency_id))
    values = {
        "id": new_id(), "agency_id": agency_id, "person_id": person_id,
        "fixes_from": before(unit.now, periods.victim_fix_days), "fixes_until": unit.now, "placed_at": unit.now,
        "ends_at": _ends(unit.now, periods.own_hold_days),
    }  # fmt: skip
    await holds.lift_own_over(unit.connection, person_id, unit.now)
    await holds.place_own(unit.connection, values)
    await note_own(unit, who, agency_id, person_id, "own_hold.placed")
    return await own_of(unit, person_id)


def _ends(now: datetime, days: int) -> datetime:
    return now + timedelta(days=days)


async def own_of(unit: Unit, person_id: uuid.UUID) -> Record:
    """What a person holds of her own. Raises NotFound when it is nothing."""
    await refuse_kept_away(unit, person_id)
    found = await holds.own(unit.connection, person_id)
    if found is None or found["ends_at"] <= unit.now:
        raise NotFound("You hold nothing.")
    return found


async def lift_own(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> None:
    """Let a person's own hold go. Raises NotFound when there is none."""
    await refuse_kept_away(unit, person_id)
    if not await holds.lift_own(unit.connection, person_id, unit.now):
        raise NotFound("You hold nothing.")
    await note_own(unit, who, agency_id, person_id, "own_hold.lifted")
