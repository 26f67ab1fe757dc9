"""Who is to be told of an incident: agencies' routes, a victim's phone, a person's contacts.

Whoever can be read is told: a row that does not open keeps nobody else from hearing of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from core.postgres.agencies import ROUTES
from core.postgres.contacts import CONTACTS
from core.postgres.database import Connection
from core.postgres.devices import DEVICES

CONTACT_IS_TOLD: Final = (
    "verified_at IS NOT NULL AND consented_at IS NOT NULL AND revoked_at IS NULL AND NOT linked_to_aggressor"
)
"""Which rows of `contact` may be told of a panic."""
QUIET: Final = (
    "EXISTS (SELECT FROM incident i WHERE i.subject = 'person:' || {person} AND i.family = 'panic'"
    " AND i.state <> 'resolved' AND (coalesce((i.detail ->> 'duress')::boolean, false)"
    " OR coalesce((i.detail ->> 'cancel_unverified')::boolean, false)))"
)
"""Whether nothing may reach a person's phone and contacts, whatever happens (core.domain.panic.is_quiet)."""


async def agency_routes(connection: Connection, agency_ids: Sequence[uuid.UUID]) -> list[dict[str, Any]]:
    """The enabled notification routes of agencies, with their time zones."""
    rows = await connection.fetch(
        f"SELECT {ROUTES.selected}, (SELECT a.time_zone FROM agency a WHERE a.id = agency_id) AS time_zone"  # noqa: S608
        " FROM notification_route"
        " WHERE agency_id = ANY($1) AND enabled ORDER BY id",
        agency_ids,
    )
    return await ROUTES.read_what_opens(connection, rows)


async def push_devices(
    connection: Connection, person_ids: Sequence[uuid.UUID], *, quiet_too: bool = False
) -> list[dict[str, Any]]:
    """The phones of people that take push messages, with their carrier's language; none while they must be quiet.

    `quiet_too`: also then, for what her phone itself has just asked for, and would be missed.
    """
    quiet = "" if quiet_too else f" AND NOT {QUIET.format(person='d.person_id')}"
    rows = await connection.fetch(
        "SELECT d.id, d.agency_id, d.person_id, d.push_token, d.push_token_sealed, p.language"  # noqa: S608
        " FROM device d JOIN person p ON p.id = d.person_id"
        " WHERE d.person_id = ANY($1) AND num_nonnulls(d.push_token, d.push_token_sealed) > 0 AND d.role = 'victim'"
        f" AND d.status IN ('registered', 'active'){quiet} ORDER BY d.id",
        person_ids,
    )
    return [phone for phone in await DEVICES.read_what_opens(connection, rows) if phone["push_token"] is not None]


async def phones_of_aggressor(connection: Connection, person_id: uuid.UUID) -> list[dict[str, Any]]:
    """The phones of an aggressor that take push messages, with his language."""
    rows = await connection.fetch(
        "SELECT d.id, d.agency_id, d.person_id, d.push_token, d.push_token_sealed, p.language"
        " FROM device d JOIN person p ON p.id = d.person_id"
        " WHERE d.person_id = $1 AND d.kind = 'phone' AND d.role = 'aggressor' AND p.erased_at IS NULL"
        " AND num_nonnulls(d.push_token, d.push_token_sealed) > 0 AND d.status IN ('registered', 'active')"
        " ORDER BY d.id",
        person_id,
    )
    return [phone for phone in await DEVICES.read_what_opens(connection, rows) if phone["push_token"] is not None]


async def contacts(connection: Connection, person_id: uuid.UUID) -> list[dict[str, Any]]:
    """Whom a person's panic may be told: verified, consenting, not revoked, not linked to the aggressor."""
    rows = await connection.fetch(
        f"SELECT {CONTACTS.selected} FROM contact WHERE person_id = $1 AND {CONTACT_IS_TOLD}"  # noqa: S608
        f" AND NOT {QUIET.format(person='person_id')} ORDER BY id",
        person_id,
    )
    return await CONTACTS.read_what_opens(connection, rows)
