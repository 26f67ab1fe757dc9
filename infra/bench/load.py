"""The load: a fleet in a process of its own, told its rate by a pipe, telling its figures by another."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec

from device_sim.fleet import FleetConfig, FleetResult
from infra.bench.system import BenchFailed, System
from infra.priority import LOAD, give_way

FIGURES_TIMEOUT_S: Final = 90.0
"""Longest a fleet may take to connect or, under overload, to tell a line of figures."""

STOP_TIMEOUT_S: Final = 30.0


class FleetProcess:
    """A running fleet."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self._latest: FleetResult | None = None
        self._told = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Keep the latest line; the one printed last is the result."""
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self._latest = msgspec.json.decode(line, type=FleetResult)
                self._told.set()
        finally:
            self._told.set()

    async def set_rate(self, rate: float) -> None:
        """Offer so many pings a second from now on."""
        await self._say({"rate": rate})

    async def figures(self) -> FleetResult:
        """The next figures it tells, within about a second."""
        self._told.clear()
        try:
            await asyncio.wait_for(self._told.wait(), FIGURES_TIMEOUT_S)
        except TimeoutError:
            raise BenchFailed(f"The load told no figures for {FIGURES_TIMEOUT_S:.0f} s.") from None
        if self._reading.done() or self._latest is None:
            raise BenchFailed("The load ended by itself; its reason is above.")
        return self._latest

    async def _say(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        await self._process.stdin.drain()

    async def stop(self) -> FleetResult | None:
        """End it; the last figures it told."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._say({"stop": True})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._reading
        return self._latest


@contextlib.asynccontextmanager
async def running_fleet(system: System, pairs: list[dict[str, Any]], connections: int) -> AsyncIterator[FleetProcess]:
    """A connected fleet of these pairs' devices, silent until it is given a rate."""
    world = system.world | {"pairs": pairs}
    config = FleetConfig.from_seed(world, system.stream_url, connections=connections, rate=0, seconds=0)
    path = Path(system.data_dir) / "fleet.json"
    await asyncio.to_thread(path.write_bytes, msgspec.json.encode(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "device_sim.fleet", "--config", str(path), "--control",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    give_way(LOAD, process.pid)
    fleet = FleetProcess(process)
    try:
        await fleet.figures()
        yield fleet
    finally:
        await fleet.stop()
