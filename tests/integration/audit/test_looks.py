"""Live viewing: one row for each user, person, purpose and five minutes, and none lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.live import looks as looks_module
from api.live.looks import Looks
from core.domain.scope import Scope
from core.ids import new_id
from core.postgres import audit
from core.postgres.database import Database
from core.settings import Settings
from tests.integration.audit.audit_world import World

PEOPLE = [str(new_id()) for _ in range(3)]


def watcher(world: World, **values: Any) -> Scope:
    """A dispatcher of the first agency."""
    return Scope(
        **{"agency_id": world.agency_id, "user_id": new_id(), "role": "dispatcher", "address": "10.1.2.3", **values}
    )


async def rows(world: World) -> list[Any]:
    """What the audit has of live viewing."""
    async with world.database.connection() as connection:
        found: list[Any] = await connection.fetch("SELECT * FROM audit WHERE action = 'person.watched' ORDER BY at, id")
    return found


def make(world: World, settings: Settings, database: Database | None = None) -> Looks:
    """The looks of one process."""
    return Looks(settings, database or world.database, lambda: world.now)


async def test_one_row_for_five_minutes(world: World, settings: Settings) -> None:
    looks = make(world, settings)
    one, two = watcher(world), watcher(world, purpose="court", session_id=new_id())
    for _ in range(100):
        assert looks.may_watch(one, PEOPLE[:2])
        looks.note(two, PEOPLE[:1])
        world.now += timedelta(seconds=1)
    await looks.flush()
    found = await rows(world)
    assert [(row["actor_id"], row["purpose"]) for row in found].count((str(one.user_id), "open_incident")) == 2
    assert [(row["actor_id"], row["purpose"]) for row in found].count((str(two.user_id), "court")) == 1
    assert {row["address"] for row in found} == {"10.1.2.3"}
    assert all(row["person_ids"] == [row["subject_id"]] and row["role"] == "dispatcher" for row in found)
    world.now += timedelta(minutes=5)
    looks.note(one, PEOPLE[:1])
    await looks.flush()
    assert len(await rows(world)) == 4


async def test_two_processes_write_one_row(world: World, settings: Settings) -> None:
    scope = watcher(world)
    for _ in range(2):
        looks = make(world, settings)
        looks.note(scope, PEOPLE)
        await looks.flush()
    assert len(await rows(world)) == 3


async def test_nothing_is_lost_when_the_database_is_away(world: World, settings: Settings, tmp_path: Path) -> None:
    away = Database(f"postgresql://nobody@/none?host={tmp_path}/none", size=1)
    looks = make(world, settings, away)
    await looks.start()
    looks.note(watcher(world), PEOPLE)
    await looks.stop()
    assert len(list(tmp_path.glob("looks-*.jsonl"))) == 1
    assert (next(iter(tmp_path.glob("looks-*.jsonl"))).stat().st_mode & 0o777) == 0o600
    world.now += timedelta(minutes=1)
    again = make(world, settings)
    await again.start()
    await again.stop()
    assert len(await rows(world)) == 3
    assert not list(tmp_path.glob("looks-*.jsonl"))


async def test_a_half_written_line_spoils_no_other(world: World, settings: Settings, tmp_path: Path) -> None:
    away = Database(f"postgresql://nobody@/none?host={tmp_path}/none", size=1)
    looks = make(world, settings, away)
    looks.note(watcher(world), PEOPLE)
    await looks.flush()
    await looks.close()
    journal = next(iter(tmp_path.glob("looks-*.jsonl")))
    journal.write_bytes(journal.read_bytes()[:-20])
    again = make(world, settings)
    await again.open()
    await again.flush()
    await again.close()
    assert len(await rows(world)) == 2


async def test_positions_are_refused_while_looks_cannot_be_written(
    world: World, settings: Settings, tmp_path: Path
) -> None:
    away = Database(f"postgresql://nobody@/none?host={tmp_path}/none", size=1)
    looks = make(world, settings, away)
    scope = watcher(world)
    assert looks.may_watch(scope, PEOPLE[:1])
    world.now += timedelta(seconds=settings.look_unwritten_s)
    assert looks.may_watch(scope, PEOPLE[:2])
    world.now += timedelta(seconds=1)
    assert not looks.may_watch(scope, PEOPLE)
    assert looks.waiting == 3  # two people, one of them in two stretches; the third was not shown
    looks.note(scope, PEOPLE)  # an alarm is shown and noted all the same
    assert looks.waiting == 4
    looks._database = world.database
    await looks.flush()
    assert looks.may_watch(scope, PEOPLE)


async def test_too_many_that_wait_stop_the_showing(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "WAITING_BOUND", 2)
    looks = make(world, settings)
    assert looks.may_watch(watcher(world), PEOPLE)
    assert not looks.may_watch(watcher(world), PEOPLE)


async def test_nobody_without_a_scope_is_shown_anything(world: World, settings: Settings) -> None:
    assert not make(world, settings).may_watch(None, PEOPLE)


async def test_the_device_role_may_write_looks(world: World, settings: Settings) -> None:
    looks = make(world, settings)
    looks.note(watcher(world), PEOPLE)
    waiting = looks._waiting
    for _ in range(2):
        async with world.database.transaction() as connection:
            await connection.execute("SET LOCAL ROLE qorgan_device")
            await audit.write_looks(connection, waiting, "person.watched")
    assert len(await rows(world)) == 3
