"""A breach whose keys are away: it opens and is on the board, and who is to hear of it hears once there are keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.actions.untold import tell_untold
from core.clock import utc_now
from core.domain.transition import Transition
from core.postgres.database import Database
from core.vault import Vault
from tests.integration.dispatch.conftest import NOW
from tests.integration.encryption.test_panic_sealing import Away

Make = Callable[..., Transition]
Query = Callable[..., Any]


@pytest.fixture
def ring(vault: Vault) -> Away:
    return Away(vault.ring)


@pytest.fixture
async def worker(posts: Any, ring: Away) -> AsyncIterator[Database]:
    """As the recorder connects, with a key service that is away."""
    pool = Database(posts.worker.url, size=2, vault=Vault(ring))
    yield pool
    await pool.close()


async def audiences(query: Query) -> list[str]:
    return sorted(row["audience"] for row in await query("SELECT audience FROM delivery"))


async def test_a_breach_opens_without_keys_and_its_messages_follow_once(
    worker: Database, ring: Away, transition: Make, query: Query
) -> None:
    breach = transition("proximity", "clear", "breach", attribution="aggressor_moving")
    async with act(worker, NOW) as unit:
        await apply_transitions(unit, [breach])
    [incident] = await query("SELECT state, detail, next_deadline_at FROM incident")
    assert (incident["state"], incident["detail"]["untold"]) == ("open", ["routes", "her"])
    [event] = await query("SELECT kind, data FROM feed WHERE kind LIKE 'incident.%'")
    assert (event["kind"], event["data"]["detail"]["untold"]) == ("incident.opened", ["routes", "her"])
    assert await audiences(query) == []

    async with act(worker, NOW + timedelta(seconds=2)) as unit:
        await tell_untold(unit)
    assert len(await query("SELECT 1 FROM feed WHERE kind LIKE 'incident.%'")) == 1, "nothing new is told of"

    ring.back = True
    for seconds in (4, 6):
        async with act(worker, NOW + timedelta(seconds=seconds)) as unit:
            await tell_untold(unit)
    assert await audiences(query) == ["dispatcher", "victim"]
    [incident] = await query("SELECT detail FROM incident")
    assert "untold" not in incident["detail"]


async def test_it_is_told_in_its_severity_of_then_and_not_at_all_once_it_is_over(
    worker: Database, ring: Away, transition: Make, query: Query, database: Database
) -> None:
    async with act(worker, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "clear", "breach")])
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET state = 'resolved', resolved_at = $1, inside = false", utc_now())
    ring.back = True
    async with act(worker, NOW) as unit:
        await tell_untold(unit)
    assert await audiences(query) == []


async def test_a_late_device_a_past_breach_and_the_edge_do_not_wait_for_keys(
    worker: Database, transition: Make, query: Query
) -> None:
    async with act(worker, NOW) as unit:
        await apply_transitions(
            unit,
            [
                transition(
                    "proximity", "clear", "breach", retrospective=True, detail={"until": "2026-05-01T11:00:00Z"}
                ),
                transition("proximity", "clear", "breach"),
            ],
        )
    assert {row["state"] for row in await query("SELECT state FROM incident")} == {"open"}
