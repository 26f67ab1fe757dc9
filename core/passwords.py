"""Password hashing off the event loop: one worker, a short queue, and the same work for an unknown name.

argon2 takes some 150 ms of a core. One worker keeps a burst of logins from starving everything else, and a full
queue answers 429 at once instead of letting it grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from core.errors import TooMany

MAX_WAITING: Final = 32
"""Hashings in the queue of one process."""
RETRY_AFTER_S: Final = 5

T = TypeVar("T")


class PasswordDesk:
    """Hashes and checks passwords with argon2id in a thread of its own."""

    def __init__(self, hasher: Argon2Hasher | None = None, max_waiting: int = MAX_WAITING) -> None:
        self._hash = PasswordHash((hasher or Argon2Hasher(),))
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._waiting = 0
        self._max_waiting = max_waiting
        self._decoy: str | None = None

    def hash_now(self, password: str) -> str:
        """The argon2id hash of a password, computed in the calling thread (command line, seeding)."""
        return self._hash.hash(password)

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password."""
        return await self._run(lambda: self._hash.hash(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password is right; `stored` None (no such user) costs the same and is never right."""
        return await self._run(lambda: self._verify(password, stored))

    def _verify(self, password: str, stored: str | None) -> bool:
        if stored is None:
            if self._decoy is None:
                self._decoy = self._hash.hash("nobody has this password")
            self._hash.verify(password, self._decoy)
            return False
        try:
            return self._hash.verify(password, stored)
        except PwdlibError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise TooMany("Too many sign-ins at once; try again in a few seconds.", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the worker thread end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
