"""Keys as the operator sees them: which wrap what, replacing the current one, sealing what an older version left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from core.clock import Clock
from core.errors import Misconfigured
from core.key_rings import KeyLost
from core.postgres import keys, leftovers, user_secrets
from core.postgres.database import Database
from core.secret_box import SecretBox

BATCH: Final = 500
"""Rows of one transaction."""

Progress = Callable[[int], object]
"""Gets the number of rows or keys done so far."""


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Where an installation stands."""

    current_id: str
    """The key-encryption key that wraps now."""
    wrapped: dict[str, int]
    """Key-encryption key → data keys that it wraps."""
    plain: dict[str, int]
    """Table → rows of which something is not sealed yet."""


def stay_quiet(_: int) -> None:
    """Progress that is not shown."""


async def status(database: Database) -> KeyStatus:
    """Which key-encryption keys wrap how many data keys, and what is still plain."""
    async with database.connection() as connection:
        vault = keys.vault_of(connection)
        return KeyStatus(
            await vault.ring.current_id(), await keys.count_by_kek(connection), await leftovers.count(connection)
        )


async def rotate(database: Database, progress: Progress = stay_quiet) -> int:
    """Wrap every data key with the current key-encryption key; returns how many were wrapped with another.

    Everything goes on meanwhile: a data key stays what it is, and is read with either. It may be broken off at any
    moment and run again. Raises Misconfigured when the ring lacks a key that still wraps something.
    """
    done = 0
    while True:
        async with database.transaction() as connection:
            ring = keys.vault_of(connection).ring
            found = await keys.lock_wrapped_otherwise(connection, await ring.current_id(), BATCH)
            if not found:
                return done
            try:
                wrapped = await ring.rewrap(found)
            except KeyLost as error:
                raise Misconfigured(f"A data key cannot be wrapped anew: {error}.") from error
            await keys.store_wrapped(
                connection, [(owner, blob) for (owner, _), blob in zip(found, wrapped, strict=True)]
            )
        done += len(found)
        progress(done)


async def seal_leftovers(
    database: Database, clock: Clock, progress: Progress = stay_quiet, box: SecretBox | None = None
) -> int:
    """Seal what an older version left plain, and give everybody a key; returns how many rows were dealt with.

    With `box`, secrets of signing in that are sealed under the token key are sealed anew with their agencies' keys.
    Batch by batch, each committed: broken off, it goes on where it was.
    """
    done = 0
    for kind in user_secrets.KINDS if box is not None else ():
        count = BATCH
        while count == BATCH:
            async with database.transaction() as connection:
                assert box is not None
                count = await user_secrets.seal_older(connection, kind, box, BATCH, clock())
            done += count
    for _, batch in leftovers.STEPS:
        while True:
            now: datetime = clock()
            async with database.transaction() as connection:
                count = await batch(connection, BATCH, now)
            done += count
            if count:
                progress(done)
            if count < BATCH:
                break
    return done
