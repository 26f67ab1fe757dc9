"""The notice of a running Qorgan, by which other commands on the machine find it."""

from __future__ import annotations

import os
from pathlib import Path

from infra.stores import Running, find_running, forget_running, write_running


def notice(pid: int) -> Running:
    """A notice of a process."""
    return Running(pid=pid, database_url="postgresql://d", redis_url="redis://r")


def test_a_notice_is_taken_down_by_whoever_put_it_up(tmp_path: Path) -> None:
    write_running(tmp_path, notice(os.getpid()))
    forget_running(tmp_path)
    assert find_running(tmp_path) is None


def test_another_running_qorgan_s_notice_stays(tmp_path: Path) -> None:
    write_running(tmp_path, notice(os.getppid()))
    write_running(tmp_path, notice(os.getpid()))
    forget_running(tmp_path)
    assert find_running(tmp_path) == notice(os.getppid())
