"""Escalation: who is told when nobody acts, step by step, until somebody does.

    opened ──────────► unacknowledged: 30 s, 60 s, 120 s …   stops at the acknowledgement
    acknowledged ────► undispatched: 90 s …                  stops when a unit is sent
    a unit is sent ──► unaccepted: 60 s                      stops when it accepts; else the next nearest is sent
    it has an ETA ───► late: ETA + 5 min                     stops when it is there; else a supervisor is told
    resolved ────────► nothing runs

An agency's policy for a type of incident and a severity says the steps; `DEFAULTS` stand for what it does not say.
Every step becomes a deadline, a row; what is due fires once. Pure: values in, values out; times are seconds and aware
datetimes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from core.domain.incident import SEVERITY_RANK, TYPES
from core.errors import InvalidInput

ANY_TYPE: Final = "any"
"""A policy's type that stands for all that have none of their own."""
ROLES: Final[dict[str, str]] = {
    "dispatchers": "every dispatcher of the agency, and the agency's own routes",
    "duty_officer": "who is on call as duty officer; without a rota the supervisors",
    "supervisor": "who is on call as supervisor; without a rota every supervisor",
    "neighbour": "the neighbouring police agency: its routes and dispatchers, and its feed",
}
"""Whom a step can tell by role."""

UNACKNOWLEDGED: Final = "unacknowledged"
UNDISPATCHED: Final = "undispatched"
UNACCEPTED: Final = "unaccepted"
LATE: Final = "late"
KINDS: Final = (UNACKNOWLEDGED, UNDISPATCHED, UNACCEPTED, LATE)
OF_A_UNIT: Final = frozenset({UNACCEPTED, LATE})

STEPS_MAX: Final = 10
TARGETS_MAX: Final = 50
REPEATS_MAX: Final = 50
DELAY_LEAST_S: Final = 5.0
DELAY_MOST_S: Final = 7 * 86_400.0
ACCEPT_S: Final = 60.0
LATE_S: Final = 300.0
NO_UNIT: Final = uuid.UUID(int=0)


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of: somebody by name, or one of the agency's routes."""

    user_id: uuid.UUID | None = None
    route_id: uuid.UUID | None = None


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to tell after a while, and how often again."""

    delay_s: float
    to: tuple[str | Target, ...]
    channels: tuple[str, ...] = ()
    """Only by these; empty: by every channel somebody has."""
    repeat_every_s: float | None = None
    repeats: int = 0


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens while nobody acts on an incident."""

    unacknowledged: tuple[Step, ...]
    undispatched: tuple[Step, ...] = ()
    """From the acknowledgement on, while no unit is sent."""
    accept_s: float | None = ACCEPT_S
    """How long a unit has to accept before the next is sent; None: it need not accept."""
    late_s: float | None = LATE_S
    """How long after its ETA a unit may be there; None: nobody looks."""
    late_to: tuple[str | Target, ...] = ("supervisor",)
    neighbour_agency_id: uuid.UUID | None = None
    """Whom `neighbour` is; None: the police agency nearest to the place."""


def _steps(*steps: tuple[float, tuple[str, ...]], every_s: float | None = None, repeats: int = 0) -> tuple[Step, ...]:
    """Steps of which the last is repeated."""
    made = [Step(delay_s, to) for delay_s, to in steps]
    made[-1] = msgspec.structs.replace(made[-1], repeat_every_s=every_s, repeats=repeats)
    return tuple(made)


DESK: Final = ("dispatchers", "duty_officer")

DEFAULTS: Final[dict[str, Policy]] = {
    "critical": Policy(
        _steps((30, DESK), (60, ("supervisor",)), (120, ("neighbour",)), every_s=300, repeats=12),
        _steps((90, ("supervisor", "duty_officer")), every_s=120, repeats=5),
    ),
    "high": Policy(_steps((60, DESK), (180, ("supervisor",)), (300, ("neighbour",)), every_s=600, repeats=6)),
    "medium": Policy(_steps((300, DESK), (900, ("supervisor",)))),
    "low": Policy(_steps((4 * 3600, ("supervisor",)))),
}
"""By severity, where an agency says nothing: an operations queue of four hours for what is low."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When something has to have been done about an incident."""

    kind: str
    step: int
    """From 1 on, within its kind."""
    due_at: datetime
    turn: int = 0
    """0, or how often the step was repeated."""
    unit_id: uuid.UUID = NO_UNIT
    round: int = 0
    """The incident's version when this clock was started; 0: the unit's own."""


# what a policy may be -----------------------------------------------------------------------------------------------


def read_policy(values: Mapping[str, Any]) -> Policy:
    """A policy out of its JSON form; raises InvalidInput with what is wrong in it."""
    try:
        policy = msgspec.convert(dict(values), Policy, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The policy cannot be read: {error}.") from None
    check_policy(policy)
    return policy


def policy_json(policy: Policy) -> dict[str, Any]:
    """A policy's JSON form, complete."""
    return dict(msgspec.to_builtins(policy))


def check_policy(policy: Policy) -> None:
    """Raise InvalidInput for a policy that is none: no step, too many, out of order, to nobody."""
    if not policy.unacknowledged:
        raise InvalidInput("A policy needs at least one step in unacknowledged.")
    for name, steps in (("unacknowledged", policy.unacknowledged), ("undispatched", policy.undispatched)):
        if len(steps) > STEPS_MAX:
            raise InvalidInput(f"{name} has {len(steps)} steps; it may have {STEPS_MAX}.")
        for number, step in enumerate(steps, start=1):
            _check_step(f"{name}, step {number}", step)
        delays = [step.delay_s for step in steps]
        if delays != sorted(set(delays)):
            raise InvalidInput(f"The delays of {name} have to grow from step to step.")
    if policy.accept_s is not None and not DELAY_LEAST_S <= policy.accept_s <= DELAY_MOST_S:
        raise InvalidInput(f"accept_s has to be between {DELAY_LEAST_S:g} and {DELAY_MOST_S:g}.")
    if policy.late_s is not None and not 0 <= policy.late_s <= DELAY_MOST_S:
        raise InvalidInput(f"late_s has to be between 0 and {DELAY_MOST_S:g}.")
    _check_targets("late_to", policy.late_to)


def _check_step(where: str, step: Step) -> None:
    if not DELAY_LEAST_S <= step.delay_s <= DELAY_MOST_S:
        raise InvalidInput(f"The delay of {where} has to be between {DELAY_LEAST_S:g} and {DELAY_MOST_S:g} s.")
    if not 0 <= step.repeats <= REPEATS_MAX:
        raise InvalidInput(f"{where} may be repeated {REPEATS_MAX} times.")
    every_s = step.repeat_every_s
    if (every_s is None) != (step.repeats == 0):
        raise InvalidInput(f"{where} needs both repeat_every_s and repeats, or neither.")
    if every_s is not None and not DELAY_LEAST_S <= every_s <= DELAY_MOST_S:
        raise InvalidInput(f"repeat_every_s of {where} has to be between {DELAY_LEAST_S:g} and {DELAY_MOST_S:g}.")
    _check_targets(where, step.to)


def _check_targets(where: str, targets: Sequence[str | Target]) -> None:
    if not targets or len(targets) > TARGETS_MAX:
        raise InvalidInput(f"{where} tells nobody, or more than {TARGETS_MAX}; name roles, users or routes in `to`.")
    for target in targets:
        if isinstance(target, str):
            if target not in ROLES:
                raise InvalidInput(f"{where} names {target!r:.40}; the roles are {', '.join(ROLES)}.")
        elif (target.user_id is None) == (target.route_id is None):
            raise InvalidInput(f"{where} has a target that is neither one user_id nor one route_id.")


def check_kind(kind: str, severity: str) -> None:
    """Raise InvalidInput unless a policy can be for this type and severity."""
    if kind != ANY_TYPE and kind not in TYPES:
        raise InvalidInput(f"type must be {ANY_TYPE} or one of {', '.join(TYPES)}.")
    if severity not in SEVERITY_RANK:
        raise InvalidInput(f"severity must be one of {', '.join(SEVERITY_RANK)}.")


# which deadlines run ------------------------------------------------------------------------------------------------


def plan_of(steps: Iterable[Step]) -> list[tuple[int, int, float]]:
    """(step, turn, seconds from its start) of what steps come to; a repeat is planned when its step was told."""
    return [(number, 0, step.delay_s) for number, step in enumerate(steps, start=1)]


def repeats_of(steps: Sequence[Step], told: Iterable[Deadline], now: datetime) -> list[Deadline]:
    """When the steps that were just told are told again, each once."""
    latest: dict[int, Deadline] = {}
    for one in told:
        if one.step not in latest or one.turn > latest[one.step].turn:
            latest[one.step] = one
    found = []
    for number, one in latest.items():
        step = steps[number - 1] if number <= len(steps) else None
        if step is not None and step.repeat_every_s is not None and one.turn < step.repeats:
            due_at = now + timedelta(seconds=step.repeat_every_s)
            found.append(Deadline(one.kind, number, due_at, one.turn + 1, one.unit_id, one.round))
    return found


def wants_dispatch(row: Mapping[str, Any]) -> bool:
    """Whether it was acknowledged and no unit is on it: none was sent, or all that were declined."""
    if row["state"] == "acknowledged":
        return True
    units = row["units"]
    return row["state"] == "dispatched" and bool(units) and all(unit.get("declined") for unit in units)


def applies(row: Mapping[str, Any], deadline: Deadline) -> bool:
    """Whether what a deadline waits for has not happened."""
    if deadline.kind == UNACKNOWLEDGED:
        return bool(row["state"] == "open")
    if deadline.kind == UNDISPATCHED:
        return wants_dispatch(row)
    if row["state"] != "dispatched":
        return False
    unit = unit_entry(row, deadline.unit_id)
    return unit is not None and (_is_unaccepted(unit) if deadline.kind == UNACCEPTED else _is_awaited(unit))


def unit_entry(row: Mapping[str, Any], unit_id: uuid.UUID) -> dict[str, Any] | None:
    """What an incident says of a unit that was sent to it."""
    return next((unit for unit in row["units"] if unit["unit_id"] == str(unit_id)), None)


def _is_unaccepted(unit: Mapping[str, Any]) -> bool:
    return not any(unit.get(name) for name in ("accepted", "declined", "en_route", "on_scene"))


def _is_awaited(unit: Mapping[str, Any]) -> bool:
    return not unit.get("declined") and not unit.get("on_scene")


def wanted(row: Mapping[str, Any], policy: Policy, now: datetime) -> list[Deadline]:
    """The deadlines that ought to run for an incident besides those of its acknowledgement.

    Those of its dispatch are counted from now, and bear its version as their round.
    """
    found: list[Deadline] = []
    if wants_dispatch(row):
        found += [
            Deadline(UNDISPATCHED, step, now + timedelta(seconds=due_s), turn, round=row["version"])
            for step, turn, due_s in plan_of(policy.undispatched)
        ]
    if row["state"] == "dispatched":
        for unit in row["units"]:
            found += _of_unit(unit, policy)
    return found


def _of_unit(unit: Mapping[str, Any], policy: Policy) -> list[Deadline]:
    unit_id = uuid.UUID(unit["unit_id"])
    sent_at = datetime.fromisoformat(unit["dispatched_at"])
    found = []
    if policy.accept_s is not None and _is_unaccepted(unit):
        found.append(Deadline(UNACCEPTED, 1, sent_at + timedelta(seconds=policy.accept_s), unit_id=unit_id))
    if policy.late_s is not None and unit.get("eta_s") is not None and _is_awaited(unit):
        told_at = datetime.fromisoformat(unit.get("eta_told_at") or unit["dispatched_at"])
        due_at = told_at + timedelta(seconds=unit["eta_s"] + policy.late_s)
        found.append(Deadline(LATE, 1, due_at, unit_id=unit_id))
    return found


def changes(
    row: Mapping[str, Any], policy: Policy, pending: Sequence[Deadline], over: Iterable[Deadline], now: datetime
) -> tuple[list[Deadline], list[Deadline]]:
    """(deadlines to stop, deadlines to add) so that what runs is what an incident's state wants.

    `pending` run, `over` fired or were stopped: what fired once is not begun again.
    """
    want = wanted(row, policy, now)
    kept = {one for one in want if one.kind in OF_A_UNIT}
    stop = [
        one for one in pending
        if not applies(row, one) or (one.kind in OF_A_UNIT and one not in kept)
    ]  # fmt: skip
    running = [one for one in pending if one not in stop]
    known = {*running, *over}
    dispatch_runs = any(one.kind == UNDISPATCHED for one in running)
    begun = {one.round for one in known if one.kind == UNDISPATCHED}
    add = [
        one for one in want
        if (one not in known if one.kind in OF_A_UNIT else not dispatch_runs and one.round not in begun)
    ]  # fmt: skip
    return stop, add
