"""Conflicts, the named users of sealed cases, and breaking the glass.

A user who is related to a person opens nothing of hers or his, ever. A case with a sealed order opens to its named
users. Anybody else of the agency may break the glass of a sealed case: for a stated reason, for a while, announced to
the supervisors in the same transaction, and reviewed by somebody else later.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from core.actions.records import Asker, check_people, note
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.errors import Conflict, NotAllowed, NotFound
from core.ids import new_id
from core.postgres import access
from core.postgres.orders import ORDERS
from core.postgres.table import Record
from core.postgres.users import USERS

CHANGED: Final = "access.changed"
"""Feed event that has every process look anew at what is hidden from whom; no socket is sent it."""
BROKEN: Final = "access.break_glass"
REVIEWED: Final = "access.break_glass_reviewed"


def tell_changed(unit: Unit, agency_id: uuid.UUID) -> None:
    """Have open sockets of the agency see by the new rules within a second."""
    unit.emit(agency_id, CHANGED, {})


async def note_conflict(unit: Unit, asker: Asker, values: Record) -> bool:
    """Note that a user is related to a person; False when it was known. Raises NotFound for either."""
    await USERS.get(unit.connection, asker.agency_id, values["user_id"])
    await check_people(unit, asker.agency_id, [values["person_id"]])
    new = await access.add_conflict(unit.connection, asker.agency_id, values, asker.user_id, unit.now)
    await note(unit, asker, "conflict.noted", "person", values["person_id"], user_id=str(values["user_id"]))
    tell_changed(unit, asker.agency_id)
    return new


async def take_conflict_back(unit: Unit, asker: Asker, user_id: uuid.UUID, person_id: uuid.UUID) -> None:
    """Let a user see a person's cases again. Raises NotFound, also for one's own conflict."""
    if user_id == asker.user_id or not await access.remove_conflict(unit.connection, user_id, person_id):
        raise NotFound("There is no such conflict.")
    await note(unit, asker, "conflict.removed", "person", person_id, user_id=str(user_id))
    tell_changed(unit, asker.agency_id)


async def seal(unit: Unit, asker: Asker, case_id: uuid.UUID) -> None:
    """Before an order of a case is sealed: whoever seals it may open it."""
    await access.name_user(unit.connection, asker.agency_id, case_id, asker.user_id, asker.user_id, unit.now)
    tell_changed(unit, asker.agency_id)


async def name_user(unit: Unit, asker: Asker, order_id: uuid.UUID, user_id: uuid.UUID) -> bool:
    """Let a user open an order's case although it is sealed; False when she may. Raises NotFound for either."""
    order = await ORDERS.get(unit.connection, asker.agency_id, order_id)
    user = await USERS.get(unit.connection, asker.agency_id, user_id)
    case_id = order["case_id"]
    new = await access.name_user(unit.connection, asker.agency_id, case_id, user["id"], asker.user_id, unit.now)
    await note(unit, asker, "case.user_named", "case", case_id, user_id=str(user_id))
    tell_changed(unit, asker.agency_id)
    return new


async def unname_user(unit: Unit, asker: Asker, order_id: uuid.UUID, user_id: uuid.UUID) -> None:
    """Let a user open a sealed case no longer.

    Raises NotFound, and Conflict `state_forbids` for the last one: somebody has to be left to open it.
    """
    order = await ORDERS.get(unit.connection, asker.agency_id, order_id, lock=True)
    named = await access.named_users(unit.connection, order["case_id"])
    if user_id not in {one["user_id"] for one in named}:
        raise NotFound("She is not named.")
    if order["sealed"] and len(named) == 1:
        raise Conflict("She is the last who may open this case; name somebody else first.")
    await access.unname_user(unit.connection, order["case_id"], user_id)
    await note(unit, asker, "case.user_unnamed", "case", order["case_id"], user_id=str(user_id))
    tell_changed(unit, asker.agency_id)


async def break_glass(
    unit: Unit, asker: Asker, kind: str, asked_id: uuid.UUID, reason_code: str, reason: str, life_s: int
) -> Record:
    """Open the sealed cases behind a person, a case or an incident to who asks, for `life_s`.

    Raises NotFound: for a stranger's and for one she is related to the same as for none.
    """
    case_ids = await access.glass_cases(unit.connection, kind, asked_id)
    if not case_ids:
        raise NotFound(f"There is no sealed {kind} with this id.")
    values: dict[str, Any] = {
        "id": new_id(), "agency_id": asker.agency_id, "user_id": asker.user_id, "asked_kind": kind,
        "asked_id": asked_id, "case_ids": case_ids, "reason_code": reason_code, "reason": reason,
    }  # fmt: skip
    glass = await access.break_glass(unit.connection, values, life_s)
    await note(
        unit, asker, "break_glass.broken", kind, asked_id, break_glass_id=str(glass["id"]), reason_code=reason_code,
        cases=[str(case_id) for case_id in case_ids], until=rfc3339(glass["until_at"]),
    )  # fmt: skip
    unit.emit(asker.agency_id, BROKEN, glass_json(glass))
    return glass


async def review_glass(unit: Unit, asker: Asker, glass_id: uuid.UUID, verdict: str, text: str | None) -> Record:
    """Keep whether it was justified; what was not is shut at once.

    Raises NotFound, NotAllowed for one's own, Conflict `state_forbids` when it was reviewed before.
    """
    glass = await access.lock_glass(unit.connection, glass_id)
    if glass is None:
        raise NotFound("The glass was not broken under this id.")
    if glass["user_id"] == asker.user_id:
        raise NotAllowed("Somebody else has to review what you opened.")
    if glass["reviewed_at"] is not None:
        raise Conflict("It was reviewed already.")
    glass = await access.review_glass(unit.connection, glass, asker.user_id, verdict, text, unit.now)
    await note(unit, asker, "break_glass.reviewed", "break_glass", glass_id, verdict=verdict)
    unit.emit(asker.agency_id, REVIEWED, glass_json(glass))
    tell_changed(unit, asker.agency_id)
    return glass


def glass_json(glass: Record) -> dict[str, Any]:
    """As the feed tells supervisors: who, why, until when; not what stands in the case."""
    return {
        "id": str(glass["id"]),
        "user_id": str(glass["user_id"]),
        "asked_kind": glass["asked_kind"],
        "reason_code": glass["reason_code"],
        "from_at": rfc3339(glass["from_at"]),
        "until_at": rfc3339(glass["until_at"]),
        "verdict": glass["verdict"],
    }
