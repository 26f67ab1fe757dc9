"""Commands on an order's life: served, extended, revoked, and its end by the clock. Each keeps the version before."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from core.actions import tasks
from core.actions.orders import people_of, put, with_overlaps
from core.actions.records import Asker
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.order import Status, ends_by_term, next_status, read_term, term_ends_at
from core.domain.policy import Policy, read_policy
from core.errors import Conflict, InvalidInput
from core.ids import derived_id
from core.postgres import agencies, cases, orders
from core.postgres import incidents as incident_store
from core.postgres.orders import ORDERS
from core.postgres.table import Record


async def serve(
    unit: Unit, asker: Asker, order_id: uuid.UUID, served_at: datetime | None, version: int | None = None
) -> Record:
    """The order as served on him: in force, and ending as its term says. The same said again changes nothing.

    Raises NotFound, Conflict, InvalidInput for a moment to come or before the order was issued.
    """
    before, policy = await _held(unit, asker, order_id, version)
    moment = served_at or before["served_at"] or unit.now
    if before["served_at"] == moment:
        return await with_overlaps(unit, before)
    if before["served_at"] is not None:
        raise Conflict("It has been served at another time; correct `served_at` by a change.", code="state_forbids")
    if moment > unit.now or (before["issued_at"] is not None and moment < before["issued_at"]):
        raise InvalidInput("served_at must lie between issued_at and now.", code="time_invalid")
    row: dict[str, Any] = {"served_at": moment, "status": str(next_status(before["status"], "serve"))}
    if before["term"] and before["valid_until"] is None:
        row["valid_until"] = ends_by_term({**before, **row})
    after = await put(unit, asker, before, row, "served", policy)
    unit.emit(asker.agency_id, "order.served", _told(unit, after))
    return await with_overlaps(unit, after)


async def extend(
    unit: Unit,
    asker: Asker,
    order_id: uuid.UUID,
    *,
    valid_until: datetime | None = None,
    term: Mapping[str, Any] | None = None,
    reference: str | None = None,
    version: int | None = None,
) -> Record:
    """The order with a later end: `valid_until`, or a term counted from the present end. Keeps the paper's number.

    Raises NotFound, Conflict (over, or without an end), InvalidInput (no end named, or not a later one).
    """
    before, policy = await _held(unit, asker, order_id, version)
    next_status(before["status"], "extend")
    if before["valid_until"] is None:
        raise Conflict("The order has no end that could be moved.", code="state_forbids")
    if (valid_until is None) == (term is None):
        raise InvalidInput("Name either valid_until or term.", code="order_dates_invalid")
    if term is not None:
        valid_until = term_ends_at(before["valid_until"], read_term(term), before["time_zone"])
    assert valid_until is not None
    if valid_until <= before["valid_until"] or valid_until <= unit.now:
        raise InvalidInput(
            "valid_until must be later than the present end, and not be over.", code="order_dates_invalid"
        )
    row = {"valid_until": valid_until, "extended_at": unit.now, "term": None}
    detail = {"valid_until_before": rfc3339(before["valid_until"]), "reference": reference}
    after = await put(unit, asker, before, row, "extended", policy, detail)
    unit.emit(asker.agency_id, "order.extended", _told(unit, after))
    return await with_overlaps(unit, after)


async def revoke(
    unit: Unit,
    asker: Asker,
    order_id: uuid.UUID,
    reason: str,
    *,
    reference: str | None = None,
    version: int | None = None,
) -> Record:
    """The order as revoked, for good. Raises NotFound, Conflict."""
    before, policy = await _held(unit, asker, order_id, version)
    row = {"status": str(next_status(before["status"], "revoke")), "revoked_at": unit.now}
    detail = {"reason": reason, "reference": reference}
    after = await put(unit, asker, before, row, "revoked", policy, detail)
    await _tell_incidents(unit, [after], "order_revoked")
    unit.emit(asker.agency_id, "order.revoked", _told(unit, after))
    return await with_overlaps(unit, after)


async def expire(unit: Unit, order_ids: Sequence[uuid.UUID]) -> int:
    """Mark those of the orders as expired whose time is over, and say so wherever it matters; returns how many.

    It closes no incident: what is open gets a line, and the order is put on the caseworkers' list.
    """
    expired = await orders.expire(unit.connection, unit.now, order_ids)
    if not expired:
        return 0
    await cases.compile_people(unit.connection, {one for order in expired for one in people_of(order)}, unit.now)
    await orders.keep_versions(unit.connection, [order["id"] for order in expired], unit.now, "expired")
    await tasks.tell_expired(unit, expired)
    await _tell_incidents(unit, expired, "order_expired")
    for order in expired:
        unit.emit(order["agency_id"], "order.expired", {"order_id": str(order["id"]), "at": rfc3339(unit.now)})
    return len(expired)


async def _held(unit: Unit, asker: Asker, order_id: uuid.UUID, version: int | None) -> tuple[Record, Policy]:
    """The order, locked, and its agency's policy; raises NotFound, Conflict `version_stale`."""
    order = await ORDERS.get(unit.connection, asker.agency_id, order_id, lock=True)
    if version is not None and version != order["version"]:
        raise Conflict(
            "The order was changed meanwhile; load it again.", code="version_stale", version=order["version"]
        )
    agency = await agencies.get_held(unit.connection, asker.agency_id)
    return order, read_policy(agency["policy"])


async def _tell_incidents(unit: Unit, ended: Sequence[Record], kind: str) -> None:
    at_of = {order["id"]: order["version"] for order in ended}
    found = await orders.open_incidents(unit.connection, list(at_of))
    lines = [
        (
            derived_id("timeline", incident_id, kind, at_of[order_id]),
            incident_id,
            unit.now,
            kind,
            None,
            {"order_id": str(order_id)},
        )
        for order_id, incident_id in found
    ]
    if lines:
        await incident_store.add_lines(unit.connection, lines)


def _told(unit: Unit, order: Record) -> dict[str, Any]:
    return {
        "order_id": str(order["id"]),
        "at": rfc3339(unit.now),
        "status": str(Status(order["status"])),
        "valid_until": rfc3339(order["valid_until"]) if order["valid_until"] else None,
    }
