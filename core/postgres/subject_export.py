"""What is held on one person, for that person: nothing of anybody else is selected here."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.domain.evidence import Fix
from core.postgres import panic_timers
from core.postgres.database import Connection
from core.postgres.evidence import PING_COLUMNS, fix_of
from core.postgres.panics import open_rows
from core.postgres.table import add_row

FIXES_MAX: Final = 50_000
"""Fixes in one export; it says from when to ask for the rest."""
LINES_MAX: Final = 10_000

Json = dict[str, Any]


async def is_kept_away(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether an order, of whatever state, ever named the person as the one to be kept away."""
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT FROM protection_order WHERE aggressor_id = $1)", person_id)
    )


async def worn_by(connection: Connection, person_id: uuid.UUID) -> list[Json]:
    """What a person wore and when: number, device_id, kind, since, until (None: still)."""
    rows = await connection.fetch(
        "SELECT w.device_number AS number, d.id AS device_id, d.kind, w.since, nullif(w.until, 'infinity') AS until"
        " FROM wearing w JOIN device d ON d.id = w.device_id WHERE w.person_id = $1 ORDER BY w.since",
        person_id,
    )
    return [dict(row) for row in rows]


async def fixes_of(connection: Connection, person_id: uuid.UUID, since: datetime, until: datetime) -> list[Fix]:
    """A person's fixes lived in [since, until), oldest first, one more than `FIXES_MAX` at most; no beacons heard."""
    columns = PING_COLUMNS.replace("device_number", "p.device_number", 1).replace(", ", ", p.")
    rows = await connection.fetch(
        f"""
        SELECT {PING_COLUMNS}, NULL::jsonb AS heard FROM (
            SELECT {columns} FROM wearing w JOIN ping p ON p.device_number = w.device_number
            WHERE w.person_id = $1 AND p.role IN (0, 1, 2) AND p.live_at >= $2 AND p.live_at < $3
            AND p.live_at >= w.since AND p.live_at < w.until
            UNION ALL SELECT {columns} FROM ping_held p
            WHERE p.person_id = $1 AND p.live_at >= $2 AND p.live_at < $3) held
        ORDER BY live_at, device_number, seq LIMIT $4
        """,  # noqa: S608 - our own columns
        person_id,
        since,
        until,
        FIXES_MAX + 1,
    )
    return [fix_of(row, "own") for row in rows]


async def panics_of(connection: Connection, person_id: uuid.UUID) -> list[Json]:
    """Panics a person gave, but for those her device must not know of: when, how, where, in what words."""
    rows = await connection.fetch(
        "SELECT id, mode, trigger, at, received_at, lat, lon, accuracy_m, note, body, note_sealed, body_sealed,"
        " cancel_asked_at FROM panic WHERE person_id = $1 AND NOT unshown ORDER BY received_at LIMIT $2",
        person_id,
        LINES_MAX,
    )
    left_out = ("body", "note_sealed", "body_sealed")
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in await open_rows(connection, rows)
    ]


async def timers_of(connection: Connection, person_id: uuid.UUID) -> list[Json]:
    """Timers a person set, as her device shows them: when, until when, how they ended, where, in what words."""
    left_out = ("agency_id", "person_id", "note_sealed", "updated_at")
    return [
        {name: value for name, value in row.items() if name not in left_out}
        | {"state": "fired" if row["state"] == "firing" else row["state"]}
        for row in await panic_timers.of_person(connection, person_id, LINES_MAX)
    ]


async def incidents_of(connection: Connection, person_id: uuid.UUID) -> list[Json]:
    """What happened to a protected person: what, when, how it ended; nobody else, no place, no distance."""
    rows = await connection.fetch(
        "SELECT id, type, severity, state, occurred_at, opened_at, acknowledged_at, dispatched_at, resolved_at, outcome"
        # What appears cancelled and goes on is left out: the zip may be opened on the phone she was forced on.
        " FROM incident WHERE victim_id = $1 AND NOT exercise AND NOT (family = 'panic' AND state <> 'resolved'"
        " AND hidden_from_her(id, 'infinity')) ORDER BY opened_at LIMIT $2",
        person_id,
        LINES_MAX,
    )
    return [dict(row) for row in rows]


async def consents_of(connection: Connection, person_id: uuid.UUID) -> list[Json]:
    """What a person allowed to be told to whom."""
    rows = await connection.fetch(
        "SELECT recipient, fields, manner, given_at, valid_until, withdrawn_at FROM consent WHERE person_id = $1"
        " ORDER BY given_at LIMIT $2",
        person_id,
        LINES_MAX,
    )
    return [dict(row) for row in rows]


async def add_request(connection: Connection, values: Json) -> None:
    """Note that a person asked on her device."""
    await add_row(connection, "subject_export", values)


async def open_request(connection: Connection, person_id: uuid.UUID, now: datetime) -> Json | None:
    """A person's newest request that was neither fetched nor ran out, locked."""
    row = await connection.fetchrow(
        "SELECT id, agency_id, asked_at, code_digest, code_tries, expires_at FROM subject_export WHERE person_id = $1"
        " AND fetched_at IS NULL AND expires_at > $2 ORDER BY asked_at DESC LIMIT 1 FOR NO KEY UPDATE",
        person_id,
        now,
    )
    return None if row is None else dict(row)


async def note_try(connection: Connection, request_id: uuid.UUID, fetched_at: datetime | None) -> None:
    """Count a try of the code, and whether it was the right one."""
    await connection.execute(
        "UPDATE subject_export SET code_tries = code_tries + 1, fetched_at = $2 WHERE id = $1", request_id, fetched_at
    )
