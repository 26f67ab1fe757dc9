"""An agency's policy, and what follows from it in every compiled case."""

from __future__ import annotations

import uuid
from typing import Any, Final

from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.domain.policy import read_policy
from core.errors import InvalidInput
from core.postgres import agencies, cases, orders
from core.postgres.table import Record

CASES_AT_ONCE: Final = 1_000
"""Cases compiled by one transaction after a change of policy; a nation's take some minutes, and hold nobody up."""
FIRST: Final = uuid.UUID(int=0)
NAMED_AT_MOST: Final = 5
"""Orders an error names; it says how many there are."""


async def set_policy(unit: Unit, asker: Asker, values: dict[str, Any]) -> Record:
    """The agency with its policy set, audited, and its cases begun to be compiled anew.

    Raises InvalidInput for a policy that cannot be, or that contradicts what an order of the agency overrides.
    """
    policy = read_policy(values)
    before = await agencies.get(unit.connection, asker.agency_id, lock=True)
    if before["policy"] == values:
        return before
    if contradicted := await orders.contradicted_by(unit.connection, asker.agency_id, policy):
        named = ", ".join(str(order_id) for order_id in contradicted[:NAMED_AT_MOST])
        raise InvalidInput(
            f"p_exit has to be below p_enter; with what they override it would not be for {len(contradicted)} order(s):"
            f" {named}. Change those first."
        )
    await agencies.update(unit.connection, asker.agency_id, {"policy": values})
    await note(unit, asker, "policy.set", "agency", asker.agency_id, before=before["policy"], values=values)
    await _recompile(unit, asker.agency_id, FIRST)
    return await agencies.get(unit.connection, asker.agency_id)


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
