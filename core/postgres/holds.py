"""Holds: what must not be erased while it is wanted in court, and what she keeps of her own fixes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.postgres.database import Connection
from core.postgres.table import Table

LEGAL_HOLDS: Final = Table(
    "legal_hold",
    "hold",
    (
        "person_id", "case_id", "incident_id", "reason", "reference", "placed_by", "placed_at", "lifted_at",
        "lifted_by", "lift_reason",
    ),
)  # fmt: skip
HOLD_LOCK: Final = 7_067_014
"""Advisory lock under which legal holds are placed, and rows that are due are looked for and erased."""


async def lock(connection: Connection) -> None:
    """Keep holds from being placed, and rules from erasing, until this transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", HOLD_LOCK)


async def is_held(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether something of a person is held: herself, a case she is in, or an incident of hers."""
    return bool(await connection.fetchval("SELECT is_held($1)", person_id))


async def is_erased(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether a person was erased."""
    return bool(await connection.fetchval("SELECT erased_at IS NOT NULL FROM person WHERE id = $1", person_id))


async def people_of(connection: Connection, hold: dict[str, Any]) -> Sequence[uuid.UUID]:
    """Whose fixes a legal hold that stands keeps."""
    rows = await connection.fetch(
        """
        SELECT $1::uuid AS id WHERE $1 IS NOT NULL
        UNION SELECT p FROM protection_order o, unnest(ARRAY[o.victim_id, o.aggressor_id]) p WHERE o.case_id = $2
        UNION SELECT p FROM incident i, unnest(ARRAY[i.victim_id, i.aggressor_id]) p
            WHERE i.id = $3 AND p IS NOT NULL
        """,
        hold["person_id"],
        hold["case_id"],
        hold["incident_id"],
    )
    return [row["id"] for row in rows]


async def own(connection: Connection, person_id: uuid.UUID) -> dict[str, Any] | None:
    """What a person holds of her own fixes; None: nothing."""
    row = await connection.fetchrow(
        "SELECT id, agency_id, person_id, fixes_from, fixes_until, placed_at, ends_at FROM own_hold"
        " WHERE person_id = $1 AND lifted_at IS NULL",
        person_id,
    )
    return None if row is None else dict(row)


async def place_own(connection: Connection, values: dict[str, Any]) -> None:
    """Hold a stretch of her own fixes; an earlier hold is widened to it."""
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO own_hold AS h ({names}) VALUES ({places})"  # noqa: S608
        " ON CONFLICT (person_id) WHERE lifted_at IS NULL DO UPDATE SET"
        " fixes_from = least(h.fixes_from, excluded.fixes_from), fixes_until = excluded.fixes_until,"
        " ends_at = excluded.ends_at",
        *values.values(),
    )


async def lift_own(connection: Connection, person_id: uuid.UUID, now: datetime) -> bool:
    """Let her own hold go; False when there is none."""
    status = await connection.execute(
        "UPDATE own_hold SET lifted_at = $2 WHERE person_id = $1 AND lifted_at IS NULL", person_id, now
    )
    return bool(status == "UPDATE 1")


async def lift_own_over(connection: Connection, person_id: uuid.UUID, now: datetime) -> None:
    """Take away her own hold that has run out, so that a new one begins anew."""
    await connection.execute(
        "UPDATE own_hold SET lifted_at = $2 WHERE person_id = $1 AND lifted_at IS NULL AND ends_at <= $2",
        person_id,
        now,
    )


async def is_there(
    connection: Connection, agency_id: uuid.UUID, case_id: uuid.UUID | None, incident_id: uuid.UUID | None
) -> bool:
    """Whether a case and an incident, as far as they are named, are the agency's."""
    return bool(
        await connection.fetchval(
            "SELECT ($2::uuid IS NULL OR EXISTS (SELECT FROM protection_case WHERE id = $2 AND agency_id = $1))"
            " AND ($3::uuid IS NULL OR EXISTS (SELECT FROM incident WHERE id = $3 AND agency_id = $1))",
            agency_id,
            case_id,
            incident_id,
        )
    )
