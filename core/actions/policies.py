"""An agency's policy, and what follows from it in every compiled case."""

from __future__ import annotations

import uuid
from typing import Any, Final

from core.actions.unit_of_work import Unit
from core.postgres import agencies, cases

CASES_AT_ONCE: Final = 1_000
"""Cases compiled by one transaction after a change of policy; a nation's take some minutes, and hold nobody up."""
FIRST: Final = uuid.UUID(int=0)


async def set_policy(unit: Unit, agency_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Set the policy (checked by `core.domain.policy.read_policy`) and begin to compile the agency's cases anew."""
    before = await agencies.get(unit.connection, agency_id, lock=True)
    if before["policy"] == values:
        return
    await agencies.update(unit.connection, agency_id, {"policy": values})
    await _recompile(unit, agency_id, FIRST)


async def recompile_due(unit: Unit) -> int:
    """Compile the next cases of an agency whose policy changed; returns how many. Several may call it at once."""
    agency = await agencies.lock_recompiling(unit.connection)
    return 0 if agency is None else await _recompile(unit, agency["id"], agency["recompile_after"])


async def _recompile(unit: Unit, agency_id: uuid.UUID, after: uuid.UUID) -> int:
    found = await cases.cases_of_agency(unit.connection, agency_id, after, CASES_AT_ONCE)
    await cases.compile_cases(unit.connection, found)
    rest = found[-1] if len(found) == CASES_AT_ONCE else None
    await agencies.update(unit.connection, agency_id, {"recompile_after": rest})
    return len(found)
