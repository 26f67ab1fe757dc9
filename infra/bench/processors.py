"""Who used the processors: seconds of each process of the run, by what it does (Linux; elsewhere nothing)."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Final

from infra.bench.system import System
from infra.stores import find_running

PROC: Final = Path("/proc")


def cpu_seconds(system: System, fleet_pid: int | None = None) -> dict[str, float]:
    """Processor seconds so far of every target, the stores, the load and the benchmark itself."""
    if not (PROC / "self" / "stat").exists():
        return {}
    running = find_running(system.data_dir)
    named = {process.pid: process.target for process in running.processes} if running is not None else {}
    if fleet_pid is not None:
        named[fleet_pid] = "load"
    named[os.getpid()] = "bench"
    used: defaultdict[str, float] = defaultdict(float)
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, fields = _stat(folder)
        except (OSError, ValueError):
            continue  # it ended while we looked
        pid, parent = int(folder.name), int(fields[1])
        what = named.get(pid)
        if what is None and name.startswith(("postgres", "valkey")) and _is_ours(parent):
            what = "postgres" if name.startswith("postgres") else "valkey"
        if what is not None:
            used[what] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return dict(used)


def _stat(folder: Path) -> tuple[str, list[str]]:
    """A process's name and the fields of its `stat` after it (state, parent, …)."""
    text = (folder / "stat").read_text()
    head, _, tail = text.rpartition(")")
    return head.partition("(")[2], tail.split()


def _is_ours(parent: int) -> bool:
    """Whether the parent is this process or a PostgreSQL started by it."""
    if parent == os.getpid():
        return True
    try:
        name, fields = _stat(PROC / str(parent))
    except (OSError, ValueError):
        return False
    return name.startswith("postgres") and int(fields[1]) == os.getpid()


def cost_us(before: dict[str, float], after: dict[str, float], pings: int) -> dict[str, float]:
    """Microseconds of processor a ping between two readings, by process."""
    if pings <= 0:
        return {}
    return {name: round((after[name] - before.get(name, 0.0)) / pings * 1e6, 2) for name in sorted(after)}
