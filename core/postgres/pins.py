"""People's PINs: two hashes a person, sealed with her own key, and the wrong tries."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from core.domain.pins import Hashes, Tries
from core.domain.sealing import Spot
from core.errors import KeyUnavailable
from core.postgres import keys
from core.postgres.database import Connection


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose device asks, and her PINs as far as they can be read."""

    device_id: uuid.UUID
    agency_id: uuid.UUID
    person_id: uuid.UUID | None
    is_set: bool = False
    hashes: Hashes | None = None
    """None: there are none, or their key is away or gone."""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """How a person's PINs stand."""

    tries: Tries
    forced: bool
    updated_at: datetime


async def of_device(connection: Connection, device_id: uuid.UUID) -> Holder | None:
    """Who carries a device, and her PINs; None for an aggressor's device and for one that is not there."""
    row = await connection.fetchrow(
        "SELECT d.id, d.agency_id, d.person_id, p.hashes_sealed, p.updated_at FROM device d"
        " LEFT JOIN person_pin p ON p.person_id = d.person_id WHERE d.id = $1 AND d.role <> 'aggressor'",
        device_id,
    )
    if row is None:
        return None
    sealed = row["hashes_sealed"]
    hashes = await _opened(connection, row["person_id"], sealed) if sealed is not None else None
    return Holder(row["id"], row["agency_id"], row["person_id"], sealed is not None, hashes, row["updated_at"])


async def _opened(connection: Connection, person_id: uuid.UUID, sealed: bytes) -> Hashes | None:
    try:
        (value,) = await keys.open_all(connection, [(_spot(person_id), sealed)])
    except KeyUnavailable:
        return None
    return Hashes(value["pin"], value["duress"]) if value else None


def _spot(person_id: uuid.UUID) -> Spot:
    return Spot("person_pin", "hashes", person_id)


async def lock(connection: Connection, person_id: uuid.UUID) -> Kept | None:
    """How her PINs stand, locked; None: she has none."""
    row = await connection.fetchrow(
        "SELECT wrong_tries, wrong_at, forced, updated_at FROM person_pin WHERE person_id = $1 FOR UPDATE", person_id
    )
    if row is None:
        return None
    return Kept(Tries(row["wrong_tries"], row["wrong_at"]), row["forced"], row["updated_at"])


async def are_set(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether a person has PINs, readable or not."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM person_pin WHERE person_id = $1)", person_id))


async def keep_tries(connection: Connection, person_id: uuid.UUID, tries: Tries) -> None:
    """Keep the wrong tries."""
    await connection.execute(
        "UPDATE person_pin SET wrong_tries = $2, wrong_at = $3 WHERE person_id = $1",
        person_id,
        tries.count,
        tries.last_at,
    )


_PUT: Final = (
    "INSERT INTO person_pin (person_id, agency_id, hashes_sealed, forced, updated_at)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (person_id) DO"
)
# `forced` outlives what the one who forced her sets afterwards; a caseworker's reset ends it.
_CHANGE: Final = (
    "UPDATE SET hashes_sealed = $3, forced = person_pin.forced OR $4, wrong_tries = 0, wrong_at = NULL, updated_at = $5"
)


async def put(
    connection: Connection, person_id: uuid.UUID, agency_id: uuid.UUID, hashes: Hashes, now: datetime, *,
    forced: bool = False, anew: bool = True,
) -> bool:  # fmt: skip
    """Keep a person's hashes; without `anew` only where she has none. Whether these are hers now.

    Raises KeyUnavailable, Conflict `person_erased`.
    """
    spot = _spot(person_id)
    value = {"pin": hashes.pin, "duress": hashes.duress}
    sealed = (await keys.seal_for(connection, person_id, agency_id, {spot: value}, now))[spot]
    change = _CHANGE if anew else "NOTHING"
    found = await connection.fetchval(
        f"{_PUT} {change} RETURNING true",
        person_id,
        agency_id,
        sealed,
        forced,
        now,
    )
    return found is True


async def drop(connection: Connection, agency_id: uuid.UUID, person_id: uuid.UUID) -> None:
    """Forget a person's PINs; nothing when she has none."""
    await connection.execute("DELETE FROM person_pin WHERE person_id = $1 AND agency_id = $2", person_id, agency_id)
