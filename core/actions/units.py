"""Units: entered and changed, and seen on every board at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from core.actions import records
from core.actions.unit_of_work import Unit
from core.postgres.board import unit_json
from core.postgres.table import Record
from core.postgres.units import UNITS


async def add(unit: Unit, asker: records.Asker, unit_id: uuid.UUID | None, values: Mapping[str, Any]) -> Record:
    """Enter a unit that `records.claim` found new."""
    return _told(unit, await records.insert(unit, asker, UNITS, unit_id, values))


async def change(unit: Unit, asker: records.Asker, unit_id: uuid.UUID, values: Mapping[str, Any]) -> Record:
    """Change a unit; raises NotFound."""
    return _told(unit, await records.change(unit, asker, UNITS, unit_id, values))


def _told(unit: Unit, record: Record) -> Record:
    unit.emit(record["agency_id"], "unit.updated", unit_json(record))
    return record
