"""Incidents and their timelines: rows, the one JSON form of them, and the statements of the fold.

Rows are locked `FOR NO KEY UPDATE`: who only refers to an incident (a transition, a delivery) does not wait for whoever
works on it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.clock import rfc3339
from core.domain.sealing import Spot
from core.errors import Conflict
from core.postgres import keys
from core.postgres.database import Connection

Row = dict[str, Any]
"""An incident as a mutable row, column → value."""
Key = tuple[str, str]
"""Subject and family: what incidents fold by."""
CLAIM_ROUNDS: Final = 5
"""Tries to open or find an incident that others open and resolve at the same moment."""

COLUMNS: Final = (
    "id", "type", "family", "severity", "state", "version", "episode_id", "agency_id", "jurisdiction_agency_id",
    "case_id", "order_id", "victim_id", "aggressor_id", "device_id", "subject", "occurred_at", "opened_at",
    "updated_at", "acknowledged_at", "dispatched_at", "resolved_at", "retrospective", "exercise", "provisional",
    "inside", "distance_m", "p_within", "closing_mps", "time_to_zone_s", "attribution", "assurance", "fix_age_s",
    "place", "owner_id", "escalation_step", "next_deadline_at", "do_not_call", "hazards", "language", "units",
    "outcome", "cause", "false_alarm_cause", "external_ref", "detail", "inside_since",
)  # fmt: skip
DEFAULTS: Final[Row] = {
    "state": "open",
    "version": 1,
    "retrospective": False,
    "exercise": False,
    "provisional": False,
    "inside": False,
    "escalation_step": 0,
    "do_not_call": False,
    "hazards": {},
    "units": [],
    "detail": {},
}
HIDDEN: Final = frozenset({"subject"})
"""Columns that are nobody's business outside."""
CHANGING: Final = tuple(
    name
    for name in COLUMNS
    if name not in {"id", "family", "subject", "agency_id", "opened_at", "occurred_at", "episode_id", "provisional"}
)
"""Columns an update writes."""

_LIST: Final = ", ".join(COLUMNS)
_INSERT: Final = (
    f"INSERT INTO incident ({_LIST}) VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))})"  # noqa: S608
    " ON CONFLICT (subject, family) WHERE state <> 'resolved' DO NOTHING RETURNING id"
)
_INSERT_FOR_PANIC: Final = (
    f"INSERT INTO incident ({_LIST}) SELECT {', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))}"  # noqa: S608
    f" WHERE NOT EXISTS (SELECT FROM panic WHERE panic.id = ${len(COLUMNS) + 1})"
    " ON CONFLICT (subject, family) WHERE state <> 'resolved' DO NOTHING RETURNING id"
)
_UPDATE: Final = (
    f"UPDATE incident SET {', '.join(f'{name} = ${n}' for n, name in enumerate(CHANGING, 2))} WHERE id = $1"  # noqa: S608
)
OPEN_BOUND: Final = 2_000
"""Open incidents a board holds; beyond it the most urgent stay."""


def new_row(**values: Any) -> Row:
    """A whole row out of what is known of a new incident."""
    return {**dict.fromkeys(COLUMNS), **{name: _fresh(value) for name, value in DEFAULTS.items()}, **values}


def _fresh(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list) else value


def incident_json(row: Any) -> dict[str, Any]:
    """An incident as `GET /v1/incidents/{id}`, the board and the feed give it, less its timeline."""
    return {name: _plain(row[name]) for name in COLUMNS if name not in HIDDEN}


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    return rfc3339(value) if isinstance(value, datetime) else value


def timeline_json(row: Any) -> dict[str, Any]:
    """A line of a timeline as it is shown."""
    return {
        "id": str(row["id"]),
        "at": rfc3339(row["at"]),
        "kind": row["kind"],
        "actor_id": _plain(row["actor_id"]),
        "data": row["data"],
    }


Line = tuple[uuid.UUID, uuid.UUID, datetime, str, uuid.UUID | None, dict[str, Any]]
"""A line of a timeline: id, incident, moment, kind, user who acted, data."""


async def lock_open(connection: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    """The unresolved incidents of (subject, family) keys, locked in the order of their ids."""
    wanted = sorted(keys)
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE state <> 'resolved'"  # noqa: S608
        " AND (subject, family) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id FOR NO KEY UPDATE",
        [subject for subject, _ in wanted],
        [family for _, family in wanted],
    )
    return {(row["subject"], row["family"]): dict(row) for row in rows}


async def insert_open(connection: Connection, row: Row) -> bool:
    """Add an incident unless one of its subject and family is open; waits for a rival's commit to know."""
    return await connection.fetchval(_INSERT, *(row[name] for name in COLUMNS)) is not None


async def open_for_panic(connection: Connection, row: Row, panic_id: uuid.UUID) -> bool:
    """As `insert_open`, unless the panic that asks for it is there already."""
    return await connection.fetchval(_INSERT_FOR_PANIC, *(row[name] for name in COLUMNS), panic_id) is not None


async def claim(connection: Connection, keys: set[Key], openings: dict[Key, Row]) -> tuple[dict[Key, Row], set[Key]]:
    """Lock the open incidents of `keys` and open the missing ones that `openings` has a row for.

    Returns all of them by key, and which were opened here. Rivals in other transactions are waited for, in one order.
    """
    opened: set[Key] = set()
    found = await lock_open(connection, keys)
    for _ in range(CLAIM_ROUNDS):
        lost: set[Key] = set()
        for key in sorted(openings.keys() - found.keys()):
            if await insert_open(connection, openings[key]):
                found[key] = openings[key]
                opened.add(key)
            else:
                lost.add(key)
        if not lost:
            return found, opened
        found |= await lock_open(connection, lost)
    raise Conflict("An incident is being opened and resolved by others at the same moment; try again.")


async def update_many(connection: Connection, rows: Sequence[Row]) -> None:
    """Write the changing columns of incidents that this transaction has locked."""
    await connection.executemany(_UPDATE, [(row["id"], *(row[name] for name in CHANGING)) for row in rows])


UNREADABLE: Final[dict[str, Any]] = {"unreadable": True}
"""Of a line whose words were changed, or whose key was lost."""
PRIVATE: Final = frozenset({"note", "differs", "override_reason"})
"""Of a line's data what people wrote in their own words: sealed."""


Sealer = tuple[uuid.UUID | None, uuid.UUID]
"""Person and agency: the key of the one, without one of the other, seals what people wrote on an incident."""


async def add_lines(
    connection: Connection, lines: Sequence[Line], sealers: Mapping[uuid.UUID, Sealer] | None = None
) -> None:
    """Add lines to timelines; a line whose id is there already is a repeat and adds nothing.

    What people wrote is sealed with the key of the incident's protected person, without one with the agency's;
    who knows them gives them by incident in `sealers`.
    """
    rows = []
    for line in lines:
        private = {name: value for name, value in line[5].items() if name in PRIVATE}
        sealed = await _seal_line(connection, line, private, (sealers or {}).get(line[1])) if private else None
        rows.append((*line[:5], {name: value for name, value in line[5].items() if name not in private}, sealed))
    await connection.executemany(
        "INSERT INTO timeline (id, incident_id, at, kind, actor_id, data, private_sealed)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        rows,
    )


async def _seal_line(connection: Connection, line: Line, private: dict[str, Any], sealer: Sealer | None) -> bytes:
    if sealer is None:
        row = await connection.fetchrow("SELECT victim_id, agency_id FROM incident WHERE id = $1", line[1])
        sealer = (row["victim_id"], row["agency_id"])
    spot = Spot("timeline", "private", line[0])
    return (await keys.seal_for(connection, *sealer, {spot: private}, line[2], or_agency=True))[spot]


async def open_lines(connection: Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Lines (`id`, `data` and `private_sealed` at least) with what people wrote; nothing of an erased person's.

    A line whose words do not open says so (`data.unreadable`), and keeps no other from being read.
    """
    sealed = [row for row in rows if row["private_sealed"] is not None]
    opened = await keys.open_each(
        connection, [(Spot("timeline", "private", row["id"]), row["private_sealed"]) for row in sealed]
    )
    private = {
        row["id"]: UNREADABLE if isinstance(value, keys.Spoilt) else value or {}
        for row, value in zip(sealed, opened, strict=True)
    }
    return [{**row, "data": {**row["data"], **private.get(row["id"], {})}} for row in rows]


async def recent_of_cases(
    connection: Connection, case_ids: Sequence[uuid.UUID], since: datetime
) -> dict[uuid.UUID, list[Row]]:
    """By case: its incidents that are open or were touched since, the latest first."""
    rows = await connection.fetch(
        "SELECT id, case_id, order_id, subject, family, type, severity, state, episode_id, device_id, updated_at,"
        " retrospective, detail->'signals_on' AS signals_on FROM incident"
        " WHERE case_id = ANY($1) AND (state <> 'resolved' OR updated_at >= $2) ORDER BY updated_at DESC, id DESC",
        case_ids,
        since,
    )
    found: dict[uuid.UUID, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case_id"], []).append(dict(row))
    return found


async def lock(connection: Connection, agency_id: uuid.UUID, incident_id: uuid.UUID) -> Row | None:
    """An agency's incident, locked; None when it has none of that id."""
    row = await connection.fetchrow(
        f"SELECT {_LIST} FROM incident WHERE id = $1 AND agency_id = $2 FOR NO KEY UPDATE",  # noqa: S608
        incident_id,
        agency_id,
    )
    return dict(row) if row is not None else None


async def lock_many(connection: Connection, incident_ids: Sequence[uuid.UUID]) -> list[Row]:
    """Incidents of any agency that are not resolved, locked in the order of their ids."""
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE id = ANY($1) AND state <> 'resolved' ORDER BY id FOR NO KEY UPDATE",  # noqa: S608
        incident_ids,
    )
    return [dict(row) for row in rows]


async def lock_open_of_family(connection: Connection, family: str) -> list[Row]:
    """The open incidents of a family whose rows nobody else holds just now, locked."""
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE family = $1 AND state <> 'resolved' ORDER BY id"  # noqa: S608
        " FOR NO KEY UPDATE SKIP LOCKED",
        family,
    )
    return [dict(row) for row in rows]


async def lock_untold(connection: Connection, limit: int) -> list[Row]:
    """Open incidents of which somebody waits to be told (`detail.untold`), but panics; locked, the latest last."""
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE detail ? 'untold' AND state <> 'resolved' AND family <> 'panic'"  # noqa: S608
        " ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
        limit,
    )
    return [dict(row) for row in rows]


async def lock_overlapping(
    connection: Connection, case_id: uuid.UUID, subject: str, family: str, kind: str, begins: datetime, ends: datetime
) -> Row | None:
    """The earliest incident of a subject (or of its past) and family that was going on between two moments, locked.

    One that is not resolved goes on; one that tells of the past went on until its `detail.until`. What is resolved
    counts only if it was of the type `kind`.
    """
    row = await connection.fetchrow(
        f"SELECT {_LIST} FROM incident WHERE case_id = $1 AND family = $3"  # noqa: S608
        " AND (subject = $2 OR starts_with(subject, $2 || '@')) AND updated_at >= $4 AND occurred_at <= $5"
        " AND CASE WHEN retrospective THEN coalesce((detail->>'until')::timestamptz, occurred_at)"
        " ELSE coalesce(resolved_at, 'infinity') END >= $4 AND (type = $6 OR state <> 'resolved')"
        " ORDER BY occurred_at, id LIMIT 1 FOR NO KEY UPDATE",
        case_id,
        subject,
        family,
        begins,
        ends,
        kind,
    )
    return dict(row) if row is not None else None


async def of_episode(connection: Connection, agency_id: uuid.UUID, episode_id: uuid.UUID, limit: int) -> list[Row]:
    """An agency's incidents of one episode, in the order they were opened: what tells them apart, no more."""
    rows = await connection.fetch(
        "SELECT id, type, severity, state, occurred_at, opened_at, retrospective, outcome FROM incident"
        " WHERE episode_id = $1 AND agency_id = $2 ORDER BY opened_at, id LIMIT $3",
        episode_id,
        agency_id,
        limit,
    )
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


async def find(connection: Connection, agency_id: uuid.UUID, incident_id: uuid.UUID) -> Row | None:
    """An agency's incident; None when it has none of that id."""
    row = await connection.fetchrow(
        f"SELECT {_LIST} FROM incident WHERE id = $1 AND agency_id = $2",  # noqa: S608
        incident_id,
        agency_id,
    )
    return dict(row) if row is not None else None


async def line_exists(connection: Connection, line_id: uuid.UUID) -> dict[str, Any] | None:
    """The kind and data of a timeline line, if there is one of that id."""
    row = await connection.fetchrow("SELECT id, kind, data, private_sealed FROM timeline WHERE id = $1", line_id)
    return (await open_lines(connection, [row]))[0] if row is not None else None


async def timeline(connection: Connection, incident_id: uuid.UUID, limit: int) -> list[dict[str, Any]]:
    """An incident's newest `limit` lines, oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM (SELECT * FROM timeline WHERE incident_id = $1 ORDER BY ordinal DESC LIMIT $2) newest"
        " ORDER BY ordinal",
        incident_id,
        limit,
    )
    return [timeline_json(line) for line in await open_lines(connection, rows)]


async def open_of_agency(connection: Connection, agency_id: uuid.UUID) -> list[dict[str, Any]]:
    """An agency's unresolved incidents: the most urgent first, then duress, what was pressed most, and the newest."""
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE agency_id = $1 AND state <> 'resolved'"  # noqa: S608
        " ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), detail ? 'duress' DESC,"
        " coalesce((detail->>'presses')::int, 1) DESC, opened_at DESC, id LIMIT $2",
        agency_id,
        OPEN_BOUND,
    )
    return [incident_json(row) for row in rows]


FILTERS: Final[dict[str, str]] = {
    "state": "state = ANY({}::text[])",
    "type": "type = ANY({}::text[])",
    "severity": "severity = ANY({}::text[])",
    "order": "order_id = {}::uuid",
    "person": "{}::uuid IN (victim_id, aggressor_id)",
    "since": "opened_at >= {}::timestamptz",
    "after": "id < {}::uuid",
}


async def listing(
    connection: Connection, agency_id: uuid.UUID, filters: dict[str, Any], limit: int
) -> list[dict[str, Any]]:
    """An agency's incidents, newest first; `filters` are named in FILTERS, None sets none."""
    conditions, values = ["agency_id = $1"], [agency_id, limit]
    for name, value in filters.items():
        if value is not None:
            values.append(value)
            conditions.append(FILTERS[name].format(f"${len(values)}"))
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM incident WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT $2",  # noqa: S608
        *values,
    )
    return [incident_json(row) for row in rows]


EPISODE_GAP: Final = timedelta(minutes=15)
"""Incidents of a case no further apart are one episode."""
