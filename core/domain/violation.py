"""When a report may say *violation*: not what raised the alert, but what a court may be told.

An alert is raised early, at `p_enter` and the alert radius. A report says more only where he was within the order's own
legal distance with a probability of at least `P_VIOLATION`, at a moment when the order had been served on him.
"""

from __future__ import annotations

from typing import Final

P_VIOLATION: Final = 0.99
"""Least probability of having been within the legal distance. The courts' standard, not an agency's to set."""

VIOLATION_OF_REASON: Final[dict[str, bool | None]] = {
    "proved": True,
    "not_served": False,
    "probability": False,
    "radius_unknown": None,
    "probability_unknown": None,
    "not_proximity": None,
}
"""Reason of a finding → whether it was a violation; None: it cannot be said.

proved               within the legal distance with P_VIOLATION or more, the order having been served
not_served           the order was never served, or only after he had gone
probability          the greatest probability seen while the order was served is below P_VIOLATION
radius_unknown       the order names no legal distance
probability_unknown  no transition of the incident tells a probability of when the order was served
not_proximity        the incident is not of an order's distance: a zone, a device, a panic
"""
