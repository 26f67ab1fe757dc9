"""What is said to him when he nears: only where the order wants it, later, within a radius, seldom, by no panic."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.ingest.device_commands import DeviceCommands
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import to_ms
from notifier.escalator import Escalator

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HERE = (43.2, 76.9)
WITHIN_M, BEYOND_M = 0.0, 1_450.0
"""Metres north of her: within every radius that may be drawn (500 to 1500 m), and beyond it."""
Query = Callable[..., Any]


class Moment:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def moment() -> Moment:
    """The escalator's clock."""
    return Moment()


@pytest.fixture
def escalator(posts: Any, moment: Moment) -> Escalator:
    """An escalator, connected as the notifier is."""
    return Escalator(posts.worker, moment)


async def fix(database: Any, device_id: uuid.UUID, role: int, at: datetime, north_m: float = 0.0) -> None:
    async with database.transaction() as connection:
        for parent in ("ping_victim", "ping_aggressor"):
            await connection.execute("SELECT make_ping_day($1, $2)", parent, at.date())
        number = await connection.fetchval("SELECT number FROM device WHERE id = $1", device_id)
        await connection.execute(
            "INSERT INTO ping (role, live_at, device_number, seq, at, received_at, flags, lat, lon, accuracy_m,"
            " speed_mps, heading_deg, altitude_m, battery_pct)"
            " VALUES ($1, $2, $3, 1, $2, $2, 0, $4, $5, 8, 'NaN', 'NaN', 'NaN', 'NaN')",
            role, at, number, HERE[0] + north_m / 111_195.0, HERE[1],
        )  # fmt: skip


async def approach(database: Any, pair: Any, transition: Any, *, warn: bool = True) -> None:
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET warn_aggressor = $2 WHERE id = $1", pair.order_id, warn)
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "clear", "warning", distance_m=1400.0)])


async def run(escalator: Escalator, moment: Moment, seconds: float) -> None:
    moment.now = NOW + timedelta(seconds=seconds)
    await escalator.step()


async def both_at(database: Any, pair: Any, seconds: float, north_m: float = WITHIN_M) -> None:
    at = NOW + timedelta(seconds=seconds)
    await fix(database, pair.phone_id, 1, at)
    await fix(database, pair.bracelet_id, 2, at, north_m)


async def told_him(query: Query) -> list[Any]:
    rows: list[Any] = await query("SELECT channel, template, data FROM delivery WHERE audience = 'aggressor'")
    return rows


async def waiting_commands(query: Query) -> list[Any]:
    rows: list[Any] = await query("SELECT device_id, kind, body FROM device_command")
    return rows


async def test_his_bracelet_says_it_once_its_time_has_come_and_he_is_near(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    [warning] = await query("SELECT release_at, radius_m FROM aggressor_warning")
    due_s = (warning["release_at"] - NOW).total_seconds()
    assert 30 <= due_s <= 601
    await both_at(database, pair, due_s - 10)
    await run(escalator, moment, due_s - 6)
    assert await waiting_commands(query) == []
    await run(escalator, moment, due_s + 1)
    [command] = await waiting_commands(query)
    assert (command["device_id"], command["kind"]) == (pair.bracelet_id, "show_message")
    for known in (pair.victim_id, pair.order_id, pair.case_id, "43.2", "distance"):
        assert str(known) not in str(command["body"])
    assert await told_him(query) == [], "a bracelet is no phone"


async def test_his_phone_is_told_by_push_without_a_fact(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    async with database.transaction() as connection:
        await connection.execute("UPDATE device SET kind = 'phone' WHERE id = $1", pair.bracelet_id)
    await approach(database, pair, transition)
    await both_at(database, pair, 600)
    await run(escalator, moment, 602)
    [told] = await told_him(query)
    assert (told["channel"], told["template"], told["data"]) == ("fcm", "warning_aggressor", {})
    assert await waiting_commands(query) == []


async def test_who_is_not_near_enough_hears_of_it_when_he_is(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    await both_at(database, pair, 600, BEYOND_M + 200)
    await run(escalator, moment, 602)
    assert await waiting_commands(query) == []
    await both_at(database, pair, 700)
    await run(escalator, moment, 702)
    assert len(await waiting_commands(query)) == 1


async def test_who_turns_back_or_stays_unseen_hears_nothing(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    await both_at(database, pair, 1)
    await run(escalator, moment, 700)
    assert await waiting_commands(query) == [], "nobody knows where he is"
    await run(escalator, moment, 3_000)
    assert [row["outcome"] for row in await query("SELECT outcome FROM aggressor_warning")] == ["away"]


async def test_he_is_told_at_most_once_in_ten_minutes(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO aggressor_warning (id, agency_id, case_id, order_id, aggressor_id, decided_at, release_at,"
            " radius_m, settled_at, outcome) VALUES ($1, $2, $3, $4, $5, $6, $6, 1000, $6, 'sent')",
            uuid.uuid4(), pair.agency_id, pair.case_id, pair.order_id, pair.aggressor_id,
            NOW + timedelta(seconds=200),
        )  # fmt: skip
    await both_at(database, pair, 700)
    await run(escalator, moment, 702)
    assert await waiting_commands(query) == []
    assert {row["outcome"] for row in await query("SELECT outcome FROM aggressor_warning")} == {"sent", "recent"}


async def test_an_order_that_does_not_want_it_says_nothing(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET warn_aggressor = false WHERE id = $1", pair.order_id)
    await both_at(database, pair, 600)
    await run(escalator, moment, 602)
    assert (await waiting_commands(query), await told_him(query)) == ([], [])


async def test_a_panic_neither_brings_a_warning_nor_keeps_one_back(
    database: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment, api: Any
) -> None:
    async with api.client(pair.phone_token) as her:
        assert (await her.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
    await both_at(database, pair, 600)
    await run(escalator, moment, 602)
    assert (await waiting_commands(query), await told_him(query)) == ([], [])
    await approach(database, pair, transition)
    await run(escalator, moment, 610)
    assert len(await waiting_commands(query)) == 1


async def test_a_command_goes_out_once_with_the_bracelets_acknowledgement(
    database: Any, posts: Any, pair: Any, transition: Any, query: Query, escalator: Escalator, moment: Moment
) -> None:
    await approach(database, pair, transition)
    await both_at(database, pair, 600)
    await run(escalator, moment, 602)
    [number] = [row["number"] for row in await query("SELECT number FROM device WHERE id = $1", pair.bracelet_id)]
    waiting = DeviceCommands(posts.device, moment)
    heard: list[int] = []
    waiting.on_waiting(heard.append)
    await waiting.look()
    assert heard == [number]
    [command] = waiting.take(number)
    assert command["kind"] == "show_message"
    assert waiting.take(number) == []
    await waiting.look()
    assert waiting.take(number) == []
    assert [row["taken_at"] for row in await query("SELECT taken_at FROM device_command")] == [moment()]
    assert to_ms(moment()) > to_ms(NOW)
