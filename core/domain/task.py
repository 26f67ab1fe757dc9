"""Tasks: what a caseworker has to see to by some time. A task suppresses nothing and closes no incident.

waiting ──opens_at──► open ──done (by somebody, with an outcome)──► done
   └──────────────────────┴──closed (by what happened)────────────► done, by nobody
"""

from __future__ import annotations

from typing import Final

KINDS: Final[dict[str, str]] = {
    "order_expiring": "An order ends soon: see whether she needs it extended, or a new one.",
    "order_expired": "An order has ended: tell her, see whether she needs a new one; her open incidents stay open.",
    "unprotected_gap": "An order holds and not both devices work yet, for longer than the agency allows.",
    "repeat_violation": "The same man has violated his order again: tell the prosecutor, look at the risk anew.",
    "probing": "He comes near, from several sides, and turns back: look at her safety and at the order's zones anew.",
    "device_unproved": "Her device has not been proved to work for a month: ask her to press a drill.",
    "contact_unproved": "A contact did not open the link of a test: see whether he can still be reached.",
    "token_copied": "A device's token was used by somebody else too: enrol the device anew.",
    "maintenance": "A pair's incidents keep being false: look at their devices.",
}
"""Kind → what it asks."""

OUTCOMES: Final[dict[str, str]] = {
    "extended": "The order was extended.",
    "new_order": "A new order was applied for or entered.",
    "no_longer_needed": "She needs it no longer, and says so herself.",
    "devices_fitted": "The devices were fitted.",
    "prosecutor_told": "The prosecutor was told.",
    "risk_raised": "The order's risk level was raised.",
    "referred": "It was handed to another agency.",
    "repaired": "A device was repaired or replaced.",
    "nothing_wrong": "Nothing was found to be wrong.",
    "other": "Something else was done.",
}
"""What a user may say of a task she has done."""

BY_ITSELF: Final[dict[str, str]] = {
    "superseded": "A later task about the same took its place.",
    "order_changed": "The order now ends at another time.",
    "order_over": "The order was revoked or has ended.",
    "protected": "Both devices work.",
    "proved": "A drill has proved that it works.",
}
"""Outcomes of tasks that closed by what happened; nobody can say them."""
