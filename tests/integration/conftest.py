"""What holds for every test on real stores."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from core import pin_hashes

PIN_COST = {"MEMORY_KIB": pin_hashes.MEMORY_KIB, "PASSES": pin_hashes.PASSES}


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Passwords and PINs are hashed by the same algorithm at its least cost: seeding one agency would take a second."""
    cheap = functools.partial(Argon2Hasher, time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.passwords.Argon2Hasher", cheap)
        patch.setattr(pin_hashes, "MEMORY_KIB", 8)
        patch.setattr(pin_hashes, "PASSES", 1)
        yield


@pytest.fixture
def dear_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """PINs are hashed at their full cost, in what is made after this: for a test of how long an answer takes."""
    for name, value in PIN_COST.items():
        monkeypatch.setattr(pin_hashes, name, value)
