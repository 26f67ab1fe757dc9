"""Bare baselines: what the stores and a socket do with nothing of ours in between, on this machine, now."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import numpy as np
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from core.errors import Misconfigured
from core.postgres.baseline import bare_copy_rows_per_s, bare_insert_ms
from core.redis.client import connect
from infra.bench.plan import Plan
from infra.run import new_loop

ECHO_CONNECTIONS: Final = 50
ECHO_IN_FLIGHT: Final = 16
"""Frames each connection has under way."""
ECHO_FRAME: Final = (
    b'{"seq":1,"at":"2026-01-01T00:00:00.000Z","lat":43.238,"lon":76.945,"accuracy_m":9.5,"speed_mps":1.3}'
)
ECHO_SETTLE_S: Final = 0.2
"""For the frames still under way."""
XADD_BYTES: Final = 64


async def measure_baselines(database_url: str, redis_url: str, plan: Plan) -> dict[str, float]:
    """All baselines, one after the other."""
    inserts_ms = await bare_insert_ms(database_url, plan.baseline_inserts)
    return {
        "committed_insert_p50_ms": float(np.median(inserts_ms)),
        "copy_rows_per_s": await bare_copy_rows_per_s(database_url, plan.baseline_copies),
        "xadd_always_p50_ms": float(np.median(await _xadd_ms(redis_url, plan.baseline_inserts))),
        "websocket_echo_frames_per_s": await _echo_frames_per_s(plan.baseline_echo_s),
    }


async def _xadd_ms(redis_url: str, count: int) -> list[float]:
    """Milliseconds of each of `count` appends of one ping, on disk before each answer."""
    client = connect(redis_url)
    taken_ms = []
    try:
        for _ in range(count):
            begun = time.perf_counter()
            await client.xadd("{bare}:log", {"b": b"\0" * XADD_BYTES})
            taken_ms.append((time.perf_counter() - begun) * 1000)
        await client.delete("{bare}:log")
    finally:
        await client.aclose()
    return taken_ms


class _Caller(WSListener):  # type: ignore[misc, unused-ignore]  # a compiled class
    """Keeps ECHO_IN_FLIGHT frames under way and counts what comes back."""

    def __init__(self) -> None:
        self.count = 0
        self.done = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        for _ in range(ECHO_IN_FLIGHT):
            transport.send(WSMsgType.TEXT, ECHO_FRAME)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.count += 1
            if not self.done:
                transport.send(WSMsgType.TEXT, ECHO_FRAME)


@contextlib.contextmanager
def _echo_server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "infra.bench.echo"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip().decode()
        if not port:
            raise Misconfigured("The echo server of the benchmark did not start.")
        yield f"ws://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def _echo_frames_per_s(seconds: float) -> float:
    """Frames a second to a bare echo in another process and back."""

    def run(address: str) -> float:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_call(address, seconds))

    with _echo_server() as address:
        return await asyncio.to_thread(run, address)


async def _call(address: str, seconds: float) -> float:
    callers = [_Caller() for _ in range(ECHO_CONNECTIONS)]
    transports = [(await ws_connect(lambda caller=caller: caller, address))[0] for caller in callers]
    begun, before = time.perf_counter(), sum(caller.count for caller in callers)
    await asyncio.sleep(seconds)
    rate = (sum(caller.count for caller in callers) - before) / (time.perf_counter() - begun)
    for caller in callers:
        caller.done = True
    await asyncio.sleep(ECHO_SETTLE_S)
    for transport in transports:
        with contextlib.suppress(WSError):
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()
    await asyncio.gather(*(transport.wait_disconnected() for transport in transports))
    return rate
