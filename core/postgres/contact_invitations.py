"""Invitations to be a trusted contact as stored: a token's digest, whose, until when, and a code for each address."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Spot
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.table import Record, add_row, set_columns

_COLUMNS: Final = (
    "id, agency_id, person_id, contact_id, made_at, expires_at, made_by, inviter_sealed, opened_at, verified_at,"
    " consented_at, refused_at, ended_at"
)


async def add(connection: Connection, values: dict[str, Any], inviter: str | None, now: datetime) -> None:
    """Add an invitation; `inviter`: the name that it gives, sealed with her key."""
    if inviter is not None:
        spot = Spot("contact_invitation", "inviter", values["id"])
        sealed = await keys.seal_for(connection, values["person_id"], values["agency_id"], {spot: inviter}, now)
        values = {**values, "inviter_sealed": sealed[spot]}
    await add_row(connection, "contact_invitation", values)


async def by_token(connection: Connection, digest: bytes) -> Record | None:
    """The invitation of a token, with the name it gives (`inviter`). Who changes one holds its contact's row."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM contact_invitation WHERE digest = $1",  # noqa: S608
        digest,
    )
    if row is None:
        return None
    found = dict(row)
    sealed = found.pop("inviter_sealed")
    inviter = None
    if sealed is not None:
        (inviter,) = await keys.open_each(connection, [(Spot("contact_invitation", "inviter", found["id"]), sealed)])
    return {**found, "inviter": inviter if isinstance(inviter, str) else None}


async def last_of(connection: Connection, contact_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Record]:
    """The last invitation of each contact that has one."""
    rows = await connection.fetch(
        f"SELECT DISTINCT ON (contact_id) {_COLUMNS} FROM contact_invitation WHERE contact_id = ANY ($1)"  # noqa: S608
        " ORDER BY contact_id, made_at DESC, id DESC",
        list(contact_ids),
    )
    return {row["contact_id"]: dict(row) for row in rows}


async def change(connection: Connection, invitation_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Set columns of an invitation."""
    await set_columns(connection, "contact_invitation", invitation_id, values)


async def end_of_contact(connection: Connection, contact_id: uuid.UUID, now: datetime) -> None:
    """Let every invitation of a contact say nothing any more."""
    await connection.execute(
        "UPDATE contact_invitation SET ended_at = $2 WHERE contact_id = $1 AND ended_at IS NULL", contact_id, now
    )


async def codes_of(connection: Connection, invitation_id: uuid.UUID) -> dict[int, Record]:
    """By place among the contact's ways: the code that went there."""
    rows = await connection.fetch(
        "SELECT way, digest, sent_at, sent, tries, verified_at FROM contact_code WHERE invitation_id = $1",
        invitation_id,
    )
    return {row["way"]: dict(row) for row in rows}


async def put_code(connection: Connection, invitation: Record, way: int, digest: bytes, now: datetime) -> None:
    """A new code for a way; the one before holds no longer."""
    await connection.execute(
        "INSERT INTO contact_code (invitation_id, way, agency_id, person_id, digest, sent_at, sent, tries)"
        " VALUES ($1, $2, $3, $4, $5, $6, 1, 0) ON CONFLICT (invitation_id, way) DO UPDATE"
        " SET digest = excluded.digest, sent_at = excluded.sent_at, sent = contact_code.sent + 1, tries = 0",
        invitation["id"],
        way,
        invitation["agency_id"],
        invitation["person_id"],
        digest,
        now,
    )


async def note_try(connection: Connection, invitation_id: uuid.UUID, way: int, verified_at: datetime | None) -> None:
    """Count a try at a code; `verified_at`: it was the right one."""
    await connection.execute(
        "UPDATE contact_code SET tries = tries + 1, verified_at = coalesce($3, verified_at)"
        " WHERE invitation_id = $1 AND way = $2",
        invitation_id,
        way,
        verified_at,
    )


async def has_open_panic(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether a panic that she pressed is not over; a hidden one, which her phone must not know of, is none."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM incident WHERE victim_id = $1 AND type = 'panic' AND state <> 'resolved'"
            " AND detail ->> 'presses' IS DISTINCT FROM '0')",
            person_id,
        )
    )


async def of_person(connection: Connection, person_id: uuid.UUID) -> int:
    """How many contacts a person has that were not taken back."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM contact WHERE person_id = $1 AND revoked_at IS NULL", person_id
    )
    return count
