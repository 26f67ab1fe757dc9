"""Hashes of PINs, off the event loop and beside everything else: a cancelling never holds up a panic.

A PIN has few digits: what keeps it secret is the key its hashes are sealed with, and the bound on tries. The hash is
slow all the same (argon2id, 19 MiB, two passes: OWASP's least, some 20 ms of a core), so that whoever has the key too
needs days for a whole land. Both hashes are computed at every try, also where there is none, so that no time tells.
"""

from __future__ import annotations

from typing import Final

from pwdlib.hashers.argon2 import Argon2Hasher

from core.domain.pins import Hashes, Match
from core.passwords import PasswordDesk

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
WAITING_MAX: Final = 64
"""Hashings in the queue of one process; beyond it a PIN cannot be checked."""


class PinHasher:
    """Hashes and compares PINs in a thread of its own."""

    def __init__(self) -> None:
        hasher = Argon2Hasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)
        self._desk = PasswordDesk(hasher, max_waiting=WAITING_MAX)

    async def hash(self, pin: str, duress_pin: str) -> Hashes:
        """Hash both. Raises TooMany."""
        return Hashes(await self._desk.hash(pin), await self._desk.hash(duress_pin))

    async def compare(self, pin: str, hashes: Hashes | None) -> Match:
        """Compare with both; `hashes` None costs the same and matches nothing. Raises TooMany."""
        right = await self._desk.check(pin, hashes.pin if hashes else None, known=True)
        duress = await self._desk.check(pin, hashes.duress if hashes else None, known=True)
        return Match(right.right, duress.right)

    def close(self) -> None:
        """Let the thread end."""
        self._desk.close()
