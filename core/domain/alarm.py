"""From transition to alarm: what opens or escalates an incident, what eases one, what is only recorded.

    proximity → breach      proximity  critical
    zone      → breach      zone       critical
    approach  → predicted   approach   high
    assurance → unknown     separation_unknown  high
    strap, casing → open; mock → yes   tamper   critical when the separation is warning, breach or unknown, else high
    jamming   → yes         jamming    as tamper
    silence   → silent      silence    medium; high when it is the victim's device during an open incident
    battery   → low, critical   battery  low

The way back of each eases an open incident (a line in its timeline) and resolves nothing. A `warning` alone opens
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from core.clock import from_ms, rfc3339
from core.domain.incident import FAMILY_OF_TYPE, Severity
from core.domain.transition import Position, Transition

ALARM_STATE: Final[dict[str, frozenset[str]]] = {
    "proximity": frozenset({"breach"}),
    "zone": frozenset({"breach"}),
    "approach": frozenset({"predicted"}),
    "assurance": frozenset({"unknown"}),
    "strap": frozenset({"open"}),
    "casing": frozenset({"open"}),
    "mock": frozenset({"yes"}),
    "jamming": frozenset({"yes"}),
    "silence": frozenset({"silent"}),
    "battery": frozenset({"low", "critical"}),
}
"""By kind (or a device's signal): the states that raise an alarm."""

TYPE_OF: Final[dict[str, str]] = {
    "proximity": "proximity",
    "zone": "zone",
    "approach": "approach",
    "assurance": "separation_unknown",
    "strap": "tamper",
    "casing": "tamper",
    "mock": "tamper",
    "jamming": "jamming",
    "silence": "silence",
    "battery": "battery",
}
DANGEROUS: Final = frozenset({"warning", "breach", "unknown"})
"""Separations in which tampering is critical."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What must be known beside a transition to judge it."""

    separations: frozenset[str] = frozenset()
    """Last separation states (and `unknown` assurance) of the orders its subject is part of."""
    by_victim: bool = False
    """Whether the device is carried by a protected person."""
    case_in_trouble: bool = False
    """Whether an incident of the case is open."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a transition means for incidents: `raised` opens or escalates; otherwise it eases an open one."""

    subject: str
    family: str
    type: str
    severity: Severity
    raised: bool


def signal_of(transition: Transition) -> str:
    """The transition's kind, or, of a device, its signal."""
    if transition.kind == "device":
        return str(transition.detail.get("signal", ""))
    return transition.kind


def subject_of(transition: Transition) -> str:
    """What incidents of this transition fold by."""
    if transition.kind == "device":
        return f"device:{transition.device_id}"
    return f"order:{transition.order_id}"


def alarm_of(transition: Transition, around: Surroundings) -> Alarm | None:
    """The alarm a transition raises or eases; None when incidents have nothing to do with it."""
    signal = signal_of(transition)
    kind = TYPE_OF.get(signal)
    if kind is None:
        return None
    return Alarm(
        subject=subject_of(transition),
        family=FAMILY_OF_TYPE[kind],
        type=kind,
        severity=_severity(kind, around),
        raised=transition.to_state in ALARM_STATE[signal],
    )


def _severity(kind: str, around: Surroundings) -> Severity:
    if kind in {"proximity", "zone"}:
        return Severity.CRITICAL
    if kind in {"tamper", "jamming"}:
        return Severity.CRITICAL if around.separations & DANGEROUS else Severity.HIGH
    if kind == "silence":
        return Severity.HIGH if around.by_victim and around.case_in_trouble else Severity.MEDIUM
    if kind == "battery":
        return Severity.LOW
    return Severity.HIGH


def needs_separation(transition: Transition) -> bool:
    """Whether judging it takes the last separation of its orders."""
    return TYPE_OF.get(signal_of(transition)) in {"tamper", "jamming"}


def place_of(position: Position | None) -> dict[str, Any] | None:
    """A position as an incident's `place`."""
    if position is None:
        return None
    return {
        "lat": position.lat,
        "lon": position.lon,
        "accuracy_m": position.accuracy_m,
        "at": rfc3339(from_ms(position.at_ms)),
    }
