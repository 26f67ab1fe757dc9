"""Live links as stored: a token's digest, whose, for which incident, in which browser, until when."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from core.postgres.database import Connection
from core.postgres.table import Record, set_columns

LISTED_MAX: Final = 200
"""Links one list tells, the newest first."""

_SHOWN: Final = (
    "id, incident_id, contact_id, channel, created_at, expires_at, revoked_at, revoked_because, opened_at, openings"
)


class NewLink(NamedTuple):
    """A link that is made now."""

    id: uuid.UUID
    agency_id: uuid.UUID
    incident_id: uuid.UUID
    person_id: uuid.UUID
    contact_id: uuid.UUID
    channel: str
    digest: bytes


async def add(connection: Connection, links: Sequence[NewLink], now: datetime, expires_at: datetime) -> None:
    """Add links, in one statement."""
    await connection.execute(
        "INSERT INTO live_link (id, agency_id, incident_id, person_id, contact_id, channel, digest, created_at,"
        " expires_at) SELECT l.*, $8, $9 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[],"
        " $6::text[], $7::bytea[]) AS l",
        *(list(column) for column in zip(*links, strict=True)),
        now,
        expires_at,
    )


_FIND: Final = """
    SELECT l.id, l.agency_id, l.incident_id, l.person_id, l.contact_id, l.channel, l.browser_digest, l.expires_at,
        l.revoked_at AS link_revoked_at, l.opened_at, l.noted_at, l.openings, l.codes, l.code_digest, l.code_sent_at,
        l.code_tries, c.language, c.may_see, c.verified_at, c.consented_at, c.revoked_at, c.linked_to_aggressor,
        i.state, i.detail, i.place, i.opened_at AS started_at, i.acknowledged_at
    FROM live_link l JOIN contact c ON c.id = l.contact_id JOIN incident i ON i.id = l.incident_id
"""


async def by_token(connection: Connection, digest: bytes) -> Record | None:
    """The link of a token, with what decides whether it shows anything; locked until the transaction ends."""
    row = await connection.fetchrow(f"{_FIND} WHERE l.digest = $1 FOR NO KEY UPDATE OF l", digest)
    return dict(row) if row is not None else None


async def by_browser(connection: Connection, browser_digest: bytes) -> Record | None:
    """The newest link that a browser holds."""
    row = await connection.fetchrow(
        f"{_FIND} WHERE l.browser_digest = $1 ORDER BY l.created_at DESC LIMIT 1 FOR NO KEY UPDATE OF l", browser_digest
    )
    return dict(row) if row is not None else None


async def change(connection: Connection, link_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Set columns of a link."""
    await set_columns(connection, "live_link", link_id, values)


async def revoke(connection: Connection, column: str, of: uuid.UUID, because: str, now: datetime) -> list[Record]:
    """Take back the links of an incident or a contact (`column`) that still hold; returns them."""
    assert column in {"incident_id", "contact_id"}
    rows = await connection.fetch(
        f"UPDATE live_link SET revoked_at = $2, revoked_because = $3 WHERE {column} = $1"  # noqa: S608 - one of two
        " AND revoked_at IS NULL AND expires_at > $2 RETURNING id, agency_id, incident_id, person_id, contact_id",
        of,
        now,
        because,
    )
    return [dict(row) for row in rows]


async def of_incident(connection: Connection, incident_id: uuid.UUID) -> list[Record]:
    """The links of an incident, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_SHOWN} FROM live_link WHERE incident_id = $1 ORDER BY created_at DESC, id LIMIT {LISTED_MAX}",  # noqa: S608
        incident_id,
    )
    return [dict(row) for row in rows]


_UNSEEN: Final = (
    "revoked_because = 'dispatcher' AND EXISTS (SELECT FROM incident i WHERE i.id = incident_id"
    " AND i.state <> 'resolved' AND hidden_from_her(i.id, revoked_at))"
)
"""Whether a link was taken back by who goes on with a panic that appears cancelled: her phone is not to tell of it."""


async def of_person(connection: Connection, person_id: uuid.UUID) -> list[Record]:
    """The links to a person as her phone may know them, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_SHOWN}, {_UNSEEN} AS unseen FROM live_link WHERE person_id = $1"  # noqa: S608
        f" ORDER BY created_at DESC, id LIMIT {LISTED_MAX}",
        person_id,
    )
    return [{**row, "revoked_at": None, "revoked_because": None} if row["unseen"] else dict(row) for row in rows]


async def revoke_hers(connection: Connection, person_id: uuid.UUID, now: datetime) -> list[Record]:
    """As `revoke`, for what holds as far as her phone knows: the count must not tell that a dispatcher was there."""
    rows = await connection.fetch(
        "UPDATE live_link SET revoked_at = $2, revoked_because = 'her' WHERE person_id = $1 AND expires_at > $2"  # noqa: S608
        f" AND (revoked_at IS NULL OR {_UNSEEN})"
        " RETURNING id, agency_id, incident_id, person_id, contact_id",
        person_id,
        now,
    )
    return [dict(row) for row in rows]


async def phones(connection: Connection, person_id: uuid.UUID) -> list[tuple[int, int]]:
    """(shard, number) of each device that a protected person carries: where her live position is kept."""
    rows = await connection.fetch(
        "SELECT number, routes[1] AS shard FROM device WHERE person_id = $1 AND role = 'victim' AND status = 'active'"
        " AND routes <> '{}'",
        person_id,
    )
    return [(row["shard"], row["number"]) for row in rows]
