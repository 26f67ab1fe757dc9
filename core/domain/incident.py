"""Incidents: types, families, severities and the state machine.

    open ──acknowledge──► acknowledged ──dispatch──► dispatched
      │                        │                         │
      └────────resolve─────────┴────────resolve──────────┴──► resolved ──reopen──► open

Raw alarms fold into one open incident per order (or device, or person) and family; within a family the type
escalates and never falls back while the incident is open.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from core.errors import Conflict


class State(StrEnum):
    """Where an incident stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    DISPATCHED = "dispatched"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How urgent; the order is `SEVERITY_RANK`."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


SEVERITY_RANK: Final[dict[str, int]] = {"low": 0, "medium": 1, "high": 2, "critical": 3}


class Type(StrEnum):
    """What happened."""

    PANIC = "panic"
    PROXIMITY = "proximity"
    APPROACH = "approach"
    ZONE = "zone"
    TAMPER = "tamper"
    SILENCE = "silence"
    BATTERY = "battery"
    JAMMING = "jamming"
    JUMP = "jump"
    FROZEN = "frozen"
    SEPARATION_UNKNOWN = "separation_unknown"
    OUTAGE = "outage"


FAMILY_OF_TYPE: Final[dict[str, str]] = {
    "approach": "proximity",
    "proximity": "proximity",
    "zone": "zone",
    "tamper": "tamper",
    "jamming": "tamper",
    "jump": "tamper",
    "frozen": "tamper",
    "silence": "silence",
    "separation_unknown": "silence",
    "battery": "silence",
    "panic": "panic",
    "outage": "outage",
}
TYPES: Final = tuple(FAMILY_OF_TYPE)

TYPE_RANK: Final[dict[str, int]] = {
    "approach": 0,
    "proximity": 1,
    "zone": 0,
    "frozen": 0,
    "jump": 1,
    "jamming": 2,
    "tamper": 3,
    "battery": 0,
    "silence": 1,
    "separation_unknown": 2,
    "panic": 0,
    "outage": 0,
}
"""Within a family, a higher rank replaces a lower one."""

COMMANDS: Final[dict[str, tuple[frozenset[State], State | None]]] = {
    "acknowledge": (frozenset({State.OPEN}), State.ACKNOWLEDGED),
    "dispatch": (frozenset({State.OPEN, State.ACKNOWLEDGED, State.DISPATCHED}), State.DISPATCHED),
    "accept": (frozenset({State.DISPATCHED}), None),
    "decline": (frozenset({State.DISPATCHED}), None),
    "note": (frozenset(State), None),
    "resolve": (frozenset({State.OPEN, State.ACKNOWLEDGED, State.DISPATCHED}), State.RESOLVED),
    "reopen": (frozenset({State.RESOLVED}), State.OPEN),
}
"""Command → (states it is allowed in, state it leads to; None leaves the state)."""

OUTCOMES: Final = (
    "custody",
    "warned",
    "victim_safe",
    "false_alarm",
    "technical",
    "duplicate",
    "suspension",
    "exercise",
    "other",
)
OUTCOMES_WHILE_INSIDE: Final = frozenset({"custody", "suspension"})


def next_state(current: State, command: str) -> State:
    """The state after `command`; raises Conflict `state_forbids` when the state does not allow it."""
    allowed, target = COMMANDS[command]
    if current not in allowed:
        wanted = " or ".join(sorted(allowed))
        raise Conflict(
            f"The incident is {current}; {command} needs it {wanted}. Load it again and decide anew.",
            code="state_forbids",
            state=str(current),
        )
    return target if target is not None else current


def more_severe(left: str, right: str) -> str:
    """The more urgent of two severities."""
    return left if SEVERITY_RANK[left] >= SEVERITY_RANK[right] else right


def escalated_type(current: str, new: str) -> str:
    """The type of an open incident after an alarm of type `new` of the same family folds into it."""
    return new if TYPE_RANK[new] > TYPE_RANK[current] else current
