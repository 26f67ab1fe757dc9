"""Outages as agencies and protected persons are told of them: of the service, and incidents of the type `outage`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.postgres.database import Connection
from core.postgres.people import PEOPLE
from core.postgres.table import Record

LISTED_MAX: Final = 100
BEAT_NAME: Final = "outage-clock"
"""Under what name processes beat that look for missing parts; `red` in the detail says which, and since when."""
_LIST: Final = "id, what, started_at, told_at, ended_at"


async def begin(
    connection: Connection, outage_id: uuid.UUID, what: str, started_at: datetime, now: datetime
) -> Record | None:
    """An outage of a part that begins; None when it is known already, or was and another process has ended it."""
    row = await connection.fetchrow(
        "INSERT INTO service_outage (id, what, started_at, told_at) VALUES ($1, $2, $3, $4)"  # noqa: S608
        f" ON CONFLICT DO NOTHING RETURNING {_LIST}",
        outage_id,
        what,
        started_at,
        now,
    )
    return dict(row) if row is not None else None


async def is_seen(connection: Connection, what: str, since: datetime, *, but: str) -> bool:
    """Whether another process that lives, having beaten since, misses a part; `but`: the instance that asks."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM service_beat WHERE name = $1 AND instance <> $2 AND beat_at >= $3"
            " AND detail->'red' ? $4)",
            BEAT_NAME,
            but,
            since,
            what,
        )
    )


async def end(connection: Connection, what: str, now: datetime) -> Record | None:
    """The outage of a part that ends; None when none was on."""
    row = await connection.fetchrow(
        f"UPDATE service_outage SET ended_at = $2 WHERE what = $1 AND ended_at IS NULL RETURNING {_LIST}",  # noqa: S608
        what,
        now,
    )
    return dict(row) if row is not None else None


async def agencies(connection: Connection, but: uuid.UUID) -> list[Record]:
    """Every agency (id, time_zone) but one."""
    return [
        dict(row) for row in await connection.fetch("SELECT id, time_zone FROM agency WHERE id <> $1 ORDER BY id", but)
    ]


async def listing(connection: Connection, agency_id: uuid.UUID, since: datetime) -> list[Record]:
    """What is on, and what ended since: the service's and the agency's own, with what the agency did about it."""
    rows = await connection.fetch(
        """
        SELECT o.*, k.user_id AS acknowledged_by, u.username AS acknowledged_by_name, k.at AS acknowledged_at,
            (SELECT count(*) FROM outage_word w WHERE w.outage_id = o.id AND w.messages > 0) AS told,
            (SELECT count(*) FROM outage_word w WHERE w.outage_id = o.id AND w.messages = 0) AS not_told
        FROM (
            SELECT id, what, started_at, ended_at, NULL::uuid AS incident_id FROM service_outage
            WHERE ended_at IS NULL OR ended_at >= $2
            UNION ALL
            SELECT id, 'devices', occurred_at, resolved_at, id FROM incident
            WHERE agency_id = $1 AND type = 'outage' AND (state <> 'resolved' OR resolved_at >= $2)
        ) o LEFT JOIN outage_acknowledgement k ON k.outage_id = o.id AND k.agency_id = $1
        LEFT JOIN app_user u ON u.id = k.user_id
        ORDER BY o.started_at DESC, o.id LIMIT $3
        """,
        agency_id,
        since,
        LISTED_MAX,
    )
    return [dict(row) for row in rows]


async def heard(connection: Connection, outage_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[Record]]:
    """By outage: which agencies have acknowledged it, and when."""
    found: dict[uuid.UUID, list[Record]] = {}
    for row in await connection.fetch("SELECT * FROM outage_heard($1)", list(outage_ids)):
        found.setdefault(row["outage_id"], []).append({"agency": row["agency"], "at": row["at"]})
    return found


async def exists(connection: Connection, agency_id: uuid.UUID, outage_id: uuid.UUID) -> bool:
    """Whether an outage of the service, or of the agency's devices, has this id."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM service_outage WHERE id = $2) OR EXISTS ("
            "SELECT FROM incident WHERE id = $2 AND agency_id = $1 AND type = 'outage')",
            agency_id,
            outage_id,
        )
    )


async def acknowledge(
    connection: Connection, outage_id: uuid.UUID, agency_id: uuid.UUID, user_id: uuid.UUID, now: datetime
) -> bool:
    """Note that an agency has heard; False when it had before."""
    added = await connection.fetchval(
        "INSERT INTO outage_acknowledgement (outage_id, agency_id, user_id, at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING RETURNING true",
        outage_id,
        agency_id,
        user_id,
        now,
    )
    return bool(added)


# her ----------------------------------------------------------------------------------------------------------------

_QUIET: Final = """
    EXISTS (SELECT FROM incident i WHERE i.victim_id = p.id AND i.state <> 'resolved' AND (i.type = 'panic'
        OR i.do_not_call OR i.detail ?| ARRAY['duress', 'cancel_unverified', 'cancel_asked_at']))
"""
"""Whether a person (`p`) must not be written to: she pressed, or somebody may be holding her phone."""
_PERSON: Final = "p." + ", p.".join(name.strip() for name in PEOPLE.selected.split(","))


async def untracked(connection: Connection, before: datetime, limit: int) -> list[Record]:
    """Whom an outage that began before then leaves unseen, and who was not told of it: her record with `outage_id`.

    An outage of the service: every protected person with an order in force. Of devices: those whose own device, or
    whose aggressor's, it took.
    """
    rows = await connection.fetch(
        f"""
        SELECT {_PERSON}, found.outage_id, g.time_zone FROM (
            SELECT o.id AS outage_id, r.victim_id FROM service_outage o, protection_order r
            WHERE o.ended_at IS NULL AND o.what <> 'database' AND o.started_at <= $1 AND r.status = 'in_force'
            UNION
            SELECT i.id, r.victim_id FROM incident i JOIN silence s ON s.outage_id = i.id
            JOIN protection_order r ON r.status = 'in_force'
                AND (r.victim_id = s.person_id OR r.aggressor_id = s.person_id)
            WHERE i.type = 'outage' AND i.state <> 'resolved' AND s.since <= $1
        ) found JOIN person p ON p.id = found.victim_id JOIN agency g ON g.id = p.agency_id
        WHERE p.erased_at IS NULL AND NOT {_QUIET}
        AND NOT EXISTS (SELECT FROM outage_word w WHERE w.outage_id = found.outage_id AND w.person_id = p.id)
        ORDER BY found.outage_id, p.id LIMIT $2
        """,  # noqa: S608
        before,
        limit,
    )
    return await _with_more(connection, rows, "outage_id", "time_zone")


async def told(connection: Connection, limit: int) -> list[Record]:
    """Who was told of an outage that is over, and not yet that it is: her record with `outage_id`."""
    rows = await connection.fetch(
        f"""
        SELECT {_PERSON}, w.outage_id, g.time_zone FROM outage_word w
        JOIN person p ON p.id = w.person_id JOIN agency g ON g.id = p.agency_id
        WHERE w.over_at IS NULL AND w.messages > 0 AND p.erased_at IS NULL AND NOT {_QUIET}
        AND (EXISTS (SELECT FROM service_outage o WHERE o.id = w.outage_id AND o.ended_at IS NOT NULL)
            OR EXISTS (SELECT FROM incident i WHERE i.id = w.outage_id AND i.state = 'resolved'))
        ORDER BY w.outage_id, p.id LIMIT $1
        """,  # noqa: S608
        limit,
    )
    return await _with_more(connection, rows, "outage_id", "time_zone")


async def _with_more(connection: Connection, rows: Sequence[Record], *names: str) -> list[Record]:
    more = {row["id"]: {name: row[name] for name in names} for row in rows}
    return [{**person, **more[person["id"]]} for person in await PEOPLE.read_what_opens(connection, rows)]


async def keep_word(connection: Connection, person: Record, messages: int, now: datetime) -> None:
    """Note that a person was told of an outage, by how many messages."""
    await connection.execute(
        "INSERT INTO outage_word (outage_id, person_id, agency_id, at, messages) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        person["outage_id"],
        person["id"],
        person["agency_id"],
        now,
        messages,
    )


async def keep_over(connection: Connection, person: Record, now: datetime) -> None:
    """Note that a person was told that an outage is over."""
    await connection.execute(
        "UPDATE outage_word SET over_at = $3 WHERE outage_id = $1 AND person_id = $2",
        person["outage_id"],
        person["id"],
        now,
    )
