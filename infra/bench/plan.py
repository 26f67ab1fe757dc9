"""How much a run measures: the sizes of a full run and of a quick one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run."""

    load_pairs: int
    connections: int
    rates: tuple[int, ...]
    """Pings a second tried one after the other until one is too much."""
    refine: bool
    """Whether the middle between the last good rate and the first bad one is tried too."""
    step_s: float
    settle_s: float
    """The first seconds of a step are not counted."""
    probes: int
    """Pairs driven into a breach."""
    panics: int
    engine_orders: tuple[int, ...]
    engine_pings: int
    baseline_inserts: int
    baseline_copies: int
    baseline_echo_s: float
    rest_s: float = 0.0
    """Quiet after the highest rate, so that latencies are not those of its aftermath (rewritten logs, checkpoints)."""
    detection: tuple[str, ...] | None = None
    """Arguments of the evaluation of the detection; None: it is left out."""
    latency_rate: float = 7_500.0
    """Pings a second beside which latencies have their aims: half of the 15,000 aimed at."""

    @property
    def pairs(self) -> int:
        """Pairs to seed: for the load, one a probe at each of two loads, one a panic at each of three and alone."""
        return self.load_pairs + 2 * self.probes + 4 * self.panics


FULL = Plan(
    load_pairs=5_000,
    connections=2_000,
    rates=(10_000, 20_000, 30_000, 40_000, 50_000, 60_000),
    refine=True,
    step_s=12.0,
    settle_s=3.0,
    probes=60,
    panics=120,
    engine_orders=(1_000, 10_000, 100_000, 200_000),
    engine_pings=300_000,
    baseline_inserts=1_000,
    baseline_copies=50,
    baseline_echo_s=3.0,
    rest_s=15.0,
    detection=("--bounded",),
)
QUICK = Plan(
    load_pairs=1_000,
    connections=400,
    rates=(5_000, 10_000, 15_000, 20_000),
    refine=False,
    step_s=5.0,
    settle_s=1.5,
    probes=12,
    panics=30,
    engine_orders=(1_000,),
    engine_pings=100_000,
    baseline_inserts=200,
    baseline_copies=10,
    baseline_echo_s=1.0,
)
