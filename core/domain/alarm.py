"""From transition to alarm: what opens or escalates an incident, what eases one, what is only recorded.

    proximity → breach      proximity  critical
    zone      → breach      zone       critical
    approach  → predicted   approach   high
    assurance → unknown     separation_unknown  high; `detail["silent"]` names who is not heard
    strap, casing → open; mock → yes   tamper   critical when the separation is warning, breach or unknown, else high
    jamming   → yes         jamming    as tamper
    jump, frozen → yes      jump, frozen  low: the operations queue
    silence   → silent      silence    medium; high when it is the victim's device during an open incident
                                       low for her device, or for separation unknown by her silence alone, when a low
                                       battery announced it and he is not in breach, nor in warning unless at rest
    silence   → late        no incident: the wearer is prompted
    battery   → low, critical   battery  low

The way back of each eases an open incident (a line in its timeline) and resolves nothing; of a tamper it is said that
it stays open. A `warning` alone opens nothing. What was shown late of the past is high, and critical only when it
ended just now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import from_ms, rfc3339, to_ms
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
    "jump": frozenset({"yes"}),
    "frozen": frozenset({"yes"}),
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
    "jump": "jump",
    "frozen": "frozen",
    "silence": "silence",
    "battery": "battery",
}
DANGEROUS: Final = frozenset({"warning", "breach", "unknown"})
"""Separations in which tampering is critical."""
LATE: Final = "late"
"""The state of a silence between heard and silent: a prompt, no alarm."""
RECENT_MS: Final = 15 * 60_000
"""How lately something past must have ended to be as urgent as the present."""
SEPARATION_KINDS: Final = frozenset({"proximity", "zone", "approach", "assurance"})
"""Kinds of transition that tell how an order stands."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What must be known beside a transition to judge it, as it was at that moment."""

    separations: frozenset[str] = frozenset()
    """Last separation states (and `unknown` assurance) of the orders its subject is part of."""
    by_victim: bool = False
    """Whether the device is carried by a protected person."""
    case_in_trouble: bool = False
    """Whether an incident of the case is open."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a transition means for incidents: `raised` opens or escalates; otherwise it adds a line, `way_back`."""

    subject: str
    family: str
    type: str
    severity: Severity
    raised: bool
    way_back: str = "eased"
    """What a line says when it is not raised: eased | stays_open | entered."""
    opens: bool = True
    """False: it only makes an open incident more severe."""


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


def is_announced(transition: Transition, around: Surroundings) -> bool:
    """Whether it tells of nothing but her flat battery: her silence was announced, and nothing is to be feared.

    The operations queue sees that it is charged. His is no such thing: a dead bracelet hides him.
    """
    signal = signal_of(transition)
    hers = transition.detail.get("silent" if signal == "assurance" else "party") == "victim"
    if signal not in {"assurance", "silence"} or not hers or transition.detail.get("battery") != "low":
        return False
    near = {"breach"} if transition.detail.get("seen") == "at_rest" else {"warning", "breach"}
    return not around.case_in_trouble and not around.separations & near


def is_prompt(transition: Transition) -> bool:
    """Whether the wearer is to be asked to see to the device."""
    return signal_of(transition) == "silence" and transition.to_state == LATE


def is_past(transition: Transition) -> bool:
    """Whether it tells of a separation that was, found in what arrived late."""
    return transition.retrospective and transition.kind in SEPARATION_KINDS


def alarm_of(transition: Transition, around: Surroundings) -> Alarm | None:
    """The alarm a transition raises or eases; None when incidents have nothing to do with it."""
    signal = signal_of(transition)
    kind = TYPE_OF.get(signal)
    raised = transition.to_state in ALARM_STATE.get(signal, ())
    if kind is None or (not raised and LATE in {transition.from_state, transition.to_state}):
        return None
    return Alarm(
        subject=subject_of(transition),
        family=FAMILY_OF_TYPE[kind],
        type=kind,
        severity=Severity.LOW
        if raised and is_announced(transition, around)
        else _severity(kind, around, transition.detail.get("separation")),
        raised=raised,
        way_back=_way_back(transition, kind),
    )


def _way_back(transition: Transition, kind: str) -> str:
    if kind == "approach" and transition.detail.get("outcome") == "entered":
        return "entered"
    return "stays_open" if kind in {"tamper", "jamming"} else "eased"


def _severity(kind: str, around: Surroundings, told: object) -> Severity:
    """`told`: the worst separation the engine itself saw when a device's signal changed."""
    if kind in {"proximity", "zone"}:
        return Severity.CRITICAL
    if kind in {"tamper", "jamming"}:
        near = around.separations & DANGEROUS or told in {"warning", "breach"}
        return Severity.CRITICAL if near else Severity.HIGH
    if kind == "silence":
        return Severity.HIGH if around.by_victim and around.case_in_trouble else Severity.MEDIUM
    if kind in {"battery", "jump", "frozen"}:
        return Severity.LOW
    return Severity.HIGH


def past_end_ms(transition: Transition) -> int:
    """When what a transition tells of the past ended (`detail["until"]`); its own time when it does not say."""
    try:
        until = datetime.fromisoformat(str(transition.detail.get("until")))
    except ValueError:
        return transition.at_ms
    return max(transition.at_ms, to_ms(until)) if until.tzinfo is not None else transition.at_ms


def past_severity(ended_ms: int, now_ms: int) -> Severity:
    """Of something past: critical while what it tells of may still go on, else high."""
    return Severity.CRITICAL if now_ms - ended_ms < RECENT_MS else Severity.HIGH


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
