"""Protection orders and their zones; every change is compiled into the case in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core.actions import access, protection, tasks
from core.actions.records import Asker, change, check_people, claim, insert, note
from core.actions.unit_of_work import Unit
from core.domain.legal_ground import check_term, fill_in
from core.domain.order import FINAL, Status, ends_by_term, gap_from, gap_s, next_status
from core.domain.policy import (
    STANDARD_RISK,
    Policy,
    check_bounds,
    check_not_below,
    read_order_policy,
    read_policy,
    values_of,
)
from core.errors import Conflict, InvalidInput
from core.postgres import agencies, cases, orders
from core.postgres.orders import ORDERS
from core.postgres.protection import violations
from core.postgres.table import Record
from core.postgres.zones import ZONES

MAX_ZONES_AN_ORDER: Final = 50
COMMAND_OF_STATUS: Final[dict[str | None, str]] = {
    None: "change", "in_force": "enforce", "revoked": "revoke", "issued": "withhold",
}  # fmt: skip
"""What a change of the status asks for."""
ACTION_OF_COMMAND: Final = {"enforce": "enforced", "revoke": "revoked"}
DEADLINE_COLUMNS: Final = ("status", "valid_from", "valid_until", "issued_at")
"""What of an order its tasks hang on."""


async def create_order(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The order with `overlaps`, and whether it is new.

    Raises InvalidInput (same person, dates, radii, policy, time zone), NotFound (a person), Conflict `id_reused`.
    """
    if not await claim(unit, asker, ORDERS, record_id, values):
        assert record_id is not None
        return await with_overlaps(unit, await ORDERS.get(unit.connection, asker.agency_id, record_id)), False
    agency = await agencies.get_held(unit.connection, asker.agency_id)
    policy = read_policy(agency["policy"])
    row = complete(values, policy, agency["time_zone"])
    row.setdefault("valid_from", unit.now)
    if row.get("valid_until") is None:
        row["valid_until"] = ends_by_term(row)
    check_bounds(row)
    check_order(row)
    check_override(row, policy)
    await check_people(unit, asker.agency_id, list(people_of(row)))
    row["case_id"] = await cases.case_of_aggressor(unit.connection, asker.agency_id, row["aggressor_id"], unit.now)
    if row.get("sealed"):
        await access.seal(unit, asker, row["case_id"])
    order = await insert(unit, asker, ORDERS, record_id, row)
    await cases.compile_people(unit.connection, list(people_of(order)), unit.now)
    await orders.keep_versions(unit.connection, [order["id"]], unit.now, "entered", actor_id=asker.user_id)
    await tasks.plan_order(unit, order, policy)
    return await with_overlaps(unit, order), True


async def change_order(
    unit: Unit, asker: Asker, order_id: uuid.UUID, values: Mapping[str, Any], version: int | None = None
) -> Record:
    """The order as changed; raises NotFound, Conflict `version_stale` or `state_forbids`, InvalidInput."""
    before = await ORDERS.get(unit.connection, asker.agency_id, order_id, lock=True)
    if version is not None and version != before["version"]:
        raise Conflict(
            "The order was changed meanwhile; load it again.", code="version_stale", version=before["version"]
        )
    command = COMMAND_OF_STATUS[values.get("status")]
    next_status(before["status"], command)
    row = _with_plain_policy(dict(values))
    check_bounds(row)
    merged = {**before, **row}
    _settle_end(merged, row)
    if command == "revoke":
        row["revoked_at"] = unit.now
    if "alert_m" in row and "warning_m" not in row:
        # A radius that grows takes the warning with it.
        row["warning_m"] = merged["warning_m"] = max(before["warning_m"], row["alert_m"])
    check_order(merged)
    policy = read_policy((await agencies.get_held(unit.connection, asker.agency_id))["policy"])
    if {"policy", "risk_level"} & row.keys():
        check_override(merged, policy)
    await check_people(unit, asker.agency_id, list(people_of(merged)))
    action = ACTION_OF_COMMAND.get(command, "changed")
    after = await put(unit, asker, before, row, action, policy)
    return await with_overlaps(unit, after)


async def put(
    unit: Unit,
    asker: Asker,
    before: Record,
    row: Mapping[str, Any],
    action: str,
    policy: Policy,
    detail: Mapping[str, Any] | None = None,
) -> Record:
    """The locked order with `row` set: a new version, kept with who made it, compiled, and planned anew."""
    order_id = before["id"]
    await orders.keep_versions(unit.connection, [order_id], before["updated_at"], "entered")  # of one entered in bulk
    if row.get("sealed") and not before["sealed"]:
        await access.seal(unit, asker, before["case_id"])
    after = await change(unit, asker, ORDERS, order_id, {**row, "version": before["version"] + 1}, action)
    await orders.keep_versions(
        unit.connection, [order_id], unit.now, action, actor_id=asker.user_id, fields=list(row), detail=detail
    )
    await cases.compile_people(unit.connection, list({*people_of(before), *people_of(after)}), unit.now)
    if any(before[name] != after[name] for name in DEADLINE_COLUMNS):
        await tasks.plan_order(unit, after, policy)
    if before["served_at"] != after["served_at"]:
        await protection.count_violations(unit, [after["case_id"]])
    return after


def _settle_end(merged: dict[str, Any], row: dict[str, Any]) -> None:
    """Let a change of what the term is counted from move the end, unless the change names an end itself."""
    if "valid_until" in row:
        row["term"] = merged["term"] = row.get("term") if row["valid_until"] is None else None
    if row.get("valid_until") is None and {"term", "served_at", "issued_at", "valid_from", "time_zone"} & row.keys():
        check_term(merged)
        if merged.get("term"):
            row["valid_until"] = merged["valid_until"] = ends_by_term(merged)


def complete(values: Mapping[str, Any], policy: Policy, time_zone: str) -> dict[str, Any]:
    """The order's values with the agency's own where it names none; never below the legal distance."""
    row = {name: value for name, value in values.items() if value is not None}
    row.setdefault("time_zone", time_zone)
    row.setdefault("legal_m", 0.0)
    row.setdefault("alert_m", policy.alert_for(row["legal_m"]))
    row.setdefault("warning_m", policy.warning_for(row["alert_m"]))
    row.setdefault("grace_s", policy.grace_s)
    if row.get("term") and row.get("valid_until") is not None:
        raise InvalidInput("An order has an end or a term, not both; leave one out.", code="order_dates_invalid")
    fill_in(row)
    check_term(row)
    return _with_plain_policy(row)


def _with_plain_policy(row: dict[str, Any]) -> dict[str, Any]:
    """The values with only what is set in `policy`; raises InvalidInput for what cannot be."""
    if "policy" in row:
        row["policy"] = msgspec.to_builtins(read_order_policy(row["policy"]))
    return row


def check_order(order: Mapping[str, Any]) -> None:
    """Raise InvalidInput unless the order can be."""
    if order["victim_id"] == order["aggressor_id"]:
        raise InvalidInput("The victim and the aggressor are the same person.", code="order_same_person")
    if order["aggressor_id"] in order.get("protected_person_ids", []):
        raise InvalidInput("The aggressor is among the protected.", code="order_same_person")
    if order.get("valid_until") is not None and order["valid_until"] <= order["valid_from"]:
        raise InvalidInput("valid_until must be after valid_from.", code="order_dates_invalid")
    check_not_below("alert_m", order["alert_m"], "legal_m", order["legal_m"])
    check_not_below("warning_m", order["warning_m"], "alert_m", order["alert_m"])
    check_time_zone(order["time_zone"])


def check_override(order: Mapping[str, Any], policy: Policy) -> None:
    """Raise InvalidInput unless what the order overrides can be, by itself and under its agency's policy."""
    values_of(policy, read_order_policy(order.get("policy") or {}), order.get("risk_level", STANDARD_RISK))


def check_time_zone(name: str) -> None:
    """Raise InvalidInput unless there is a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("time_zone is no name of the IANA database, such as Asia/Almaty.") from None


def people_of(order: Mapping[str, Any]) -> Iterable[uuid.UUID]:
    """Everyone an order names."""
    return {order["victim_id"], order["aggressor_id"], *order.get("protected_person_ids", [])}


async def with_overlaps(unit: Unit, order: Record) -> Record:
    """The order, which others hold between the same two at the same time, its gap, and how often it was violated."""
    return {
        **order,
        "overlaps": await orders.overlaps(unit.connection, order),
        "gap": gap_of(order, unit.now),
        "violations": await violations(unit.connection, order["agency_id"], order["case_id"], order["id"]),
    }


def gap_of(order: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """How long nothing watched over her under an order; it ends with the order where the devices never worked."""
    over = order["updated_at"] if Status(order["status"]) in FINAL else now
    known = {name: order[name] for name in ("protected_at", "victim_fix_at", "aggressor_fix_at")}
    return {
        **known,
        "since": gap_from(order),
        "from_issue_s": gap_s(gap_from(order), order["protected_at"], over),
        "from_service_s": gap_s(order["served_at"], order["protected_at"], over),
    }


async def create_zone(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The zone and whether it is new; `geometry` must have been validated. Raises NotFound (the order)."""
    if not await claim(unit, asker, ZONES, record_id, values):
        assert record_id is not None
        return await ZONES.get(unit.connection, asker.agency_id, record_id), False
    _check_times(values)
    order = await ORDERS.get(unit.connection, asker.agency_id, values["order_id"], lock=True)
    there = await ZONES.page(unit.connection, asker.agency_id, where={"order_id": order["id"]})
    if sum(zone["removed_at"] is None for zone in there) >= MAX_ZONES_AN_ORDER:
        raise InvalidInput(f"An order has at most {MAX_ZONES_AN_ORDER} zones.")
    zone = await insert(unit, asker, ZONES, record_id, values)
    await cases.compile_cases(unit.connection, [order["case_id"]])
    return zone, True


async def change_zone(unit: Unit, asker: Asker, zone_id: uuid.UUID, values: Mapping[str, Any]) -> Record:
    """The zone as changed; raises NotFound."""
    before = await ZONES.get(unit.connection, asker.agency_id, zone_id, lock=True)
    if before["removed_at"] is not None:
        raise Conflict("The zone was removed; enter a new one.", code="state_forbids")
    _check_times({**before, **values})
    zone = await change(unit, asker, ZONES, zone_id, values)
    order = await ORDERS.get(unit.connection, asker.agency_id, zone["order_id"])
    await cases.compile_cases(unit.connection, [order["case_id"]])
    return zone


async def remove_zone(unit: Unit, asker: Asker, zone_id: uuid.UUID) -> None:
    """Let a zone hold no longer; its row stays for who asks later. A second time changes nothing."""
    before = await ZONES.get(unit.connection, asker.agency_id, zone_id, lock=True)
    if before["removed_at"] is not None:
        return
    await change_zone(unit, asker, zone_id, {"removed_at": unit.now})
    await note(unit, asker, "zone.removed", "zone", zone_id)


def _check_times(zone: Mapping[str, Any]) -> None:
    if zone.get("valid_from") and zone.get("valid_until") and zone["valid_until"] <= zone["valid_from"]:
        raise InvalidInput("valid_until must be after valid_from.", code="order_dates_invalid")
