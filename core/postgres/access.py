"""Who may open what beyond her agency: conflicts, the named users of sealed cases, broken glass.

What is hidden from whom is decided in PostgreSQL (migration 0004: `hidden_from`); here it is written and read back.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.clock import utc_now
from core.postgres import reasons
from core.postgres.database import Connection
from core.postgres.table import Record

GLASS: Final = (
    "id, agency_id, user_id, asked_kind, asked_id, case_ids, reason_code, reason, reason_sealed, from_at, until_at,"
    " reviewed_by, reviewed_at, verdict, review_note, review_note_sealed"
)
BY_NAME: Final = "(SELECT username FROM app_user WHERE app_user.id = user_id) AS username"
"""Who it was, for whoever reviews it."""


async def add_conflict(
    connection: Connection, agency_id: uuid.UUID, values: Record, noted_by: uuid.UUID, now: datetime
) -> bool:
    """Note that a user is related to a person; False when that was known (its relation is the new one then)."""
    return bool(
        await connection.fetchval(
            "INSERT INTO user_conflict AS known (user_id, person_id, agency_id, relation, noted_by, noted_at)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, person_id) DO UPDATE"
            " SET relation = excluded.relation RETURNING xmax = 0",
            values["user_id"],
            values["person_id"],
            agency_id,
            values["relation"],
            noted_by,
            now,
        )
    )


async def conflicts(
    connection: Connection, user_id: uuid.UUID | None, person_id: uuid.UUID | None, limit: int
) -> list[Record]:
    """Conflicts of the scope's agency, newest first: of a user, of a person, or all."""
    rows = await connection.fetch(
        "SELECT user_id, person_id, relation, noted_by, noted_at FROM user_conflict"
        " WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::uuid IS NULL OR person_id = $2)"
        " ORDER BY noted_at DESC, user_id, person_id LIMIT $3",
        user_id,
        person_id,
        limit,
    )
    return [dict(row) for row in rows]


async def remove_conflict(connection: Connection, user_id: uuid.UUID, person_id: uuid.UUID) -> bool:
    """Take a conflict back; False when there is none."""
    return bool(
        await connection.fetchval(
            "DELETE FROM user_conflict WHERE user_id = $1 AND person_id = $2 RETURNING true", user_id, person_id
        )
    )


async def name_user(
    connection: Connection, agency_id: uuid.UUID, case_id: uuid.UUID, user_id: uuid.UUID, by: uuid.UUID, now: datetime
) -> bool:
    """Let a user open a case once it is sealed; False when she may."""
    added = await connection.fetchval(
        "INSERT INTO case_named_user (case_id, user_id, agency_id, named_by, named_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING RETURNING true",
        case_id,
        user_id,
        agency_id,
        by,
        now,
    )
    return bool(added)


async def named_users(connection: Connection, case_id: uuid.UUID) -> list[Record]:
    """Who may open a sealed case."""
    rows = await connection.fetch(
        "SELECT user_id, named_by, named_at FROM case_named_user WHERE case_id = $1 ORDER BY named_at, user_id", case_id
    )
    return [dict(row) for row in rows]


async def unname_user(connection: Connection, case_id: uuid.UUID, user_id: uuid.UUID) -> bool:
    """Let a user open a sealed case no longer; False when she could not."""
    return bool(
        await connection.fetchval(
            "DELETE FROM case_named_user WHERE case_id = $1 AND user_id = $2 RETURNING true", case_id, user_id
        )
    )


async def glass_cases(connection: Connection, kind: str, asked_id: uuid.UUID) -> list[uuid.UUID]:
    """The sealed cases behind a person, a case or an incident that the scope's user may break the glass of."""
    return list(await connection.fetchval("SELECT glass_cases($1, $2)", kind, asked_id))


async def break_glass(connection: Connection, values: Record, life_s: int) -> Record:
    """Open sealed cases to a user for a while. By PostgreSQL's own clock, which is the one that shuts them again."""
    sealed = await reasons.GLASS.seal(
        connection, values["id"], "reason", values["reason"], values["agency_id"], None, utc_now()
    )
    row = await connection.fetchrow(
        "INSERT INTO break_glass (id, agency_id, user_id, asked_kind, asked_id, case_ids, reason_code, reason_sealed,"  # noqa: S608
        " from_at, until_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), now() + make_interval(secs => $9))"
        f" RETURNING {GLASS}",
        values["id"],
        values["agency_id"],
        values["user_id"],
        values["asked_kind"],
        values["asked_id"],
        values["case_ids"],
        values["reason_code"],
        sealed,
        life_s,
    )
    return {**(await reasons.GLASS.read(connection, [row]))[0], "reason": values["reason"]}


async def broken_glass(
    connection: Connection, reviewed: bool | None, after: uuid.UUID | None, limit: int
) -> list[Record]:
    """Broken glass of the scope's agency in the order of ids, reviewed or not."""
    rows = await connection.fetch(
        f"SELECT {GLASS}, {BY_NAME} FROM break_glass WHERE ($1::boolean IS NULL OR (reviewed_at IS NOT NULL) = $1)"  # noqa: S608
        " AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
        reviewed,
        after,
        limit,
    )
    return await reasons.GLASS.read(connection, rows)


async def lock_glass(connection: Connection, glass_id: uuid.UUID) -> Record | None:
    """One time the glass was broken, held until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {GLASS} FROM break_glass WHERE id = $1 FOR NO KEY UPDATE",  # noqa: S608
        glass_id,
    )
    return dict(row) if row is not None else None


async def review_glass(
    connection: Connection, glass: Record, by: uuid.UUID, verdict: str, note: str | None, now: datetime
) -> Record:
    """Keep what a reviewer found; one that was not justified is shut at once."""
    row = await connection.fetchrow(
        "UPDATE break_glass SET reviewed_by = $2, reviewed_at = $3, verdict = $4, review_note_sealed = $5,"  # noqa: S608
        " until_at = CASE WHEN $4 = 'unjustified' THEN greatest(least(until_at, now()), from_at + interval '1 ms')"
        f" ELSE until_at END WHERE id = $1 RETURNING {GLASS}",
        glass["id"],
        by,
        now,
        verdict,
        await reasons.GLASS.seal(connection, glass["id"], "review_note", note, glass["agency_id"], None, now),
    )
    return (await reasons.GLASS.read(connection, [row]))[0]


async def sealed_alarms(connection: Connection) -> list[Record]:
    """That something grave waits in cases sealed from the scope's user, and nothing of whom."""
    rows = await connection.fetch("SELECT id, type, severity, state, opened_at FROM sealed_alarms()")
    return [dict(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Hidden:
    """Ids that a user may not see, canonical text."""

    related: frozenset[str] = frozenset()
    """Of whom she is related to."""
    sealed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.related or self.sealed)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self.related or identifier in self.sealed


async def hidden_from(
    connection: Connection, agency_id: uuid.UUID, user_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Hidden]:
    """What is hidden from each of an agency's users."""
    rows: Sequence[Any] = await connection.fetch(
        "SELECT reader, h.related::text[] AS related, h.sealed::text[] AS sealed"
        " FROM unnest($2::uuid[]) AS reader CROSS JOIN LATERAL hidden_from(reader, $1) AS h",
        agency_id,
        user_ids,
    )
    return {row["reader"]: Hidden(frozenset(row["related"]), frozenset(row["sealed"])) for row in rows}
