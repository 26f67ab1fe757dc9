"""Whoever should act is told, one after the other, until somebody does: by rows, at their time, once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions import commands
from core.actions.commands import By, Ending
from core.actions.incidents import apply_transitions
from core.actions.panics import take_panic
from core.actions.unit_of_work import act
from core.clock import to_ms
from core.domain.panic import PanicIn
from core.domain.scope import Scope
from core.errors import QorganError
from core.ids import new_id, token_digest
from core.postgres.user_channels import USER_CHANNELS
from notifier.escalator import POLL_S, Escalator
from tests.integration.dispatch.conftest import make_transition

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Query = Callable[..., Any]


class Moment:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def at(self, seconds: float) -> None:
        """So many seconds after the opening."""
        self.now = NOW + timedelta(seconds=seconds)


@pytest.fixture
def moment() -> Moment:
    """The escalator's clock."""
    return Moment()


@pytest.fixture
def escalator(posts: Any, moment: Moment) -> Escalator:
    """An escalator, connected as the notifier is."""
    return Escalator(posts.worker, moment)


async def add_channel(database: Any, agency_id: uuid.UUID, user_id: uuid.UUID, channel: str = "email") -> None:
    async with database.transaction() as connection:
        await USER_CHANNELS.insert(
            connection,
            {
                "id": new_id(), "agency_id": agency_id, "user_id": user_id, "channel": channel,
                "address": f"{user_id}@example.org", "language": "en", "enabled": True, "created_at": NOW,
                "updated_at": NOW,
            },
        )  # fmt: skip


@pytest.fixture
async def staff(database: Any, pair: Any) -> dict[str, uuid.UUID]:
    """The agency's users, each with an e-mail address."""
    for user_id in pair.users.values():
        await add_channel(database, pair.agency_id, user_id)
    return dict(pair.users)


async def breach(database: Any, transition: Any) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=100.0)])


async def incident_of(query: Query) -> Any:
    return (await query("SELECT * FROM incident ORDER BY opened_at, id"))[0]


async def told(query: Query, template: str = "escalation%") -> list[tuple[str, str]]:
    rows = await query(
        "SELECT recipient, channel FROM delivery WHERE template LIKE $1 ORDER BY created_at, recipient", template
    )
    return [(row["recipient"], row["channel"]) for row in rows]


def by(pair: Any, row: Any, role: str = "dispatcher") -> By:
    return By(pair.users[role], pair.agency_id, row["id"], row["version"], role=role)


async def run(escalator: Escalator, moment: Moment, seconds: float) -> None:
    moment.at(seconds)
    await escalator.step()


async def test_a_critical_incident_has_its_deadlines_from_the_moment_it_opens(
    database: Any, transition: Any, query: Query
) -> None:
    await breach(database, transition)
    row = await incident_of(query)
    assert (row["severity"], row["escalation_step"]) == ("critical", 0)
    assert row["next_deadline_at"] == NOW + timedelta(seconds=30)
    due = await query("SELECT step, turn, due_at FROM escalation_deadline WHERE turn = 0 ORDER BY due_at")
    assert [(one["step"], (one["due_at"] - NOW).total_seconds()) for one in due] == [(1, 30), (2, 60), (3, 120)]
    [event] = await query("SELECT data FROM feed WHERE kind = 'incident.opened'")
    assert event["data"]["next_deadline_at"] == "2026-05-01T12:00:30.000Z"


async def test_nobody_is_told_before_the_time_and_everybody_at_it_once(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: dict[str, uuid.UUID]
) -> None:
    await breach(database, transition)
    await run(escalator, moment, 29.9)
    assert await told(query) == []
    await run(escalator, moment, 30)
    await run(escalator, moment, 30.5)
    first = await told(query)
    users = {f"user:{staff[role]}" for role in ("dispatcher", "supervisor")}
    assert {recipient for recipient, _ in first} > users
    assert len(first) == 3, "the dispatcher, the supervisor as duty officer, and the desk's route"
    row = await incident_of(query)
    assert (row["escalation_step"], row["next_deadline_at"]) == (1, NOW + timedelta(seconds=60))
    await run(escalator, moment, 60)
    assert await told(query, "escalation_supervisor") == [(f"user:{staff['supervisor']}", "email")]
    lines = await query("SELECT data FROM timeline WHERE kind = 'escalated' ORDER BY ordinal")
    assert [(line["data"]["step"], line["data"]["told"]) for line in lines] == [(1, 3), (2, 1)]
    [event] = await query("SELECT data FROM feed WHERE kind = 'incident.updated' ORDER BY id DESC LIMIT 1")
    assert (event["data"]["escalation_step"], event["data"]["next_deadline_at"]) == (2, "2026-05-01T12:02:00.000Z")


async def test_an_acknowledgement_stops_it_and_no_dispatch_begins_it_again(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: Any, pair: Any
) -> None:
    await breach(database, transition)
    async with act(database, NOW + timedelta(seconds=29)) as unit:
        answer = await commands.acknowledge(unit, by(pair, await incident_of(query)))
    assert answer["next_deadline_at"] == "2026-05-01T12:01:59.000Z", "90 s to send somebody"
    await run(escalator, moment, 118)
    assert await told(query) == []
    await run(escalator, moment, 119)
    assert [recipient for recipient, _ in await told(query)] == [f"user:{staff['supervisor']}"]
    async with act(database, NOW + timedelta(seconds=125)) as unit:
        answer = await commands.dispatch(unit, by(pair, await incident_of(query)))
    assert answer["next_deadline_at"] is None
    await run(escalator, moment, 100_000)
    assert len(await told(query)) == 1


async def test_what_is_resolved_is_quiet_and_what_is_opened_again_is_not(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: Any, pair: Any
) -> None:
    await breach(database, transition)
    async with act(database, NOW) as unit:
        await commands.resolve(unit, by(pair, await incident_of(query)), Ending("custody"))
    await run(escalator, moment, 500)
    assert await told(query) == []
    async with act(database, NOW + timedelta(seconds=500)) as unit:
        answer = await commands.reopen(unit, by(pair, await incident_of(query)))
    assert answer["next_deadline_at"] == "2026-05-01T12:08:50.000Z"
    await run(escalator, moment, 530)
    assert len(await told(query)) == 3


async def test_after_an_outage_overdue_steps_are_told_once_as_the_highest(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: Any
) -> None:
    await breach(database, transition)
    await run(escalator, moment, 100)
    row = await incident_of(query)
    assert (row["escalation_step"], row["next_deadline_at"]) == (2, NOW + timedelta(seconds=120))
    recipients = [recipient for recipient, _ in await told(query)]
    assert len(recipients) == len(set(recipients)) == 3, "everybody of both steps, each once"
    [line] = await query("SELECT data FROM timeline WHERE kind = 'escalated'")
    assert line["data"]["together_with"] == [1]


async def test_a_rise_in_severity_begins_anew(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: Any
) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("approach", "none", "predicted", distance_m=900.0)])
    row = await incident_of(query)
    assert (row["severity"], row["next_deadline_at"]) == ("high", NOW + timedelta(seconds=60))
    async with act(database, NOW + timedelta(seconds=50)) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=100.0)])
    row = await incident_of(query)
    assert (row["severity"], row["next_deadline_at"]) == ("critical", NOW + timedelta(seconds=80))
    await run(escalator, moment, 79)
    assert await told(query) == []
    await run(escalator, moment, 80)
    assert len(await told(query)) == 3


async def test_many_escalators_tell_a_step_once(
    database: Any, transition: Any, query: Query, posts: Any, moment: Moment, staff: Any
) -> None:
    await breach(database, transition)
    moment.at(30)
    await asyncio.gather(*(Escalator(posts.worker, moment).step() for _ in range(4)))
    await Escalator(posts.worker, moment).step()
    assert len(await told(query)) == 3
    assert len(await query("SELECT 1 FROM timeline WHERE kind = 'escalated'")) == 1
    rows = await query("SELECT step, outcome FROM escalation_deadline WHERE settled_at IS NOT NULL")
    assert [(row["step"], row["outcome"]) for row in rows] == [(1, "told")]


async def test_whoever_acknowledges_at_the_same_moment_is_never_paged_afterwards(
    database: Any, transition: Any, query: Query, posts: Any, moment: Moment, staff: Any, pair: Any
) -> None:
    await breach(database, transition)
    moment.at(30)

    async def acknowledge() -> bool:
        try:
            async with act(database, moment()) as unit:
                await commands.acknowledge(unit, by(pair, await incident_of(query)))
        except QorganError:
            return False
        return True

    done, *_ = await asyncio.gather(acknowledge(), *(Escalator(posts.worker, moment).step() for _ in range(3)))
    assert done, "a step overrules nobody's command"
    before = len(await told(query))
    lines = [row["kind"] for row in await query("SELECT kind FROM timeline ORDER BY ordinal")]
    if before:
        assert lines.index("escalated") < lines.index("acknowledge")
    moment.at(60)
    await Escalator(posts.worker, moment).step()
    assert len(await told(query)) == before


async def test_an_incident_somebody_works_on_holds_up_no_other(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, another_pair: Any
) -> None:
    await breach(database, transition)
    held = (await incident_of(query))["id"]
    other = await another_pair()
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [make_transition(other, "proximity", "warning", "breach", distance_m=50.0)])
    async with database.transaction() as connection:
        await connection.execute("SELECT 1 FROM incident WHERE id = $1 FOR NO KEY UPDATE", held)
        await run(escalator, moment, 30)
        lines = await query("SELECT incident_id FROM timeline WHERE kind = 'escalated'")
        assert [row["incident_id"] for row in lines] != []
        assert held not in {row["incident_id"] for row in lines}
    await run(escalator, moment, 31)
    assert held in {
        row["incident_id"] for row in await query("SELECT incident_id FROM timeline WHERE kind = 'escalated'")
    }


async def test_one_that_cannot_be_told_of_is_set_aside_and_the_rest_goes_on(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, another_pair: Any
) -> None:
    await breach(database, transition)
    spoilt = (await incident_of(query))["id"]
    other = await another_pair()
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [make_transition(other, "proximity", "warning", "breach", distance_m=50.0)])
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET detail = detail || $2 WHERE id = $1", spoilt, {"shared_with": 7})
    await run(escalator, moment, 30)
    lines = await query("SELECT incident_id FROM timeline WHERE kind = 'escalated'")
    assert len(lines) == 1
    assert lines[0]["incident_id"] != spoilt
    [poison] = await query("SELECT source, entry FROM poison")
    assert (poison["source"], poison["entry"]) == ("escalator", f"escalation:{spoilt}")
    assert await escalator._wait_s() == POLL_S, "what is set aside wakes nobody a hundred times a second"


async def test_steps_go_on_where_they_were_after_a_restart_and_repeat(
    database: Any, transition: Any, query: Query, posts: Any, moment: Moment, staff: Any
) -> None:
    await breach(database, transition)
    for seconds in (30, 60, 120, 420, 720):
        moment.at(seconds)
        await Escalator(posts.worker, moment).step()  # each time another process
    lines = await query("SELECT data FROM timeline WHERE kind = 'escalated' ORDER BY ordinal")
    assert [(line["data"]["step"], line["data"].get("turn", 0)) for line in lines] == [
        (1, 0), (2, 0), (3, 0), (3, 1), (3, 2),
    ]  # fmt: skip
    assert (await incident_of(query))["escalation_step"] == 3


async def test_an_exercise_wakes_nobody(
    database: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, staff: Any
) -> None:
    await breach(database, transition)
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET exercise = true")
    await run(escalator, moment, 200)
    assert await told(query) == []


async def test_a_service_that_runs_tells_at_the_time_and_stops(
    database: Any, transition: Any, query: Query, posts: Any, moment: Moment, staff: Any
) -> None:
    await breach(database, transition)
    moment.at(30)
    looked = asyncio.Event()

    class Watched(Escalator):
        async def step(self) -> bool:
            more = await super().step()
            looked.set()
            return more

    service = Watched(posts.worker, moment)
    await service.start()
    async with asyncio.timeout(20):
        await looked.wait()
    await service.stop()
    await service.stop()
    assert len(await told(query)) == 3


async def test_a_panic_that_waited_for_postgres_is_escalated_from_when_it_was_taken(
    database: Any, query: Query, pair: Any, escalator: Escalator, moment: Moment, staff: Any
) -> None:
    panic = PanicIn(
        id=new_id(), client_id=None, received_ms=to_ms(NOW - timedelta(seconds=70)),
        token_digest=token_digest(pair.phone_token).hex(), source="here", device_id=pair.phone_id,
    )  # fmt: skip
    async with act(database, NOW) as unit:
        await take_panic(unit, panic)
    await run(escalator, moment, 0)
    [line] = await query("SELECT data FROM timeline WHERE kind = 'escalated'")
    assert (line["data"]["step"], line["data"]["together_with"]) == (2, [1])
    assert (await incident_of(query))["next_deadline_at"] == NOW + timedelta(seconds=50)


async def test_what_was_queued_and_not_sent_is_taken_back_by_an_acknowledgement(
    database: Any,
    posts: Any,
    transition: Any,
    query: Query,
    escalator: Escalator,
    moment: Moment,
    staff: Any,
    pair: Any,
) -> None:
    await breach(database, transition)
    await run(escalator, moment, 30)
    async with database.transaction() as connection:
        await connection.execute("UPDATE delivery SET state = 'sent'")
    await run(escalator, moment, 60)
    scope = Scope(pair.agency_id, pair.users["dispatcher"], "dispatcher")
    async with act(posts.api, NOW + timedelta(seconds=61), scope) as unit:
        await commands.acknowledge(unit, by(pair, await incident_of(query)))
    states = {(row["template"], row["state"]) for row in await query("SELECT template, state FROM delivery")}
    assert ("escalation_supervisor", "cancelled") in states
    assert ("escalation_dispatcher", "sent") in states
    assert "queued" not in {state for template, state in states if template.startswith("escalation")}
