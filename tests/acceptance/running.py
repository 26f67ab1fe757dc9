"""A whole Qorgan for acceptance tests: the real command, real processes, real stores that a test may stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import websockets

from device_sim.device import ActorCredentials, Device
from device_sim.geodesy import Point
from device_sim.noise import Fix
from infra.embedded import EmbeddedStores
from infra.stores import find_running

QORGAN = Path(sys.executable).parent / "qorgan"
ALMATY = (43.2380, 76.9450)
METRES_PER_DEGREE = 111_195.0

Prepare = Callable[[Path, EmbeddedStores, dict[str, Any]], dict[str, str]]


async def wait_for(check: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 30.0) -> Any:
    """Ask again and again until `check` gives something true; fails with `what` was awaited."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if result := await check():
                return result
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        await asyncio.sleep(0.1)


class Hooks:
    """A dispatch system's webhook on loopback: keeps every message it was sent."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                hooks.received.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_request(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def ids_about(self, incident_id: str) -> list[str]:
        """The message ids of all that was sent about an incident, repeats included."""
        return [headers["webhook-id"] for headers, body in self.received if incident_id in json.dumps(body)]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@dataclass
class System:
    """A running Qorgan."""

    data_dir: Path
    stores: EmbeddedStores
    world: dict[str, Any]
    hooks: Hooks
    process: subprocess.Popen[bytes]
    pairs: Iterator[dict[str, Any]] = field(init=False)
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)
    """Access tokens by role; good for a quarter of an hour, longer than a test run asks."""

    def __post_init__(self) -> None:
        self.pairs = iter(self.world["pairs"])

    @property
    def running(self) -> Any:
        running = find_running(self.data_dir)
        assert running is not None, "Qorgan does not run; its log: " + self.log_tail()
        return running

    @property
    def api_url(self) -> str:
        return str(self.running.api_url)

    @property
    def stream_url(self) -> str:
        return str(self.running.stream_url)

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join((self.data_dir / "qorgan.log").read_text(errors="replace").splitlines()[-lines:])

    def pair(self) -> dict[str, Any]:
        """A pair no other test has used."""
        return next(self.pairs)

    def pid(self, target: str) -> int:
        return next(p.pid for p in self.running.processes if p.target == target)

    async def kill(self, target: str) -> None:
        """SIGKILL a target's process and wait until the supervisor has a new one ready."""
        old = self.pid(target)
        os.kill(old, signal.SIGKILL)

        async def replaced() -> bool:
            return self.pid(target) != old

        await wait_for(replaced, f"a new {target} process")

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.stores.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Look into PostgreSQL."""
        async with self.database() as connection:
            return list(await connection.fetch(statement, *arguments))

    async def token(self, role: str = "dispatcher") -> str:
        if role in self._tokens:
            return self._tokens[role]
        user = self.world["users"][role]
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{self.api_url}/v1/auth/token",
                data={"grant_type": "password", "username": user["username"], "password": user["password"]},
            )
        assert answer.status_code == 200, answer.text
        self._tokens[role] = str(answer.json()["access_token"])
        return self._tokens[role]

    async def get(self, path: str, role: str = "dispatcher") -> Any:
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{self.api_url}{path}", headers={"Authorization": f"Bearer {await self.token(role)}"}
            )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def command(self, incident: dict[str, Any], name: str, **body: Any) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.post(
                f"{self.api_url}/v1/incidents/{incident['id']}/{name}",
                json={"version": incident["version"], **body},
                headers={"Authorization": f"Bearer {await self.token()}"},
            )

    @contextlib.asynccontextmanager
    async def feed(self, after: str | None = None) -> AsyncIterator[Feed]:
        """The dispatcher's feed, read in the background."""
        query = "" if after is None else f"?after={after}"
        address = self.api_url.replace("http", "ws", 1) + f"/v1/feed{query}"
        async with websockets.connect(
            address, additional_headers={"Authorization": f"Bearer {await self.token()}"}, max_size=None
        ) as socket:
            feed = Feed(socket)
            try:
                yield feed
            finally:
                await feed.close()


class Feed:
    """Frames of a feed as they come, and a way to wait for one."""

    def __init__(self, socket: Any) -> None:
        self.frames: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._read(socket))

    async def _read(self, socket: Any) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in socket:
                async with self._news:
                    self.frames.append(json.loads(message))
                    self._news.notify_all()

    async def first(self, check: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 20.0) -> Any:
        """The first frame that passes `check`, past ones included."""
        seen = itertools.count()
        async with self._news:
            try:
                await asyncio.wait_for(
                    self._news.wait_for(lambda: next(seen) >= 0 and any(map(check, self.frames))), timeout_s
                )
            except TimeoutError:
                kinds = [(f.get("kind"), (f.get("data") or {}).get("type")) for f in self.frames[-10:] if f]
                raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}; last frames: {kinds}") from None
        return next(filter(check, self.frames))

    async def incident(self, kind: str, pair: dict[str, Any], type_: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The data of the first `incident.<kind>` about a pair's victim."""
        victim = pair["victim"]["person_id"]
        frame = await self.first(
            lambda f: (
                f["kind"] == f"incident.{kind}" and f["data"]["victim_id"] == victim and f["data"]["type"] == type_
            ),
            f"incident.{kind} of type {type_}",
            timeout_s,
        )
        return dict(frame["data"])

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def environment(data_dir: Path, stores: EmbeddedStores | None, **more: str) -> dict[str, str]:
    """What a child process is given: its stores, its directory, nothing of the outer world's Qorgan."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QORGAN_")}
    clean |= {"QORGAN_DATA_DIR": str(data_dir), "QORGAN_PORT": "0", "QORGAN_LOG_FORMAT": "json"}
    clean |= {"QORGAN_FORBIDDEN_NETWORKS": ""}  # receivers of tests are on this machine
    if stores is not None:
        clean |= {"QORGAN_DATABASE_URL": stores.database_url, "QORGAN_REDIS_URL": stores.redis_url}
    return clean | more


async def add_hook(stores: EmbeddedStores, url: str) -> None:
    """Have the seeded agency tell a webhook of everything."""
    connection = await asyncpg.connect(stores.database_url)
    try:
        await connection.execute(
            "INSERT INTO notification_route (id, agency_id, name, channel, address, secret, min_severity, created_at)"
            " SELECT gen_random_uuid(), id, 'dispatch system', 'webhook', $1, $2, 'low', now() FROM agency",
            url,
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
    finally:
        await connection.close()


def own_folder() -> Path:
    """A folder outside pytest's own, which every starting pytest closes to the user PostgreSQL runs as."""
    return Path(tempfile.mkdtemp(prefix="qorgan-test-"))


@contextlib.contextmanager
def running_system(pairs: int, prepare: Prepare | None = None) -> Iterator[System]:
    """A whole Qorgan in a folder of its own, with a webhook that is told of everything.

    `prepare`, which gets the folder, the stores and the seeded world before anything runs, tells whom to tell in the
    webhook's stead, and returns what the environment is to have besides.
    """
    data_dir = own_folder()
    stores = EmbeddedStores(data_dir / "stores", settings={"shared_buffers": "64MB"})
    stores.start()
    hooks = Hooks()
    seed_file = data_dir / "seed.json"
    variables = environment(data_dir, stores)
    seeding = subprocess.run(
        [str(QORGAN), "seed", "--pairs", str(pairs), "--out", str(seed_file)],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seeding.returncode == 0, seeding.stderr
    world = json.loads(seed_file.read_text())
    if prepare is None:
        asyncio.run(add_hook(stores, hooks.url))
    else:
        variables |= prepare(data_dir, stores, world)
    with (data_dir / "qorgan.log").open("wb") as log:
        process = subprocess.Popen([str(QORGAN), "run"], env=variables, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while find_running(data_dir) is None:
        assert process.poll() is None, (data_dir / "qorgan.log").read_text()
        assert time.monotonic() < deadline, "Qorgan did not start within 60 s"
        time.sleep(0.1)
    try:
        yield System(data_dir, stores, world, hooks, process)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(30)
        hooks.close()
        stores.stop()
        if not os.environ.get("QORGAN_TEST_KEEP"):
            shutil.rmtree(data_dir, ignore_errors=True)
    assert status == 0, f"an interrupt ended Qorgan with status {status}"


@dataclass
class Party:
    """One party's device, switched on."""

    device: Device
    task: asyncio.Task[None]
    stopping: asyncio.Event

    def at(self, metres_north: float, accuracy_m: float = 8.0) -> None:
        """Record a ping so far north of the middle of the test city."""
        lat, lon = offset(metres_north)
        fix = Fix(Point(lat, lon), accuracy_m, "gps")
        self.device.record(fix, None, time.time_ns() // 1_000_000)

    async def switch_off(self) -> None:
        self.stopping.set()
        await self.task


@contextlib.asynccontextmanager
async def parties(system: System, pair: dict[str, Any]) -> AsyncIterator[tuple[Party, Party]]:
    """Victim's and aggressor's devices of a pair, connected to the stream."""
    both = []
    for role in ("victim", "aggressor"):
        stopping = asyncio.Event()
        credentials = ActorCredentials(pair[role]["device_id"], pair[role]["token"])
        device = Device(credentials, base_url=system.api_url, stream_url=system.stream_url)
        both.append(Party(device, asyncio.create_task(device.run(stopping)), stopping))
    try:
        yield both[0], both[1]
    finally:
        for party in both:
            await party.switch_off()


def offset(metres_north: float, metres_east: float = 0.0) -> tuple[float, float]:
    """A place so many metres from the middle of the test city, as (lat, lon)."""
    lat, lon = ALMATY
    return lat + metres_north / METRES_PER_DEGREE, lon + metres_east / (METRES_PER_DEGREE * 0.7285)
