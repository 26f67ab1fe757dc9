"""What a device may know of its own: whether its wearer is protected, and what became of her panics; no place."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from core.clock import rfc3339
from core.domain.delivery import REACHED, SEEN
from core.domain.panic import CANCELLED
from core.postgres.table import Record

LOW_BATTERY_PCT: Final = 20.0
SILENT_SLACK_S: Final = 60.0
"""Beyond two intervals, before a device counts as silent: history is written in batches."""
UNFITTED: Final[dict[str, Any]] = {"status": "unprotected", "reasons": ["device_not_fitted"]}
"""Nobody wears the device."""
SERVICE_DEGRADED: Final[dict[str, Any]] = {"status": "degraded", "reasons": ["service_degraded"]}
"""It cannot be known now."""


def judge(own: list[Record], orders: Record, now: datetime) -> dict[str, Any]:
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
    return {"status": status, "reasons": [*lost, *weak]}


def is_silent(device: Record, now: datetime) -> bool:
    """Whether a device has not been heard for two intervals and some slack."""
    if device["last_seen_at"] is None:
        return True
    quiet = timedelta(seconds=2 * device["expected_interval_s"] + SILENT_SLACK_S)
    return bool(now - device["last_seen_at"] > quiet)


def panic_json(panic: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """A panic as the device that sent it may know it: kinds of people, never names or addresses.

    A cancelled one stands still at the moment it was cancelled, whether she was forced or not: what is done about it
    later, or not done, is nothing that its device may tell. So does whatever came before the device's own press.
    """
    cancelled_at = panic["cancel_asked_at"]
    span = (None if cancelled_at is not None else panic["shown_from"], cancelled_at)
    reached = [
        entry for entry in told if entry["state"] in REACHED and _within(entry["created_at"], span)
        and (cancelled_at is None or _within(entry["sent_at"], span))
    ]  # fmt: skip
    is_open = panic["incident_state"] != "resolved"  # a duress PIN elsewhere takes back what is queued, unseen
    deeds = {name: panic[name] if _within(panic[name], span) else None for name in DEEDS}
    sent = [entry["sent_at"] for entry in reached if entry["sent_at"] is not None]
    if cancelled_at is None:
        shown = [entry for entry in told if _within(entry["created_at"], span)]
        seen = [entry["seen_at"] for entry in reached if entry["state"] in SEEN and entry["seen_at"] is not None]
        state = panic["incident_state"] if panic["shown_from"] is None else _state_of(panic["incident_state"], deeds)
    else:
        shown, seen, state = [{**entry, "state": "sent"} for entry in reached], [], CANCELLED
    return {
        "panic_id": str(panic["id"]),
        "incident_id": str(panic["incident_id"]),
        "state": state,
        "received_at": rfc3339(panic["received_at"]),
        "told": [
            {
                "audience": entry["audience"],
                "channel": entry["channel"],
                "state": "queued" if entry["state"] == "cancelled" and is_open else entry["state"],
                "at": _at(entry["sent_at"]),
            }
            for entry in shown
            if entry["audience"] != "victim"
        ],
        "told_at": _at(min(sent, default=None)),
        "seen_at": _at(min(seen, default=deeds["acknowledged_at"])),
        **{name: _at(moment) for name, moment in deeds.items()},
    }


DEEDS: Final = ("acknowledged_at", "dispatched_at", "resolved_at")


def _within(moment: Any, span: tuple[Any, Any]) -> bool:
    """Whether a moment is neither before the first nor beyond the second; None bounds nothing."""
    since, until = span
    return moment is not None and (since is None or moment >= since) and (until is None or moment <= until)


def _state_of(state: str, deeds: dict[str, Any]) -> str:
    """The state of an incident of which only these deeds are told."""
    if state == "resolved":
        return state
    return next((name.removesuffix("_at") for name in ("dispatched_at", "acknowledged_at") if deeds[name]), "open")


def _at(moment: Any) -> str | None:
    return rfc3339(moment) if moment is not None else None
