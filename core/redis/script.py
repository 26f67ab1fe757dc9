"""Lua scripts, and the translation of the client's errors into ours.

A script is one atomic step on one shard (all its keys bear the shard's hash tag). A script that writes for a
lease checks its token first and answers `LEASELOST` when a greater one has been seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from core.errors import LeaseLost, StoreUnavailable
from core.redis.client import AWAY, Client

UNWILLING = (ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
"""Answers that mean Redis cannot take it now, though the command was right."""

AGAIN = ("MISCONF", "NOREPLICAS", "LOADING", "OOM", "BUSY ", "CURSORMOVED")
"""Beginnings of answers that mean: load what you know anew, and try again."""

FENCE = """
local seen = tonumber(redis.call('GET', KEYS[1]) or '0')
local token = tonumber(ARGV[1])
if seen > token then return redis.error_reply('LEASELOST a greater token has been seen') end
if seen < token then redis.call('SET', KEYS[1], ARGV[1]) end
"""
"""Start of every script that writes for a lease: KEYS[1] is the shard's owner key, ARGV[1] the token."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the client's errors into StoreUnavailable and LeaseLost; others are ours to mend and pass."""
    try:
        yield
    except (*AWAY, *UNWILLING, asyncio.IncompleteReadError) as error:
        raise StoreUnavailable("Redis does not answer; try again shortly.") from error
    except ResponseError as error:
        raise_for(error)


def raise_for(error: Exception) -> None:
    """Raise the error of ours that an answer of Redis means, or the answer itself."""
    text = str(error)
    if "LEASELOST" in text:
        raise LeaseLost("Another worker owns the shard now.") from error
    if isinstance(error, (*AWAY, *UNWILLING)) or text.startswith(AGAIN):
        raise StoreUnavailable("Redis cannot take a write now; try again shortly.") from error
    raise error


class Script:
    """One Lua script, sent by its digest and in full only when the server does not know it yet."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: Client, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it; raises StoreUnavailable or LeaseLost."""
        with translated():
            try:
                return await client.evalsha(self.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.eval(self.source, len(keys), *keys, *arguments)
