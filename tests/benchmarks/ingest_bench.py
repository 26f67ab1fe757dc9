"""What a frame costs the device stream: one ping a frame, many connections, a real Valkey.

`measure(frames, connections)` runs a DeviceStream in a child process (its registry filled without PostgreSQL)
and sends it frames from this process; the figure that matters is the CPU a frame costs the child.
Run it: `python tests/benchmarks/ingest_bench.py [frames] [connections] [gateway] [rate=30000] [profile=FILE]`.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import uuid
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from api.ingest.appender import Appender
from api.ingest.registry import DeviceIdentity, GatewayIdentity, Registry, _Credential
from api.ingest.stream import DeviceStream
from core.clock import rfc3339, utc_now
from core.ids import token_digest
from core.redis.client import connect
from core.settings import Settings
from infra.embedded import EmbeddedStores

SHARDS = 8
DEVICES = 10_000
TOKEN = "qg_benchmark"


def fill(registry: Registry) -> None:
    """Make the registry know a gateway and DEVICES devices, as if PostgreSQL had said so."""
    agency_id = uuid.UUID(int=1)
    digest = token_digest(TOKEN)
    registry._credentials[digest] = _Credential(None, GatewayIdentity(agency_id, "bench", digest), None, False)
    for number in range(1, DEVICES + 1):
        device_id = uuid.UUID(int=number)
        registry._devices[str(device_id)] = DeviceIdentity(
            number, device_id, "bracelet", "aggressor", None, agency_id, (number % SHARDS,), 60.0, "active"
        )
        own = token_digest(f"qd_{number}")
        registry._credentials[own] = _Credential(str(device_id), None, None, False)
    registry.loaded = True


def serve(pipe: Pipe, redis_url: str, directory: str, profile: str | None) -> None:
    """The child: a device stream until told to stop, then its CPU time."""
    import uvloop

    uvloop.install()
    asyncio.run(_serve(pipe, redis_url, directory, profile))


async def _serve(pipe: Pipe, redis_url: str, directory: str, profile: str | None) -> None:
    settings = Settings(data_dir=Path(directory), port=0)
    redis = connect(redis_url)
    registry = Registry(None, utc_now)  # type: ignore[arg-type]  # never started
    fill(registry)
    appender = Appender(settings, redis, utc_now)
    stream = DeviceStream(settings, registry, appender)
    await appender.start()
    await stream.start()
    pipe.send(stream.port)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, pipe.recv)
    before = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send(None)
    profiler: Any = None
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    await loop.run_in_executor(None, pipe.recv)
    if profiler:
        profiler.disable()
        profiler.dump_stats(profile)
    after = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, after.ru_maxrss))
    await stream.stop()
    await appender.stop()
    await redis.aclose()


class Client(WSListener):
    """One connection; remembers the newest acknowledgement."""

    def __init__(self) -> None:
        self.acked = -1
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Connected."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        """An acknowledgement, or an error that ends the benchmark."""
        data = frame.get_payload_as_bytes()
        if data.startswith(b'{"ack":'):
            self.acked = int(data[7 : data.index(b",")])
        elif frame.msg_type == WSMsgType.TEXT:
            raise RuntimeError(data.decode())


async def drive(port: int, frames: int, connections: int, pipe: Pipe, *, gateway: bool, rate: float | None) -> float:
    """Send `frames` over `connections` as fast as they are taken, or at `rate` a second; seconds until all acked."""
    clients: list[Client] = []

    async def open_one(number: int) -> None:
        token = TOKEN if gateway else f"qd_{number % DEVICES + 1}"
        _, client = await ws_connect(
            Client,
            f"ws://127.0.0.1:{port}/v1/pings/stream",
            extra_headers={"Authorization": f"Bearer {token}"},
            read_buffer_init_size=1024,
        )
        clients.append(client)  # type: ignore[arg-type]

    for start in range(0, connections, 100):
        await asyncio.gather(*(open_one(number) for number in range(start, min(connections, start + 100))))
    pipe.send("go")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    text = (
        '{"seq":%d,"at":"' + rfc3339(utc_now()) + '","lat":43.2389,"lon":76.8897,"accuracy_m":8.5,"speed_mps":1.2,'
        '"heading_deg":90,"battery_pct":77,"source":"gps","strap":"closed"%s}'
    )
    started = time.perf_counter()
    sent = 0
    while sent < frames:
        if rate is not None:
            ahead_s = sent / rate - (time.perf_counter() - started)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
        turn = min(200, frames - sent)
        for number in range(sent, sent + turn):
            index = number % connections
            device = f',"device_id":"{uuid_text(number % DEVICES + 1)}"' if gateway else ""
            transport = clients[index].transport
            assert transport is not None
            transport.send(WSMsgType.TEXT, (text % (number // connections, device)).encode())
        sent += turn
        await asyncio.sleep(0)
        while rate is None and sent - connections * (1 + min(client.acked for client in clients)) > 20 * connections:
            await asyncio.sleep(0.005)
    last = [(frames - 1 - index) // connections for index in range(connections)]
    while any(client.acked < number for client, number in zip(clients, last, strict=True)):
        await asyncio.sleep(0.01)
    took_s = time.perf_counter() - started
    for client in clients:
        assert client.transport is not None
        client.transport.disconnect()
    return took_s


def uuid_text(number: int) -> str:
    """Canonical text of UUID(int=number), quickly."""
    return f"00000000-0000-0000-0000-{number:012x}"


def measure(
    frames: int = 150_000,
    connections: int = 2_000,
    *,
    gateway: bool = False,
    rate: float | None = None,
    profile: str | None = None,
) -> dict[str, float]:
    """Frames a second and CPU microseconds a frame of the stream process."""
    import uvloop

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="qorgan-bench-") as directory:
        stores = EmbeddedStores(Path(directory), postgres=False)
        stores.start()
        ours, theirs = context.Pipe()
        child = context.Process(target=serve, args=(theirs, stores.redis_url, directory, profile))
        try:
            child.start()
            port = ours.recv()
            own_s = time.process_time()
            uvloop.install()
            took_s = asyncio.run(drive(port, frames, connections, ours, gateway=gateway, rate=rate))
            own_s = time.process_time() - own_s
            ours.send("stop")
            user_s, system_s, rss_kb = ours.recv()
            child.join(10)
        finally:
            if child.is_alive():
                child.terminate()
            stores.stop()
    return {
        "frames": frames,
        "connections": connections,
        "frames_per_s": round(frames / took_s),
        "stream_cpu_us_per_frame": round((user_s + system_s) / frames * 1e6, 2),
        "stream_system_us_per_frame": round(system_s / frames * 1e6, 2),
        "client_cpu_us_per_frame": round(own_s / frames * 1e6, 2),
        "stream_rss_mb": round(rss_kb / 1024, 1),
    }


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    arguments = sys.argv[1:]
    print(
        json.dumps(
            measure(
                int(arguments[0]) if arguments else 150_000,
                int(arguments[1]) if len(arguments) > 1 else 2_000,
                gateway="gateway" in arguments,
                rate=next((float(item[5:]) for item in arguments if item.startswith("rate=")), None),
                profile=next((item[8:] for item in arguments if item.startswith("profile=")), None),
            ),
            indent=2,
        )
    )
