"""Processes that live no longer than the one that started them, and those that a killed one left behind."""

from __future__ import annotations

import contextlib
import ctypes
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import Misconfigured

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel end this process by this signal when the thread that started it dies (Linux; else nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # 1 is PR_SET_PDEATHSIG


def die_fast_with_parent() -> None:
    """The same for PostgreSQL, which at SIGTERM would wait for its last client: SIGINT ends it at once, in order."""
    die_with_parent(signal.SIGINT)


def wait_until(free: Callable[[], bool]) -> None:
    """Wait until what a Qorgan that was killed left behind has ended, as it was told to; bounded."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not free() and time.monotonic() < deadline:
        time.sleep(0.05)


def free_port() -> int:
    """A free loopback port whose cluster bus port (10,000 above) is free too.

    Both lie below the ports that the kernel gives to outgoing connections, which come and go at any moment.
    """
    for _ in range(100):
        port = random.randint(11_000, 22_000)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise Misconfigured("No free loopback port was found for the embedded Valkey.")


def wait_ready(process: subprocess.Popen[bytes], log_path: Path, ready: object, what: str) -> None:
    """Wait until `ready` says so; raises Misconfigured with the log's last words when it ends or takes too long."""
    assert callable(ready)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.02)
    tail = log_path.read_text(errors="replace").strip().splitlines()[-3:] if log_path.exists() else []
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    raise Misconfigured(f"The embedded {what} did not start: {' / '.join(tail) or 'no word in its log'}")
