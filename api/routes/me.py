"""`/v1/me`: what the one who asks may know of herself."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter

from api.auth import Device, User
from api.deps import Context
from api.schemas.base import View
from api.schemas.devices import ProtectionView
from core.errors import NotAllowed, StoreUnavailable
from core.postgres import devices
from core.postgres.table import Record

router = APIRouter(prefix="/v1/me", tags=["me"])

LOW_BATTERY_PCT: Final = 20.0
SILENT_SLACK_S: Final = 60.0
"""Beyond two intervals, before a device counts as silent: history is written in batches."""


class MeView(View):
    """The signed-in user."""

    id: uuid.UUID
    agency_id: uuid.UUID
    username: str
    role: str


@router.get("", response_model=MeView)
async def read_me(actor: User) -> dict[str, Any]:
    """Who you are signed in as."""
    return {"id": actor.user_id, "agency_id": actor.agency_id, "username": actor.username, "role": actor.role}


@router.get("/protection", response_model=ProtectionView)
async def read_protection(device: Device, context: Context) -> dict[str, Any]:
    """Whether the wearer is protected now, and if not wholly, why; no position of anyone."""
    if device.role == "aggressor":
        raise NotAllowed("This device has no such page.", code="device_forbidden")
    if device.person_id is None:
        return {"status": "unprotected", "reasons": ["device_not_fitted"], "devices": []}
    now = context.clock()
    try:
        async with context.database.connection() as connection:
            own = await devices.of_person(connection, device.person_id)
            orders = await devices.protection(connection, device.person_id, now)
    except StoreUnavailable:
        return {"status": "degraded", "reasons": ["service_degraded"], "devices": []}
    own = [record for record in own if record["role"] != "aggressor"]
    status, reasons = judge(own, orders, now)
    return {"status": status, "reasons": reasons, "devices": own}


def judge(own: list[Record], orders: Record, now: datetime) -> tuple[str, list[str]]:
    """Protected: an order in force, her device heard, his device heard; degraded or unprotected: with the reasons.

    `own`: her devices; `orders`: how many of her orders are in force, suspended, and without a sight of his device.
    """
    lost, weak = [], []
    if not orders["in_force"]:
        lost.append("order_suspended" if orders["suspended"] else "no_order_in_force")
    elif orders["suspended"]:
        weak.append("order_suspended")
    silent = [record for record in own if is_silent(record, now)]
    if own and len(silent) == len(own):
        lost.append("your_device_silent")
    elif silent:
        weak.append("one_of_your_devices_silent")
    if any((record["battery_pct"] or 100.0) < LOW_BATTERY_PCT for record in own):
        weak.append("battery_low")
    if orders["unseen"]:
        weak.append("his_device_not_heard")
    status = "unprotected" if lost else "degraded" if weak else "protected"
    return status, [*lost, *weak]


def is_silent(device: Record, now: datetime) -> bool:
    """Whether a device has not been heard for two intervals and some slack."""
    if device["last_seen_at"] is None:
        return True
    quiet = timedelta(seconds=2 * device["expected_interval_s"] + SILENT_SLACK_S)
    return bool(now - device["last_seen_at"] > quiet)
