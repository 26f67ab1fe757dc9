"""An agency's policy: the radii, probabilities and times it may set itself, named and bounded.

Stored as `agency.policy`; what is not set stands at its default here. Unknown names and values out of bounds are
refused, so that a typing error never silently becomes a default.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from core.errors import InvalidInput


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agency may set; units last in the name."""

    alert_m: float = 1000.0
    """Alert radius of an order that names none."""
    warning_m: float | None = None
    """Warning radius of an order that names none; None: alert + max(alert, 1,000)."""
    grace_s: float = 300.0
    """How long separation may be unknown before an incident."""
    p_enter: float = 0.5
    """Probability of being within the alert radius that makes a breach."""
    p_enter_high_risk: float = 0.3
    """The same for orders of high or extreme risk."""
    exit_margin_m: float = 100.0
    """How far beyond the radius he must be before a breach can end."""

    def warning_for(self, alert_m: float) -> float:
        """The warning radius that goes with an alert radius."""
        return self.warning_m if self.warning_m is not None else alert_m + max(alert_m, 1000.0)


BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "alert_m": (10.0, 100_000.0),
    "warning_m": (10.0, 200_000.0),
    "grace_s": (0.0, 86_400.0),
    "p_enter": (0.05, 0.95),
    "p_enter_high_risk": (0.05, 0.95),
    "exit_margin_m": (0.0, 10_000.0),
}
"""Smallest and largest value each may have."""


def read_policy(values: dict[str, Any]) -> Policy:
    """The policy that `values` set over the defaults; raises InvalidInput with the name that is wrong."""
    try:
        policy = msgspec.convert(values, Policy)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The policy cannot be read: {error}.") from None
    for name, (least, most) in BOUNDS.items():
        value = getattr(policy, name)
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise InvalidInput(f"{name} must be between {least:g} and {most:g}.")
    return policy
