"""Timers that give a panic at their time: rows with a deadline."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Spot
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.table import Record

LIVE: Final = "state IN ('running', 'firing')"
COLUMNS: Final = (
    "id, agency_id, person_id, device_id, state, due_at, mode, lat, lon, accuracy_m, placed_at,"
    " note_sealed, started_at, ended_at, updated_at"
)


async def add(connection: Connection, values: Mapping[str, Any], note: str | None, now: datetime) -> bool:
    """Add a timer by column; what she wrote is sealed with her key. False when one of its id is there.

    Raises KeyUnavailable, Conflict `person_erased`.
    """
    row = dict(values)
    if note:
        spot = Spot("panic_timer", "note", row["id"])
        row["note_sealed"] = (await keys.seal_for(connection, row["person_id"], row["agency_id"], {spot: note}, now))[
            spot
        ]
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    return (
        await connection.fetchval(
            f"INSERT INTO panic_timer ({', '.join(row)}) VALUES ({places}) ON CONFLICT (id) DO NOTHING RETURNING id",  # noqa: S608
            *row.values(),
        )
        is not None
    )


_OF_WEARER: Final = "device_id = $1 AND person_id = $2"
"""Timers set on a device by a person: who wears it after her has nothing to do with them, and hears of none."""


async def running(connection: Connection, device_id: uuid.UUID, person_id: uuid.UUID | None) -> int:
    """How many timers of a device's wearer are running on it."""
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM panic_timer WHERE {_OF_WEARER} AND {LIVE}",  # noqa: S608
        device_id,
        person_id,
    )
    return found


async def find(
    connection: Connection, timer_id: uuid.UUID, device_id: uuid.UUID, person_id: uuid.UUID | None, *,
    lock: bool = False,
) -> Record | None:  # fmt: skip
    """A timer of a device's wearer."""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM panic_timer WHERE {_OF_WEARER} AND id = $3{' FOR UPDATE' if lock else ''}",  # noqa: S608
        device_id,
        person_id,
        timer_id,
    )
    return dict(row) if row is not None else None


async def of_wearer(
    connection: Connection, device_id: uuid.UUID, person_id: uuid.UUID | None, limit: int
) -> list[Record]:
    """The timers that a device's wearer set on it, the newest first."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM panic_timer WHERE {_OF_WEARER} ORDER BY started_at DESC, id LIMIT $3",  # noqa: S608
        device_id,
        person_id,
        limit,
    )
    return [dict(row) for row in rows]


async def of_person(connection: Connection, person_id: uuid.UUID, limit: int) -> list[Record]:
    """A person's timers with what she wrote (`note`), on whatever device, the oldest first."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM panic_timer WHERE person_id = $1 ORDER BY started_at, id LIMIT $2",  # noqa: S608
        person_id,
        limit,
    )
    return [{**row, "note": await note_of(connection, row)} for row in rows]


async def extend(connection: Connection, timer_id: uuid.UUID, due_at: datetime, now: datetime) -> None:
    """Put a timer's time off."""
    await connection.execute("UPDATE panic_timer SET due_at = $2, updated_at = $3 WHERE id = $1", timer_id, due_at, now)


async def end(connection: Connection, timer_id: uuid.UUID, state: str, now: datetime) -> None:
    """End a timer: where she was and what she wrote is in its panic, or is nobody's business any more."""
    await connection.execute(
        "UPDATE panic_timer SET state = $2, ended_at = $3, updated_at = $3, lat = NULL, lon = NULL, accuracy_m = NULL,"
        " placed_at = NULL, note_sealed = NULL WHERE id = $1",
        timer_id,
        state,
        now,
    )


async def hold(connection: Connection, timer_id: uuid.UUID, now: datetime) -> None:
    """Its panic is open; what she wrote waits for keys."""
    await connection.execute("UPDATE panic_timer SET state = 'firing', updated_at = $2 WHERE id = $1", timer_id, now)


async def due(connection: Connection, now: datetime, limit: int, without: list[uuid.UUID]) -> list[uuid.UUID]:
    """Timers whose time has come, the latest overdue first; none of `without`."""
    rows = await connection.fetch(
        f"SELECT id FROM panic_timer WHERE {LIVE} AND due_at <= $1 AND id <> ALL ($3::uuid[])"  # noqa: S608
        " ORDER BY due_at, id LIMIT $2",
        now,
        limit,
        without,
    )
    return [row["id"] for row in rows]


async def claim(connection: Connection, timer_id: uuid.UUID, now: datetime) -> Record | None:
    """A timer whose time has come, locked; None when another process has it, or it ended or was put off.

    `bearer_id`: the device by which who set it is known: the timer's own while she wears it, else another that she
    has or had last; None when she has none.
    """
    row = await connection.fetchrow(
        f"SELECT {COLUMNS}, (SELECT d.id FROM device d WHERE d.person_id = panic_timer.person_id"  # noqa: S608
        " AND d.role <> 'aggressor' ORDER BY d.id = panic_timer.device_id DESC,"
        " d.status IN ('registered', 'active') DESC, d.updated_at DESC, d.id LIMIT 1) AS bearer_id"
        f" FROM panic_timer WHERE id = $1 AND {LIVE} AND due_at <= $2 FOR UPDATE SKIP LOCKED",
        timer_id,
        now,
    )
    return dict(row) if row is not None else None


async def note_of(connection: Connection, timer: Mapping[str, Any]) -> str | None:
    """What she wrote; None for nothing, and for an erased person. Raises KeyUnavailable."""
    if timer["note_sealed"] is None:
        return None
    spot = Spot("panic_timer", "note", timer["id"])
    (value,) = await keys.open_each(connection, [(spot, timer["note_sealed"])])
    return value or None


async def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete timers that ended before a moment; returns how many."""
    rows = await connection.fetch(
        "DELETE FROM panic_timer WHERE id IN (SELECT id FROM panic_timer WHERE ended_at < $1 ORDER BY ended_at LIMIT $2"
        " FOR UPDATE SKIP LOCKED) RETURNING id",
        before,
        limit,
    )
    return len(rows)
