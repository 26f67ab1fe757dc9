"""Drills as stored: what was tested when, what became of it, and when a device or a contact was last proved."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.postgres.contacts import CONTACTS
from core.postgres.database import Connection
from core.postgres.routing import CONTACT_IS_TOLD
from core.postgres.table import Record, add_row

COLUMNS: Final = (
    "id", "agency_id", "kind", "person_id", "device_id", "contact_id", "started_at", "journal_s", "answers_by",
    "sent_at", "proved_at", "failed_at", "failure",
)  # fmt: skip
_LIST: Final = ", ".join(COLUMNS)


async def add(connection: Connection, values: dict[str, Any]) -> None:
    """Add a drill."""
    await add_row(connection, "drill", values)


async def of_device(connection: Connection, device_id: uuid.UUID, drill_id: uuid.UUID) -> Record | None:
    """A device's own drill, locked."""
    row = await connection.fetchrow(
        f"SELECT {_LIST} FROM drill WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE",  # noqa: S608
        drill_id,
        device_id,
    )
    return dict(row) if row is not None else None


async def latest(connection: Connection, column: str, of: uuid.UUID) -> Record | None:
    """The newest drill of a device or a contact (`column`)."""
    assert column in {"device_id", "contact_id"}
    row = await connection.fetchrow(
        f"SELECT {_LIST} FROM drill WHERE {column} = $1 ORDER BY started_at DESC LIMIT 1",  # noqa: S608 - one of two
        of,
    )
    return dict(row) if row is not None else None


async def prove(connection: Connection, drill: Record, at: datetime) -> None:
    """Mark a drill as proved, and whom it proves."""
    await connection.execute(
        "UPDATE drill SET proved_at = $2, sent_at = coalesce(sent_at, $2), failed_at = NULL, failure = NULL"
        " WHERE id = $1",
        drill["id"],
        at,
    )
    for table, column in (("device", "device_id"), ("contact", "contact_id")):
        if drill[column] is not None:
            await connection.execute(
                f"UPDATE {table} SET last_proved_at = greatest(last_proved_at, $2) WHERE id = $1",  # noqa: S608
                drill[column],
                at,
            )


async def fail(connection: Connection, drill_id: uuid.UUID, failure: str, now: datetime) -> None:
    """Mark a drill as failed."""
    await connection.execute(
        "UPDATE drill SET failed_at = $2, failure = $3 WHERE id = $1 AND proved_at IS NULL", drill_id, now, failure
    )


async def answered(connection: Connection, limit: int) -> list[Record]:
    """Contacts' drills whose message was opened since: drill's columns, `answered_at`."""
    rows = await connection.fetch(
        f"""
        SELECT {", ".join("r." + name for name in COLUMNS)}, found.answered_at FROM drill r CROSS JOIN LATERAL (
            SELECT min(coalesce(d.seen_at, d.updated_at)) AS answered_at FROM delivery d
            WHERE d.cause = r.id::text AND d.template = 'drill_contact' AND d.state IN ('seen', 'acknowledged')) found
        WHERE r.kind = 'contact' AND r.proved_at IS NULL AND found.answered_at IS NOT NULL LIMIT $1
        """,  # noqa: S608
        limit,
    )
    return [dict(row) for row in rows]


async def note_sent(connection: Connection, limit: int) -> None:
    """Take over from deliveries when messages of drills left."""
    await connection.execute(
        """
        UPDATE drill r SET sent_at = found.sent_at FROM (
            SELECT r.id, min(d.sent_at) AS sent_at FROM drill r JOIN delivery d ON d.cause = r.id::text
                AND d.template IN ('drill_device', 'drill_contact')
            WHERE r.sent_at IS NULL AND r.failed_at IS NULL AND d.sent_at IS NOT NULL GROUP BY r.id LIMIT $1) found
        WHERE found.id = r.id
        """,
        limit,
    )


async def unanswered(connection: Connection, now: datetime, limit: int) -> list[Record]:
    """Drills of devices and contacts that nobody answered in time, locked."""
    rows = await connection.fetch(
        f"SELECT {_LIST} FROM drill WHERE proved_at IS NULL AND failed_at IS NULL AND answers_by < $1"  # noqa: S608
        " AND kind <> 'server' ORDER BY answers_by LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [dict(row) for row in rows]


async def overdue_devices(connection: Connection, before: datetime, now: datetime, limit: int) -> list[Record]:
    """Protected persons' devices not proved since `before`, of which no task tells yet: id, agency_id, case_id."""
    rows = await connection.fetch(
        """
        SELECT d.id, d.agency_id, d.person_id, (SELECT o.case_id FROM protection_order o
            WHERE o.victim_id = d.person_id AND o.status = 'in_force' LIMIT 1) AS case_id,
            coalesce(d.last_proved_at, d.fitted_at, d.created_at) AS since
        FROM device d
        WHERE d.role = 'victim' AND d.status = 'active' AND d.person_id IS NOT NULL
        AND d.kind IN ('phone', 'victim_unit')
        AND coalesce(d.last_proved_at, d.fitted_at, d.created_at) < $1
        AND EXISTS (SELECT FROM protection_order o WHERE o.victim_id = d.person_id AND o.status = 'in_force'
            AND o.valid_from <= $2 AND (o.valid_until IS NULL OR o.valid_until > $2))
        AND NOT EXISTS (SELECT FROM task t WHERE t.agency_id = d.agency_id AND t.kind = 'device_unproved'
            AND t.done_at IS NULL AND t.detail ->> 'device_id' = d.id::text)
        ORDER BY d.id LIMIT $3
        """,
        before,
        now,
        limit,
    )
    return [dict(row) for row in rows]


async def tasks_about(connection: Connection, column: str, of: uuid.UUID) -> list[uuid.UUID]:
    """Open tasks that ask for a proof of a device or a contact (`column`)."""
    assert column in {"device_id", "contact_id"}
    rows = await connection.fetch(
        "SELECT id FROM task WHERE done_at IS NULL AND kind IN ('device_unproved', 'contact_unproved')"  # noqa: S608
        f" AND detail ->> '{column}' = $1 AND opened_at IS NOT NULL",
        str(of),
    )
    return [row["id"] for row in rows]


async def due_contacts(connection: Connection, before: datetime, limit: int) -> list[Record]:
    """Contacts that may be sent a test now: told of a panic, none sent since `before`, nothing open of hers."""
    rows = await connection.fetch(
        f"""
        SELECT {", ".join("c." + name.strip() for name in CONTACTS.selected.split(","))}, g.time_zone
        FROM contact c JOIN agency g ON g.id = c.agency_id
        WHERE {CONTACT_IS_TOLD} AND greatest(c.consented_at, c.verified_at) < $1
        AND NOT EXISTS (SELECT FROM drill r WHERE r.contact_id = c.id AND r.started_at >= $1)
        AND NOT EXISTS (SELECT FROM incident i WHERE i.victim_id = c.person_id AND i.state <> 'resolved')
        AND EXISTS (SELECT FROM protection_order o WHERE o.victim_id = c.person_id AND o.status = 'in_force')
        ORDER BY c.id LIMIT $2
        """,  # noqa: S608
        before,
        limit,
    )
    zones = {row["id"]: row["time_zone"] for row in rows}
    found = await CONTACTS.read_what_opens(connection, rows)
    return [{**contact, "time_zone": zones[contact["id"]]} for contact in found]


async def is_in_danger(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether anything of a person's is open: then nobody of hers is sent a test."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM incident WHERE victim_id = $1 AND state <> 'resolved')", person_id
        )
    )


async def contacts_of(connection: Connection, person_id: uuid.UUID) -> list[Record]:
    """Whom a person's panic is told, and when each was last proved; no name and no address."""
    rows = await connection.fetch(
        f"SELECT id, last_proved_at FROM contact WHERE person_id = $1 AND {CONTACT_IS_TOLD} ORDER BY id",  # noqa: S608
        person_id,
    )
    return [dict(row) for row in rows]


# the server's own ---------------------------------------------------------------------------------------------------


async def self_drill_agency(connection: Connection, self_id: uuid.UUID, name: str, now: datetime) -> uuid.UUID | None:
    """The agency of the server's own drills; None while there is no other."""
    found: uuid.UUID | None = await connection.fetchval("SELECT self_drill_agency($1, $2, $3)", self_id, name, now)
    return found


async def delivery_state(connection: Connection, delivery_id: uuid.UUID) -> str | None:
    """How far a delivery has come."""
    state: str | None = await connection.fetchval("SELECT state FROM delivery WHERE id = $1", delivery_id)
    return state


async def end_server_drill(
    connection: Connection, drill_id: uuid.UUID, sent_at: datetime | None, failure: str | None, now: datetime
) -> None:
    """Mark how the server's own drill ended."""
    await connection.execute(
        "UPDATE drill SET sent_at = $2, failure = $3::text,"
        " failed_at = CASE WHEN $3::text IS NOT NULL THEN $4::timestamptz END,"
        " proved_at = CASE WHEN $3::text IS NULL THEN $4::timestamptz END WHERE id = $1",
        drill_id,
        sent_at,
        failure,
        now,
    )
