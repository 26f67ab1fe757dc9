"""What holds for every test on real stores."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Passwords are hashed by the same algorithm at its least cost: seeding one agency would take a second of it."""
    cheap = functools.partial(Argon2Hasher, time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.passwords.Argon2Hasher", cheap)
        yield
