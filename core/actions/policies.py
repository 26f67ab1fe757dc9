"""An agency's policy, and what follows from it in every compiled case."""

from __future__ import annotations

import uuid
from typing import Any

from core.actions.unit_of_work import Unit
from core.postgres import agencies, cases


async def set_policy(unit: Unit, agency_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Set the policy (checked by `core.domain.policy.read_policy`) and compile the agency's cases anew."""
    before = await agencies.get(unit.connection, agency_id, lock=True)
    if before["policy"] == values:
        return
    await agencies.update(unit.connection, agency_id, {"policy": values})
    await cases.compile_cases(unit.connection, await cases.cases_of_agency(unit.connection, agency_id))
