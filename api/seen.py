"""What is answered to whom of where people are: the rule of `core.domain.sight`, applied in a request's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api.auth import Actor
from core.actions.unit_of_work import Unit
from core.clock import from_ms, rfc3339, to_ms
from core.domain import sight
from core.domain.panic import detail_seen
from core.domain.sight import Coarse, Sight
from core.postgres import sight as store

Incident = Mapping[str, Any]
SLOT_MS: Final = round(sight.SLOT.total_seconds() * 1000)


async def looks_of(unit: Unit, actor: Actor) -> frozenset[str]:
    """At whom the user looks now, for a reason she gave."""
    if actor.role not in sight.EXACT_ROLES:
        return frozenset()
    found = await store.looked_at(unit.connection, actor.agency_id, [actor.user_id], unit.now)
    return found.get(actor.user_id, frozenset())


async def incidents_seen(
    unit: Unit, actor: Actor, incidents: Sequence[Incident], *, coarsely: bool = False
) -> list[dict[str, Any]]:
    """Incidents, as their rows are now, as the user sees them. `coarsely`: as in a list, nobody exactly."""
    looked = frozenset() if coarsely else await looks_of(unit, actor)
    coarse = await _coarse(unit, actor, incidents)
    seen = []
    for incident in incidents:
        her, him = sight.sights_now(actor.role, incident, looked)
        if coarsely:
            her, him = (Sight.COARSE if one is Sight.EXACT else one for one in (her, him))
        told = {**incident, "detail": detail_seen(actor.role, incident["detail"])}
        seen.append(sight.incident_seen(told, her, him, coarse))
    await store.keep_cells(unit.connection, actor.agency_id, coarse, unit.now)
    return seen


async def incident_seen(unit: Unit, actor: Actor, incident: Incident) -> dict[str, Any]:
    """One incident as the user sees it."""
    return (await incidents_seen(unit, actor, [incident]))[0]


async def _coarse(unit: Unit, actor: Actor, incidents: Sequence[Incident]) -> Coarse:
    if actor.role not in sight.COARSE_ROLES:
        return Coarse()
    return await store.coarse_of(unit.connection, {one for each in incidents for one in sight.places_in(each)})


async def place_now(unit: Unit, actor: Actor, person_id: uuid.UUID, how: Sight) -> dict[str, Any] | None:
    """Where a person is: exactly, as last known; coarsely, as of the last whole stretch of time, so that nobody sees
    the moment at which an edge is crossed."""
    if how is Sight.NONE:
        return None
    until = unit.now
    if how is Sight.COARSE:
        until = from_ms(to_ms(unit.now) // SLOT_MS * SLOT_MS)
    fix = await store.last_fix(unit.connection, person_id, until)
    if fix is None:
        return None
    coarse = await store.coarse_of(unit.connection, [str(person_id)])
    at = fix["at"] if how is Sight.EXACT else until
    seen = sight.place_seen({**fix, "at": rfc3339(at)}, how, str(person_id), coarse)
    await store.keep_cells(unit.connection, actor.agency_id, coarse, unit.now)
    return seen
