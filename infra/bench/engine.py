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
    figures: dict[str, Any] = {}
    for orders in plan.engine_orders:
        tell(f"the engine alone with {orders:,} orders")
        figures[str(orders)] = await asyncio.to_thread(script.measure, orders, plan.engine_pings, SEED)
    figures["flatness"] = script.flatness(figures)
    return figures
