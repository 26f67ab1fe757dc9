"""A whole Qorgan for acceptance tests, and what they play with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.running import System, environment, own_folder, parties, running_system, wait_for

PAIRS = 80


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder in which stores may live."""
    path = own_folder()
    yield path
    if not os.environ.get("QORGAN_TEST_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """One whole Qorgan for all acceptance tests of this worker."""
    with running_system(PAIRS) as system:
        yield system


@pytest.fixture
def play() -> Callable[..., Any]:
    """`async with play(system, pair) as (victim, aggressor)`."""
    return parties


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """`await eventually(check, "what", timeout_s)`."""
    return wait_for


@pytest.fixture
def child_environment() -> Callable[..., dict[str, str]]:
    """What a `qorgan` started by a test is given."""
    return environment
