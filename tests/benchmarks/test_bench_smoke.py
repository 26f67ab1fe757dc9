"""A benchmark of a few seconds on the whole system: every figure comes, and every ping is in history once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.settings import Settings
from infra.bench import NAMES, run_bench
from infra.bench.plan import Plan

TINY = Plan(
    load_pairs=50,
    connections=20,
    rates=(200,),
    refine=False,
    step_s=2.0,
    settle_s=0.5,
    probes=2,
    panics=4,
    engine_orders=(1_000,),
    engine_pings=20_000,
    baseline_inserts=20,
    baseline_copies=2,
    baseline_echo_s=0.2,
    latency_rate=100.0,
)


@pytest.mark.timeout(300)
def test_a_tiny_benchmark_measures_everything(tmp_path: Path) -> None:
    report = run_bench(NAMES, tmp_path / "bench.json", Settings(), quick=True, plan=TINY)
    figures = report["figures"]
    assert figures["ingest"]["complete"]
    assert figures["ingest"]["pings_in_history"] == figures["ingest"]["pings_acknowledged"] > 0
    assert figures["ingest"]["load_errors"] == {}
    assert figures["panic"]["alone"]["count"] == figures["panic"]["beside_pings"]["count"] == 4
    assert figures["detect"]["beside_pings"]["missing"] == 0
    assert figures["detect"]["engine"]["1000"]["pings_per_s"] > 0
    assert figures["complete"]
    assert figures["restarts"] == []
    assert all(value > 0 for value in report["baselines"].values())
    assert json.loads((tmp_path / "bench.json").read_text())["figures"].keys() == figures.keys()
