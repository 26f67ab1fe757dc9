"""One process of one target: `python -m infra.run --target geo`. `qorgan run` supervises these."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import os
import resource
import signal
import sys

import msgspec
import structlog
from prometheus_client import start_http_server

from core.errors import QorganError
from core.settings import Settings
from infra.logging import configure_logging
from infra.priority import TARGETS, give_way

log = structlog.get_logger(__name__)


def new_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop there is here: uvloop, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _say(ready_fd: int | None, port: int = 0, error: str = "") -> None:
    """Tell the supervisor that this process works, or why it cannot."""
    if ready_fd is None:
        return
    with contextlib.suppress(OSError), os.fdopen(ready_fd, "wb") as pipe:
        pipe.write(msgspec.json.encode({"port": port, "error": error}) + b"\n")


FILES_MAX = 1_048_576
"""Open files a process asks for, where it may have as many as it likes."""


def _allow_files() -> None:
    """Take as many open files as this process may have: a connection is one, and the usual first bound is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _spare_searches() -> None:
    """Have it known that there is no sniffio, where there is none.

    httpcore asks for it at each step of each request, and Python forgets that a module was not found: searching the
    disk for it every time took two fifths of what sending a message costs. None in its place is found at once, and
    means the same to whoever imports it.
    """
    if importlib.util.find_spec("sniffio") is None:
        sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # what the import system takes for absent


async def run_target(target: str, settings: Settings, index: int, ready_fd: int | None) -> int:
    """Run one target until SIGTERM or SIGINT; status 0 when told to end, 1 when a service failed."""
    from infra.opening import keep_silent
    from infra.wiring import build

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if ready_fd is not None:  # under the supervisor; a container has its own share
        give_way(TARGETS.get(target, 0))
    _allow_files()
    try:
        part = build(target, settings, index)
        if target == "notifier":
            await keep_silent(settings, part.database)
        await part.start()
    except QorganError as error:
        if ready_fd is not None:
            _say(ready_fd, error=error.detail)  # the supervisor tells it once, in one line
        else:
            log.error("not_started", target=target, reason=error.detail)
        return 1
    port = next((int(p) for s in part.services if (p := getattr(s, "port", 0))), part.port)
    _say(ready_fd, port=port)
    gc.collect()
    gc.freeze()  # what has been loaded by now stays: no collection need look at it again
    if settings.metrics_port is not None and target != "api":
        start_http_server(settings.metrics_port)
    log.info("started", target=target, index=index, port=port)
    waits = [asyncio.create_task(stop.wait()), *(asyncio.create_task(s.wait()) for s in part.services)]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    failed = next((t for t in done if t is not waits[0]), None)
    for wait in pending:
        wait.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    status = 0
    if failed is not None and not stop.is_set():
        log.error("service_ended", target=target, exc_info=failed.exception())
        status = 1
    await part.stop()
    log.info("stopped", target=target, index=index)
    return status


def main() -> int:
    """Entry of a supervised process and of a container; parses the arguments and runs one target."""
    parser = argparse.ArgumentParser(prog="python -m infra.run", description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--ready", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings, arguments.target)
    _spare_searches()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run_target(arguments.target, settings, arguments.index, arguments.ready))


if __name__ == "__main__":
    sys.exit(main())
