"""Telling of an incident when the keys to whom are away: it opens all the same, and its messages follow.

Routes, numbers and push tokens are sealed. While a key service is away and the keys have left memory nobody can be
written to, but every board shows the incident, its deadlines run, and `detail.untold` says whose messages wait:
`routes` (the agency's), `her` (her own phone). The clock of incidents sends them once there are keys again. What she
wrote with a panic waits in the panic journal besides, which marks it the same way and completes it by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from core.actions.notices import Notice, notice_of, tell
from core.actions.unit_of_work import Unit
from core.errors import KeyUnavailable
from core.ids import derived_id
from core.postgres import incidents as store

UNTOLD: Final = "untold"
ROUTES: Final = "routes"
HER: Final = "her"
BATCH: Final = 200
"""Incidents told afterwards by one step."""

Waiting = dict[uuid.UUID, list[str]]
"""Incident → whose messages wait."""


async def tell_or_wait(unit: Unit, notices: Sequence[Notice]) -> Waiting:
    """Queue what is to be heard of `notices`, and write it; returns of which incidents somebody could not be told.

    The caller marks those (`mark`) and writes their rows.
    """
    waiting: Waiting = {}
    if not notices or await _told(unit, notices):
        return waiting
    for group, of in _groups(notices):
        if not await _told(unit, group):
            for notice in group:
                whose = waiting.setdefault(notice.incident_id, [])
                if of not in whose:
                    whose.append(of)
    return waiting


def _groups(notices: Sequence[Notice]) -> Iterable[tuple[list[Notice], str]]:
    """The notices split by whose key they need: each agency's routes, each person's phones."""
    agencies: dict[uuid.UUID, list[Notice]] = {}
    people: dict[uuid.UUID, list[Notice]] = {}
    for notice in notices:
        if notice.to_routes:
            agencies.setdefault(notice.agency_id, []).append(replace(notice, to_her=False))
        if notice.to_her and notice.victim_id is not None:
            people.setdefault(notice.victim_id, []).append(replace(notice, to_routes=False))
    yield from ((group, ROUTES) for group in agencies.values())
    yield from ((group, HER) for group in people.values())


async def _told(unit: Unit, notices: Sequence[Notice]) -> bool:
    try:
        await tell(unit, notices)
        await unit.write_deliveries()
    except KeyUnavailable:
        return False
    return True


def mark(row: dict[str, Any], whose: Sequence[str] | None) -> None:
    """Have an incident say whose messages wait; none: take the word back."""
    detail = {name: value for name, value in row["detail"].items() if name != UNTOLD}
    row["detail"] = {**detail, UNTOLD: list(whose)} if whose else detail


async def tell_untold(unit: Unit) -> None:
    """Tell of open incidents whose messages wait, as they stand now. A panic's are the panic journal's."""
    rows = {row["id"]: row for row in await store.lock_untold(unit.connection, BATCH)}
    notices = [
        notice_of(
            row, derived_id(UNTOLD, row["id"]),
            to_routes=ROUTES in row["detail"][UNTOLD], to_her=HER in row["detail"][UNTOLD],
        )
        for row in rows.values()
    ]  # fmt: skip
    waiting = await tell_or_wait(unit, notices)
    changed = []
    for incident_id, row in rows.items():
        if waiting.get(incident_id) != row["detail"][UNTOLD]:
            mark(row, waiting.get(incident_id))
            row["updated_at"] = unit.now
            changed.append(row)
    if changed:
        await store.update_many(unit.connection, changed)
    for row in changed:
        unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))
