"""What only time brings: welfare checks, lasting warnings, levels that outlast a resolve, maintenance; and prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions import upkeep
from core.actions.commands import By, Ending, resolve
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import rfc3339, to_ms
from core.domain.transition import Transition
from core.postgres.database import Database

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HER = (43.2400, 76.9000)
HIM = (43.2403, 76.9002)
Make = Callable[..., Transition]
Query = Callable[..., Any]


async def apply(database: Database, *transitions: Transition, now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await apply_transitions(unit, transitions)


async def step(database: Database, now: datetime) -> None:
    """One look at the clock."""
    await upkeep.IncidentClock(database, lambda: now).step()


async def events(query: Query, kind: str) -> list[dict[str, Any]]:
    return [row["data"] for row in await query("SELECT data FROM feed WHERE kind = $1 ORDER BY id", kind)]


@pytest.fixture
async def history(database: Database) -> None:
    """A day to put fixes into."""
    day = NOW.replace(hour=0, minute=0)
    async with database.transaction() as connection:
        for role in ("victim", "aggressor"):
            await connection.execute(
                f"CREATE TABLE ping_{role}_test PARTITION OF ping_{role} FOR VALUES FROM ('{day.isoformat()}')"
                f" TO ('{(day + timedelta(days=1)).isoformat()}')"
            )


async def put_fixes(
    database: Database, device_id: Any, place: tuple[float, float], until: datetime, *, north_m: float = 0.0
) -> None:
    """A fix each minute of the half-hour before `until`, walking north by so much a minute, one of them astray."""
    async with database.transaction() as connection:
        for minute in range(31):
            at = until - timedelta(minutes=30 - minute)
            lat = place[0] + (north_m * minute + (400.0 if minute == 13 else 0.0)) / 111_195
            await connection.execute(
                "INSERT INTO ping SELECT CASE d.role WHEN 'victim' THEN 1 ELSE 2 END, $2, d.number, 1, $2, $2, 0, $3,"
                " $4, 12, 'NaN', 'NaN', 'NaN', 'NaN' FROM device d WHERE d.id = $1",
                device_id, at, lat, place[1],
            )  # fmt: skip


async def test_both_at_rest_inside_for_half_an_hour_asks_for_a_welfare_check_once(
    database: Database, transition: Make, query: Query, pair: Any, history: None
) -> None:
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    later = NOW + timedelta(minutes=30)
    await put_fixes(database, pair.phone_id, HER, later)
    await put_fixes(database, pair.bracelet_id, HIM, later)
    await step(database, later - timedelta(seconds=1))
    assert await events(query, "notice.welfare_check") == []
    await step(database, later)
    await step(database, later + timedelta(seconds=2))
    [row] = await query("SELECT * FROM incident")
    assert await events(query, "notice.welfare_check") == [
        {"incident_id": str(row["id"]), "order_id": str(pair.order_id), "inside_since": rfc3339(NOW)}
    ]
    assert (row["detail"]["welfare_check_at"], row["version"]) == (rfc3339(later), 1)
    lines = await query("SELECT kind FROM timeline ORDER BY ordinal")
    assert [line["kind"] for line in lines] == ["proximity", "welfare_check"]
    [delivery] = await query("SELECT * FROM delivery WHERE template = 'welfare_check_dispatcher'")
    assert (delivery["audience"], delivery["data"]["event"]) == ("dispatcher", "notice.welfare_check")


@pytest.mark.parametrize("why", ["he walks", "she is not seen", "he left", "resolved"])
async def test_no_welfare_check_when_somebody_moves_or_is_not_seen_or_it_is_over(
    database: Database, transition: Make, query: Query, pair: Any, history: None, why: str
) -> None:
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    later = NOW + timedelta(minutes=31)
    await put_fixes(database, pair.phone_id, HER, NOW if why == "she is not seen" else later)
    await put_fixes(database, pair.bracelet_id, HIM, later, north_m=20.0 if why == "he walks" else 0.0)
    if why == "he left":
        await apply(database, transition("proximity", "breach", "clear"), now=later)
    if why == "resolved":
        await end(database, query, pair, "custody", later)
    await step(database, later)
    assert await events(query, "notice.welfare_check") == []


async def end(
    database: Database, query: Query, pair: Any, outcome: str, now: datetime, cause: str | None = None
) -> None:
    """Resolve what is open."""
    for row in await query("SELECT id, version FROM incident WHERE state <> 'resolved'"):
        async with act(database, now) as unit:
            by = By(pair.users["dispatcher"], pair.agency_id, row["id"], row["version"])
            await resolve(unit, by, Ending(outcome, false_alarm_cause=cause))


async def test_five_minutes_of_warning_are_told_once_a_stay_and_open_nothing(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    first = NOW + timedelta(minutes=5)
    await apply(database, transition("proximity", "clear", "warning", at_ms=to_ms(NOW), distance_m=1200.0))
    await step(database, first - timedelta(seconds=1))
    assert await events(query, "notice.warning") == []
    await step(database, first)
    await step(database, first + timedelta(minutes=20))
    [told] = await events(query, "notice.warning")
    assert (told["order_id"], told["since"], told["distance_m"]) == (str(pair.order_id), rfc3339(NOW), 1200.0)
    assert await query("SELECT 1 FROM incident") == []

    again = NOW + timedelta(hours=1)
    await apply(database, transition("proximity", "warning", "clear", at_ms=to_ms(again)), now=again)
    await apply(database, transition("proximity", "clear", "warning", at_ms=to_ms(again)), now=again)
    await step(database, again + timedelta(minutes=5))
    assert len(await events(query, "notice.warning")) == 2


async def test_a_warning_that_follows_a_breach_is_the_incident_s_affair(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    await apply(database, transition("proximity", "breach", "warning", at_ms=to_ms(NOW)))
    await step(database, NOW + timedelta(minutes=6))
    assert await events(query, "notice.warning") == []


async def test_who_is_still_inside_an_hour_after_custody_opens_a_new_incident(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    await end(database, query, pair, "custody", NOW)
    later = NOW + timedelta(hours=1)
    await step(database, later)
    assert len(await query("SELECT 1 FROM incident")) == 1, "nobody is heard: a bracelet in a drawer proves nothing"
    await hear(database, pair, later)
    await step(database, later - timedelta(seconds=1))
    assert len(await query("SELECT 1 FROM incident")) == 1
    await step(database, later)
    await step(database, later + timedelta(seconds=2))
    first, second = await query("SELECT * FROM incident ORDER BY opened_at")
    assert (first["state"], second["state"], second["severity"], second["inside"]) == (
        "resolved", "open", "critical", True,
    )  # fmt: skip
    told = await query("SELECT 1 FROM delivery WHERE incident_id = $1 AND audience = 'dispatcher'", second["id"])
    assert len(told) == 1
    assert len(await query("SELECT 1 FROM timeline WHERE incident_id = $1", second["id"])) == 1


async def hear(database: Database, pair: Any, at: datetime) -> None:
    async with database.transaction() as connection:
        await connection.execute("UPDATE device SET last_seen_at = $1 WHERE agency_id = $2", at, pair.agency_id)


async def test_who_left_or_whose_order_ended_after_custody_opens_nothing(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    later = NOW + timedelta(hours=2)
    await apply(database, transition("proximity", "warning", "breach", at_ms=to_ms(NOW)))
    await end(database, query, pair, "custody", NOW)
    await hear(database, pair, later)
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET status = 'suspended'")
    await step(database, later)
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET status = 'in_force'")
    await apply(database, transition("proximity", "breach", "clear"), now=later)
    await step(database, later)
    assert len(await query("SELECT 1 FROM incident")) == 1


async def make_false(database: Database, transition: Make, query: Query, pair: Any, at: datetime, cause: str) -> None:
    await apply(database, transition("device", "closed", "open", signal="strap"), now=at)
    await end(database, query, pair, "false_alarm", at, cause)


async def test_a_fourth_false_incident_within_a_week_makes_one_maintenance_task_and_suppresses_nothing(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    for day, cause in enumerate(("charging", "loose strap", "charging")):
        await make_false(database, transition, query, pair, NOW + timedelta(days=day), cause)
        await step(database, NOW + timedelta(days=day))
    assert await query("SELECT 1 FROM maintenance_task") == []
    fourth = NOW + timedelta(days=6)
    await make_false(database, transition, query, pair, fourth, "charging")
    await step(database, fourth)
    await step(database, fourth)
    [task] = await query("SELECT * FROM maintenance_task")
    assert (task["order_id"], task["case_id"], len(task["incident_ids"])) == (pair.order_id, pair.case_id, 4)
    assert task["causes"] == {"charging": 3, "loose strap": 1}
    [told] = await events(query, "notice.maintenance")
    assert told["id"] == str(task["id"])
    async with api.client(api.token(pair.agency_id, pair.users["supervisor"], "supervisor")) as desk:
        span = {"since": rfc3339(NOW), "until": rfc3339(fourth + timedelta(days=1))}
        report = (await desk.get("/v1/reports/maintenance", params=span)).json()
    assert [one["id"] for one in report["tasks"]] == [str(task["id"])]
    await apply(database, transition("device", "closed", "open", signal="strap"), now=fourth)
    assert len(await query("SELECT 1 FROM incident WHERE state = 'open'")) == 1


async def test_four_false_incidents_over_more_than_a_week_are_no_task(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    for day in (0, 3, 6, 9):
        await make_false(database, transition, query, pair, NOW + timedelta(days=day), "charging")
        await step(database, NOW + timedelta(days=day))
    assert await query("SELECT 1 FROM maintenance_task") == []


async def test_of_many_processes_one_does_the_work(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("proximity", "clear", "warning", at_ms=to_ms(NOW)))
    await asyncio.gather(*(step(database, NOW + timedelta(minutes=5)) for _ in range(6)))
    assert len(await events(query, "notice.warning")) == 1


async def test_her_late_device_prompts_her_in_words_that_betray_nothing(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("zone", "clear", "breach", zone_id=pair.order_id))
    await apply(database, transition("device", "reporting", "late", signal="silence", device_id=pair.phone_id))
    [prompt] = await query("SELECT * FROM device_prompt")
    assert (prompt["device_id"], prompt["role"], prompt["pushes"], prompt["answered_at"]) == (
        pair.phone_id, "victim", 1, None,
    )  # fmt: skip
    [delivery] = await query("SELECT * FROM delivery WHERE template = 'device_prompt'")
    assert (delivery["audience"], delivery["channel"], delivery["data"]) == ("victim", "fcm", {})
    [line] = await query("SELECT data FROM timeline WHERE kind = 'prompt'")
    assert line["data"] == {"device_id": str(pair.phone_id), "role": "victim", "pushes": 1}
    [event] = await events(query, "device.late")
    assert event["count"] == 1
    await apply(database, transition("device", "late", "reporting", signal="silence", device_id=pair.phone_id))
    [prompt] = await query("SELECT answered_at FROM device_prompt")
    assert prompt["answered_at"] == NOW


async def test_his_late_bracelet_is_noted_and_nothing_is_sent_to_anybody(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("device", "reporting", "late", signal="silence"))
    [prompt] = await query("SELECT * FROM device_prompt")
    assert (prompt["device_id"], prompt["role"], prompt["pushes"]) == (pair.bracelet_id, "aggressor", 0)
    assert await query("SELECT 1 FROM delivery") == []
    assert await query("SELECT 1 FROM incident") == []
