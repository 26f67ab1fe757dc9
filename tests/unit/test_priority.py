"""Telemetry gives way: also where Linux counts niceness within a session alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.priority import AGAIN_S, TARGETS, give_way


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session that lives until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        process.communicate(b"")


def test_a_process_gives_way_within_its_session_and_its_session_to_the_others(other: subprocess.Popen[bytes]) -> None:
    give_way(7, other.pid)
    assert os.getpriority(os.PRIO_PROCESS, other.pid) == 7
    group = Path(f"/proc/{other.pid}/autogroup")
    if group.exists() and (told := group.read_text(encoding="ascii").strip()):
        assert told.endswith("nice 7")


def test_processes_that_start_together_all_give_way(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux refuses a second niceness within a tenth of a second."""
    answers: list[BaseException | None] = [BlockingIOError(), BlockingIOError(), None]
    waited: list[float] = []

    def write(_path: Path, _text: str, **_: str) -> int:
        if (error := answers.pop(0)) is not None:
            raise error
        return 1

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(time, "sleep", waited.append)
    give_way(7, other.pid)
    assert (answers, waited) == ([], [AGAIN_S, AGAIN_S])


def test_what_comes_first_is_left_as_it_is(other: subprocess.Popen[bytes]) -> None:
    before = os.getpriority(os.PRIO_PROCESS, other.pid)
    give_way(0, other.pid)
    assert os.getpriority(os.PRIO_PROCESS, other.pid) == before


def test_panics_and_messages_come_first_and_history_last() -> None:
    assert TARGETS["historian"] > TARGETS["geo"] == TARGETS["ingest"] > 0
    assert not TARGETS.keys() & {"api", "notifier"}
