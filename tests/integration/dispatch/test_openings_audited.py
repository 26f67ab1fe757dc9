"""An incident that nobody's hand opened is in the audit too: once, by the engine, in the commit that opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.actions.incidents import apply_transitions
from core.actions.sealing import seal
from core.actions.unit_of_work import act
from core.domain.transition import Transition
from tests.integration.dispatch.conftest import NOW

Make = Callable[..., Transition]
Query = Callable[..., Any]
ROWS = "SELECT * FROM audit WHERE action = 'incident.opened' ORDER BY id"


async def test_each_opening_is_one_row_of_the_engine_and_is_sealed(
    posts: Any, pair: Any, transition: Make, query: Query
) -> None:
    breach = transition("proximity", "clear", "breach")
    for batch in ([breach], [breach], [transition("proximity", "breach", "warning")]):
        async with act(posts.worker, NOW) as unit:
            await apply_transitions(unit, batch)
    [incident] = await query("SELECT id FROM incident")
    [row] = await query(ROWS)
    assert (row["actor_kind"], row["actor_id"], row["subject_kind"]) == ("service", "engine", "incident")
    assert (row["subject_id"], row["agency_id"]) == (incident["id"], pair.agency_id)
    assert set(row["person_ids"]) == {pair.victim_id, pair.aggressor_id}
    assert row["detail"] == {"type": "proximity", "severity": "critical", "order_id": str(pair.order_id)}
    assert await seal(posts.sealer, NOW) >= 1


async def test_a_past_breach_is_a_row_of_its_own(posts: Any, transition: Make, query: Query) -> None:
    async with act(posts.worker, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "clear", "breach", retrospective=True)])
    incidents = await query("SELECT id FROM incident")
    assert [row["subject_id"] for row in await query(ROWS)] == [row["id"] for row in incidents]
