"""A thousand incidents left alone at once: a batch of them costs no more statements for being many."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions.escalating import fire
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.domain.sharing import SHARED
from core.errors import KeyUnavailable, StoreUnavailable
from core.ids import new_id
from core.key_rings import KeyLost
from core.postgres import escalation
from notifier.escalator import BATCH, Escalator
from tests.integration.dispatch.conftest import make_transition
from tests.integration.dispatch.test_escalation import add_channel

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
FIRST, MANY = 1, 40
STATEMENTS_MAX = 30
"""Of a batch of one agency's incidents, however many they are."""
Query = Callable[..., Any]


@pytest.fixture
async def neighbour(database: Any) -> uuid.UUID:
    """A police agency next door, with a desk."""
    agency_id = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO agency (id, name, kind, created_at) VALUES ($1, 'Next door', 'police', $2)", agency_id, NOW
        )
        await connection.execute(
            "INSERT INTO app_user (id, agency_id, username, role, created_at)"
            " VALUES ($1, $2, 'next', 'dispatcher', $3)",
            new_id(), agency_id, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO notification_route (id, agency_id, name, channel, address, min_severity, created_at)"
            " VALUES ($1, $2, 'desk', 'log', 'desk', 'low', $3)",
            new_id(), agency_id, NOW,
        )  # fmt: skip
    return agency_id


async def open_some(database: Any, agency: Any, another_pair: Any, count: int) -> None:
    for _ in range(count):
        pair = await another_pair(agency)
        async with act(database, NOW) as unit:
            await apply_transitions(unit, [make_transition(pair, "proximity", "warning", "breach", distance_m=50.0)])


async def statements_of(posts: Any, seconds: float, limit: int) -> tuple[list[str], int]:
    """What is asked of PostgreSQL by a batch that is due then, and how many incidents it told of."""
    asked: list[str] = []
    now = NOW + timedelta(seconds=seconds)
    async with posts.worker.connection() as connection:
        due = await escalation.due(connection, now, limit)
    async with act(posts.worker, now) as unit:
        unit.connection.add_query_logger(lambda record: asked.append(record.query))
        told = await fire(unit, due)
    return asked, told


@pytest.mark.parametrize("seconds", [30, 60, 120])
async def test_a_batch_costs_no_more_statements_for_being_many(
    database: Any, agency: Any, another_pair: Any, posts: Any, query: Query, neighbour: uuid.UUID, seconds: float
) -> None:
    await open_some(database, agency, another_pair, FIRST + MANY)
    await query(
        "UPDATE incident SET detail = detail || jsonb_build_object('neighbour_agency_id', $1::text) RETURNING id",
        str(neighbour),
    )
    await statements_of(posts, seconds, FIRST)  # what a process asks once is asked
    asked, told = await statements_of(posts, seconds, MANY)
    assert told == MANY
    assert len(asked) <= STATEMENTS_MAX, asked
    lines = await query("SELECT incident_id, data FROM timeline WHERE kind = 'escalated'")
    assert len({line["incident_id"] for line in lines}) == len(lines) == FIRST + MANY
    assert all(line["data"]["told"] for line in lines)
    settled = await query("SELECT DISTINCT outcome FROM escalation_deadline WHERE settled_at IS NOT NULL")
    assert {row["outcome"] for row in settled} <= {"told", "together"}
    shared = await query("SELECT count(DISTINCT data ->> 'id') AS n FROM feed WHERE kind = $1", SHARED)
    shares = await query("SELECT count(*) AS n FROM incident_share WHERE reason = 'neighbour'")
    assert shared[0]["n"] == shares[0]["n"] == (FIRST + MANY if seconds == 120 else 0)
    # Every clock goes on from where it was: what was told is not told again, and what comes next runs.
    again, told = await statements_of(posts, seconds, MANY)
    assert told == 0
    assert len(again) <= 2
    behind = await query(
        "SELECT 1 FROM incident WHERE next_deadline_at IS DISTINCT FROM (SELECT min(d.due_at)"
        " FROM escalation_deadline d WHERE d.incident_id = incident.id AND d.settled_at IS NULL)"
    )
    assert behind == []


async def test_who_is_related_to_one_incident_is_told_of_the_others(
    database: Any, agency: Any, another_pair: Any, posts: Any, query: Query
) -> None:
    await open_some(database, agency, another_pair, 3)
    _, users = agency
    [kin] = await query("SELECT id, victim_id FROM incident ORDER BY id LIMIT 1")
    for role in ("dispatcher", "supervisor"):
        await add_channel(database, agency[0], users[role])
    await query(
        "INSERT INTO user_conflict (agency_id, user_id, person_id, relation, noted_by, noted_at)"
        " VALUES ($1, $2, $3, 'relative', $4, $5) RETURNING user_id",
        agency[0], users["dispatcher"], kin["victim_id"], users["supervisor"], NOW,
    )  # fmt: skip
    _, told = await statements_of(posts, 30, 10)
    assert told == 3
    rows = await query("SELECT incident_id, recipient FROM delivery WHERE template = 'escalation_dispatcher'")
    told_of = {
        role: [row["incident_id"] for row in rows if row["recipient"] == f"user:{users[role]}"] for role in users
    }
    assert len(told_of["supervisor"]) == len(set(told_of["supervisor"])) == 3
    assert len(told_of["dispatcher"]) == 2
    assert kin["id"] not in told_of["dispatcher"]


async def test_one_that_cannot_be_told_of_costs_the_others_a_few_transactions(
    database: Any, agency: Any, another_pair: Any, posts: Any, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_some(database, agency, another_pair, 16)
    [spoilt] = await query(
        "UPDATE incident SET detail = detail || '{\"shared_with\": 7}'"
        " WHERE id = (SELECT max(id::text)::uuid FROM incident) RETURNING id"
    )
    tried: list[int] = []

    async def counted(unit: Any, due: Any) -> int:
        tried.append(len(due))
        return await fire(unit, due)

    monkeypatch.setattr("notifier.escalator.fire", counted)
    await Escalator(posts.worker, lambda: NOW + timedelta(seconds=30)).step()
    told = await query("SELECT incident_id FROM timeline WHERE kind = 'escalated'")
    assert len({row["incident_id"] for row in told}) == 15
    assert spoilt["id"] not in {row["incident_id"] for row in told}
    assert sorted(tried) == [1, 1, 2, 2, 4, 4, 8, 8, 16], "halves, not each by itself"
    [poison] = await query("SELECT entry FROM poison")
    assert poison["entry"] == f"escalation:{spoilt['id']}"


async def test_a_lost_key_keeps_only_its_own_incident_from_being_told(posts: Any) -> None:
    good, bad = [new_id() for _ in range(6)], new_id()
    told: list[uuid.UUID] = []

    async def do(unit: Any, ids: Sequence[uuid.UUID]) -> int:
        if bad in ids:
            raise KeyUnavailable("The key does not open.") from KeyLost("gone")
        told.extend(ids)
        return len(ids)

    async def look(connection: Any, now: datetime, limit: int, without: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        return [one for one in (*good[:3], bad, *good[3:]) if one not in (*without, *told)][:limit]

    escalator = Escalator(posts.worker, lambda: NOW)
    await escalator._do("escalation", look, do)
    assert sorted(told) == sorted(good)
    assert await look(None, NOW, 10, list(escalator._aside)) == [], "set aside, and not for ever"


async def test_with_postgresql_too_slow_for_a_batch_half_as_many_are_taken(posts: Any) -> None:
    taken: list[int] = []

    async def do(unit: Any, ids: Sequence[uuid.UUID]) -> int:
        taken.append(len(ids))
        if len(ids) > BATCH // 4:
            raise StoreUnavailable("PostgreSQL does not answer; try again shortly.")
        return len(ids)

    async def look(connection: Any, now: datetime, limit: int, without: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        return [new_id() for _ in range(limit)]

    escalator = Escalator(posts.worker, lambda: NOW)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await escalator._do("escalation", look, do)
    assert await escalator._do("escalation", look, do) is True
    assert taken == [BATCH, BATCH // 2, BATCH // 4]
