"""What an agency may set, and an order override: radii, probabilities and times of the rules, named and bounded.

Stored as `agency.policy` and `protection_order.policy`; what neither sets stands at its default here. Unknown names,
values out of bounds and values that contradict each other are refused with the name and the value at fault, so that a
typing error never silently becomes a default. `docs/policy.md` says what each means to a dispatcher.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from core.domain.case import CaseOrder
from core.errors import InvalidInput

STANDARD_RISK: Final = "standard"
RISKS: Final = (STANDARD_RISK, "high", "extreme")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agency may set; units last in the name."""

    alert_m: float = 1000.0
    """Alert radius of an order that names none."""
    warning_m: float | None = None
    """Warning radius of an order that names none; None: alert + max(alert, 1,000)."""
    grace_s: float = 300.0
    """How long separation may be unknown before an incident, of an order that names none."""
    p_enter: float = 0.5
    """Probability of being within the alert radius that makes a breach."""
    p_enter_high_risk: float = 0.3
    """The same for orders of high or extreme risk."""
    p_exit: float = 0.05
    """A state falls only while the probability of being within radius and margin is at most this."""
    exit_margin_m: float = 100.0
    """How far beyond the radius he must be before a state can fall."""
    hold_s: float = 60.0
    """Least time outside before a state falls."""
    horizon_s: float = 300.0
    """How far ahead an approach is looked for."""
    p_approach: float = 0.85
    """Probability of being inside within the horizon that makes an approach."""
    p_unknown: float = 0.3
    """Probability of being inside, unseen, that makes separation unknown without grace."""
    gap_limit_s: float = 86_400.0
    """How long an order may hold before both devices work without a task."""
    repeat_count: float = 2.0
    """From which violation by one man on each is a task."""
    probing_count: float = 3.0
    """From how many times in a day that he comes near and turns back he is taken to test where the edge is."""
    probing_spread_deg: float = 120.0
    """From how far apart the sides may be from which he came; beyond, two times are enough."""

    def alert_for(self, legal_m: float) -> float:
        """The alert radius of an order that names none: never below its legal distance."""
        return max(self.alert_m, legal_m)

    def warning_for(self, alert_m: float) -> float:
        """The warning radius that goes with an alert radius: never below it."""
        own = self.warning_m if self.warning_m is not None else alert_m + max(alert_m, 1000.0)
        return max(own, alert_m)


class OrderPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one order sets otherwise than its agency; None: as the agency. Its radii and grace are its own fields."""

    p_enter: float | None = None
    """Wins over the agency's `p_enter` and `p_enter_high_risk`, whatever the order's risk."""
    p_exit: float | None = None
    exit_margin_m: float | None = None
    hold_s: float | None = None
    horizon_s: float | None = None
    p_approach: float | None = None
    p_unknown: float | None = None


BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "alert_m": (10.0, 100_000.0),
    "warning_m": (10.0, 200_000.0),
    "grace_s": (0.0, 86_400.0),
    "p_enter": (0.05, 0.95),
    "p_enter_high_risk": (0.05, 0.95),
    "p_exit": (0.001, 0.5),
    "exit_margin_m": (0.0, 10_000.0),
    "hold_s": (0.0, 3_600.0),
    "horizon_s": (10.0, 3_600.0),
    "p_approach": (0.05, 0.99),
    "p_unknown": (0.01, 0.9),
    "gap_limit_s": (600.0, 604_800.0),
    "repeat_count": (1.0, 20.0),
    "probing_count": (2.0, 50.0),
    "probing_spread_deg": (30.0, 360.0),
}
"""Smallest and largest value each may have."""

OVERRIDES: Final = OrderPolicy.__struct_fields__
"""Names an order may override in its `policy`."""
USED: Final = ("alert_m", "warning_m", "legal_m", *OVERRIDES, "grace_s")
"""Names of the values an order is judged by."""

Read = TypeVar("Read", Policy, OrderPolicy)


def read_policy(values: Mapping[str, Any]) -> Policy:
    """The policy that `values` set over the defaults; raises InvalidInput with the name and value that are wrong."""
    policy = _converted(values, Policy)
    check_policy(policy)
    return policy


def read_order_policy(values: Mapping[str, Any]) -> OrderPolicy:
    """What an order overrides, each within its bounds; raises InvalidInput with the name and value that are wrong."""
    override = _converted(values, OrderPolicy)
    check_bounds({name: getattr(override, name) for name in OVERRIDES})
    return override


def _converted(values: Mapping[str, Any], kind: type[Read]) -> Read:
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The policy cannot be read: {error}.") from None


def check_policy(policy: Policy) -> None:
    """Raise InvalidInput unless each value is within its bounds and none contradicts another."""
    check_bounds({name: getattr(policy, name) for name in BOUNDS})
    if policy.warning_m is not None:
        check_not_below("warning_m", policy.warning_m, "alert_m", policy.alert_m)
    for name in ("p_enter", "p_enter_high_risk"):
        _check_falls_after(policy.p_exit, name, getattr(policy, name))


def check_bounds(values: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a value of BOUNDS that is out of them; None is no value, other names are left alone."""
    for name, (least, most) in BOUNDS.items():
        value = values.get(name)
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise InvalidInput(f"{name} is {value:g}; it has to be between {least:g} and {most:g}.")


def check_not_below(outer: str, outer_m: float, inner: str, inner_m: float) -> None:
    """Raise InvalidInput when the radius that has to be the larger is the smaller."""
    if outer_m < inner_m:
        raise InvalidInput(f"{outer} is {outer_m:g} and {inner} is {inner_m:g}; {outer} must not be below {inner}.")


def _check_falls_after(p_exit: float, name: str, p_enter: float) -> None:
    if p_exit >= p_enter:
        raise InvalidInput(
            f"p_exit is {p_exit:g} and {name} is {p_enter:g}; p_exit has to be below {name},"
            " or a state would fall as soon as it rose."
        )


def values_of(policy: Policy, override: OrderPolicy, risk_level: str) -> dict[str, float]:
    """OVERRIDES as an order is judged by them: its own value, else its agency's, which depends on its risk.

    Raises InvalidInput when the order's own contradict the agency's.
    """
    values = {
        name: own if (own := getattr(override, name)) is not None else getattr(policy, name) for name in OVERRIDES
    }
    if override.p_enter is None and risk_level != STANDARD_RISK:
        values["p_enter"] = policy.p_enter_high_risk
    _check_falls_after(values["p_exit"], "p_enter", values["p_enter"])
    return values


def used_by(order: CaseOrder) -> dict[str, float]:
    """The values an order is judged by, as its transitions tell them in `detail["policy"]`."""
    return {name: getattr(order, name) for name in USED}
