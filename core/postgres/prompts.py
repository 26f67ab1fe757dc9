"""Prompts to wearers: who was asked to see to a late device, and whether it was heard again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from core.postgres.database import Connection

Row = tuple[uuid.UUID, uuid.UUID, uuid.UUID | None, str, uuid.UUID, uuid.UUID, datetime, int]
"""Id, device, person, role, agency, case, moment, messages queued."""


async def add(connection: Connection, rows: Sequence[Row]) -> None:
    """Note prompts; one noted before stays as it is."""
    await connection.executemany(
        "INSERT INTO device_prompt (id, device_id, person_id, role, agency_id, case_id, at, pushes)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        rows,
    )


async def answered(connection: Connection, device_ids: Sequence[Any], now: datetime) -> None:
    """Devices are heard again: what was asked of their wearers is done."""
    await connection.execute(
        "UPDATE device_prompt SET answered_at = $2 WHERE device_id = ANY($1) AND answered_at IS NULL",
        device_ids,
        now,
    )
