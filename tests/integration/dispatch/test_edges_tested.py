"""He comes near and turns back, again and again: somebody hears of it, and he does not."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import to_ms
from core.domain.transition import Position

from .conftest import NOW

Query = Callable[..., Awaitable[list[Any]]]
SIDES = itertools.cycle([(43.21, 76.9), (43.19, 76.9)])


async def come_and_go(posts: Any, transition: Any, pair: Any, hours: float) -> None:
    """Into the warning ring and out of it again."""
    at_ms = to_ms(NOW + timedelta(hours=hours))
    his = Position(*next(SIDES), 8.0, at_ms)
    for before, after in (("clear", "warning"), ("warning", "clear")):
        item = transition(
            "proximity", before, after, at_ms=at_ms, aggressor_position=his, victim_id=pair.victim_id,
            aggressor_id=pair.aggressor_id,
        )  # fmt: skip
        async with act(posts.worker, NOW + timedelta(hours=hours)) as unit:
            await apply_transitions(unit, [item])


async def approach(posts: Any, transition: Any) -> None:
    async with act(posts.worker, NOW) as unit:
        await apply_transitions(unit, [transition("approach", "none", "predicted")])


async def test_who_tests_the_edge_from_two_sides_is_told_of_to_the_desk_and_the_caseworker_and_not_to_him(
    posts: Any, pair: Any, transition: Any, query: Query
) -> None:
    async def tasks() -> list[Any]:
        return await query("SELECT * FROM task WHERE kind = 'probing' ORDER BY created_at")

    await come_and_go(posts, transition, pair, 0)
    assert await tasks() == []
    await approach(posts, transition)
    [usual] = await query("SELECT severity, detail FROM incident")
    assert usual["severity"] == "high"
    assert "probing" not in usual["detail"]
    async with act(posts.worker, NOW) as unit:
        await apply_transitions(unit, [transition("approach", "predicted", "none")])
    assert await tasks() == [], "twice, from a side that nobody saw"
    await come_and_go(posts, transition, pair, 1)
    [first] = await tasks()
    assert (first["case_id"], first["order_id"], first["detail"]["turns"]) == (pair.case_id, pair.order_id, 3)
    assert first["detail"]["spread_deg"] == 180
    [told] = await query("SELECT data FROM feed WHERE kind = 'notice.probing'")
    assert told["data"]["aggressor_id"] == str(pair.aggressor_id)
    assert not {"lat", "lon"} & told["data"].keys()
    assert [row["kind"] for row in await query("SELECT kind FROM timeline WHERE kind = 'probing'")] == ["probing"]

    await query("UPDATE incident SET state = 'resolved' RETURNING 1")
    await approach(posts, transition)
    [graver] = await query("SELECT severity, detail FROM incident WHERE state = 'open'")
    assert (graver["severity"], graver["detail"]["probing"]["turns"]) == ("critical", 3)
    assert await query("SELECT 1 FROM delivery WHERE audience = 'aggressor'") == []
    assert await query("SELECT 1 FROM device_prompt") == []


async def test_a_warning_that_an_order_wants_said_is_decided_with_jitter_and_ends_when_he_turns_back(
    posts: Any, pair: Any, transition: Any, query: Query
) -> None:
    await come_and_go(posts, transition, pair, 0)
    assert await query("SELECT 1 FROM aggressor_warning") == [], "this order says nothing to him"
    await query("UPDATE protection_order SET warn_aggressor = true RETURNING 1")
    enter = transition("proximity", "clear", "warning")
    async with act(posts.worker, NOW) as unit:
        await apply_transitions(unit, [enter, transition("zone", "clear", "warning")])
    [warning] = await query("SELECT * FROM aggressor_warning")
    assert warning["release_at"] >= warning["decided_at"] + timedelta(seconds=30)
    assert 500 < warning["radius_m"] < 1_500
    assert warning["left_at"] is None
    async with act(posts.worker, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "clear")])
    assert [row["left_at"] for row in await query("SELECT left_at FROM aggressor_warning")] == [NOW]


async def test_an_undisclosed_zone_causes_no_word_to_him_of_any_kind(
    posts: Any, pair: Any, transition: Any, query: Query
) -> None:
    await query("UPDATE protection_order SET warn_aggressor = true RETURNING 1")
    for before, after in (("clear", "warning"), ("warning", "breach"), ("breach", "clear")):
        async with act(posts.worker, NOW) as unit:
            item = transition("zone", before, after, aggressor_id=pair.aggressor_id, distance_m=12.0)
            await apply_transitions(unit, [item])
    assert [row["type"] for row in await query("SELECT type FROM incident")] == ["zone"], "the desk knows"
    assert await query("SELECT 1 FROM aggressor_warning") == []
    assert await query("SELECT 1 FROM device_prompt") == []
    his = f"%{pair.bracelet_id}%"
    assert await query("SELECT 1 FROM delivery WHERE recipient LIKE $1 OR audience = 'aggressor'", his) == []
