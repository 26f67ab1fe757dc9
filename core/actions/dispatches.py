"""Units on their way: told when they are sent, and replaced by the next nearest where one does not come.

A unit is sent by nobody's hand only in place of one that somebody sent and that did not accept, or declined. It is the
nearest that is free, on shift, in no conflict with a party, and has people who can be told; there are at most
`BY_ITSELF_MAX` of them an incident.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core.actions.reach import Group, Message, facts_of, tell_group
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain import sight
from core.ids import derived_id
from core.postgres import board, user_channels
from core.postgres.incidents import Row

BY_ITSELF_MAX: Final = 5
AVAILABLE: Final = "available"


def entry_of(found: Mapping[str, Any], now: Any) -> dict[str, Any]:
    """What an incident says of a unit that is sent to it now."""
    return {
        "unit_id": str(found["id"]),
        "callsign": found["callsign"],
        "dispatched_at": rfc3339(now),
        "accepted": None,
        "declined": None,
        "en_route": None,
        "on_scene": None,
        "eta_s": None,
        "eta_told_at": None,
    }


async def tell_crews(unit: Unit, row: Row, found: Iterable[Mapping[str, Any]]) -> int:
    """Tell the people of units that were just sent; how many messages."""
    crews = {one["id"]: list(one["user_ids"]) for one in found}
    callsigns = {entry["unit_id"]: entry for entry in row["units"]}
    if not any(crews.values()):
        return 0
    named = [person for person in (row["victim_id"], row["aggressor_id"]) if person is not None]
    staff = await user_channels.staff(unit.connection, row["agency_id"], named, row["case_id"])
    queued = 0
    for unit_id, user_ids in crews.items():
        group = Group()
        group.take([staff[user] for user in user_ids if user in staff])
        entry = callsigns[str(unit_id)]
        message = Message(
            derived_id("dispatch", row["id"], unit_id, entry["dispatched_at"]), 0, "dispatch_officer", "officer",
            {**facts_of(row), "event": "incident.dispatched", "callsign": entry["callsign"]},
        )  # fmt: skip
        queued += await tell_group(unit, row, row["agency_id"], group, message)
    return queued


async def send_next(unit: Unit, row: Row) -> dict[str, Any] | None:
    """Send the next nearest unit to an incident whose row is held; its entry, or None where there is none to send.

    Changes `row["units"]`; the caller writes it. Nobody's place is told by it.
    """
    place = sight.point_of(row["place"])
    asked = {entry["unit_id"] for entry in row["units"]}
    parties = {row["victim_id"], row["aggressor_id"]}
    by_itself = sum(1 for entry in row["units"] if entry.get("by_itself"))
    if place is None or by_itself >= BY_ITSELF_MAX or row["state"] == sight.RESOLVED:
        return None
    candidates = [
        one for one in await board.units(unit.connection, row["agency_id"])
        if one["status"] == AVAILABLE and str(one["id"]) not in asked and not parties & set(one["conflicts"])
        and one["lat"] is not None and one["lon"] is not None and one["user_ids"]
        and (one["shift_ends_at"] is None or one["shift_ends_at"] > unit.now)
    ]  # fmt: skip
    candidates.sort(key=lambda one: (sight.apart_m(place, (one["lat"], one["lon"])), one["id"]))
    for one in candidates:
        taken = await board.take_unit(unit.connection, row["agency_id"], one["id"], unit.now)
        if taken is None:
            continue
        entry = {**entry_of(taken, unit.now), "by_itself": True}
        row["units"] = [*row["units"], entry]
        unit.emit(row["agency_id"], "unit.updated", board.unit_json(taken))
        await tell_crews(unit, row, [taken])
        return entry
    return None


async def may_answer_for(unit: Unit, row: Row, unit_id: uuid.UUID, user_id: uuid.UUID) -> bool:
    """Whether a user goes with a unit."""
    return any(
        one["id"] == unit_id and user_id in one["user_ids"]
        for one in await board.units(unit.connection, row["agency_id"])
    )
