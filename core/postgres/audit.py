"""The audit: who did or saw what, of whom, why, from where. Rows are only added; `core.postgres.chain` links them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from core.clock import to_ms
from core.ids import new_id
from core.postgres.database import Connection
from core.postgres.table import Record, Table

HOLDS: Final = Table(
    "audit_hold",
    "hold",
    (
        "person_id", "user_id", "reason", "reference", "since", "placed_by", "placed_at", "ends_at", "released_by",
        "released_at",
    ),
)  # fmt: skip
ID_SLACK: Final = timedelta(hours=1)
"""How much the time in a row's id may be behind the row's own."""
_INSERT: Final = (
    "INSERT INTO audit (id, at, agency_id, actor_kind, actor_id, action, subject_kind, subject_id, address, detail,"
    " role, session_id, purpose, person_ids)"
)
_SHOWN: Final = (
    "id, at, actor_kind, actor_id, role, session_id, action, purpose, subject_kind, subject_id, person_ids, address,"
    " detail"
)


async def write(
    connection: Connection,
    now: datetime,
    *,
    agency_id: uuid.UUID | None,
    actor_kind: str,
    actor_id: object,
    action: str,
    subject_kind: str | None = None,
    subject_id: uuid.UUID | None = None,
    address: str | None = None,
    detail: dict[str, Any] | None = None,
    role: str | None = None,
    session_id: uuid.UUID | None = None,
    purpose: str | None = None,
    person_ids: Iterable[uuid.UUID | None] = (),
) -> None:
    """Add a row; `detail` names what was changed or looked for, never a secret, a name or a place.

    `person_ids`: everybody whose data it was; who is None is left out.
    """
    await connection.execute(
        f"{_INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        new_id(),
        now,
        agency_id,
        actor_kind,
        str(actor_id) if actor_id is not None else None,
        action,
        subject_kind,
        subject_id,
        address,
        detail or {},
        role,
        session_id,
        purpose or None,
        list(dict.fromkeys(one for one in person_ids if one is not None)),
    )


async def write_openings(connection: Connection, now: datetime, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a row for each incident that the engine opened, in one statement: what, of whom, by which decision's order.

    A panic's row is her press; here nobody acted, so the actor is the service `engine`.
    """
    await connection.execute(
        f"{_INSERT} SELECT id, $2, agency, 'service', 'engine', 'incident.opened', 'incident', incident, NULL,"  # noqa: S608
        " jsonb_build_object('type', kind, 'severity', severity, 'order_id', order_id), NULL, NULL, NULL,"
        " array_remove(ARRAY[victim, aggressor], NULL) FROM unnest($1::uuid[], $3::uuid[], $4::uuid[], $5::text[],"
        " $6::text[], $7::uuid[], $8::uuid[], $9::uuid[])"
        " t (id, agency, incident, kind, severity, order_id, victim, aggressor)",
        [new_id() for _ in rows],
        now,
        *(
            [row[name] for row in rows]
            for name in ("agency_id", "id", "type", "severity", "order_id", "victim_id", "aggressor_id")
        ),
    )


async def people_of_orders(connection: Connection, order_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Both sides of these orders: whose home, work or school a zone of theirs tells."""
    rows = await connection.fetch(
        "SELECT DISTINCT person FROM protection_order, unnest(ARRAY[victim_id, aggressor_id]) AS person"
        " WHERE id = ANY($1::uuid[])",
        list(order_ids),
    )
    return [row["person"] for row in rows]


def first_id(moment: datetime) -> uuid.UUID:
    """An id below those of rows written since `moment`: ids begin with the time, so that a span is one of the index."""
    return uuid.UUID(int=max(0, to_ms(moment - ID_SLACK)) << 80)


class Look(NamedTuple):
    """One user's seeing of one person live, in one stretch of minutes."""

    id: uuid.UUID
    """The same for the same stretch, whoever writes it."""
    at: datetime
    agency_id: uuid.UUID
    user_id: uuid.UUID
    role: str
    session_id: uuid.UUID | None
    purpose: str
    address: str
    person_id: uuid.UUID
    seconds: float


async def write_looks(connection: Connection, looks: Sequence[Look], action: str) -> None:
    """Add what was seen live; a look that is there already stays as it is."""
    await connection.execute(
        f"{_INSERT} SELECT id, at, agency, 'user', seen_by::text, $10, 'person', person, nullif(address, ''),"  # noqa: S608
        " jsonb_build_object('window_s', seconds), role, session, nullif(purpose, ''), ARRAY[person]"
        " FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[],"
        " $8::text[], $9::uuid[], $11::double precision[])"
        " t (id, at, agency, seen_by, role, session, purpose, address, person, seconds) ON CONFLICT DO NOTHING",
        *[list(column) for column in list(zip(*looks, strict=True))[:9]],
        action,
        [look.seconds for look in looks],
    )


async def page(
    connection: Connection,
    agency_id: uuid.UUID,
    *,
    after: uuid.UUID | None = None,
    limit: int,
    subject_id: uuid.UUID | None = None,
    actor_id: uuid.UUID | None = None,
    person_id: uuid.UUID | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Record]:
    """The agency's rows, oldest first, that fit every condition given.

    Only the conditions given are in the statement, so that each combination is planned with the index that serves it.
    """
    conditions, arguments = ["agency_id = $1"], [agency_id, limit]

    def add(condition: str, value: Any) -> None:
        if value is not None:
            arguments.append(value)
            conditions.append(condition.replace("?", f"${len(arguments)}"))

    add("id > ?", after)
    add("id >= ?", None if since is None else first_id(since))
    add("subject_id = ?", subject_id)
    add("actor_id = ?", None if actor_id is None else str(actor_id))
    add("person_ids @> ARRAY[?::uuid] AND person_ids <> '{}'", person_id)
    add("action = ?", action)
    add("at >= ?", since)
    add("at < ?", until)
    rows = await connection.fetch(
        f"SELECT {_SHOWN} FROM audit WHERE {' AND '.join(conditions)} ORDER BY id LIMIT $2",  # noqa: S608 - our own words
        *arguments,
    )
    return [dict(row) for row in rows]
