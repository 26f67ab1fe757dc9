"""Which process tells the operator that a part is missing: one of those that see it.

    nothing ──claim──► claimed ──told──► told ──ended──► nothing
                          └ its process dies ──► nothing, CLAIMED_S later

Who has claimed it keeps the claim for as long as it tries; whoever else sees the outage asks again until it is told.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from core.redis import keys
from core.redis.client import Client

CLAIMED_S: Final = 60
"""How long a claim lasts that nobody keeps."""
TOLD_S: Final = 86_400
"""How long it is remembered that a part's absence was told, unless it ends."""
CLAIMED: Final = b"claimed"
TOLD: Final = b"told"


class Whose(Enum):
    """Who tells."""

    OURS = "ours"
    ANOTHER = "another"
    """Another process is at it, and may die over it."""
    NOBODY = "nobody"
    """It was told."""


async def claim(client: Client, what: str) -> Whose:
    """Ask to be the one who says that a part is missing."""
    if await client.set(keys.outage_told(what), CLAIMED, nx=True, ex=CLAIMED_S):
        return Whose.OURS
    return Whose.ANOTHER if await client.get(keys.outage_told(what)) in {CLAIMED, None} else Whose.NOBODY


async def keep(client: Client, what: str) -> None:
    """Have one's claim last; nothing where the outage has ended meanwhile."""
    await client.set(keys.outage_told(what), CLAIMED, xx=True, ex=CLAIMED_S)


async def told(client: Client, what: str) -> None:
    """It was told; nothing where the outage has ended meanwhile."""
    await client.set(keys.outage_told(what), TOLD, xx=True, ex=TOLD_S)


async def ended(client: Client, what: str) -> bool:
    """Whether the caller is the first to say that it is back."""
    return bool(await client.delete(keys.outage_told(what)))
