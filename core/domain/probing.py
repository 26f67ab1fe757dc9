"""Whether somebody tests where the edge is: he comes near, from here and from there, and turns back each time.

A *turn* is a stay in the warning ring, or an approach that was predicted, that ended without a breach. Where he came
from is the bearing from her to him as it began; it is worked out here and kept nowhere, since it points at her.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from core.clock import from_ms, rfc3339
from core.domain.transition import Transition

WINDOW: Final = timedelta(hours=24)
"""How far back turns count together."""
TURNS_LEAST: Final = 2
"""One turn comes from one side only, whatever the spread allowed."""
KINDS: Final = frozenset({"proximity", "approach"})


@dataclass(frozen=True, slots=True)
class Turn:
    """One time he came and turned back."""

    began_ms: int
    ended_ms: int
    bearing_deg: float | None
    """Of him, seen from her, when it began; None: one of them was not seen."""


@dataclass(frozen=True, slots=True)
class Probing:
    """That an edge is tested."""

    turns: int
    spread_deg: int | None
    """The narrowest arc that holds the bearings, to ten degrees."""
    since_ms: int

    def told(self) -> dict[str, Any]:
        """As a task, a notice and an incident tell it."""
        return {"turns": self.turns, "spread_deg": self.spread_deg, "since": rfc3339(from_ms(self.since_ms))}


def turns_of(transitions: Iterable[Transition]) -> list[Turn]:
    """The turns in one order's transitions of the present, which come in the order they were decided."""
    found: list[Turn] = []
    state, predicted, breached = "clear", False, False
    began: Transition | None = None
    for item in transitions:
        if item.kind not in KINDS or item.retrospective:
            continue
        near = state != "clear" or predicted
        if item.kind == "proximity":
            state = item.to_state
        else:
            predicted = item.to_state == "predicted"
        breached = breached or state == "breach"
        if not near and (state != "clear" or predicted):
            began = item
        if near and state == "clear" and not predicted:
            if began is not None and not breached:
                found.append(Turn(began.at_ms, item.at_ms, _bearing(began)))
            began, breached = None, False
    return found


def probing_of(turns: Sequence[Turn], now_ms: int, least: float, spread_deg: float) -> Probing | None:
    """Whether the turns of the last `WINDOW` are probing: `least` of them, or from sides `spread_deg` apart."""
    since_ms = now_ms - round(WINDOW.total_seconds() * 1000)
    recent = [turn for turn in turns if turn.began_ms >= since_ms]
    if len(recent) < TURNS_LEAST:
        return None
    spread = spread_of([turn.bearing_deg for turn in recent if turn.bearing_deg is not None])
    if len(recent) < least and (spread is None or spread <= spread_deg):
        return None
    return Probing(len(recent), None if spread is None else int(round(spread, -1)), recent[0].began_ms)


def spread_of(bearings_deg: Sequence[float]) -> float | None:
    """The narrowest arc that holds all bearings, degrees; None of fewer than two."""
    if len(bearings_deg) < 2:
        return None
    ordered = sorted(bearing % 360 for bearing in bearings_deg)
    gaps = [after - before for before, after in itertools.pairwise(ordered)]
    return 360 - max(*gaps, 360 - ordered[-1] + ordered[0])


def _bearing(item: Transition) -> float | None:
    """Of him, seen from her: initial bearing of the great circle, degrees from north."""
    her, him = item.victim_position, item.aggressor_position
    if her is None or him is None:
        return None
    lat1, lat2 = math.radians(her.lat), math.radians(him.lat)
    east = math.radians(him.lon - her.lon)
    x = math.sin(east) * math.cos(lat2)
    y = math.cos(lat1) * math.sin(lat2) - math.sin(lat1) * math.cos(lat2) * math.cos(east)
    return math.degrees(math.atan2(x, y)) % 360
