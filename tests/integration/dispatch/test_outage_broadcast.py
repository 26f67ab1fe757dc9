"""Outages are told to every agency, which acknowledges; and once, discreetly, to whoever is not seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.outage_clock import OutageClock
from core.actions import broadcast
from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.safe_hours import is_within
from core.postgres.people import PEOPLE
from tests.integration.dispatch.conftest import make_agency

Query = Callable[..., Any]
MINUTE = timedelta(minutes=1)


class Dog:
    """A watchdog that says what a test wants."""

    def __init__(self) -> None:
        self.parts: tuple[str, ...] = ()

    async def red(self) -> tuple[str, ...]:
        """What is red."""
        return self.parts


@pytest.fixture
async def outage(posts: Any, pair: Any, query: Query) -> Any:
    """Moves time on, with parts red or none; the service's clock."""
    await query("UPDATE protection_order SET status = 'in_force'")
    dog, moment = Dog(), [utc_now()]
    clock = OutageClock(posts.device, dog, lambda: moment[0])  # type: ignore[arg-type]

    async def at(seconds: float, *red: str) -> None:
        moment[0] += timedelta(seconds=seconds)
        dog.parts = red
        await clock.step()

    del pair
    return at


async def sent(query: Query, template: str) -> list[Any]:
    return list(await query("SELECT * FROM delivery WHERE template = $1", template))


async def test_every_agency_is_told_once_and_acknowledges(
    api: Any, pair: Any, outage: Any, query: Query, database: Any
) -> None:
    other_id, others = await make_agency(database, "Other")
    await outage(0, "redis")
    await outage(20, "redis")
    assert await query("SELECT FROM service_outage") == []  # a hiccup is none
    for _ in range(3):
        await outage(20, "redis", "engine")
    (row,) = await query("SELECT * FROM service_outage")
    assert (row["what"], row["ended_at"]) == ("positions", None)
    events = await query("SELECT agency_id FROM feed WHERE kind = 'outage.started'")
    assert {event["agency_id"] for event in events} == {pair.agency_id, other_id}
    assert len(events) == len(await sent(query, "outage_dispatcher")) == 2
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
        for _ in range(2):
            assert (await desk.post(f"/v1/outages/{row['id']}/acknowledge")).status_code == 204
        (own,) = (await desk.get("/v1/outages")).json()["items"]
        assert own["acknowledged_by"] == str(pair.users["dispatcher"])
        assert own["acknowledged_by_name"]
    async with api.client(api.token(other_id, others["supervisor"], "supervisor")) as other:
        (shown,) = (await other.get("/v1/outages")).json()["items"]
        assert [heard["agency"].split()[0] for heard in shown["heard"]] == ["Agency"]
        assert (shown["acknowledged_by"], shown["what"]) == (None, "positions")
        assert (await other.post(f"/v1/outages/{pair.order_id}/acknowledge")).status_code == 404
    await outage(1)
    await outage(30)
    await outage(30)
    (row,) = await query("SELECT * FROM service_outage")
    assert row["ended_at"] is not None
    assert len(await sent(query, "outage_over_dispatcher")) == 2


async def test_while_processes_see_different_things_an_outage_begins_and_ends_once(
    posts: Any, pair: Any, query: Query
) -> None:
    """One that has lost its way to Redis, beside one that has not."""
    moment, dogs = [utc_now()], [Dog(), Dog()]
    clocks = [OutageClock(posts.device, dog, lambda: moment[0]) for dog in dogs]  # type: ignore[arg-type]

    async def at(seconds: float, *red: str) -> None:
        moment[0] += timedelta(seconds=seconds)
        dogs[0].parts = red
        for clock in clocks:
            await clock.step()

    await at(0)
    for _ in range(12):
        await at(5, "redis")
    assert [row["ended_at"] for row in await query("SELECT * FROM service_outage")] == [None]
    for _ in range(12):
        await at(5)
    (row,) = await query("SELECT * FROM service_outage")
    assert row["ended_at"] is not None
    kinds = [event["kind"] for event in await query("SELECT kind FROM feed ORDER BY id")]
    assert kinds == ["outage.started", "outage.ended"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_what_a_process_saw_that_is_gone_ends_with_it(posts: Any, pair: Any, query: Query, how: str) -> None:
    moment, dog = [utc_now()], Dog()
    blind, seeing = [
        OutageClock(posts.device, one, lambda: moment[0])  # type: ignore[arg-type]
        for one in (dog, Dog())
    ]
    dog.parts = ("redis",)
    for _ in range(8):
        moment[0] += timedelta(seconds=5)
        await blind.step()
        await seeing.step()
    assert [row["ended_at"] for row in await query("SELECT * FROM service_outage")] == [None]
    if how == "stopped":
        await blind.close()
    else:
        moment[0] += timedelta(seconds=40)
    await seeing.step()
    (row,) = await query("SELECT * FROM service_outage")
    assert row["ended_at"] is not None


async def test_a_database_that_was_away_is_told_of_afterwards(outage: Any, query: Query) -> None:
    await outage(0, "postgres")
    await outage(60, "postgres")
    await outage(1)
    for _ in range(3):
        await outage(30)
    (row,) = await query("SELECT * FROM service_outage")
    assert row["what"] == "database"
    assert await sent(query, "untracked_victim") == []  # her panic and her positions were taken


async def test_she_is_told_after_two_minutes_once_and_when_it_is_over(pair: Any, outage: Any, query: Query) -> None:
    await outage(0, "redis")
    await outage(60, "redis")
    assert await sent(query, "untracked_victim") == []
    for _ in range(3):
        await outage(61, "redis")
    (word,) = await sent(query, "untracked_victim")
    assert (word["recipient"], word["channel"], word["data"]) == (f"device:{pair.phone_id}", "fcm", {})
    await outage(1)
    for _ in range(3):
        await outage(30)
    assert len(await sent(query, "outage_over_victim")) == 1


@pytest.mark.parametrize("how", ["panic", "duress", "do_not_call"])
async def test_nobody_writes_to_a_phone_that_somebody_else_may_hold(
    pair: Any, outage: Any, query: Query, how: str
) -> None:
    await query(
        "INSERT INTO incident (id, type, family, severity, state, version, episode_id, agency_id,"
        " jurisdiction_agency_id, victim_id, subject, occurred_at, opened_at, updated_at, do_not_call, detail)"
        " VALUES ($1, $2, $2, 'critical', 'open', 1, $1, $3, $3, $4, 's', now(), now(), now(), $5, $6)",
        pair.order_id, "panic" if how == "panic" else "proximity", pair.agency_id, pair.victim_id,
        how == "do_not_call", {"duress": True} if how == "duress" else {},
    )  # fmt: skip
    await outage(0, "redis")
    await outage(60, "redis")
    await outage(121, "redis")
    assert await sent(query, "untracked_victim") == []
    await query("UPDATE incident SET state = 'resolved'")
    await outage(1, "redis")
    assert len(await sent(query, "untracked_victim")) == 1


async def test_without_a_phone_it_goes_to_her_safe_contact_within_its_hours_alone(
    pair: Any, posts: Any, query: Query, database: Any
) -> None:
    await query("UPDATE protection_order SET status = 'in_force'")
    await query("UPDATE device SET push_token = NULL")
    async with database.transaction() as connection:
        safe = {"channel": "sms", "address": "+77010000000", "hours": "09:00-17:00"}
        await PEOPLE.update(connection, pair.agency_id, pair.victim_id, {"safe_contact": safe})
    now = datetime(2026, 5, 1, 7, tzinfo=UTC)  # noon in Almaty
    for moment, expected in ((now, 1), (now + timedelta(hours=12), 1)):
        async with act(posts.device, moment) as unit:
            await broadcast.begin(unit, "positions", moment - 3 * MINUTE)
            await broadcast.tell_untracked(unit)
        assert len(await sent(query, "untracked_victim")) == expected
        async with act(posts.device, moment) as unit:
            await broadcast.end(unit, "positions")


def test_hours_are_kept_and_what_is_no_hours_is_never() -> None:
    noon, night = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 1, 23, 30, tzinfo=UTC)
    assert [is_within(hours, noon) for hours in (None, "", "9-17", "09:00–17:00", "8-10, 11:30-13")] == [True] * 5
    assert [is_within(hours, noon) for hours in ("weekdays", "13:00-15:00", "99:00-120:00")] == [False] * 3
    assert is_within("22:00-06:00", night)
    assert not is_within("22:00-06:00", noon)
