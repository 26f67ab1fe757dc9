"""Which process tells the operator that a part is missing: one of those that see it."""

from __future__ import annotations

from typing import Final

from core.redis import keys
from core.redis.client import Client

TOLD_S: Final = 86_400
"""How long it is remembered that a part's absence was told, unless it ends."""


async def began(client: Client, what: str) -> bool:
    """Whether the caller is the first to say that a part is missing."""
    return bool(await client.set(keys.outage_told(what), b"1", nx=True, ex=TOLD_S))


async def ended(client: Client, what: str) -> bool:
    """Whether the caller is the first to say that it is back."""
    return bool(await client.delete(keys.outage_told(what)))
