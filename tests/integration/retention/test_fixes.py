"""Positions: shown as long as an agency's own period says, dropped by whole days, kept apart while they are held."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from core.domain.ping import Role
from core.domain.retention import Periods
from core.domain.scope import Scope
from core.ids import new_id
from core.postgres import retention as store
from tests.integration.retention.conftest import Land, Side


async def shown(land: Land, side: Side) -> list[int]:
    """Ages in whole days of the fixes that the agency's users may see."""
    async with land.posts.api.connection(Scope(side.agency_id, new_id(), "supervisor")) as connection:
        rows = await connection.fetch("SELECT live_at FROM ping UNION ALL SELECT live_at FROM ping_held")
    return sorted(round((land.now - row["live_at"]).total_seconds() / 86_400) for row in rows)


async def test_an_agencys_shorter_period_hides_at_once_what_anothers_longer_one_keeps(land: Land) -> None:
    short, long = await land.side("Short", victim_fix_days=2), await land.side("Long", victim_fix_days=20)
    for side in (short, long):
        for days in (1, 5, 12, 25):
            await land.fix(Role.VICTIM, side.phone, days)
    assert await shown(land, short) == [1]
    assert await shown(land, long) == [1, 5, 12]
    await land.run()
    assert len(await land.days(Role.VICTIM)) == 3, "only the day that nobody shows is gone"
    assert await shown(land, long) == [1, 5, 12]
    (erased,) = await land.rows("SELECT * FROM retention_erased WHERE agency_id = $1", short.agency_id)
    assert (erased["rule"], erased["kind"], erased["count"], erased["held"]) == ("victim_fix", "ping_victim", 1, 0)
    await land.run(later_days=30)
    assert await land.count("ping") == 0


async def test_his_fixes_stay_while_their_order_holds_and_ninety_days_beyond(land: Land) -> None:
    side = await land.side("Here")
    for days in (1, 60, 150, 220):
        await land.fix(Role.AGGRESSOR, side.bracelet, days)
    assert await shown(land, side) == [1, 60, 150], "before the order's 200 days there was no order"
    await land.run()
    assert len(await land.days(Role.AGGRESSOR)) == 3
    await land.end_order(side, days_ago=80)
    assert await shown(land, side) == [1, 60, 150]
    await land.end_order(side, days_ago=100)
    assert await shown(land, side) == [1, 60], "beyond the order: what is younger than the period itself"
    await land.run()
    assert len(await land.days(Role.AGGRESSOR)) == 2
    await land.run(later_days=40)
    assert len(await land.days(Role.AGGRESSOR)) == 1


async def test_no_fix_of_his_outlives_the_installations_room(land: Land) -> None:
    side = await land.side("Here")
    await land.fix(Role.AGGRESSOR, side.bracelet, 150)
    await land.run(room=land_room(100))
    assert await land.count("ping") == 0


def land_room(days: int) -> Any:
    from core.actions.retention import Room

    return Room(30, days)


@pytest.mark.parametrize("column", ["person_id", "case_id"])
async def test_what_a_court_wants_is_kept_apart_when_its_day_is_dropped(land: Land, column: str) -> None:
    wanted, other = await land.side("Wanted"), await land.side("Other")
    for side in (wanted, other):
        await land.fix(Role.VICTIM, side.phone, 5)
        await land.fix(Role.VICTIM, side.phone, 9)
    assert await shown(land, wanted) == [5]
    hold_id = await land.hold(wanted, column, wanted.her if column == "person_id" else wanted.case_id)
    assert await shown(land, wanted) == [5, 9], "it is shown again while history has it"
    await land.run()
    assert await shown(land, wanted) == [5, 9]
    assert [row["person_id"] for row in await land.rows("SELECT person_id FROM ping_held")] == [wanted.her]
    await land.run(later_days=10)
    assert await land.count("ping_held") == 2
    figures = await land.rows(
        "SELECT agency_id, sum(count)::int AS count, sum(held)::int AS held FROM retention_erased"
        " WHERE kind = 'ping_victim' GROUP BY 1"
    )
    assert {row["agency_id"]: (row["count"], row["held"]) for row in figures} == {
        wanted.agency_id: (2, 2),
        other.agency_id: (2, 0),
    }
    await land.lift(hold_id)
    await land.run(later_days=11)
    assert await land.count("ping_held") == 0
    assert {row["rule"] for row in await land.rows("SELECT rule FROM retention_erased")} >= {"held_fix"}


async def test_a_hold_on_an_incident_keeps_both_parties_fixes_of_its_window(land: Land) -> None:
    side = await land.side("Here")
    incident_id = await land.incident(side, 9)
    await land.fix(Role.VICTIM, side.phone, 9)
    await land.fix(Role.VICTIM, side.phone, 8.5)
    await land.hold(side, "incident_id", incident_id)
    await land.run()
    (kept,) = await land.rows("SELECT live_at FROM ping_held")
    assert kept["live_at"] == land.now - timedelta(days=9)


async def test_her_own_hold_keeps_its_stretch_and_ends_by_itself(land: Land) -> None:
    side = await land.side("Here")
    for days in (3, 6):
        await land.fix(Role.VICTIM, side.phone, days)
    async with land.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO own_hold (id, agency_id, person_id, fixes_from, fixes_until, placed_at, ends_at)"
            " VALUES ($1, $2, $3, $4, $5, $5, $6)",
            new_id(), side.agency_id, side.her, land.now - timedelta(days=4), land.now, land.now + timedelta(days=365),
        )  # fmt: skip
    await land.run(later_days=20)
    assert await shown(land, side) == [3], "what is younger than her hold's beginning"
    await land.run(later_days=370)
    assert await shown(land, side) == []


async def test_whose_a_fix_is_follows_the_device_from_hand_to_hand(land: Land) -> None:
    side = await land.side("Here")
    for days in (9.5, 8.5):
        await land.fix(Role.VICTIM, side.phone, days)
    another = new_id()
    async with land.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
            another, side.agency_id, land.now,
        )  # fmt: skip
        await connection.execute(
            "UPDATE device SET person_id = $2, updated_at = $3 WHERE number = $1",
            side.phone, another, land.now - timedelta(days=9),
        )  # fmt: skip
    await land.hold(side, "person_id", side.her)
    await land.run()
    (kept,) = await land.rows("SELECT person_id, live_at FROM ping_held")
    assert (kept["person_id"], kept["live_at"]) == (side.her, land.now - timedelta(days=9.5))


async def test_a_drop_never_makes_who_writes_history_wait_for_long(land: Land) -> None:
    side = await land.side("Here")
    at = await land.fix(Role.VICTIM, side.phone, 9)
    async with land.database.transaction() as reading:
        await reading.execute("SELECT count(*) FROM ping_victim")
        run = await land.run()
        assert run.failed == []
        assert await land.days(Role.VICTIM) == [at.date()], "it is left for the next time"
        assert await land.count("retention_erased") == 0
    await land.run()
    assert await land.days(Role.VICTIM) == []


async def test_killed_between_copy_and_drop_nothing_is_half_done(land: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    side = await land.side("Here")
    await land.fix(Role.VICTIM, side.phone, 9)
    await land.hold(side, "person_id", side.her)

    async def die(*_: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(store, "record", die)
        with pytest.raises(asyncio.CancelledError):
            await land.run()
    assert (await land.count("ping"), await land.count("ping_held"), await land.count("retention_erased")) == (1, 0, 0)
    await land.run()
    assert (await land.count("ping"), await land.count("ping_held"), await land.count("retention_erased")) == (0, 1, 1)


async def test_the_database_has_the_defaults_that_the_code_has(land: Land) -> None:
    side = await land.side("Here")
    for name in ("victim_fix_days", "aggressor_fix_days"):
        (row,) = await land.rows("SELECT period_days($1, $2) AS days", side.agency_id, name)
        assert row["days"] == getattr(Periods(), name)


async def test_only_retention_drops_a_day(land: Land) -> None:
    at = await land.fix(Role.VICTIM, 1, 9)
    for pool in (land.posts.api, land.posts.device, land.posts.worker, land.posts.historian, land.posts.sealer):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with pool.connection() as connection:
                await connection.execute("SELECT drop_ping_day('ping_victim', $1, now())", at.date())
    for table in ("person", "contact", "ping", "person_key"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with land.posts.retention.connection() as connection:
                await connection.execute(f"SELECT * FROM {table}")
