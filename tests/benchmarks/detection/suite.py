"""The whole evaluation: approaches and lives, through the engine and through the peers' rules; figures as JSON.

Work is cut into tasks that know nothing of each other, so that all cores take part and the figures do not depend on
how many there are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from core.domain.transition import RULE_VERSION, Transition
from infra.offspring import die_with_parent
from tests.benchmarks.detection import approaches, approaches_signal
from tests.benchmarks.detection.lives import DAY_S
from tests.benchmarks.detection.noise import NOISES
from tests.benchmarks.detection.pairs import ORDER_ID
from tests.benchmarks.detection.peers import RULES, Listener, Told
from tests.benchmarks.detection.run_approaches import seeds_of, summary
from tests.benchmarks.detection.run_lives import Days, figures, lives_task, stretches
from tests.benchmarks.detection.scene import SCRIPTS, plans
from tests.benchmarks.detection.scoring import Score, score
from tests.benchmarks.detection.world import Story, World

SCRIPTED: Final = (approaches, approaches_signal)
"""Scripts enter themselves when their module is read."""

SEEDS_A_TASK: Final = 10
LOITERER: Final = "loiterer_on_the_line"
P_ENTER: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)

Tell = Callable[[str], None]
Json = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is played."""

    seeds: int
    """Of each script and noise, in the half that is reported."""
    pairs: int
    """Pair-days, asked and fixed each."""
    curve_seeds: int
    curve_pairs: int
    curve: Sequence[float] = P_ENTER
    jobs: int = 2
    half: str = "report"
    day_s: int = DAY_S
    """Less is for a trial: figures stay by the pair-day."""


FULL: Final = Sizes(seeds=50, pairs=630, curve_seeds=6, curve_pairs=50)
"""630 pair-days: of 210, as there were to rules 2026.3, a rate of 0.1 is told no better than ±0.045 (two standard
errors of a count of 21). Set before any of the 420 new ones was looked at; the first 210 are the same as before."""
BOUNDED: Final = Sizes(seeds=5, pairs=35, curve_seeds=2, curve_pairs=20, curve=(0.3, 0.5, 0.7))


@dataclass
class Played:
    """What came of some approaches."""

    ours: list[Score] = field(default_factory=list)
    peers: dict[str, list[Score]] = field(default_factory=lambda: {rule: [] for rule in RULES})
    alarms: dict[str, list[int]] = field(default_factory=lambda: {rule: [] for rule in RULES})
    """Of each rule: raw alarms for the loiterer on the line, one a seed and noise."""


def approach_task(
    names: Sequence[str], seeds: Sequence[int], *, asked: bool, values: Mapping[str, float], peers: bool
) -> Played:
    """Play scripts in every noise with some seeds; the peers get the very pings that the engine got."""
    todo = [(name, noise, seed) for seed in seeds for name in names for noise in NOISES]
    played = [plans(name, seed, noise) for name, noise, seed in todo]
    for plan in played:
        for order in plan.pair.orders:
            order.update(values)
    listener = Listener()
    world = World([plan.pair for plan in played], closed_loop=asked, observers=[listener] if peers else [])
    stories = world.run()
    out = Played()
    heard = listener.positions() if peers else {}
    for number, ((name, noise, seed), plan, story) in enumerate(zip(todo, played, stories, strict=True)):
        out.ours += score(name, noise, seed, plan, number, story)
        for rule, decide in RULES.items() if peers else ():
            transitions: list[Transition] = []
            for place in range(len(plan.pair.orders)):
                if (number + 1, place) in heard:
                    positions, alert_m = heard[number + 1, place]
                    told = decide(positions, alert_m)
                    transitions += as_transitions(told, number, place)
                    if name == LOITERER:
                        out.alarms[rule].append(len(told.raised_ms))
            transitions.sort(key=lambda each: each.evaluated_ms)
            out.peers[rule] += score(name, noise, seed, plan, number, Story(transitions, story.ping_s))
    return out


def as_transitions(told: Told, number: int, place: int) -> list[Transition]:
    """A rule's alarms as the engine would tell them, so that one scoring judges both."""
    events = sorted([(int(ms), 1) for ms in told.raised_ms] + [(int(ms), 0) for ms in told.cleared_ms])
    out, on = [], 0
    for ms, to in events:
        if to == on:
            continue
        names = ("clear", "breach")
        out.append(
            Transition(
                id=uuid.UUID(int=ms),
                shard=0,
                entry="",
                kind="proximity",
                from_state=names[on],
                to_state=names[to],
                at_ms=ms,
                evaluated_ms=ms,
                agency_id=uuid.UUID(int=0),
                case_id=uuid.UUID(int=number + 1),
                order_id=uuid.UUID(int=ORDER_ID + 8 * number + place),
            )
        )
        on = to
    return out


def evaluate(sizes: Sizes, tell: Tell, *, names: Sequence[str] | None = None) -> tuple[Json, list[Json]]:
    """All figures, and the false incidents one by one."""
    names = list(names or SCRIPTS)
    with _pool(sizes.jobs) as pool:
        submit = pool.submit
        played = [
            submit(approach_task, names, part, asked=True, values={}, peers=True)
            for part in _parts(seeds_of(sizes.seeds, sizes.half), SEEDS_A_TASK)
        ]
        days = {
            loop: [
                submit(lives_task, *part, sizes.half, asked=loop == "asked", values={}, peers=True, day_s=sizes.day_s)
                for part in stretches(sizes.pairs)
            ]
            for loop in ("asked", "fixed")
        }
        curve = {
            p: (
                submit(
                    approach_task,
                    names,
                    seeds_of(sizes.curve_seeds, "choose"),
                    asked=True,
                    values={"p_enter": p},
                    peers=False,
                ),
                submit(
                    lives_task,
                    0,
                    sizes.curve_pairs,
                    "choose",
                    asked=False,
                    values={"p_enter": p},
                    peers=False,
                    day_s=sizes.day_s,
                ),
            )
            for p in sizes.curve
        }
        scored = _approaches(_collect(played, "approaches", tell))
        lived: Json = {}
        rows: list[Json] = []
        for loop, tasks in days.items():
            found = Days()
            for each in _collect(tasks, f"lives, {loop}", tell):
                found.add(each)
            lived[loop] = figures(found)
            rows += found.rows
        points = []
        for p, (approach, life) in curve.items():
            points.append(_point(p, approach.result(), life.result()))
            tell(f"operating curve: p_enter {p:g}")
    result = {
        "rule_version": RULE_VERSION,
        "half": sizes.half,
        "seeds": sizes.seeds,
        "scripts": len(names),
        "noises": list(NOISES),
        "curve": {"half": "choose", "seeds": sizes.curve_seeds, "pair_days": sizes.curve_pairs, "points": points},
        "approaches": scored,
        "lives": lived,
    }
    return result, rows


class _Inline(Executor):
    """Does everything at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        out: Future[Any] = Future()
        out.set_result(fn(*args, **kwargs))
        return out


def _pool(jobs: int) -> Executor:
    return ProcessPoolExecutor(jobs, initializer=die_with_parent) if jobs > 1 else _Inline()


def _collect(tasks: Sequence[Future[Any]], what: str, tell: Tell) -> Iterator[Any]:
    for done, task in enumerate(tasks, start=1):
        yield task.result()
        tell(f"{what}: {done} of {len(tasks)}")


def _parts(values: Sequence[int], size: int) -> list[Sequence[int]]:
    return [values[at : at + size] for at in range(0, len(values), size)]


def _approaches(parts: Iterator[Played]) -> Json:
    whole = Played()
    for part in parts:
        whole.ours += part.ours
        for rule in RULES:
            whole.peers[rule] += part.peers[rule]
            whole.alarms[rule] += part.alarms[rule]
    out: Json = {"ours": _rule(whole.ours), "peers": {}}
    out["ours"]["loiterer_alarms"] = _spread([one.incidents for one in whole.ours if one.scenario == LOITERER])
    out["by_scenario"] = {
        name: _rule([one for one in whole.ours if one.scenario == name])["all"]
        | {"peers": {rule: summary([o for o in whole.peers[rule] if o.scenario == name])["full"] for rule in RULES}}
        for name in dict.fromkeys(one.scenario for one in whole.ours)
    }
    out["by_noise"] = {noise: summary([one for one in whole.ours if one.noise == noise]) for noise in NOISES}
    for rule, scores in whole.peers.items():
        out["peers"][rule] = _rule(scores) | {"loiterer_alarms": _spread(whole.alarms[rule])}
    out["not_full"] = _not_full(whole.ours)
    return out


def _not_full(scores: Sequence[Score]) -> list[Json]:
    """Why what is not full is not, how often, and a seed to look at it."""
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for one in scores:
        if one.result != "full":
            why = " ".join("#" if part.lstrip("-").isdigit() else part for part in one.why.split())
            found.setdefault((one.scenario, one.noise, one.result, why), []).append(one.seed)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {"scenario": name, "noise": noise, "result": result, "why": why, "count": len(seeds), "seed": seeds[0]}
        for (name, noise, result, why), seeds in ranked
    ]


def _rule(scores: Sequence[Score]) -> Json:
    """Figures of one rule: over everything, over the moving approaches, and the spread of its times."""
    moving = [one for one in scores if one.moving]
    delays = [one.delay_s for one in moving if one.delay_s is not None]
    relative = [one.delay_s / one.interval_s for one in scores if one.delay_s is not None and one.interval_s]
    leads = [one.lead_s for one in moving if one.lead_s is not None]
    return {
        "all": summary(scores),
        "moving": summary(moving),
        "told_share": len(delays) / max(len(moving), 1),
        "delay_s": _quantiles(delays),
        "delay_intervals": _quantiles(relative),
        "lead_s": _quantiles(leads),
    }


def _quantiles(values: Sequence[float]) -> list[float]:
    """Every hundredth part of a distribution, enough to draw it."""
    return [round(float(each), 2) for each in np.percentile(values, np.arange(101))] if values else []


def _spread(values: Sequence[int]) -> Json:
    return {
        "least": min(values, default=None),
        "median": float(np.median(values)) if values else None,
        "most": max(values, default=None),
    }


def _point(p_enter: float, played: Played, days: Days) -> Json:
    total = days.days.total()
    whole = summary(played.ours)
    breaches = sum(row["kind"] == "proximity" for row in days.rows)
    dispatcher = sum(count for (_, queue, _), count in days.ours.items() if queue == "dispatcher")
    return {
        "p_enter": p_enter,
        "full": whole["full"],
        "missed": whole["missed"],
        "delay_median_s": whole["delay_median_s"],
        "false_a_pair_day": dispatcher / total,
        "false_breaches_a_pair_day": breaches / total,
    }
