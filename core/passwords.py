"""Password hashing off the event loop: a worker and a short queue a lane, and the same work for an unknown name.

argon2 takes some 150 ms of a core. One worker a lane keeps a burst of logins from starving everything else, and a full
queue answers 429 at once instead of letting it grow. Browsers in which a user has signed in before have a lane of their
own, so that a flood of guesses from elsewhere does not stand in their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from core.errors import TooMany

MAX_WAITING: Final = 32
"""Hashings in the queue of one process and lane."""
RETRY_AFTER_S: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of a password found."""

    right: bool
    rehashed: str | None = None
    """The same password by today's parameters, where the stored hash was made by others."""


class PasswordDesk:
    """Hashes and checks passwords with argon2id in threads of its own."""

    def __init__(self, hasher: Argon2Hasher | None = None, max_waiting: int = MAX_WAITING) -> None:
        self._hash = PasswordHash((hasher or Argon2Hasher(),))
        self._executors = [ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords") for _ in range(2)]
        self._waiting = [0, 0]
        self._max_waiting = max_waiting
        self._decoy: str | None = None

    def hash_now(self, password: str) -> str:
        """The argon2id hash of a password, computed in the calling thread (command line, seeding)."""
        return self._hash.hash(password)

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password; for whoever is signed in."""
        return await self._run(lambda: self._hash.hash(password), known=True)

    def check_room(self, *, known: bool) -> None:
        """Raise TooMany when a lane is full: before anything is counted."""
        if self._waiting[known] >= self._max_waiting:
            raise TooMany("Too many sign-ins at once; try again in a few seconds.", retry_after_s=RETRY_AFTER_S)

    async def check(self, password: str, stored: str | None, *, known: bool = False) -> Verdict:
        """Whether the password is right; `stored` None (no such user) costs the same and is never right."""
        return await self._run(lambda: self._verify(password, stored), known=known)

    def _verify(self, password: str, stored: str | None) -> Verdict:
        if self._decoy is None:  # made by the first check, whosever it is: it takes as long as one more
            self._decoy = self._hash.hash("nobody has this password")
        if stored is None:
            self._hash.verify(password, self._decoy)
            return Verdict(False)
        try:
            return Verdict(*self._hash.verify_and_update(password, stored))
        except PwdlibError:
            return Verdict(False)

    async def _run(self, work: Callable[[], T], *, known: bool) -> T:
        self.check_room(known=known)
        self._waiting[known] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executors[known], work)
        finally:
            self._waiting[known] -= 1

    def close(self) -> None:
        """Let the worker threads end."""
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
