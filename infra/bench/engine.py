"""The engine alone: pings a second on one core, by the number of orders it knows."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any, Final

from infra.bench.plan import Plan
from infra.bench.system import BenchFailed, Tell

SCRIPT: Final = Path(__file__).parents[2] / "tests" / "benchmarks" / "engine_bench.py"
"""The engine's own benchmark; it needs no store and can be run by itself."""
SEED: Final = 1


async def measure_engine(plan: Plan, tell: Tell) -> dict[str, Any]:
    """Figures by number of orders, and how flat their cost is; raises BenchFailed outside a source tree."""
    specification = importlib.util.spec_from_file_location("engine_bench", SCRIPT)
    if not SCRIPT.is_file() or specification is None or specification.loader is None:
        raise BenchFailed(f"The engine's benchmark {SCRIPT} is not there; run this in a clone of the source.")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    tell(f"the engine alone with {', '.join(f'{orders:,}' for orders in plan.engine_orders)} orders, by turns")
    figures: dict[str, Any] = await asyncio.to_thread(script.measure_all, plan.engine_orders, plan.engine_pings, SEED)
    shards = await asyncio.to_thread(script.measure_shards, plan.engine_pings // 10, SEED)
    return {**figures, "flatness": script.flatness(figures), "eight_shards": shards}
