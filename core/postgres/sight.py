"""Who looks at whom, in which cells people were shown, what unlocks a person, and where she is."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from core.domain.sight import UNLOCKING, Coarse
from core.postgres.access import BY_NAME
from core.postgres.database import Connection
from core.postgres.reasons import LOOKS
from core.postgres.table import Record

LOOK: Final = (
    "id, agency_id, user_id, person_id, reason_code, reason, reason_sealed, from_at, until_at, reviewed_by,"
    " reviewed_at, verdict, review_note, review_note_sealed"
)
CELLS_MAX: Final = 200
"""Cells of one person that are remembered; beyond them the oldest still stand."""
POSITION_AGE: Final = timedelta(days=1)
"""How old a last position may be to be told."""


async def coarse_of(connection: Connection, person_ids: Iterable[str]) -> Coarse:
    """The coarse places of these people, by the cells they were shown in before."""
    wanted = sorted({uuid.UUID(person_id) for person_id in person_ids})
    if not wanted:
        return Coarse()
    rows = await connection.fetch(
        "SELECT person_id, array_agg(cell ORDER BY shown_at, cell) AS cells FROM coarse_cell"
        " WHERE person_id = ANY ($1::uuid[]) GROUP BY person_id",
        wanted,
    )
    return Coarse({str(row["person_id"]): row["cells"][:CELLS_MAX] for row in rows})


async def keep_cells(connection: Connection, agency_id: uuid.UUID, coarse: Coarse, now: datetime) -> None:
    """Remember the cells that people were shown in for the first time."""
    if coarse.fresh:
        await connection.execute(
            "INSERT INTO coarse_cell (person_id, cell, agency_id, shown_at)"
            " SELECT new.person_id, new.cell, $3, $4 FROM unnest($1::uuid[], $2::text[]) AS new (person_id, cell)"
            " WHERE EXISTS (SELECT FROM person p WHERE p.id = new.person_id) ON CONFLICT DO NOTHING",
            [uuid.UUID(person) for person, _ in coarse.fresh],
            [cell for _, cell in coarse.fresh],
            agency_id,
            now,
        )


async def looked_at(
    connection: Connection, agency_id: uuid.UUID, user_ids: Sequence[uuid.UUID], now: datetime
) -> dict[uuid.UUID, frozenset[str]]:
    """By user: at whom she looks now, for a reason she gave."""
    rows = await connection.fetch(
        "SELECT user_id, array_agg(DISTINCT person_id::text) AS people FROM person_look"
        " WHERE agency_id = $1 AND user_id = ANY ($2::uuid[]) AND until_at > $3 GROUP BY user_id",
        agency_id,
        user_ids,
        now,
    )
    return {row["user_id"]: frozenset(row["people"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Shown:
    """What says how exactly the places in some incidents are seen now."""

    unlocked: frozenset[str]
    """Ids of incidents that unlock where she is."""
    open: frozenset[str]
    """Ids of incidents that are open at all."""
    coarse: Coarse


async def shown_now(connection: Connection, incident_ids: Iterable[str], person_ids: Iterable[str]) -> Shown:
    """All of it for these incidents and these people, in one round trip: an alarm waits for it."""
    rows = await connection.fetch(
        "SELECT id::text AS id, type = ANY ($2::text[]) AS unlocks, NULL::text[] AS cells FROM incident"
        " WHERE id = ANY ($1::uuid[]) AND state <> 'resolved'"
        " UNION ALL SELECT person_id::text, NULL, array_agg(cell ORDER BY shown_at, cell) FROM coarse_cell"
        " WHERE person_id = ANY ($3::uuid[]) GROUP BY person_id",
        sorted({uuid.UUID(incident_id) for incident_id in incident_ids}),
        sorted(UNLOCKING),
        sorted({uuid.UUID(person_id) for person_id in person_ids}),
    )
    return Shown(
        frozenset(row["id"] for row in rows if row["unlocks"]),
        frozenset(row["id"] for row in rows if row["cells"] is None),
        Coarse({row["id"]: row["cells"][:CELLS_MAX] for row in rows if row["cells"] is not None}),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What unlocks a person's place."""

    protected: bool
    """Whether anybody is kept away from her: then the stricter rule is hers."""
    unlocked: bool
    """Whether a panic, a breach or an approach of hers is open, of the present."""
    involved: bool
    """Whether an incident with him as the aggressor is open."""


async def standing(connection: Connection, person_id: uuid.UUID) -> Standing:
    """What unlocks a person's place now."""
    row = await connection.fetchrow(
        "SELECT EXISTS (SELECT FROM protection_order WHERE victim_id = $1 OR protected_person_ids @> ARRAY[$1])"
        " OR EXISTS (SELECT FROM device WHERE person_id = $1 AND role = 'victim') AS protected,"
        " coalesce(bool_or(victim_id = $1 AND type = ANY ($2::text[]) AND NOT retrospective), false) AS unlocked,"
        " coalesce(bool_or(aggressor_id = $1), false) AS involved"
        " FROM incident WHERE $1 IN (victim_id, aggressor_id) AND state <> 'resolved'",
        person_id,
        sorted(UNLOCKING),
    )
    return Standing(row["protected"], row["unlocked"], row["involved"])


async def last_fix(connection: Connection, person_id: uuid.UUID, until: datetime) -> dict[str, Any] | None:
    """Where a device of a person was last, not after `until`: {lat, lon, accuracy_m, at}; None: unknown for a day."""
    row = await connection.fetchrow(
        """
        SELECT fix.lat, fix.lon, fix.accuracy_m, fix.live_at AS at FROM device d CROSS JOIN LATERAL (
            SELECT p.lat, p.lon, nullif(p.accuracy_m, 'NaN') AS accuracy_m, p.live_at FROM ping p
            WHERE p.role IN (0, 1, 2) AND p.device_number = d.number AND p.lat <> 'NaN'
            AND p.live_at >= $3::timestamptz AND p.live_at <= $2::timestamptz ORDER BY p.live_at DESC LIMIT 1
        ) fix WHERE d.person_id = $1 ORDER BY fix.live_at DESC LIMIT 1
        """,
        person_id,
        until,
        until - POSITION_AGE,
    )
    return None if row is None else dict(row)


async def add_look(connection: Connection, values: Record) -> Record:
    """Open a person's place to a user for a while."""
    sealed = await LOOKS.seal(
        connection, values["id"], "reason", values["reason"], values["agency_id"], values["person_id"],
        values["from_at"],
    )  # fmt: skip
    row = await connection.fetchrow(
        "INSERT INTO person_look (id, agency_id, user_id, person_id, reason_code, reason_sealed, from_at, until_at)"  # noqa: S608
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {LOOK}",
        values["id"],
        values["agency_id"],
        values["user_id"],
        values["person_id"],
        values["reason_code"],
        sealed,
        values["from_at"],
        values["until_at"],
    )
    return {**(await LOOKS.read(connection, [row]))[0], "reason": values["reason"]}


async def looks(connection: Connection, reviewed: bool | None, after: uuid.UUID | None, limit: int) -> list[Record]:
    """Reasoned looks of the scope's agency in the order of ids, reviewed or not."""
    rows = await connection.fetch(
        f"SELECT {LOOK}, {BY_NAME} FROM person_look WHERE ($1::boolean IS NULL OR (reviewed_at IS NOT NULL) = $1)"  # noqa: S608
        " AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
        reviewed,
        after,
        limit,
    )
    return await LOOKS.read(connection, rows)


async def lock_look(connection: Connection, look_id: uuid.UUID) -> Record | None:
    """One look, held until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {LOOK} FROM person_look WHERE id = $1 FOR NO KEY UPDATE",  # noqa: S608
        look_id,
    )
    return None if row is None else dict(row)


async def review_look(
    connection: Connection, seen: Record, by: uuid.UUID, verdict: str, note: str | None, now: datetime
) -> Record:
    """Keep what a reviewer found; one that was not justified ends at once."""
    row = await connection.fetchrow(
        "UPDATE person_look SET reviewed_by = $2, reviewed_at = $3, verdict = $4, review_note_sealed = $5,"  # noqa: S608
        " until_at = CASE WHEN $4 = 'unjustified'"
        " THEN greatest(least(until_at, $3), from_at + interval '1 ms') ELSE until_at END"
        f" WHERE id = $1 RETURNING {LOOK}",
        seen["id"],
        by,
        now,
        verdict,
        await LOOKS.seal(connection, seen["id"], "review_note", note, seen["agency_id"], seen["person_id"], now),
    )
    return (await LOOKS.read(connection, [row]))[0]
