"""Play the scripts, score them, print the table.

    python -m tests.benchmarks.detection.run_approaches --seeds 50 --half report [--scenario NAME ...] [--noise city]
        [--open-loop] [--interval 30] [--json FILE] [--why]
    python -m tests.benchmarks.detection.run_approaches --loops   as asked, and at 10, 30 and 60 s

Defaults are chosen on even seeds (`--half choose`) and reported on odd ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import tests.benchmarks.detection.approaches
import tests.benchmarks.detection.approaches_signal  # noqa: F401 - they enter their scripts
from tests.benchmarks.detection.noise import NOISES
from tests.benchmarks.detection.scene import SCRIPTS, plans
from tests.benchmarks.detection.scoring import Score, score
from tests.benchmarks.detection.world import World

RESULTS: Final = ("full", "partial", "missed", "false")
PAIRS_AT_ONCE: Final = 3_000


def seeds_of(count: int, half: str) -> list[int]:
    """`count` seeds of a half: even ones to choose by, odd ones to report; or half of each (`both`)."""
    if half == "both":
        return list(range(count))
    return [2 * k + (half == "report") for k in range(count)]


def play(
    names: Sequence[str],
    noises: Sequence[str],
    seeds: Sequence[int],
    *,
    closed_loop: bool = True,
    interval_s: float | None = None,
    pushed: bool = False,
    orders: dict[str, Any] | None = None,
    observers: Sequence[Any] = (),
    costs: list[dict[str, float]] | None = None,
) -> list[Score]:
    """Every script in every noise with every seed, scored. `orders`: policy values put over every order's own."""
    todo = [(name, noise, seed) for seed in seeds for name in names for noise in noises]
    out: list[Score] = []
    for first in range(0, len(todo), PAIRS_AT_ONCE):
        part = todo[first : first + PAIRS_AT_ONCE]
        played = [plans(name, seed, noise) for name, noise, seed in part]
        if orders:
            for plan in played:
                for order in plan.pair.orders:
                    order.update(orders)
        world = World([plan.pair for plan in played], closed_loop=closed_loop, interval_s=interval_s, pushed=pushed,
                      observers=observers)  # fmt: skip
        stories = world.run()
        for number, ((name, noise, seed), plan, story) in enumerate(zip(part, played, stories, strict=True)):
            out += score(name, noise, seed, plan, number, story)
        if costs is not None:
            costs.append({**vars(world.cost), "pairs": len(part), "asked": world.asked})
    return out


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Figures of some scores."""
    results = Counter(each.result for each in scores)
    delays = [each.delay_s for each in scores if each.delay_s is not None]
    relative = [
        each.delay_s / each.interval_s for each in scores if each.delay_s is not None and each.interval_s is not None
    ]
    moving = [each for each in scores if each.moving]
    leads = [each.lead_s for each in moving if each.lead_s is not None]
    predicted = [each.approach_lead_s for each in moving if each.approach_lead_s is not None]
    early = [each.early_m for each in scores if each.early_m is not None]
    return {
        "count": len(scores),
        **{result: results[result] / max(len(scores), 1) for result in RESULTS},
        "delay_median_s": _at(delays, 50),
        "delay_p90_s": _at(delays, 90),
        "delay_median_intervals": _at(relative, 50),
        "delay_p90_intervals": _at(relative, 90),
        "moving": len(moving),
        "warned_share": len(leads) / len(moving) if moving else None,
        "lead_median_s": _at(leads, 50),
        "predicted_share": len(predicted) / len(moving) if moving else None,
        "predicted_lead_median_s": _at(predicted, 50),
        "incidents_mean": float(np.mean([each.incidents for each in scores])) if scores else None,
        "incidents_most": max((each.incidents for each in scores), default=None),
        "incidents_all_mean": float(np.mean([each.incidents_all for each in scores])) if scores else None,
        "pages_mean": float(np.mean([each.pages for each in scores])) if scores else None,
        "early_share": len(early) / max(len(scores), 1),
        "early_median_m": _at(early, 50),
        "early_p90_m": _at(early, 90),
    }


def _at(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


COLUMNS: Final = (
    ("full", "full", 1),
    ("part", "partial", 1),
    ("miss", "missed", 1),
    ("false", "false", 1),
    ("delay50", "delay_median_s", 0),
    ("delay90", "delay_p90_s", 0),
    ("in intv", "delay_median_intervals", 2),
    ("warned", "warned_share", 1),
    ("lead", "lead_median_s", 0),
    ("pred", "predicted_share", 1),
    ("plead", "predicted_lead_median_s", 0),
    ("inc", "incidents_mean", 2),
    ("most", "incidents_most", 0),
    ("all", "incidents_all_mean", 2),
    ("pages", "pages_mean", 2),
    ("early", "early_share", 1),
    ("early90m", "early_p90_m", 0),
)
SHARES: Final = frozenset({"full", "partial", "missed", "false", "warned_share", "predicted_share", "early_share"})


LOOPS: Final[dict[str, float | None]] = {"asked": None, "10 s": 10.0, "30 s": 30.0, "60 s": 60.0}
"""Devices that do as they are asked, and such as keep their interval whatever they are asked."""


def table(scores: Sequence[Score], title: str | None = None) -> str:
    """A line a script and noise, then one a noise, then all; with a title those of all scripts only."""
    width = max((len(each.scenario) for each in scores), default=10) + 1
    head = f"{'':{width}}{'noise':6}{'n':>5}" + "".join(f"{title:>9}" for title, _, _ in COLUMNS)
    lines = [head]
    names = list(dict.fromkeys(each.scenario for each in scores))
    noises = list(dict.fromkeys(each.noise for each in scores))
    if title is not None:
        lines += [_line(title, noise, [e for e in scores if e.noise == noise], width) for noise in noises]
        return "\n".join([*lines, _line(title, "all", scores, width)])
    for name in names:
        for noise in noises:
            lines.append(_line(name, noise, [e for e in scores if e.scenario == name and e.noise == noise], width))
    lines.append(head)
    lines += [_line("ALL", noise, [e for e in scores if e.noise == noise], width) for noise in noises]
    lines.append(_line("ALL", "all", scores, width))
    return "\n".join(lines)


def _line(name: str, noise: str, scores: Sequence[Score], width: int) -> str:
    figures = summary(scores)
    cells = []
    for _, key, digits in COLUMNS:
        value = figures[key]
        if value is None:
            cells.append(f"{'-':>9}")
        elif key in SHARES:
            cells.append(f"{100 * value:>8.{digits}f}%")
        else:
            cells.append(f"{value:>9.{digits}f}")
    return f"{name:{width}}{noise:6}{figures['count']:>5}" + "".join(cells)


def failures(scores: Iterable[Score], most: int = 60) -> str:
    """Why scores are not full: how often, and an example's seed."""
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for each in scores:
        if each.result != "full":
            words = " ".join("#" if part.lstrip("-").isdigit() else part for part in each.why.split())
            found.setdefault((each.scenario, each.noise, each.result, words), []).append(each)
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))[:most]
    return "\n".join(
        f"{len(some):>5}  {' '.join(key)}   seed {some[0].seed}: {some[0].why} entry "
        f"{some[0].entry_s} first {some[0].first}"
        for key, some in ranked
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="run_approaches", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--half", choices=("choose", "report", "both"), default="report")
    parser.add_argument("--scenario", action="append", choices=tuple(SCRIPTS))
    parser.add_argument("--noise", action="append", choices=NOISES)
    parser.add_argument("--open-loop", action="store_true", help="devices ignore what they are asked")
    parser.add_argument("--pushed", action="store_true", help="devices obey at once, not at their next ping")
    parser.add_argument("--loops", action="store_true", help="as asked, and with fixed intervals of 10, 30 and 60 s")
    parser.add_argument("--interval", type=float, help="every device's own interval, s")
    parser.add_argument(
        "--order", action="append", default=[], metavar="NAME=VALUE", help="a policy value, e.g. p_enter=0.4"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--why", action="store_true", help="say why what is not full is not")
    given = parser.parse_args(arguments)
    names, noises = given.scenario or list(SCRIPTS), given.noise or list(NOISES)
    orders = {name: float(value) for name, value in (each.split("=", 1) for each in given.order)}
    seeds = seeds_of(given.seeds, given.half)
    if given.loops:
        for loop, interval_s in LOOPS.items():
            scores = play(names, noises, seeds, closed_loop=interval_s is None, interval_s=interval_s, orders=orders)
            print(table(scores, loop) if loop == "asked" else table(scores, loop).split("\n", 1)[1], flush=True)
        return 0
    costs: list[dict[str, float]] = []
    begun = time.perf_counter()
    scores = play(names, noises, seeds, closed_loop=not given.open_loop,
                  interval_s=given.interval, pushed=given.pushed, orders=orders, costs=costs)  # fmt: skip
    print(table(scores))
    if given.why:
        print(failures(scores))
    print(f"{len(scores)} scores in {time.perf_counter() - begun:.1f} s; "
          + "; ".join(str({k: round(v, 2) for k, v in cost.items()}) for cost in costs), file=sys.stderr)  # fmt: skip
    if given.json:
        by = {f"{name}/{noise}": summary([e for e in scores if e.scenario == name and e.noise == noise])
              for name in names for noise in noises}  # fmt: skip
        document = {"half": given.half, "seeds": given.seeds, "closed_loop": not given.open_loop,
                    "interval_s": given.interval, "orders": orders, "all": summary(scores), "by": by,
                    "scores": [each.as_json() for each in scores]}  # fmt: skip
        given.json.write_text(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
