"""The report of a benchmark: aims, ratios, tables and files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.errors import Misconfigured
from core.settings import Settings
from infra.bench import NAMES, run_bench
from infra.bench.latency import summary
from infra.bench.plan import FULL, QUICK
from infra.bench.processors import cost_us
from infra.bench.report import AIMS, BASELINES, Aim, complete, machine, show, value_at, write

BASES = {
    "committed_insert_p50_ms": 0.25,
    "copy_rows_per_s": 200_000.0,
    "xadd_always_p50_ms": 0.5,
    "websocket_echo_frames_per_s": 100_000.0,
}


def figures(**latency: float) -> dict[str, Any]:
    return {
        "ingest": {"pings_per_s": 20_000.0, "memory": {"redis_bytes_a_device": 2_000}},
        "panic": {"alone": {"p50_ms": 5.0, "p99_ms": 20.0} | latency},
    }


def test_every_aim_measured_is_held_beside_its_baseline() -> None:
    report = complete(figures(), BASES, machine(), quick=True)
    by_figure = {(aim["figure"], aim["baseline"]): aim for aim in report["aims"]}
    assert by_figure["ingest.pings_per_s", "copy_rows_per_s"]["ratio"] == pytest.approx(0.1)
    assert by_figure["ingest.pings_per_s", "copy_rows_per_s"]["holds"] is True
    assert by_figure["ingest.memory.redis_bytes_a_device", None]["holds"] is False
    assert by_figure["panic.alone.p50_ms", "committed_insert_p50_ms"]["ratio"] == pytest.approx(20)
    assert by_figure["panic.alone.p50_ms", "committed_insert_p50_ms"]["holds"] is None
    assert not any(aim["figure"].startswith("detect") for aim in report["aims"])
    assert report["machine"]["cores"] >= 1
    assert report["quick"] is True


def test_an_aim_is_missed_beyond_its_bound_only() -> None:
    most, least = Aim(("x",), "x", "ms", most=100), Aim(("x",), "x", "/s", least=100)
    assert most.holds(100)
    assert not most.holds(100.1)
    assert least.holds(100)
    assert not least.holds(99.9)
    assert (most.words, least.words) == ("≤ 100", "≥ 100")


def test_the_aims_are_those_that_were_set() -> None:
    bounds = {".".join(aim.path): aim.words for aim in AIMS if aim.words}
    assert bounds == {
        "ingest.pings_per_s": "≥ 15,000",
        "detect.beside_pings.p99_ms": "≤ 250",
        "panic.alone.p99_ms": "≤ 100",
        "panic.alone.told.fcm.p99_ms": "≤ 75",
        "panic.beside_pings.p99_ms": "≤ 100",
        "panic.beside_pings.told.fcm.p99_ms": "≤ 75",
        "panic.beside_half_of_reached.p50_ms": "≤ 15",
        "panic.beside_half_of_reached.told.fcm.p99_ms": "≤ 75",
        "panic.beside_twice_the_reached.p50_ms": "≤ 15",
        "panic.beside_twice_the_reached.told.fcm.p99_ms": "≤ 75",
        "detect.engine.1000.pings_per_s": "≥ 200,000",
        "detect.engine.10000.pings_per_s": "≥ 200,000",
        "detect.engine.100000.pings_per_s": "≥ 200,000",
        "detect.engine.200000.pings_per_s": "≥ 200,000",
        "detect.engine.flatness": "≤ 1.2",
        "detect.evaluation.full": "≥ 100",
        "detect.evaluation.missed": "≤ 0",
        "detect.evaluation.delay_intervals": "≤ 1",
        "detect.evaluation.warned": "≥ 80",
        "detect.evaluation.loiterer": "≤ 1",
        "detect.evaluation.false_asked": "≤ 0.1",
        "detect.evaluation.false_fixed": "≤ 0.1",
        "ingest.memory.redis_bytes_a_device": "≤ 1,024",
    }
    assert {aim.beside for aim in AIMS} - {None} == set(BASELINES)


def test_a_report_is_shown_and_written(tmp_path: Path) -> None:
    report = complete(figures(), BASES, machine(), quick=False)
    output = io.StringIO()
    show(report, Console(file=output, width=140))
    assert "pings end to end, sustained" in output.getvalue()
    assert "missed" in output.getvalue()
    write(report, tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["figures"] == report["figures"]
    with pytest.raises(Misconfigured, match="cannot be written"):
        write(report, tmp_path)


def test_a_figure_that_was_not_measured_is_none() -> None:
    assert value_at({"a": {"b": 1}}, ("a", "b")) == 1
    assert value_at({"a": {"b": 1}}, ("a", "c")) is None
    assert value_at({"a": 1}, ("a", "c")) is None


def test_wrong_names_and_files_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no benchmark 'speed'; there are ingest, panic, detect"):
        run_bench(["speed"], None, Settings())
    with pytest.raises(Misconfigured, match="folder is not there"):
        run_bench(list(NAMES), tmp_path / "none" / "bench.json", Settings())


def test_costs_are_microseconds_a_ping_by_process() -> None:
    assert cost_us({"geo": 1.0}, {"geo": 1.5, "api": 0.1}, 100_000) == {"geo": 5.0, "api": 1.0}
    assert cost_us({}, {"geo": 1.0}, 0) == {}


def test_a_summary_gives_median_and_tail() -> None:
    assert summary([float(n) for n in range(1, 102)]) == {"count": 101, "p50_ms": 51, "p99_ms": 100, "max_ms": 101}


def test_a_full_run_measures_what_was_asked_for() -> None:
    assert (2 * FULL.load_pairs, FULL.connections) == (10_000, 2_000)
    assert FULL.probes >= 50
    assert FULL.panics >= 100
    assert FULL.engine_orders == (1_000, 10_000, 100_000, 200_000)
    assert QUICK.pairs < FULL.pairs
