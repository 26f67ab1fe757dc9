"""The supervisor ends what it has begun, also in the middle of beginning."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import Settings
from infra.supervisor import Child, Supervisor


async def test_an_interrupt_while_starting_ends_every_process_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()

    def spawn(_: Supervisor, child: Child) -> int:
        """A process that never says it is ready; its pipe closes when it ends."""
        reading, writing = os.pipe()
        child.process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(writing,), stdin=subprocess.DEVNULL
        )
        os.close(writing)
        asyncio.get_running_loop().call_soon(stop.set)
        return reading

    monkeypatch.setattr(Supervisor, "_spawn", spawn)
    supervisor = Supervisor(Settings(data_dir=tmp_path), ["geo"])
    async with asyncio.timeout(20):
        assert not await supervisor.start_unless(stop)
    (child,) = supervisor._children
    assert child.process is not None
    assert child.process.returncode is not None
