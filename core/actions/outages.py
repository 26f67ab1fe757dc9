"""Outages: a mass silence is one incident, whose pairs stand in the order of danger.

`look` is called again and again by one process. It finds groups (a whole agency, then its districts) that fell silent
together, opens one incident for each and lets it take their silences; keeps its list of pairs; and ends it when most
are heard again. Whoever is silent still then stands alone, and so do silences that waited and were no outage. All of
it follows from rows: a process that dies in between loses nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any, Final

from core.actions.escalation import start
from core.actions.incidents import fold_again
from core.actions.notices import notice_of
from core.actions.silences import outage_subject
from core.actions.unit_of_work import Unit
from core.actions.untold import mark, tell_or_wait
from core.clock import rfc3339, to_ms
from core.domain.incident import Severity
from core.domain.outage import (
    HOLD,
    LIVE_BEFORE,
    PAIRS_MAX,
    SILENT_LEAST,
    WINDOW,
    cell_box,
    cell_of,
    is_outage,
    is_over,
    ranked,
)  # fmt: skip
from core.domain.ping import ROLE_NAMES
from core.ids import derived_id, timed_id
from core.metrics import INCIDENTS_OPENED
from core.postgres import audit, board, silences
from core.postgres import incidents as store
from core.postgres.incidents import Row

BATCH: Final = 1_000
"""Silences released, and silences forgotten, by one call; the next takes the rest."""
ENDED_MAX: Final = 20
"""Ended outages of one call whose silences are let go."""
CELLS_MAX: Final = 20
"""Districts of an agency judged by one call, those with most silences first."""
MEASURED_MAX: Final = 2_000
"""Devices whose last place is read to tell how many were live in a district; of more, an even sample of up to twice
as many."""
PAIRS_MEASURED_MAX: Final = 2_000
"""Orders whose distance is measured to rank an outage's pairs; those last known near come first."""
RANKED_EVERY: Final = timedelta(seconds=10)
POSITIONS_FROM: Final = timedelta(hours=6)
"""How old a last position may be to rank a pair by."""
ROLES: Final = {name: int(number) for name, number in ROLE_NAMES.items()}


async def look(unit: Unit) -> None:
    """One look: open, keep and end outages; let go of what is none."""
    await silences.forget_retired(unit.connection, BATCH)
    for agency_id in await silences.agencies_with_silence(unit.connection, unit.now - WINDOW, SILENT_LEAST):
        await _look_at(unit, agency_id)
    for row in await store.lock_open_of_family(unit.connection, "outage"):
        await _keep(unit, row)
    for outage_id in await silences.ended_outages(unit.connection, ENDED_MAX):
        await fold_again(unit, await silences.let_go(unit.connection, outage_id), outage_id)
    released = await silences.release_held(unit.connection, unit.now - HOLD, BATCH)
    if released:
        await fold_again(unit, released, derived_id("released"))


async def _look_at(unit: Unit, agency_id: uuid.UUID) -> None:
    """Find the groups of an agency that fell silent together."""
    counts = await silences.fallen_silent(unit.connection, [agency_id], unit.now - WINDOW)
    silent = sum(counts.values())
    live = await silences.live_of_agency(unit.connection, agency_id, unit.now - LIVE_BEFORE)
    if is_outage(silent, live):
        await _open(unit, agency_id, None, silent, live)
        return
    cells = sorted(
        ((count, cell) for (_, cell), count in counts.items() if cell is not None and count >= SILENT_LEAST),
        reverse=True,
    )
    if not cells:
        return
    every = max(1, live // MEASURED_MAX)
    places = await silences.live_places(unit.connection, agency_id, unit.now - LIVE_BEFORE, every, ROLES)
    census = Counter(cell_of(lat, lon) for lat, lon in places)
    for count, cell in cells[:CELLS_MAX]:
        there = census[cell] * every
        # Far fewer than are silent: the history lags, and says nothing of a share.
        if 2 * there >= count and is_outage(count, there):
            await _open(unit, agency_id, cell, count, max(count, there))


async def _open(unit: Unit, agency_id: uuid.UUID, cell: str | None, silent: int, live: int) -> None:
    subject = outage_subject(agency_id, cell)
    incident_id = timed_id(to_ms(unit.now), "outage", subject)
    detail: dict[str, Any] = {"live": live, "taken": 0, "silent": silent, "pairs": []}
    if cell is not None:
        south, north, west, east = cell_box(cell)
        detail["district"] = {"south": south, "north": north, "west": west, "east": east}
    row = store.new_row(
        id=incident_id,
        type="outage",
        family="outage",
        severity=str(Severity.HIGH),
        episode_id=incident_id,
        agency_id=agency_id,
        jurisdiction_agency_id=agency_id,
        subject=subject,
        occurred_at=unit.now,
        opened_at=unit.now,
        updated_at=unit.now,
        detail=detail,
    )
    found, opened = await store.claim(unit.connection, {(subject, "outage")}, {(subject, "outage"): row})
    row = found[subject, "outage"]
    if opened:
        await start(unit, [row])
    transition_ids = await silences.give_to_outage(unit.connection, row["id"], agency_id, cell, unit.now - WINDOW)
    row["detail"] = {**row["detail"], "taken": row["detail"].get("taken", 0) + len(transition_ids)}
    await _fold_singles(unit, row, transition_ids)
    await silences.link_to_outage(unit.connection, row["id"], transition_ids)
    await _rank(unit, row)
    await store.update_many(unit.connection, [row])
    if not opened:
        unit.emit(agency_id, "incident.updated", store.incident_json(row))
        return
    line = {"what": "opened", "severity": row["severity"], "silent": silent, "live": live}
    await store.add_lines(
        unit.connection, [(derived_id("timeline", row["id"], "outage"), row["id"], unit.now, "outage", None, line)]
    )
    await audit.write_openings(unit.connection, unit.now, [row])
    unit.emit(agency_id, "incident.opened", store.incident_json(row))
    unit.after_commit(INCIDENTS_OPENED.labels(row["type"], row["severity"]).inc)
    if waiting := await tell_or_wait(unit, [notice_of(row, row["id"])]):
        mark(row, waiting[row["id"]])
        await store.update_many(unit.connection, [row])


async def _fold_singles(unit: Unit, outage: Row, transition_ids: list[uuid.UUID]) -> None:
    """End the single incidents of silences that turned out to be one event; what is in hand stays."""
    ids = await silences.singles(unit.connection, transition_ids)
    rows = [row for row in await store.lock_many(unit.connection, ids) if row["state"] == "open"]
    for row in rows:
        row |= {
            "state": "resolved", "outcome": "duplicate", "cause": "outage", "resolved_at": unit.now,
            "updated_at": unit.now, "next_deadline_at": None, "version": row["version"] + 1,
            "detail": {**row["detail"], "outage_id": str(outage["id"])},
        }  # fmt: skip
    if not rows:
        return
    await store.update_many(unit.connection, rows)
    said = {"what": "folded", "outage_id": str(outage["id"]), "outcome": "duplicate"}
    await store.add_lines(
        unit.connection,
        [
            (derived_id("timeline", row["id"], "outage", outage["id"]), row["id"], unit.now, "outage", None, said)
            for row in rows
        ],
    )
    for row in rows:
        unit.emit(row["agency_id"], "incident.resolved", store.incident_json(row))


async def _keep(unit: Unit, row: Row) -> None:
    """Bring an outage up to date, or end it when most of its devices are heard again."""
    silent, taken = await silences.count_of_outage(unit.connection, row["id"])
    taken = max(taken, row["detail"].get("taken", 0))
    before = row["detail"]
    if is_over(taken, silent):
        await _end(unit, row, silent, taken)
        return
    if unit.now - row["updated_at"] < RANKED_EVERY:
        return
    row["detail"] = {**before, "silent": silent, "taken": taken}
    await _rank(unit, row)
    if row["detail"] == before:
        return
    row["updated_at"] = unit.now
    await store.update_many(unit.connection, [row])
    unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))


async def _end(unit: Unit, row: Row, silent: int, taken: int) -> None:
    """Most are heard again: the outage is resolved."""
    row |= {
        "state": "resolved", "outcome": "technical", "cause": "heard_again", "resolved_at": unit.now,
        "updated_at": unit.now, "next_deadline_at": None, "version": row["version"] + 1,
        "detail": {**row["detail"], "silent": silent, "taken": taken, "ended_at": rfc3339(unit.now)},
    }  # fmt: skip
    await store.update_many(unit.connection, [row])
    line = {"what": "eased", "silent": silent, "taken": taken, "outcome": "technical"}
    await store.add_lines(
        unit.connection, [(derived_id("timeline", row["id"], "over"), row["id"], unit.now, "outage", None, line)]
    )
    unit.emit(row["agency_id"], "incident.resolved", store.incident_json(row))
    sent = [uuid.UUID(entry["unit_id"]) for entry in row["units"]]
    for free in await board.free_units(unit.connection, row["agency_id"], sent, unit.now) if sent else ():
        unit.emit(row["agency_id"], "unit.updated", board.unit_json(free))


async def _rank(unit: Unit, row: Row) -> None:
    pairs = await silences.pairs_in_dark(
        unit.connection, row["id"], unit.now - POSITIONS_FROM, ROLES, PAIRS_MEASURED_MAX
    )
    row["detail"] = {
        **row["detail"],
        "pairs": [pair.line() for pair in ranked(pairs)],
        "pairs_unlisted": max(0, len(pairs) - PAIRS_MAX),
    }
