"""Pings a second, end to end: offered at a rate, acknowledged, evaluated and in history, stepped up until too much."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from infra.bench.load import FleetProcess
from infra.bench.plan import Plan
from infra.bench.processors import cost_us, cpu_seconds
from infra.bench.system import System, Tell

WAITING_MAX_S: Final = 1.0
"""Most seconds' worth of pings that may wait for their acknowledgement at a sustained rate (a quarter always does)."""
ACKED_SHARE: Final = 0.9
"""Least share of the offered rate that is acknowledged at a sustained one; one short step is no finer."""
ENGINE_LAG_MAX_MS: Final = 1_000.0
HISTORY_LAG_MAX_MS: Final = 3_000.0
CATCH_UP_S: Final = 60.0
"""Longest the readers may take to catch up once the load has ended."""


@dataclass(slots=True)
class Step:
    """One rate and what became of it."""

    offered: float
    acknowledged: float
    ack_p50_ms: float | None
    ack_p99_ms: float | None
    waiting: int
    engine_lag_ms: float
    history_lag_ms: float
    sustained: bool
    too_much_for: list[str] = field(default_factory=list)
    cpu_us_a_ping: dict[str, float] = field(default_factory=dict)


async def measure_rate(system: System, fleet: FleetProcess, plan: Plan, tell: Tell) -> dict[str, Any]:
    """Step the rate up; the highest sustained one, all steps, and whether every ping arrived once.

    Between the last rate that was sustained and the first that was not, the middle is tried too.
    """
    steps: list[Step] = []
    for rate in plan.rates:
        steps.append(await _step(system, fleet, plan, float(rate), tell))
        if not steps[-1].sustained:
            break
    caught_up_s = await catch_up(system, fleet, tell)
    if plan.refine and len(steps) > 1 and not steps[-1].sustained and caught_up_s is not None:
        steps.append(await _step(system, fleet, plan, (steps[-2].offered + steps[-1].offered) / 2, tell))
        caught_up_s = await catch_up(system, fleet, tell)
    figures = await fleet.figures()
    rows = await system.pings_in_history()
    return {
        "pings_per_s": max((step.acknowledged for step in steps if step.sustained), default=0.0),
        "limited_by_plan": bool(steps) and steps[-1].sustained and steps[-1].offered == plan.rates[-1],
        "steps": [asdict(step) for step in steps],
        "caught_up_s": caught_up_s,
        "pings_acknowledged": figures.acked,
        "pings_in_history": rows,
        "complete": caught_up_s is not None and rows >= figures.acked,
        "load_errors": figures.codes,
    }


async def measure_capacity(system: System, fleet: FleetProcess, plan: Plan, tell: Tell) -> float:
    """Pings a second that are acknowledged where more than enough are offered: what half and twice are taken of."""
    offered = float(plan.rates[-1])
    await fleet.set_rate(offered)
    await asyncio.sleep(plan.settle_s)
    before = await fleet.figures()
    await asyncio.sleep(plan.step_s - plan.settle_s)
    after = await fleet.figures()
    reached = (after.acked - before.acked) / (after.elapsed_s - before.elapsed_s)
    tell(f"{offered:,.0f} pings/s offered: {reached:,.0f} acknowledged")
    await catch_up(system, fleet, tell)
    return reached


async def _step(system: System, fleet: FleetProcess, plan: Plan, rate: float, tell: Tell) -> Step:
    await fleet.set_rate(rate)
    await asyncio.sleep(plan.settle_s)
    cpu_before, before = cpu_seconds(system, fleet.pid), await fleet.figures()
    await asyncio.sleep(plan.step_s - plan.settle_s)
    after, cpu_after = await fleet.figures(), cpu_seconds(system, fleet.pid)
    lag = await system.lag()
    acknowledged = (after.acked - before.acked) / (after.elapsed_s - before.elapsed_s)
    too_much = {
        "the load itself was too slow": after.behind > before.behind,
        "pings were held back": after.held > before.held,
        "acknowledgements fell behind": acknowledged < ACKED_SHARE * rate or after.waiting > WAITING_MAX_S * rate,
        "the engine fell behind": lag.engine_ms > ENGINE_LAG_MAX_MS,
        "history fell behind": lag.history_ms > HISTORY_LAG_MAX_MS,
    }
    reasons = [reason for reason, holds in too_much.items() if holds]
    tell(
        f"{rate:,.0f} pings/s offered: {acknowledged:,.0f} acknowledged, engine {lag.engine_ms:.0f} ms and history "
        f"{lag.history_ms:.0f} ms behind{': too much, for ' + ' and '.join(reasons) if reasons else ''}"
    )
    return Step(
        offered=rate,
        acknowledged=acknowledged,
        ack_p50_ms=after.ack_p50_ms,
        ack_p99_ms=after.ack_p99_ms,
        waiting=after.waiting,
        engine_lag_ms=lag.engine_ms,
        history_lag_ms=lag.history_ms,
        sustained=not reasons,
        too_much_for=reasons,
        cpu_us_a_ping=cost_us(cpu_before, cpu_after, after.acked - before.acked),
    )


async def catch_up(system: System, fleet: FleetProcess, tell: Tell) -> float | None:
    """Stop the load and wait until all is acknowledged, evaluated and in history; seconds it took.

    None when CATCH_UP_S was not enough: pings that were acknowledged are missing, or still on their way.
    """
    await fleet.set_rate(0)
    begun = time.perf_counter()
    while time.perf_counter() - begun < CATCH_UP_S:
        figures, lag = await fleet.figures(), await system.lag()
        if figures.waiting == 0 and lag.engine_ms <= ENGINE_LAG_MAX_MS:
            rows = await system.pings_in_history()
            if rows >= figures.acked:
                return time.perf_counter() - begun
    figures, rows = await fleet.figures(), await system.pings_in_history()
    tell(
        f"after {CATCH_UP_S:.0f} s {figures.waiting:,} pings are not acknowledged, and history has {rows:,} of "
        f"{figures.acked:,} that are"
    )
    return None


async def measure_memory(system: System, devices: int) -> dict[str, float]:
    """Bytes of Redis a device once all have pinged: everything, and without the logs that are trimmed by and by."""
    used, logs, held = await system.redis_bytes()
    grown = used - system.redis_empty_bytes
    return {
        "redis_bytes_a_device": (grown - logs) / devices,
        "redis_bytes_a_device_with_logs": grown / devices,
        "redis_bytes_a_device_in_keys": held / devices,
        "redis_log_bytes": float(logs),
    }
