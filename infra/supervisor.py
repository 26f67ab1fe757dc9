"""One process per target, watched: started, made ready, started again when it dies, ended in order.

Model: the supervisor holds no state but the children. A child says "ready" with its port through a pipe; a child
that dies is replaced at once, more slowly if it keeps dying. Children are told to end by SIGTERM, stores end
last. Failure: a child that cannot start at all (a busy port, a wrong setting) ends the whole run with its one
line; a child that fails later never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import structlog

from core.errors import Misconfigured
from core.postgres.logins import drop_logins, make_logins
from core.settings import Settings
from infra.offspring import die_with_parent
from infra.stores import Running, RunningProcess, write_running
from infra.wiring import LOGINS

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
RESTART_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_AFTER_S = 30.0
"""A child that lived this long starts again without delay."""


class Ready(msgspec.Struct):
    """What a child says once it works, or why it cannot."""

    port: int = 0
    error: str = ""


class Child:
    """One process of one target."""

    def __init__(self, target: str, index: int) -> None:
        self.target = target
        self.index = index
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.started_at = 0.0
        self.deaths = 0

    @property
    def name(self) -> str:
        """`geo-0` and so on: how it is called in logs and leases."""
        return f"{self.target}-{self.index}"


class Supervisor:
    """Runs the targets against stores that are there, until asked to stop."""

    def __init__(
        self,
        settings: Settings,
        targets: list[str],
        *,
        log_path: Path | None = None,
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._log_path = log_path
        self._log_file: IO[bytes] | None = None
        self._on_event = on_event
        counts = {"api": settings.processes, "ingest": settings.processes}
        self._children = [Child(target, index) for target in targets for index in range(counts.get(target, 1))]
        self._watchers: list[asyncio.Task[None]] = []
        self._logins: dict[str, str] = {}
        """What a service does → the URL of its own role; ours, the owner's, is handed to nobody."""
        self._stopping = asyncio.Event()
        self.failed: asyncio.Future[str] | None = None
        self.api_url = ""
        self.stream_url = ""

    def _environment(self, child: Child) -> dict[str, str]:
        values = dict(os.environ)
        for name, value in self._settings.model_dump().items():
            if value is None:
                continue
            plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            values[f"QORGAN_{name.upper()}"] = str(plain)
        values.pop("QORGAN_DATABASE_URL_FILE", None)
        values.pop("QORGAN_DEVICE_DATABASE_URL", None)
        values.pop("QORGAN_SEALER_DATABASE_URL", None)
        values.pop("QORGAN_RETENTION_DATABASE_URL", None)
        values["QORGAN_DATABASE_URL"] = self._logins[LOGINS[child.target]]
        if child.target == "api":
            values["QORGAN_DEVICE_DATABASE_URL"] = self._logins["device"]
        if child.target == "notifier":
            values["QORGAN_SEALER_DATABASE_URL"] = self._logins["sealer"]
        if child.target == "historian":
            values["QORGAN_RETENTION_DATABASE_URL"] = self._logins["retention"]
        if child.port:
            values["QORGAN_PORT" if child.target == "api" else "QORGAN_STREAM_PORT"] = str(child.port)
        metrics = self._settings.data_dir / "metrics"
        values["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        return values

    def _spawn(self, child: Child) -> int:
        """Start the process; returns the reading end of its ready pipe."""
        reading, writing = os.pipe()
        output = self._log_file if self._log_file is not None else None
        child.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "infra.run",
                "--target",
                child.target,
                "--index",
                str(child.index),
                "--ready",
                str(writing),
            ],
            env=self._environment(child),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        os.close(writing)
        child.started_at = time.monotonic()
        return reading

    async def _ready(self, child: Child, reading: int) -> Ready:
        def read() -> bytes:
            with os.fdopen(reading, "rb") as pipe:
                return pipe.readline()

        try:
            line = await asyncio.wait_for(asyncio.to_thread(read), READY_TIMEOUT_S)
        except TimeoutError:
            return Ready(error=f"{child.name} was not ready within {READY_TIMEOUT_S:.0f} s")
        if not line:
            return Ready(error=f"{child.name} ended before it was ready; see the log")
        return msgspec.json.decode(line, type=Ready)

    async def start_unless(self, stop: asyncio.Event) -> bool:
        """Start; False when `stop` was set before all were ready: then everything has ended again."""
        starting, stopping = asyncio.create_task(self.start()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
        if starting.cancelled():
            return False
        starting.result()
        return True

    async def start(self) -> None:
        """Start every child and wait until all are ready; raises Misconfigured with the first one's reason."""
        self.failed = asyncio.get_running_loop().create_future()
        metrics = self._settings.data_dir / "metrics"
        await asyncio.to_thread(_empty_folder, metrics)
        if self._log_path is not None:
            await asyncio.to_thread(self._log_path.parent.mkdir, parents=True, exist_ok=True)
            self._log_file = self._log_path.open("ab")
        try:
            if self._settings.database_url is not None:
                self._logins = await make_logins(self._settings.database_url.get_secret_value())
            # The device stream first: its port goes into the API's enrolment answers.
            first = [child for child in self._children if child.target == "ingest"]
            rest = [child for child in self._children if child.target != "ingest"]
            for group in (first[:1], first[1:], [*rest]):
                readings = [self._spawn(child) for child in group]
                for child, ready in zip(group, await asyncio.gather(*map(self._ready, group, readings)), strict=True):
                    if ready.error:
                        raise Misconfigured(ready.error)
                    self._note_port(child, ready.port)
        except BaseException:
            await self.stop()
            raise
        self.tell()
        self._watchers = [asyncio.create_task(self._watch(child), name=child.name) for child in self._children]

    def _note_port(self, child: Child, port: int) -> None:
        """Keep the port for the child's next life and for its siblings."""
        for sibling in self._children:
            if port and sibling.target == child.target:
                sibling.port = port
        host = "127.0.0.1" if self._settings.host in ("0.0.0.0", "::") else self._settings.host
        if child.target == "api":
            self.api_url = self._settings.public_url or f"http://{host}:{port}"
        if child.target == "ingest":
            self.stream_url = self._settings.public_stream_url or f"ws://{host}:{port}/v1/pings/stream"
            self._settings = self._settings.model_copy(
                update={"stream_port": port, "public_stream_url": self.stream_url}
            )

    def tell(self) -> None:
        """Write the notice other commands find the running Qorgan by."""
        assert self._settings.database_url is not None
        assert self._settings.redis_url is not None
        write_running(
            self._settings.data_dir,
            Running(
                pid=os.getpid(),
                database_url=self._settings.database_url.get_secret_value(),
                redis_url=self._settings.redis_url.get_secret_value(),
                api_url=self.api_url,
                stream_url=self.stream_url,
                processes=[
                    RunningProcess(child.target, child.index, child.process.pid)
                    for child in self._children
                    if child.process is not None
                ],
            ),
        )

    async def _watch(self, child: Child) -> None:
        """Replace the child whenever it dies, until stopped."""
        while True:
            assert child.process is not None
            status = await asyncio.to_thread(child.process.wait)
            if self._stopping.is_set():
                return
            if time.monotonic() - child.started_at > STEADY_AFTER_S:
                child.deaths = 0
            delay_s = RESTART_DELAYS_S[min(child.deaths, len(RESTART_DELAYS_S) - 1)]
            child.deaths += 1
            log.warning("process_ended", process=child.name, status=status, again_in_s=delay_s)
            self._on_event(f"{child.name} ended (status {status}); starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            if self._stopping.is_set():
                return
            reading = self._spawn(child)
            ready = await self._ready(child, reading)
            if ready.error:
                log.error("process_not_ready", process=child.name, reason=ready.error)
                continue
            self.tell()
            self._on_event(f"{child.name} is back")

    async def stop(self) -> None:
        """End every child in order; a second call does nothing."""
        self._stopping.set()
        living = [c.process for c in self._children if c.process is not None and c.process.poll() is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in living:
            try:
                await asyncio.to_thread(process.wait, max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers = []
        if self._logins:
            assert self._settings.database_url is not None
            logins, self._logins = self._logins, {}
            await drop_logins(self._settings.database_url.get_secret_value(), logins)
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None


def _empty_folder(folder: Path) -> None:
    """Make the folder of the processes' metrics, without those of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink()
