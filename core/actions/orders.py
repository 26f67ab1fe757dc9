"""Protection orders and their zones; every change is compiled into the case in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core.actions.records import Asker, change, check_people, claim, insert, note
from core.actions.unit_of_work import Unit
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
from core.postgres.table import Record
from core.postgres.zones import ZONES

MAX_ZONES_AN_ORDER: Final = 50


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
    check_bounds(row)
    check_order(row)
    check_override(row, policy)
    await check_people(unit, asker.agency_id, list(people_of(row)))
    row["case_id"] = await cases.case_of_aggressor(unit.connection, asker.agency_id, row["aggressor_id"], unit.now)
    order = await insert(unit, asker, ORDERS, record_id, row)
    await cases.compile_people(unit.connection, list(people_of(order)), unit.now)
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
    if before["status"] in {"revoked", "expired"}:
        raise Conflict(f"The order is {before['status']}; enter a new one.", code="state_forbids")
    if before["status"] == "suspended" and values.get("status") not in {None, "revoked"}:
        raise Conflict("The order is suspended; end the suspension first.", code="state_forbids")
    row = _with_plain_policy(dict(values))
    check_bounds(row)
    merged = {**before, **row}
    if "alert_m" in row and "warning_m" not in row:
        # A radius that grows takes the warning with it.
        row["warning_m"] = merged["warning_m"] = max(before["warning_m"], row["alert_m"])
    check_order(merged)
    if {"policy", "risk_level"} & row.keys():
        agency = await agencies.get_held(unit.connection, asker.agency_id)
        check_override(merged, read_policy(agency["policy"]))
    await check_people(unit, asker.agency_id, list(people_of(merged)))
    after = await change(unit, asker, ORDERS, order_id, {**row, "version": before["version"] + 1})
    await cases.compile_people(unit.connection, list({*people_of(before), *people_of(after)}), unit.now)
    return await with_overlaps(unit, after)


def complete(values: Mapping[str, Any], policy: Policy, time_zone: str) -> dict[str, Any]:
    """The order's values with the agency's own where it names none; never below the legal distance."""
    row = {name: value for name, value in values.items() if value is not None}
    row.setdefault("time_zone", time_zone)
    row.setdefault("legal_m", 0.0)
    row.setdefault("alert_m", policy.alert_for(row["legal_m"]))
    row.setdefault("warning_m", policy.warning_for(row["alert_m"]))
    row.setdefault("grace_s", policy.grace_s)
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
    """The order, and which others hold between the same two people at the same time."""
    return {**order, "overlaps": await orders.overlaps(unit.connection, order)}


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
