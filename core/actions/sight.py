"""Reasoned looks: where a person is, exactly, though no incident unlocks it.

A look is for one user, at one person, for a stated reason and some minutes. The supervisors are told in the same
transaction, the audit has it, and somebody else reviews it later.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from core.actions.access import tell_changed
from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.sight import LOOK_LIFE
from core.errors import Conflict, NotAllowed, NotFound
from core.ids import new_id
from core.postgres import sight as store
from core.postgres.people import PEOPLE
from core.postgres.table import Record

LOOKED: Final = "access.look"
REVIEWED: Final = "access.look_reviewed"


async def look(unit: Unit, asker: Asker, person_id: uuid.UUID, reason_code: str | None, reason: str | None) -> Record:
    """Open a person's exact place to who asks, for `LOOK_LIFE`.

    Raises NotAllowed `reason_required` without a reason, NotFound for a stranger's person and for none.
    """
    if reason_code is None or not (reason or "").strip():
        raise NotAllowed("Say why you look: send reason_code and reason.", code="reason_required")
    await PEOPLE.get(unit.connection, asker.agency_id, person_id)
    values = {
        "id": new_id(), "agency_id": asker.agency_id, "user_id": asker.user_id, "person_id": person_id,
        "reason_code": reason_code, "reason": reason, "from_at": unit.now, "until_at": unit.now + LOOK_LIFE,
    }  # fmt: skip
    row = await store.add_look(unit.connection, values)
    until = rfc3339(row["until_at"])
    await note(
        unit, asker, "person.looked", "person", person_id, look_id=str(row["id"]), reason_code=reason_code, until=until
    )
    unit.emit(asker.agency_id, LOOKED, look_json(row))
    tell_changed(unit, asker.agency_id)
    return row


async def review(unit: Unit, asker: Asker, look_id: uuid.UUID, verdict: str, text: str | None) -> Record:
    """Keep whether a look was justified; what was not ends at once.

    Raises NotFound, NotAllowed for one's own, Conflict `state_forbids` when it was reviewed before.
    """
    row = await store.lock_look(unit.connection, look_id)
    if row is None:
        raise NotFound("There is no look with this id.")
    if row["user_id"] == asker.user_id:
        raise NotAllowed("Somebody else has to review where you looked.")
    if row["reviewed_at"] is not None:
        raise Conflict("It was reviewed already.")
    row = await store.review_look(unit.connection, row, asker.user_id, verdict, text, unit.now)
    await note(unit, asker, "person_look.reviewed", "person_look", look_id, verdict=verdict, people=[row["person_id"]])
    unit.emit(asker.agency_id, REVIEWED, look_json(row))
    tell_changed(unit, asker.agency_id)
    return row


def look_json(row: Record) -> dict[str, Any]:
    """As the feed tells supervisors: who looks at whom, why, until when; no place."""
    return {
        "id": str(row["id"]),
        "user_id": str(row["user_id"]),
        "person_id": str(row["person_id"]),
        "reason_code": row["reason_code"],
        "from_at": rfc3339(row["from_at"]),
        "until_at": rfc3339(row["until_at"]),
        "verdict": row["verdict"],
    }
