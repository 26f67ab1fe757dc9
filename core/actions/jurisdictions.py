"""In whose jurisdiction an incident is, and which agency answers a panic of nobody known.

The index of all polygons is kept a pool, and built anew when PostgreSQL says that one changed; it is asked at most
every `LOOK` for it, so a panic waits for nothing of this.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from core.actions.unit_of_work import Unit
from core.domain.jurisdiction import Jurisdictions
from core.postgres import jurisdictions as store
from core.postgres.incidents import Row

LOOK: Final = timedelta(seconds=10)
"""For how long a changed jurisdiction may go unnoticed."""
KEPT: Final = "jurisdictions"


@dataclass(frozen=True, slots=True)
class _Kept:
    at: datetime
    version: tuple[int, int]
    index: Jurisdictions


async def known(unit: Unit) -> Jurisdictions:
    """Every police agency's jurisdiction, as it was within `LOOK`."""
    shelf = unit.connection.kept
    kept: _Kept | None = shelf.get(KEPT)
    if kept is not None and abs(unit.now - kept.at) < LOOK:
        return kept.index
    version = await store.version(unit.connection)
    if kept is None or kept.version != version:
        index = Jurisdictions(await store.polygons(unit.connection))
    else:
        index = kept.index
    shelf[KEPT] = _Kept(unit.now, version, index)
    return index


async def agency_of(unit: Unit, row: Row) -> uuid.UUID:
    """The agency in whose jurisdiction an incident is by its place; its own, where that holds it or none does."""
    own: uuid.UUID = row["agency_id"]
    place = row["place"] or {}
    if place.get("lat") is None or place.get("lon") is None:
        return row["jurisdiction_agency_id"] or own
    holding = (await known(unit)).holding(place["lat"], place["lon"])
    return own if not holding or own in holding else holding[0]


async def agency_at(unit: Unit, lat: float | None, lon: float | None) -> uuid.UUID | None:
    """The agency that answers where nobody knows who asks: by the place, else the one that the operator named."""
    if lat is not None and lon is not None:
        holding = (await known(unit)).holding(lat, lon)
        if holding:
            return holding[0]
    return await store.default_agency(unit.connection)


async def neighbour_of(unit: Unit, row: Row) -> uuid.UUID | None:
    """The police agency nearest to an incident's place that does not have it yet; None where there is none."""
    place = row["place"] or {}
    if place.get("lat") is None or place.get("lon") is None:
        return None
    told = frozenset({row["agency_id"], row["jurisdiction_agency_id"]})
    return (await known(unit)).nearest(place["lat"], place["lon"], told)
