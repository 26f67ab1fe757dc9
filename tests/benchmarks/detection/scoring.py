"""What came of a script, by rules stated before: full, partial, missed, or false. Pure.

Incidents fold as the product's do (subject and family, by `core.domain.alarm`): an incident opens at a raising
transition when none of its subject and family is open, takes in what follows, and is closed by a dispatcher 30 minutes
after the last of its alarms eased. One that never eases stays open.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from core.domain.alarm import Surroundings, alarm_of, signal_of
from core.domain.transition import Transition
from tests.benchmarks.detection.pairs import ORDER_ID, START_MS, Pair
from tests.benchmarks.detection.paths import Floats
from tests.benchmarks.detection.scene import Expected, Plan
from tests.benchmarks.detection.world import Story

CLOSED_AFTER_S: Final = 1_800.0
PARTIAL_S: Final = 480.0
"""Partial success: an alarm so long after the entry, or a warning."""
EPISODE_GAP_S: Final = 900.0
"""Incidents of one case that begin so soon after the last line of another are one page for the dispatcher."""
TAMPER: Final = frozenset({"strap", "casing", "mock", "jamming"})
OPERATIONS: Final = frozenset({"jump", "frozen"})
"""Alarms of low severity, for the operations queue: no dispatcher looks at once."""


@dataclass
class Incident:
    """One line in a dispatcher's queue."""

    subject: str
    family: str
    type: str
    opened_s: float
    raised: set[str] = field(default_factory=set)
    """Which of its signals are raised now."""
    eased_s: float | None = None
    """When the last of them eased; None: not yet."""
    retrospective: bool = False
    """Whether all of it was told afterwards."""
    last_s: float = 0.0
    """When its last line was written."""


def at_s(transition: Transition) -> float:
    """When it was told, seconds since the start."""
    return (transition.evaluated_ms - START_MS) / 1000


def incidents(transitions: Sequence[Transition]) -> list[Incident]:
    """Incidents that the transitions of one case make, in the order they open."""
    out: list[Incident] = []
    last: dict[tuple[str, str], Incident] = {}
    for each in transitions:
        alarm = alarm_of(each, Surroundings())
        if alarm is None:
            continue
        signal, now_s, key = signal_of(each), at_s(each), (alarm.subject, alarm.family)
        held = last.get(key)
        if held is not None and held.eased_s is not None and now_s - held.eased_s >= CLOSED_AFTER_S:
            held = None
        if alarm.raised and held is None:
            held = last[key] = Incident(alarm.subject, alarm.family, str(alarm.type), now_s)
            held.retrospective = each.retrospective
            out.append(held)
        if held is None:
            continue
        held.last_s = now_s
        if alarm.raised and not each.retrospective:
            held.raised.add(signal)
            held.eased_s, held.retrospective = None, False
        elif not alarm.raised:
            held.raised.discard(signal)
        if not held.raised and (held.eased_s is None or alarm.raised):
            held.eased_s = now_s
    return out


def episodes(found: Sequence[Incident]) -> int:
    """Pages for the dispatcher that the incidents of one case, in the order they open, make."""
    count, until_s = 0, -math.inf
    for each in found:
        count += each.opened_s > until_s
        until_s = max(until_s, each.opened_s + EPISODE_GAP_S, each.last_s + EPISODE_GAP_S)
    return count


def alarms(pair: Pair, number: int, order: int, transitions: Sequence[Transition]) -> list[tuple[float, str]]:
    """(second, name) of everything told of an order or of its parties' devices: warning, breach, zone, approach,
    unknown, silence, tamper, jump, frozen, past. `number`: the pair's index in its world."""
    order_id = ORDER_ID + 8 * number + order
    out = []
    for each in transitions:
        if each.order_id is not None and each.order_id.int != order_id:
            continue
        name = _name(each)
        if name is not None:
            out.append((at_s(each), name))
    return out


def _name(each: Transition) -> str | None:
    if each.retrospective:
        return "past" if each.kind == "proximity" and each.to_state == "breach" else None
    if each.kind == "proximity":
        if each.to_state == "warning" and each.from_state == "clear":
            return "warning"
        return "breach" if each.to_state == "breach" else None
    if each.kind == "zone":
        return "zone" if each.to_state == "breach" else None
    if each.kind == "approach":
        return "approach" if each.to_state == "predicted" else None
    if each.kind == "assurance":
        return "unknown" if each.to_state == "unknown" else None
    signal = signal_of(each)
    if signal == "silence":
        return "silence" if each.to_state == "silent" else None
    if signal in TAMPER | OPERATIONS:
        name = "tamper" if signal in TAMPER else signal
        return name if each.to_state in {"open", "yes"} else None
    return None


@dataclass
class Score:
    """What came of one expectation."""

    scenario: str
    noise: str
    seed: int
    result: str
    """full | partial | missed | false"""
    why: str = ""
    moving: bool = False
    entry_s: float | None = None
    delay_s: float | None = None
    """From true entry to breach (or zone); negative: told before."""
    interval_s: float | None = None
    """Of the slower party, about the entry."""
    lead_s: float | None = None
    """From the warning or approach to the true entry; None: none before it."""
    approach_lead_s: float | None = None
    early_m: float | None = None
    """How far outside he was when a breach was told before the entry."""
    incidents: int = 0
    """Of proximity or zone, of this order."""
    incidents_all: int = 0
    """Of all families, of the case."""
    pages: int = 0
    """Episodes that they make."""
    first: dict[str, float] = field(default_factory=dict)
    """Second of the first of each alarm."""

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def truth(pair: Pair, order: int) -> tuple[Floats, Floats]:
    """Distance, metres, and alert radius of an order in every second of a pair's story."""
    seconds = np.arange(pair.duration_s + 1, dtype=np.float64)
    values = pair.orders[order]
    her, his = (pair.people[values[who]].path.at(seconds) for who in ("victim", "aggressor"))
    radius = np.full(len(seconds), float(values.get("alert_m", 500.0)))
    for change in pair.changes:
        if change.order == order and "alert_m" in change.values:
            radius[seconds >= change.at_s] = change.values["alert_m"]
    return np.hypot(her[0] - his[0], her[1] - his[1]), radius


def interval_about(story: Story, people: tuple[int, int], second: float) -> float | None:
    """The longer of both parties' intervals between pings about a second."""
    gaps = []
    for person in people:
        moments = story.ping_s.get(person)
        if moments is None or len(moments) < 2:
            return None
        k = int(np.clip(np.searchsorted(moments, second), 1, len(moments) - 1))
        gaps.append(float(moments[k] - moments[k - 1]))
    return max(gaps)


def score(name: str, noise: str, seed: int, plan: Plan, number: int, story: Story) -> list[Score]:
    """One score an expectation of the plan; `number`: the pair's index in its world."""
    whole = incidents(story.transitions)
    out = []
    for expected in plan.expected:
        distance, radius = truth(plan.pair, expected.order)
        told = alarms(plan.pair, number, expected.order, story.transitions)
        inside = distance < radius
        entry = expected.entry_s if expected.entry_s is not None else (
            float(np.argmax(inside)) if inside.any() else None
        )  # fmt: skip
        own = f"order:{_order_id(number, expected.order)}"
        one = Score(name, noise, seed, "missed", moving=plan.moving and expected.aim == "alarm", entry_s=entry)
        one.incidents = sum(
            i.subject == own and i.family in {"proximity", "zone"} and not i.retrospective for i in whole
        )
        one.incidents_all, one.pages = len(whole), episodes(whole)
        for second, what in told:
            one.first.setdefault(what, second)
        if expected.aim == "quiet":
            _quiet(one, expected)
        elif expected.aim == "past":
            _past(one, expected)
        elif entry is not None:
            values = plan.pair.orders[expected.order]
            own_id = _order_id(number, expected.order)
            inside_s = stays(story.transitions, own_id, "zone" if expected.aim == "zone" else "proximity")
            _alarm(one, expected, told, inside_s, distance - radius, entry)
            one.interval_s = interval_about(story, (values["victim"], values["aggressor"]), entry)
            _rest(one, expected, told, story.transitions, own_id)
        out.append(one)
    return out


def _order_id(number: int, order: int) -> str:
    return str(uuid.UUID(int=ORDER_ID + 8 * number + order))


def _quiet(one: Score, expected: Expected) -> None:
    if "breach" in one.first:
        one.result, one.why = "false", "breach"
    elif one.incidents > expected.incidents_max:
        one.result, one.why = "partial", f"{one.incidents} incidents"
    elif expected.warned and not {"warning", "approach"} & one.first.keys():
        one.result, one.why = "partial", "no warning"
    else:
        one.result = "full"


def _past(one: Score, expected: Expected) -> None:
    told = one.first.get("past")
    if told is not None and expected.from_s <= told <= expected.from_s + expected.allowed_s:
        one.result = "full"
    elif one.first.keys() & {"past", "unknown", "silence", "breach"}:
        one.result, one.why = "partial", "only " + "+".join(sorted(one.first))


def stays(transitions: Sequence[Transition], order_id: str, kind: str) -> list[tuple[float, float]]:
    """From when to when an order was in breach (kind proximity) or one of its zones was (zone); inf: to the end."""
    out: list[tuple[float, float]] = []
    began: dict[object, float] = {}
    for each in transitions:
        if each.kind != kind or str(each.order_id) != order_id or each.retrospective:
            continue
        if each.to_state == "breach":
            began.setdefault(each.zone_id, at_s(each))
        elif each.zone_id in began:
            out.append((began.pop(each.zone_id), at_s(each)))
    return sorted(out + [(start, math.inf) for start in began.values()])


def _alarm(
    one: Score,
    expected: Expected,
    told: list[tuple[float, str]],
    inside: list[tuple[float, float]],
    outside_m: Floats,
    entry: float,
) -> None:
    """Full, partial or missed by time, and the delays. `inside`: stays that were told; `outside_m` by second.

    The breach that counts is the first that lasts beyond the true entry; one that began before makes the delay
    negative, and every one that began before counts as early.
    """
    meant = next((start for start, end in inside if end > max(entry, expected.from_s)), None)
    if meant is not None:
        one.delay_s = meant - entry
    if expected.aim == "alarm":
        early = [float(outside_m[int(start)]) for start, _ in inside if start < min(entry, len(outside_m))]
        one.early_m = max(early, default=None)
    leads = [entry - second for second, what in told if what in {"warning", "approach"} and second < entry]
    one.lead_s = leads[0] if leads else None
    leads = [entry - second for second, what in told if what == "approach" and second < entry]
    one.approach_lead_s = leads[0] if leads else None
    others = [(at, what) for at, what in told if at >= expected.from_s and what not in {"breach", "zone", "past"}]
    accepted = [each for each in others if each[1] in expected.accept]
    if meant is not None and expected.accept & {"breach", "zone"}:
        accepted = sorted([*accepted, (meant, "breach")])
    in_time = [what for at, what in accepted if at - entry <= expected.allowed_s]
    if in_time:
        one.result = "full"
        too_early = one.early_m is not None and one.early_m > expected.early_m
        if too_early and set(in_time) <= {"breach"}:
            one.result, one.why = "partial", f"breach {one.early_m:.0f} m early"
    elif accepted and accepted[0][0] - entry <= expected.allowed_s + PARTIAL_S:
        one.result, one.why = "partial", f"{accepted[0][1]} {accepted[0][0] - entry:.0f} s after entry"
    elif any(at - entry <= expected.allowed_s + PARTIAL_S for at, _ in others):
        one.result, one.why = "partial", "only " + "+".join(sorted(one.first))


def _rest(
    one: Score, expected: Expected, told: list[tuple[float, str]], transitions: Sequence[Transition], order_id: str
) -> None:
    """What else full success asks for: the breach held, the second alarm, the number of incidents."""
    if one.result != "full":
        return
    if one.incidents > expected.incidents_max:
        one.result, one.why = "partial", f"{one.incidents} incidents"
    if expected.held is not None:
        low, high = expected.held
        for each in transitions:
            fell = each.kind == "proximity" and each.from_state == "breach" and str(each.order_id) == order_id
            if fell and low <= at_s(each) <= high:
                one.result, one.why = "partial", f"breach ended at {at_s(each):.0f} s"
    if expected.also:
        low, high = expected.also_s
        if not any(what in expected.also and low <= second <= high for second, what in told):
            one.result, one.why = "partial", "no " + " or ".join(sorted(expected.also))
