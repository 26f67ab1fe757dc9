"""One run: which benchmarks, in which order, on which system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from core.errors import Misconfigured
from core.settings import Settings
from infra.bench import report
from infra.bench.detection import measure_detection
from infra.bench.engine import measure_engine
from infra.bench.ingest import catch_up, measure_capacity, measure_memory, measure_rate
from infra.bench.latency import measure_breaches, measure_panics
from infra.bench.load import running_fleet
from infra.bench.plan import FULL, QUICK, Plan
from infra.bench.system import System, Tell, whole_system
from infra.run import new_loop

NAMES: Final = ("ingest", "panic", "detect")
WIDTH: Final = 120
"""Columns of the table where there is no terminal to ask."""
WARM_UP_S: Final = 3.0


def run_bench(
    names: Sequence[str],
    json_path: Path | None,
    settings: Settings,
    *,
    quick: bool = False,
    thorough: bool = False,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Run the named benchmarks, print their figures, write them to `json_path`; returns the report.

    `plan` replaces the sizes of a full or quick run; `thorough` evaluates the detection whole, and writes
    docs/detection. Raises Misconfigured (an unknown name, a part that does not
    start, a file that cannot be written).
    """
    if unknown := set(names) - set(NAMES):
        raise Misconfigured(f"There is no benchmark {min(unknown)!r}; there are {', '.join(NAMES)}.")
    if json_path is not None and not json_path.parent.is_dir():
        raise Misconfigured(f"{json_path} cannot be written: its folder is not there; choose another with --json.")
    progress = Console(stderr=True, highlight=False)
    begun = time.monotonic()

    def tell(line: str) -> None:
        progress.print(f"[dim]{time.monotonic() - begun:5.0f} s[/dim]  {line}", soft_wrap=True)

    plan = plan or (QUICK if quick else FULL)
    if thorough:
        plan = replace(plan, detection=())
    machine = report.machine()
    if (machine["load_average_before"] or 0.0) > machine["cores"] / 2:
        tell(f"the machine is busy (load {machine['load_average_before']:.1f}): figures will be worse than it can do")
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures, baselines = runner.run(_measure(names, settings, plan, tell, quick=quick))
    result = report.complete(figures, baselines, machine, quick=quick)
    if json_path is not None:
        report.write(result, json_path)
    console = Console(highlight=False)
    report.show(result, console if console.is_terminal else Console(highlight=False, width=WIDTH))
    return result


async def _measure(
    names: Sequence[str], settings: Settings, plan: Plan, tell: Tell, *, quick: bool
) -> tuple[dict[str, Any], dict[str, float]]:
    figures: dict[str, Any] = {}
    async with whole_system(settings, plan, tell) as system:
        await _measure_system(system, names, plan, tell, figures, quick=quick)
        figures["restarts"] = system.restarts
        baselines = system.baselines
    if "detect" in names:  # with both cores to itself
        figures["detect"]["engine"] = await measure_engine(plan, tell)
        if plan.detection is not None:
            figures["detect"]["evaluation"] = await measure_detection(plan.detection, tell)
    return figures, baselines


async def _measure_system(
    system: System, names: Sequence[str], plan: Plan, tell: Tell, figures: dict[str, Any], *, quick: bool
) -> None:
    """Alone first, then the rate, then everything else beside half of it, and panics beside twice of it."""
    if "panic" in names:
        figures["panic"] = {"alone": await measure_panics(system, plan, tell, "with nothing else going on")}
    pairs = system.take_pairs(plan.load_pairs)
    tell(f"connecting {plan.connections:,} links for {2 * len(pairs):,} devices")
    async with running_fleet(system, pairs, plan.connections) as fleet:
        reached = 0.0
        if "ingest" in names:
            figures["ingest"] = await measure_rate(system, fleet, plan, tell)
            figures["ingest"]["memory"] = await measure_memory(system, 2 * len(pairs))
            reached = figures["ingest"]["pings_per_s"] or 0.0
            await asyncio.sleep(plan.rest_s)
        elif "panic" in names:
            reached = await measure_capacity(system, fleet, plan, tell)
            figures["panic"]["capacity_pings_per_s"] = reached
        if "panic" in names or "detect" in names:
            loads = {"beside_pings": plan.latency_rate}
            if reached > 2 * plan.latency_rate:
                loads["beside_half_of_reached"] = reached / 2
            if "panic" in names:
                loads["beside_twice_the_reached"] = 2 * reached
            for name, load in loads.items():
                await fleet.set_rate(load)
                await asyncio.sleep(WARM_UP_S)
                beside = f"beside {load:,.0f} pings/s"
                if "panic" in names:
                    figures["panic"][name] = await measure_panics(system, plan, tell, beside)
                    figures["panic"][name]["pings_per_s"] = load
                if "detect" in names and load < reached:
                    tell(f"breaches {beside}")
                    breaches = await measure_breaches(system, plan, tell, quick=quick)
                    figures.setdefault("detect", {})[name] = {**breaches, "pings_per_s": load}
            figures["complete"] = await catch_up(system, fleet, tell) is not None
