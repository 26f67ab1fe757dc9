"""Score lives: every incident of people who never meet is false.

    python -m tests.benchmarks.detection.run_lives --pairs 70 --half choose [--fixed] [--jobs 2] [--order p_enter=0.3]
        [--peers] [--debug FILE.csv]

Incidents fold and close as in `scoring`. `--debug` writes each false incident with the truth, and with whatever was out
of the ordinary in the quarter of an hour before, for whoever tunes the rules.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.domain.alarm import Surroundings, alarm_of
from core.domain.incident import Severity
from core.domain.transition import Transition
from infra.offspring import die_with_parent
from tests.benchmarks.detection.carried import CAUSES
from tests.benchmarks.detection.lived import Lived, by_pair, live, second_of
from tests.benchmarks.detection.lives import DAY_S, lives
from tests.benchmarks.detection.peers import RULES, Listener
from tests.benchmarks.detection.scoring import Incident, at_s, incidents

Json = dict[str, Any]

HALVES: Final = {"choose": 0, "report": 1}
"""Lives of one half are drawn from other seeds than the other's."""
PAIRS_A_TASK: Final = 105
"""Many at once: a step of the engine costs nearly the same for one pair as for a hundred."""
MODES: Final = ("still", "on foot", "by bus", "by car")
RECENT_S: Final = 900
"""How far back a cause is looked for."""


@dataclass(frozen=True, slots=True)
class FalseIncident:
    """An incident of a pair that never met."""

    pair: int
    family: str
    dispatcher: bool
    """Of medium severity or more; else the operations queue's."""
    opened_s: int
    told: Transition
    """What opened it, or made a dispatcher's of it."""


def false_incidents(lived: Lived) -> list[FalseIncident]:
    """Every incident, folded and closed as `scoring` says: all are false, nobody having come near."""
    out = []
    for k, transitions in enumerate(by_pair(lived)):
        found = incidents(transitions)
        for at, incident in enumerate(found):
            until = next((later.opened_s for later in found[at + 1 :] if _same(later, incident)), float("inf"))
            told = [
                (each, alarm.severity)
                for each, around in surrounded(transitions)
                if (alarm := alarm_of(each, around)) is not None
                and alarm.raised
                and (alarm.subject, alarm.family) == (incident.subject, incident.family)
                and incident.opened_s <= at_s(each) < until
            ]
            urgent = next((each for each, severity in told if severity != Severity.LOW), None)
            first = urgent or (told[0][0] if told else None)
            if first is not None:
                out.append(FalseIncident(k, incident.family, urgent is not None, second_of(first.evaluated_ms), first))
    return out


def surrounded(transitions: Sequence[Transition]) -> Iterator[tuple[Transition, Surroundings]]:
    """Each transition with the separation it was told in."""
    separation = "clear"
    for each in transitions:
        if each.kind == "proximity" and not each.retrospective:
            separation = each.to_state
        yield each, Surroundings(separations=frozenset({separation}))


def _same(one: Incident, other: Incident) -> bool:
    return (one.subject, one.family) == (other.subject, other.family)


def described(lived: Lived, one: FalseIncident) -> dict[str, Any]:
    """A false incident with its circumstances, a row for whoever tunes the rules."""
    told = one.told
    return {
        "loop": "asked" if lived.asked else "fixed",
        "queue": "dispatcher" if one.dispatcher else "operations",
        "family": one.family,
        "kind": told.detail.get("signal", told.kind),
        "to": told.to_state,
        "party": told.detail.get("party", ""),
        **circumstances(lived, one.pair, one.opened_s),
        "told_m": told.distance_m,
        "p_within": told.p_within,
        "closing_mps": told.closing_mps,
        "sigma_m": told.detail.get("sigma_m"),
        "uncertain": told.detail.get("uncertain", ""),
        "closest_m": told.detail.get("closest_m", ""),
        "reason": told.detail.get("reason", ""),
        "victim_age_s": told.victim_fix_age_s,
        "aggressor_age_s": told.aggressor_fix_age_s,
    }


def circumstances(lived: Lived, k: int, second: int) -> dict[str, Any]:
    """What was going on with pair k: the truth, and whatever was out of the ordinary in the last quarter of an hour."""
    pair = lived.pairs[k]
    apart_m = np.sqrt(np.square(pair.lives[0].where - pair.lives[1].where).sum(axis=1))
    recent = slice(max(0, second - RECENT_S), second + 1)
    out: dict[str, Any] = {
        "band": pair.band,
        "seed": pair.seed,
        "pair": k,
        "clock": f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}",
        "alert_m": pair.alert_m,
        "true_m": round(float(apart_m[second])),
        "true_least_after_m": round(float(apart_m[second : second + RECENT_S].min())),
    }
    for name, life, carried in zip(("hers", "his"), pair.lives, lived.carried[k], strict=True):
        out[f"{name}_mode"] = MODES[int(life.mode[second])]
        out[f"{name}_turning"] = any(begin <= second < end for begin, end in life.turned)
        out[f"{name}_sigma_m"] = round(float(carried.accuracy_m[second]) / 1.51)
        out[f"{name}_recent"] = "+".join(CAUSES[code] for code in np.unique(carried.cause[recent]) if code)
    return out


@dataclass
class Days:
    """What came of some pair-days."""

    days: Counter[str] = field(default_factory=Counter)
    """By band."""
    ours: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By band, queue and family."""
    peers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By band and rule."""
    pings: int = 0
    least_beyond_m: float = float("inf")
    """Least distance of a truth beyond its radius."""
    rows: list[Json] = field(default_factory=list)

    def add(self, other: Days) -> None:
        """Take in those of another task."""
        self.days += other.days
        self.ours += other.ours
        self.peers += other.peers
        self.pings += other.pings
        self.least_beyond_m = min(self.least_beyond_m, other.least_beyond_m)
        self.rows += other.rows


def lives_task(
    first: int, count: int, half: str, *, asked: bool, values: Mapping[str, float], peers: bool, day_s: int = DAY_S
) -> Days:
    """Play `count` pair-days from the `first` on, or the first `day_s` seconds of them."""
    pairs = [pair for index, pair in enumerate(lives(first + count, HALVES[half])) if index >= first]
    listener = Listener()
    lived = live(pairs, asked=asked, values=values, observers=[listener] if peers else [], seconds=day_s)
    out = Days(days=Counter(pair.band for pair in pairs), pings=int(lived.pings.sum()))
    out.least_beyond_m = min(pair.least_m - pair.alert_m for pair in pairs)
    for one in false_incidents(lived):
        queue = "dispatcher" if one.dispatcher else "operations"
        out.ours[pairs[one.pair].band, queue, one.family] += 1
        out.rows.append(described(lived, one))
    if peers:
        for (case, _), (positions, alert_m) in listener.positions().items():
            for rule, decide in RULES.items():
                out.peers[pairs[case - 1].band, rule] += len(decide(positions, alert_m).raised_ms)
    return out


def figures(found: Days) -> Json:
    """Days as the result has them: by band, queue and family, beside the peers."""
    bands: Json = {}
    for band, days in found.days.items():
        by_family = {
            queue: {family: count for (b, q, family), count in sorted(found.ours.items()) if (b, q) == (band, queue)}
            for queue in ("dispatcher", "operations")
        }
        bands[band] = {
            "pair_days": days,
            **by_family,
            "peers": {rule: found.peers[band, rule] for rule in RULES},
        }
    return {
        "pair_days": found.days.total(),
        "pings": found.pings,
        "pings_a_device_day": round(found.pings / max(2 * found.days.total(), 1)),
        "least_beyond_m": round(found.least_beyond_m, 1),
        "bands": bands,
        "kinds": dict(Counter(f"{r['queue']} {r['kind']} {r['to']}" for r in found.rows).most_common()),
    }


def stretches(count: int) -> list[tuple[int, int]]:
    """Pair-days cut into tasks: (first, how many)."""
    return [(at, min(PAIRS_A_TASK, count - at)) for at in range(0, count, PAIRS_A_TASK)]


def write_debug(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """False incidents with their circumstances as CSV, for whoever tunes the rules."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="run_lives", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=35)
    parser.add_argument("--first", type=int, default=0, help="the first pair's number")
    parser.add_argument("--half", choices=tuple(HALVES), default="choose")
    parser.add_argument("--fixed", action="store_true", help="devices ping every 60 s, whatever they are asked")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--order", action="append", default=[], metavar="NAME=VALUE", help="a value to try")
    parser.add_argument("--peers", action="store_true", help="the naive rules beside it")
    parser.add_argument("--debug", type=Path)
    given = parser.parse_args(arguments)
    values = {name: float(value) for name, value in (each.split("=", 1) for each in given.order)}
    begun = time.perf_counter()
    found = Days()
    with ProcessPoolExecutor(given.jobs, initializer=die_with_parent) as pool:
        tasks = [
            pool.submit(
                lives_task, given.first + at, count, given.half, asked=not given.fixed, values=values, peers=given.peers
            )
            for at, count in stretches(given.pairs)
        ]
        for task in tasks:
            found.add(task.result())
    print(json.dumps(figures(found), indent=1, ensure_ascii=False))
    total = sum(count for (_, queue, _), count in found.ours.items() if queue == "dispatcher") / found.days.total()
    print(f"{total:.3f} false dispatcher incidents a pair-day; {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if given.debug:
        write_debug(found.rows, given.debug)
    return 0


if __name__ == "__main__":
    sys.exit(main())
