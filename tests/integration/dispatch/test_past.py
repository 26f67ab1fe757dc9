"""What late data shows of the past: its own incident with its true time, or a line of the one that was open then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions.commands import By, Ending, resolve
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import rfc3339, to_ms
from core.domain.transition import Transition
from core.postgres.database import Database

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Make = Callable[..., Transition]
Query = Callable[..., Any]


async def apply(database: Database, *transitions: Transition, now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await apply_transitions(unit, transitions)


def past(make: Make, began: datetime, ended: datetime) -> Transition:
    """He was inside from `began` to `ended`, and it is only known now."""
    return make(
        "proximity", "clear", "breach", at_ms=to_ms(began), retrospective=True,
        detail={"until": rfc3339(ended), "closest_m": 210.0},
    )  # fmt: skip


@pytest.mark.parametrize(("ended_min", "severity", "she_hears"), [(60, "high", False), (14, "critical", True)])
async def test_a_past_breach_opens_an_incident_of_its_time_critical_only_when_it_ended_just_now(
    database: Database, transition: Make, query: Query, ended_min: int, severity: str, she_hears: bool
) -> None:
    ended = NOW - timedelta(minutes=ended_min)
    began = ended - timedelta(minutes=5)
    await apply(database, past(transition, began, ended))
    [row] = await query("SELECT * FROM incident")
    assert (row["retrospective"], row["type"], row["severity"], row["inside"]) == (True, "proximity", severity, False)
    assert (row["occurred_at"], row["opened_at"]) == (began, NOW)
    assert row["detail"]["until"] == rfc3339(ended)
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'dispatcher'")) == 1
    assert bool(await query("SELECT 1 FROM delivery WHERE audience = 'victim'")) is she_hears
    assert await query("SELECT 1 FROM separation") == [], "it says nothing of where he is now"


async def test_the_same_past_told_twice_is_one_incident(database: Database, transition: Make, query: Query) -> None:
    began = NOW - timedelta(hours=2)
    await apply(database, past(transition, began, began + timedelta(minutes=10)))
    await apply(database, past(transition, began + timedelta(minutes=5), began + timedelta(minutes=20)))
    assert len(await query("SELECT 1 FROM incident")) == 1
    assert len(await query("SELECT 1 FROM timeline")) == 2


async def test_a_past_breach_within_an_incident_of_one_is_a_line_of_it(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    opened = NOW - timedelta(hours=2)
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(opened)), now=opened)
    await apply(database, transition("proximity", "breach", "clear", at_ms=to_ms(opened)), now=opened)
    await resolved(database, pair, query)
    await apply(database, past(transition, opened + timedelta(minutes=10), opened + timedelta(minutes=12)))
    [row] = await query("SELECT * FROM incident")
    assert (row["state"], row["retrospective"], row["inside"], row["version"]) == ("resolved", False, False, 2)
    line = (await query("SELECT * FROM timeline ORDER BY ordinal"))[-1]
    assert (line["kind"], line["data"]["what"]) == ("proximity", "past")
    linked = await query("SELECT incident_id FROM transition WHERE to_state = 'breach'")
    assert {one["incident_id"] for one in linked} == {row["id"]}
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'dispatcher'")) == 1


async def test_an_approach_that_was_a_breach_as_late_data_shows_becomes_one_and_is_told_again(
    database: Database, transition: Make, query: Query
) -> None:
    opened = NOW - timedelta(hours=2)
    await apply(database, transition("approach", "none", "predicted", at_ms=to_ms(opened)), now=opened)
    gone = opened + timedelta(minutes=20)
    turned = transition("approach", "predicted", "none", at_ms=to_ms(gone), detail={"outcome": "turned_away"})
    await apply(database, turned, now=gone)
    await apply(database, past(transition, opened + timedelta(minutes=10), opened + timedelta(minutes=12)))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"], row["version"], row["inside"]) == ("proximity", "high", 2, False)
    told = await query("SELECT data FROM delivery WHERE audience = 'dispatcher' ORDER BY created_at")
    assert [one["data"]["type"] for one in told] == ["approach", "proximity"]
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'victim'")) == 1, "what is long over is no warning"


async def test_a_resolved_approach_hides_no_past_breach(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    opened = NOW - timedelta(hours=2)
    await apply(database, transition("approach", "none", "predicted", at_ms=to_ms(opened)), now=opened)
    await resolved(database, pair, query)
    await apply(database, past(transition, opened + timedelta(minutes=10), opened + timedelta(minutes=12)))
    rows = await query("SELECT * FROM incident ORDER BY occurred_at")
    assert [(row["type"], row["state"], row["retrospective"]) for row in rows] == [
        ("approach", "resolved", False), ("proximity", "open", True),
    ]  # fmt: skip
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'dispatcher'")) == 2


async def test_what_was_does_not_keep_what_is_from_being_told(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, past(transition, NOW - timedelta(minutes=9), NOW - timedelta(minutes=4)))
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    rows = await query("SELECT * FROM incident ORDER BY occurred_at")
    assert [(row["severity"], row["retrospective"]) for row in rows] == [("critical", True), ("critical", False)]
    assert rows[0]["episode_id"] == rows[1]["episode_id"]
    for audience in ("dispatcher", "victim"):
        assert len(await query("SELECT 1 FROM delivery WHERE audience = $1", audience)) == 2


async def resolved(database: Database, pair: Any, query: Query) -> None:
    """Have a dispatcher resolve the incident there is, an hour ago."""
    [row] = await query("SELECT * FROM incident")
    by = By(pair.users["dispatcher"], pair.agency_id, row["id"], row["version"])
    async with act(database, NOW - timedelta(hours=1)) as unit:
        await resolve(unit, by, Ending("warned"))


async def test_a_past_breach_stands_beside_a_live_incident_that_began_later_and_neither_folds_into_the_other(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    began = NOW - timedelta(hours=3)
    await apply(database, past(transition, began, began + timedelta(minutes=1)))
    await apply(database, transition("proximity", "breach", "clear", at_ms=to_ms(NOW)))
    rows = await query("SELECT * FROM incident ORDER BY occurred_at")
    assert [(row["retrospective"], row["state"], row["inside"]) for row in rows] == [
        (True, "open", False), (False, "open", False),
    ]  # fmt: skip
    assert rows[0]["episode_id"] != rows[1]["episode_id"]
