"""Duress: an incident goes on, unseen by whoever forced her.

From that moment nothing goes to her phone and her contacts, also of other incidents of hers; what was queued is
cancelled. Dispatchers see it at once, are told again, and see that nobody may call her.
"""

from __future__ import annotations

import dataclasses
import uuid
from datetime import datetime
from typing import Any, Final

from core.actions.notices import notice_of, tell
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.ids import derived_id
from core.postgres import incidents as incident_store
from core.postgres import panics as store
from core.postgres.incidents import Row

CANCEL_FIELDS: Final = ("cancel_asked_at", "cancel_pin", "cancel_unverified", "close_by")
"""Of an incident's detail what a cancelling leaves, and a new press takes away."""


async def turn(
    unit: Unit, row: Row, at: datetime, why: str, cause: uuid.UUID, *, shown: bool, keyless: bool = False
) -> None:
    """Make a locked incident one under duress and tell dispatchers; a second time tells nothing.

    `why`: duress_pin, third_wrong_pin or forced_pin; `shown`: from then on it is to appear cancelled, as it would after
    a right PIN given in the same place; `keyless`: nobody can be messaged now.
    """
    asked_at = rfc3339(at) if shown else row["detail"].get("cancel_asked_at")
    asked = {"cancel_asked_at": asked_at} if asked_at is not None else {}
    if row["detail"].get("duress"):
        row["detail"] = {**row["detail"], **asked}
        return
    kept = {name: value for name, value in row["detail"].items() if name not in CANCEL_FIELDS}
    row["detail"] = {**kept, "duress": True, "duress_by": why, "duress_at": rfc3339(at), **asked}
    row["do_not_call"] = True
    row["severity"] = "critical"
    row["updated_at"] = unit.now
    await silence(unit, row)
    line = (derived_id("timeline", "duress", row["id"]), row["id"], at, "duress", None, {"why": why})
    await incident_store.add_lines(unit.connection, [line])
    if not keyless:
        await tell_again(unit, row, cause, "duress_dispatcher", {"duress": True})


async def silence(unit: Unit, row: Row) -> None:
    """Cancel what is queued for her phone and her contacts."""
    await store.silence_her(unit.connection, row["id"], row["victim_id"], unit.now)


async def tell_again(unit: Unit, row: Row, cause: uuid.UUID, template: str, facts: dict[str, Any]) -> None:
    """Tell the agency's routes of an incident that they were told of before, in the words of a template."""
    notice = notice_of(row, cause, to_her=False)
    told = {**notice.data, **facts, "event": "incident.updated"}
    await tell(unit, [dataclasses.replace(notice, data=told, template=template)])
