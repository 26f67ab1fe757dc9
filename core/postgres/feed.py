"""The feed: what dispatchers see, in commit order per agency.

What a transaction tells is a row of `feed_outgoing`, which its own commit moves (trigger `at_commit`): it locks the
agency, takes ids from the sequence, writes the feed and notifies. The lock goes only after the commit is visible. So
within an agency ids are in commit order and a reader that asks for "after my cursor" never skips a row; and nobody
waits for the lock while its holder is on its way to the next statement, only while it commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.sharing import SHARED
from core.postgres.database import Connection
from core.postgres.later import Later

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


async def append(connection: Any, events: Sequence[Event], now: datetime) -> None:
    """Have events in their agencies' feeds when the transaction commits.

    `connection` may be a `Later`: events of one agency then go with what else waits. Those of several go in the order
    of the agencies' ids, in which the commit locks them.
    """
    by_agency: dict[uuid.UUID, list[Event]] = {}
    for event in events:
        by_agency.setdefault(event.agency_id, []).append(event)
    for agency_id in sorted(by_agency):
        mine = by_agency[agency_id]
        bodies = [event.data for event in mine]
        if all(event.kind == SHARED for event in mine):
            # It may be another agency's user who acted: her scope writes into no feed but her own.
            await connection.execute("SELECT tell_other_agency($1, $2, $3)", agency_id, now, bodies)
        else:
            await connection.execute(
                "INSERT INTO feed_outgoing (agency_id, at, kinds, bodies)"
                " SELECT $1::uuid, $2::timestamptz, $3::text[], $4::jsonb[]",
                agency_id,
                now,
                [event.kind for event in mine],
                bodies,
            )
        if len(by_agency) > 1 and isinstance(connection, Later):
            await connection.send()


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
