"""The report: figures beside their aims and baselines, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from core.clock import rfc3339, utc_now
from core.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be."""

    path: tuple[str, ...]
    title: str
    unit: str
    least: float | None = None
    most: float | None = None
    beside: str | None = None
    """The baseline it is held beside."""

    def holds(self, value: float) -> bool:
        """Whether the figure is as it should be."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def words(self) -> str:
        """The aim as a table shows it."""
        if self.least is not None:
            return f"≥ {self.least:,g}"
        return "" if self.most is None else f"≤ {self.most:,g}"


AIMS: Final = (
    Aim(("ingest", "pings_per_s"), "pings end to end, sustained", "/s", least=15_000, beside="copy_rows_per_s"),
    Aim(("ingest", "pings_per_s"), "  beside a bare WebSocket echo", "/s", beside="websocket_echo_frames_per_s"),
    Aim(("panic", "alone", "p50_ms"), "panic → feed, p50", "ms", beside="committed_insert_p50_ms"),
    Aim(("panic", "alone", "p99_ms"), "panic → feed, p99", "ms", most=100),
    Aim(("panic", "alone", "told", "fcm", "p99_ms"), "panic → first push, p99", "ms", most=75),
    Aim(
        ("panic", "beside_pings", "p50_ms"), "  feed, beside 7,500 pings/s, p50", "ms", beside="committed_insert_p50_ms"
    ),
    Aim(("panic", "beside_pings", "p99_ms"), "  feed, beside 7,500 pings/s, p99", "ms", most=100),
    Aim(("panic", "beside_pings", "told", "fcm", "p99_ms"), "  first push, beside 7,500 pings/s, p99", "ms", most=75),
    *(
        aim
        for name, title in (
            ("beside_half_of_reached", "half the capacity"),
            ("beside_twice_the_reached", "twice the capacity"),
        )
        for aim in (
            Aim(("panic", name, "p50_ms"), f"  feed, beside {title}, p50", "ms", most=15),
            Aim(("panic", name, "p99_ms"), f"  feed, beside {title}, p99", "ms"),
            Aim(("panic", name, "told", "fcm", "p50_ms"), f"  first push, beside {title}, p50", "ms"),
            Aim(("panic", name, "told", "fcm", "p99_ms"), f"  first push, beside {title}, p99", "ms", most=75),
            Aim(("panic", name, "told", "sms", "p99_ms"), f"  text message, beside {title}, p99", "ms"),
            Aim(("panic", name, "told", "webhook", "p99_ms"), f"  webhook, beside {title}, p99", "ms"),
            Aim(("panic", name, "told", "email", "p99_ms"), f"  e-mail, beside {title}, p99", "ms"),
        )
    ),
    Aim(("detect", "beside_pings", "p50_ms"), "ping → breach on the feed, p50", "ms", beside="xadd_always_p50_ms"),
    Aim(("detect", "beside_pings", "p99_ms"), "  (beside 7,500 pings/s), p99", "ms", most=250),
    Aim(("detect", "beside_half_of_reached", "p50_ms"), "  beside half of the rate reached, p50", "ms"),
    Aim(("detect", "beside_half_of_reached", "p99_ms"), "  beside half of the rate reached, p99", "ms"),
    Aim(("detect", "engine", "1000", "pings_per_s"), "engine alone, 1,000 orders", "/s", least=200_000),
    Aim(("detect", "engine", "10000", "pings_per_s"), "engine alone, 10,000 orders", "/s", least=200_000),
    Aim(("detect", "engine", "100000", "pings_per_s"), "engine alone, 100,000 orders", "/s", least=200_000),
    Aim(("detect", "engine", "200000", "pings_per_s"), "engine alone, 200,000 orders", "/s", least=200_000),
    Aim(("detect", "engine", "flatness"), "  greatest over least cost a ping", "", most=1.2),
    Aim(("detect", "engine", "200000", "times_geopy"), "  of geopy's geodesics, 200,000 orders", "×"),
    Aim(("detect", "engine", "200000", "small_batch_pings_per_s"), "  in batches of 50", "/s"),
    Aim(("detect", "engine", "eight_shards", "together_pings_per_s"), "  eight shards, ten a shard, one batch", "/s"),
    Aim(("detect", "evaluation", "full"), "scripted approaches, full success", "%", least=100),
    Aim(("detect", "evaluation", "missed"), "  missed", "%", most=0),
    Aim(("detect", "evaluation", "delay_intervals"), "  median delay", "intervals", most=1),
    Aim(("detect", "evaluation", "warned"), "  warned or predicted before entry", "%", least=80),
    Aim(("detect", "evaluation", "lead_s"), "  median lead time", "s"),
    Aim(("detect", "evaluation", "loiterer"), "  incidents for one loiterer, at most", "", most=1),
    Aim(("detect", "evaluation", "false_asked"), "false incidents a pair-day", "", most=0.1),
    Aim(("detect", "evaluation", "false_fixed"), "  every device at 60 s", "", most=0.1),
    Aim(("ingest", "memory", "redis_bytes_a_device"), "Redis a device", "bytes", most=1_024),
)
BASELINES: Final = {
    "committed_insert_p50_ms": ("bare committed insert, p50", "ms"),
    "copy_rows_per_s": ("bare COPY", "rows/s"),
    "xadd_always_p50_ms": ("bare XADD on disk, p50", "ms"),
    "websocket_echo_frames_per_s": ("bare WebSocket echo", "frames/s"),
}


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def value_at(figures: dict[str, Any], path: tuple[str, ...]) -> float | None:
    """The figure a path leads to, None when it was not measured."""
    found: Any = figures
    for step in path:
        if not isinstance(found, dict) or step not in found:
            return None
        found = found[step]
    return float(found) if isinstance(found, int | float) else None


def complete(
    figures: dict[str, Any], baselines: dict[str, float], machine: dict[str, Any], *, quick: bool
) -> dict[str, Any]:
    """The whole report: machine, baselines, figures, and each aim with what came of it."""
    aims = []
    for aim in AIMS:
        value = value_at(figures, aim.path)
        if value is None:
            continue
        bare = baselines.get(aim.beside or "")
        aims.append(
            {
                "figure": ".".join(aim.path),
                "title": aim.title.strip(),
                "value": value,
                "unit": aim.unit,
                "aim": aim.words or None,
                "holds": aim.holds(value) if aim.words else None,
                "baseline": aim.beside,
                "ratio": value / bare if bare else None,
            }
        )
    return {
        "at": rfc3339(utc_now()),
        "quick": quick,
        "machine": machine,
        "baselines": baselines,
        "aims": aims,
        "figures": figures,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as tables."""
    cores = report["machine"]["cores"]
    table = Table(title=f"Qorgan on {cores} cores, Python {report['machine']['python']}", title_justify="left")
    for name, justify in (("what", "left"), ("measured", "right"), ("", "left"), ("aim", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("beside", justify="left")
    for aim in report["aims"]:
        verdict = {True: "[green]holds[/green]", False: "[red]missed[/red]", None: ""}[aim["holds"]]
        beside = f"{aim['ratio']:.3g} × {BASELINES[aim['baseline']][0]}" if aim["ratio"] is not None else ""
        table.add_row(aim["title"], number(aim["value"]), aim["unit"], aim["aim"] or "", verdict, beside)
    for name, value in report["baselines"].items():
        title, unit = BASELINES[name]
        table.add_row(f"[dim]{title}[/dim]", number(value), unit, "", "", "")
    console.print(table)


def number(value: float) -> str:
    """A figure with as many digits as mean anything."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON; raises Misconfigured when the file cannot be written."""
    try:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}; choose another with --json.") from None
