"""Whose devices are asked for the most because a panic is open."""

from __future__ import annotations

import uuid

from core.postgres.database import Connection


async def people_in_panic(connection: Connection) -> frozenset[uuid.UUID]:
    """Whoever pressed a panic that is not resolved, and everyone protected from the same aggressor.

    Not where a duress PIN opened it and nobody pressed: her device never hears of that, by a shorter interval neither.
    """
    rows = await connection.fetch(
        "SELECT victim_id AS person_id FROM incident WHERE family = 'panic' AND state <> 'resolved'"
        " AND victim_id IS NOT NULL AND detail ->> 'presses' IS DISTINCT FROM '0'"
        " UNION SELECT unnest(o.victim_id || o.protected_person_ids) FROM incident i"
        " JOIN protection_order o ON o.case_id = i.case_id AND o.status = 'in_force'"
        " WHERE i.family = 'panic' AND i.state <> 'resolved' AND i.detail ->> 'presses' IS DISTINCT FROM '0'"
    )
    return frozenset(row["person_id"] for row in rows)
