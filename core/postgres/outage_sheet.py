"""What the outage sheet is made of: orders in force with what was last known of them, who is on duty, which units."""

from __future__ import annotations

import uuid
from typing import Final

from core.postgres.database import Connection
from core.postgres.people import PEOPLE
from core.postgres.table import Record
from core.postgres.user_channels import USER_CHANNELS

MEASURED_MAX: Final = 5_000
"""Orders looked at for one sheet; of more, those inside, in warning, of high risk and last known near."""
DUTY_MAX: Final = 60
UNITS_MAX: Final = 100


async def pairs(connection: Connection, agency_id: uuid.UUID) -> list[Record]:
    """Orders in force with the last decided state and distance, and when each side was last heard."""
    rows = await connection.fetch(
        """
        SELECT o.id, o.reference, o.region, o.risk_level, o.alert_m, o.victim_id, o.aggressor_id, o.sealed,
            s.state, s.distance_m, s.evaluated_at,
            (SELECT max(d.last_seen_at) FROM device d WHERE d.person_id = o.victim_id) AS her_seen_at,
            (SELECT max(d.last_seen_at) FROM device d WHERE d.person_id = o.aggressor_id) AS his_seen_at
        FROM protection_order o LEFT JOIN separation s ON s.order_id = o.id AND s.kind = 'proximity'
        WHERE o.agency_id = $1 AND o.status = 'in_force'
        ORDER BY CASE s.state WHEN 'breach' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
            CASE o.risk_level WHEN 'extreme' THEN 0 WHEN 'high' THEN 1 ELSE 2 END, s.distance_m NULLS LAST, o.id
        LIMIT $2
        """,
        agency_id,
        MEASURED_MAX,
    )
    return [dict(row) for row in rows]


async def count(connection: Connection, agency_id: uuid.UUID) -> int:
    """How many orders of an agency are in force."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM protection_order WHERE agency_id = $1 AND status = 'in_force'", agency_id
        )
    )


async def people(connection: Connection, ids: list[uuid.UUID]) -> dict[uuid.UUID, Record]:
    """People by id; who cannot be read is left out, and keeps no sheet from being made."""
    rows = await connection.fetch(f"SELECT {PEOPLE.selected} FROM person WHERE id = ANY ($1::uuid[])", ids)  # noqa: S608
    return {person["id"]: person for person in await PEOPLE.read_what_opens(connection, rows)}


async def duty(connection: Connection, agency_id: uuid.UUID, *, names: bool) -> list[tuple[str, str, str]]:
    """(name, role, telephone) of supervisors and dispatchers, supervisors first; without `names` "" for each."""
    whom = (
        "SELECT id, coalesce(display_name, username) AS name, role FROM app_user WHERE agency_id = $1"
        " AND disabled_at IS NULL"
        if names
        else "SELECT user_id AS id, '' AS name, role FROM staff_to_tell($1, '{}', NULL)"
    )
    rows = await connection.fetch(
        f"SELECT id, name, role FROM ({whom}) u WHERE role IN ('supervisor', 'dispatcher')"  # noqa: S608 - our own words
        " ORDER BY role DESC, name, id LIMIT $2",
        agency_id,
        DUTY_MAX,
    )
    numbers = await connection.fetch(
        f"SELECT {USER_CHANNELS.selected} FROM user_channel WHERE agency_id = $1 AND channel = 'sms' AND enabled",  # noqa: S608
        agency_id,
    )
    phones = {one["user_id"]: one["address"] for one in await USER_CHANNELS.read_what_opens(connection, numbers)}
    found = [(row["name"], row["role"], phones.get(row["id"]) or "") for row in rows]
    return [one for one in found if one[0] or one[2]]


async def units(connection: Connection, agency_id: uuid.UUID) -> list[tuple[str, str]]:
    """(callsign, status) of the units that are not off duty."""
    rows = await connection.fetch(
        "SELECT callsign, status FROM unit WHERE agency_id = $1 AND status <> 'off_duty' ORDER BY callsign LIMIT $2",
        agency_id,
        UNITS_MAX,
    )
    return [(row["callsign"], row["status"]) for row in rows]
