"""Panics in transit: those PostgreSQL did not take in time, for every process to see and to drain."""

from __future__ import annotations

from typing import Final

from core.redis import keys
from core.redis.client import Client

FIELD: Final = b"p"
PENDING_BOUND: Final = 1_000
"""Entries read at once."""
COPIES_BOUND: Final = 50_000
"""So many entries wait here at most of what is on a disk as well: some 50 MB. Nothing is dropped for it."""


async def push(client: Client, payload: bytes) -> None:
    """Add one, sealed (core.vault.Traveller); durable when this returns (the store fsyncs before it answers)."""
    await client.xadd(keys.PANICS, {FIELD: payload})


async def length(client: Client) -> int:
    """How many there are."""
    return int(await client.xlen(keys.PANICS))


async def read(client: Client, after: str = "0-0", count: int = PENDING_BOUND) -> list[tuple[str, bytes]]:
    """(entry id, payload) of those after `after`, oldest first."""
    entries = await client.xrange(keys.PANICS, min=f"({after}", max="+", count=count)
    return [(entry.decode(), fields[FIELD]) for entry, fields in entries if FIELD in fields]


async def drop(client: Client, entry: str) -> None:
    """Remove one that PostgreSQL has."""
    await client.xdel(keys.PANICS, entry)
