"""Suspensions of an order: asked by one, confirmed by another, at most eight hours, ended loudly.

Eight hours are the most in a stretch, however many suspensions it is made of: one cannot be drawn out by the next.

An order's status says what is compiled: `suspended` while a confirmed suspension is in effect. What begins or ends
by the clock is done by `core.actions.order_clock`, in every process: each change is taken by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.orders import people_of
from core.actions.records import Asker, change, claim, insert
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.errors import Conflict, InvalidInput, NotAllowed
from core.postgres import cases, orders, suspensions
from core.postgres.orders import ORDERS
from core.postgres.suspensions import SUSPENSIONS
from core.postgres.table import Record

MAX_HOURS: Final = 8
REST_HOURS: Final = 1
"""Suspensions less than this apart are of one stretch: an order that holds for moments in between protects nobody."""


async def ask(unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]) -> tuple[Record, bool]:
    """The suspension, not yet in effect, and whether it is new; raises InvalidInput, NotFound, Conflict."""
    if not await claim(unit, asker, SUSPENSIONS, record_id, values):
        assert record_id is not None
        return await SUSPENSIONS.get(unit.connection, asker.agency_id, record_id), False
    starts_at, ends_at = values.get("starts_at") or unit.now, values["ends_at"]
    if ends_at <= starts_at or ends_at <= unit.now:
        raise InvalidInput("ends_at must be after starts_at, and not be over.", code="time_invalid")
    if ends_at - starts_at > timedelta(hours=MAX_HOURS):
        raise InvalidInput(f"A suspension lasts at most {MAX_HOURS} hours.", code="time_invalid")
    order = await ORDERS.get(unit.connection, asker.agency_id, values["order_id"])
    if order["status"] in {"revoked", "expired"}:
        raise Conflict(f"The order is {order['status']}; there is nothing to suspend.", code="state_forbids")
    row = {**values, "starts_at": starts_at, "asked_by": asker.user_id}
    return await insert(unit, asker, SUSPENSIONS, record_id, row), True


async def confirm(unit: Unit, asker: Asker, suspension_id: uuid.UUID) -> Record:
    """Let a suspension take effect; raises NotAllowed for who asked for it. A second time changes nothing.

    Raises Conflict when it is over, or when the order would be suspended for too long in a stretch.
    """
    suspension = await SUSPENSIONS.get(unit.connection, asker.agency_id, suspension_id, lock=True)
    if suspension["asked_by"] == asker.user_id:
        raise NotAllowed("Somebody else has to confirm what you asked for.")
    if suspension["ended_at"] is not None or suspension["ends_at"] <= unit.now:
        raise Conflict("The suspension is over; ask for a new one.", code="state_forbids")
    if suspension["confirmed_at"] is not None:
        return suspension
    await ORDERS.get(unit.connection, asker.agency_id, suspension["order_id"], lock=True)  # one at a time an order
    begins, ends = _stretch(suspension, await suspensions.others(unit.connection, suspension))
    if ends - begins > timedelta(hours=MAX_HOURS):
        hours = (ends - begins) / timedelta(hours=1)
        raise Conflict(
            f"With those it adjoins the order would be suspended for {hours:.1f} hours in a stretch;"
            f" at most {MAX_HOURS} are possible, and less than {REST_HOURS} hour between two counts as none.",
            code="state_forbids",
        )
    values = {"confirmed_by": asker.user_id, "confirmed_at": unit.now}
    record = await change(unit, asker, SUSPENSIONS, suspension_id, values, "confirmed")
    if (begins, ends) != (suspension["starts_at"], suspension["ends_at"]):
        told = {"order_id": str(suspension["order_id"]), "at": rfc3339(unit.now), "until": rfc3339(ends)}
        unit.emit(asker.agency_id, "suspension.extended", told)
    await begin(unit, [suspension["order_id"]])
    return record


async def end(unit: Unit, asker: Asker, suspension_id: uuid.UUID) -> Record:
    """End a suspension now, or take it back before it began. A second time changes nothing."""
    suspension = await SUSPENSIONS.get(unit.connection, asker.agency_id, suspension_id, lock=True)
    if suspension["ended_at"] is not None:
        return suspension
    record = await change(unit, asker, SUSPENSIONS, suspension_id, {"ended_at": unit.now}, "ended")
    await _put_in_force(unit, [record])
    return record


def _stretch(suspension: Record, others: list[tuple[datetime, datetime]]) -> tuple[datetime, datetime]:
    """The first beginning and the last end of the suspensions that adjoin it, directly or by others."""
    begins, ends = suspension["starts_at"], suspension["ends_at"]
    rest = timedelta(hours=REST_HOURS)
    left = list(others)
    while adjoining := [each for each in left if each[0] - ends < rest and begins - each[1] < rest]:
        left = [each for each in left if each not in adjoining]
        begins = min(begins, *(starts_at for starts_at, _ in adjoining))
        ends = max(ends, *(ends_at for _, ends_at in adjoining))
    return begins, ends


async def begin(unit: Unit, order_ids: Sequence[uuid.UUID]) -> int:
    """Suspend those of the orders whose confirmed suspension has begun; returns how many."""
    begun = await suspensions.set_suspended(unit.connection, unit.now, order_ids)
    await _compile(unit, begun)
    await orders.keep_versions(unit.connection, [order["id"] for order in begun], unit.now, "suspended")
    for order in begun:
        unit.emit(order["agency_id"], "suspension.started", {"order_id": str(order["id"]), "at": rfc3339(unit.now)})
    return len(begun)


async def end_over(unit: Unit, suspension_ids: Sequence[uuid.UUID]) -> int:
    """End those of the suspensions whose time is over; returns how many."""
    ended = await suspensions.ended(unit.connection, unit.now, suspension_ids)
    await _put_in_force(unit, ended)
    return len(ended)


async def _put_in_force(unit: Unit, ended: list[Record]) -> None:
    if not ended:
        return
    again = await suspensions.set_in_force(unit.connection, unit.now, [record["order_id"] for record in ended])
    await _compile(unit, again)
    await orders.keep_versions(unit.connection, [order["id"] for order in again], unit.now, "resumed")
    for order in again:
        unit.emit(order["agency_id"], "suspension.ended", {"order_id": str(order["id"]), "at": rfc3339(unit.now)})


async def _compile(unit: Unit, changed: list[Record]) -> None:
    people = {person_id for order in changed for person_id in people_of(order)}
    await cases.compile_people(unit.connection, people, unit.now)
