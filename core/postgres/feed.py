"""The feed: what dispatchers see, in commit order per agency.

A row's id is taken from the sequence while the agency's advisory transaction lock is held, last before commit;
the lock goes only after the commit is visible. So within an agency ids are in commit order and a reader that
asks for "after my cursor" never skips a row.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.sharing import SHARED
from core.postgres.database import Connection

LOCK_SEED: Final = 7_067_002
"""Seed of the agencies' advisory lock keys, so that they meet no other use of advisory locks."""
CHANNEL: Final = "feed"
"""NOTIFY channel; the payload is the agency's id."""
TRIM_CURSOR: Final = "feed_trim"
"""Row of `log_cursor` that says up to which id the feed was trimmed."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something dispatchers of an agency should see."""

    agency_id: uuid.UUID
    kind: str
    data: dict[str, Any]


# The lock comes first because its CTE must yield a row before `nextval` is evaluated for any row joined to it;
# `ordinality` keeps the order in which the action emitted.
_APPEND = """
    WITH held AS MATERIALIZED (
        SELECT 1 AS one, pg_advisory_xact_lock(hashtextextended($1::uuid::text, $2)) IS NULL AS locked
    ), wanted AS MATERIALIZED (
        SELECT event.kind, event.data, event.ordinality
        FROM unnest($4::text[], $5::jsonb[]) WITH ORDINALITY AS event (kind, data, ordinality)
        JOIN held ON held.one = 1
        ORDER BY event.ordinality
    ), added AS (
        INSERT INTO feed (id, agency_id, kind, at, data)
        SELECT nextval('feed_id'), $1::uuid, wanted.kind, $3::timestamptz, wanted.data
        FROM wanted ORDER BY wanted.ordinality
        RETURNING id
    )
    SELECT max(id), pg_notify('feed', $1::uuid::text) FROM added
"""


async def append(connection: Connection, events: Sequence[Event], now: datetime) -> None:
    """Add events as the last act of a transaction; agencies are locked in the order of their ids."""
    by_agency: dict[uuid.UUID, list[Event]] = {}
    for event in events:
        by_agency.setdefault(event.agency_id, []).append(event)
    for agency_id in sorted(by_agency):
        mine = by_agency[agency_id]
        if all(event.kind == SHARED for event in mine):
            # It may be another agency's user who acted: her scope writes into no feed but her own.
            bodies = [event.data for event in mine]
            await connection.execute("SELECT tell_other_agency($1, $2, $3, $4)", agency_id, LOCK_SEED, now, bodies)
            continue
        await connection.fetchrow(
            _APPEND, agency_id, LOCK_SEED, now, [event.kind for event in mine], [event.data for event in mine]
        )


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One event as stored; `data` is its JSON text, passed on without being parsed."""

    id: int
    kind: str
    at: datetime
    data: str


async def read_after(connection: Connection, agency_id: uuid.UUID, cursor: int, limit: int) -> list[FeedRow]:
    """At most `limit` events of an agency after `cursor`, oldest first."""
    rows = await connection.fetch(
        "SELECT id, kind, at, data::text AS data FROM feed WHERE agency_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        agency_id,
        cursor,
        limit,
    )
    return [FeedRow(row["id"], row["kind"], row["at"], row["data"]) for row in rows]


async def head(connection: Connection, agency_id: uuid.UUID) -> int:
    """The agency's newest cursor as this transaction sees it; never below what was trimmed."""
    newest = await connection.fetchval("SELECT max(id) FROM feed WHERE agency_id = $1", agency_id)
    return max(int(newest or 0), await trimmed(connection))


async def trimmed(connection: Connection) -> int:
    """The greatest id ever trimmed; a cursor below it may have missed something."""
    entry = await connection.fetchval("SELECT entry FROM log_cursor WHERE name = $1", TRIM_CURSOR)
    return int(entry or 0)


async def issued(connection: Connection) -> int:
    """The greatest id ever given to an event; a cursor beyond it was never ours."""
    return int(await connection.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM feed_id"))


async def trim(connection: Connection, before: datetime, now: datetime, limit: int) -> int:
    """Drop at most `limit` events older than `before` and remember up to where; returns how many.

    Must run in a transaction, so that no reader sees the rows gone and the mark unmoved.
    """
    row = await connection.fetchrow(
        "WITH gone AS (DELETE FROM feed WHERE id IN (SELECT id FROM feed WHERE at < $1 ORDER BY at, id LIMIT $2)"
        " RETURNING id) SELECT count(*) AS count, max(id) AS last FROM gone",
        before,
        limit,
    )
    if row["last"] is not None:
        await connection.execute(
            "INSERT INTO log_cursor (name, entry, updated_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE"
            " SET entry = greatest(log_cursor.entry::bigint, excluded.entry::bigint)::text, updated_at = $3",
            TRIM_CURSOR,
            str(row["last"]),
            now,
        )
    return int(row["count"])
