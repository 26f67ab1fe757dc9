"""The sealer: no row is skipped, two never link the same, and what one leaves the next goes on with."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from core.actions.sealing import seal
from core.checkpoints import CheckpointFiles
from core.clock import utc_now
from core.domain.chain import NO_AGENCY, read_checkpoint
from core.postgres import audit, chain
from core.postgres.database import Database
from core.settings import Settings
from notifier import sealer as sealer_module
from notifier.sealer import Sealer
from tests.conftest import Posts
from tests.integration.audit.audit_world import World


async def test_a_row_whose_transaction_takes_long_is_not_skipped(world: World, database_url: str) -> None:
    await world.write(1)
    await world.seal()
    slow = await asyncpg.connect(database_url)
    await slow.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text")
    transaction = slow.transaction()
    await transaction.start()
    await audit.write(slow, world.now, agency_id=world.agency_id, actor_kind="user", actor_id=None, action="slow")
    await world.write(3)
    assert await world.seal() == 0  # theirs began later: they wait for it, and nobody waits for them
    await transaction.commit()
    await slow.close()
    assert await world.seal() == 4
    async with world.database.connection() as connection:
        first = await connection.fetchval(
            "SELECT a.action FROM audit a JOIN audit_link l ON l.audit_id = a.id WHERE l.position = 2"
        )
    assert first == "slow"


async def test_an_early_number_that_commits_late_is_linked(world: World, database_url: str) -> None:
    slow = await asyncpg.connect(database_url)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("SELECT pg_current_xact_id()")
    await transaction.rollback()
    await slow.close()
    await world.write(2)
    assert await world.seal() == 2
    await world.write(1)
    assert await world.seal() == 1
    assert await world.seal() == 0


async def test_two_at_once_link_each_row_once(world: World) -> None:
    await world.write(40)
    await asyncio.gather(*(seal(world.database, world.now) for _ in range(6)))
    await world.seal()
    async with world.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit_link") == 40
        assert await connection.fetchval("SELECT max(position) FROM audit_link") == 40


async def test_more_rows_than_a_pass_takes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.seal()
    monkeypatch.setattr("core.actions.sealing.PASS_ROWS", 3)
    await world.write(10)
    async with world.database.transaction() as connection:  # all of one transaction, more than a pass takes
        for _ in range(8):
            await audit.write(
                connection, world.now, agency_id=world.agency_id, actor_kind="user", actor_id=None, action="bulk"
            )
    total = 0
    while linked := await seal(world.database, world.now):
        total += linked
    assert total == 18
    await world.sign()
    assert (await world.check()).holds


async def test_rows_of_no_agency_have_a_chain_of_their_own(world: World) -> None:
    await world.write(2)
    await world.write(3, agency_id=None)
    await world.seal()
    async with world.database.connection() as connection:
        heads = await chain.heads(connection)
    assert heads[world.agency_id].position == 2
    assert heads[NO_AGENCY].position == 3


async def test_the_canonical_form_has_every_column(database: Database) -> None:
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'audit'")
    assert {row["column_name"] for row in rows} == set(chain.COLUMNS)


async def test_a_database_loaded_into_another_cluster_goes_on(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(3)
    await world.sign()
    # As after pg_dump and pg_restore: another cluster, whose transactions have begun to count anew.
    await attacker.execute("UPDATE audit SET xid = (xid::text::bigint + 100000000)::text::xid8 WHERE false")
    await attacker.execute("UPDATE audit_seal SET cluster = 1, floor_xid = '99999999999'")
    await world.write(2)
    assert await world.seal() == 2
    await world.write(1)
    assert await world.seal() == 1
    await world.sign()
    assert (await world.check()).holds


async def test_a_checkpoint_is_signed_when_there_is_news_and_once_a_day(world: World) -> None:
    await world.write(1)
    await world.sign()
    first = list(world.files.lines(world.agency_id))
    assert len(first) == 1
    assert read_checkpoint(first[0]).day == "2026-05-03"  # the first one closes the day before
    await world.sign()
    assert list(world.files.lines(world.agency_id)) == first
    await world.write(1)
    await world.sign()
    assert [read_checkpoint(line).day for line in world.files.lines(world.agency_id)] == ["2026-05-03", None]
    world.now += timedelta(days=1)
    await world.sign()
    await world.sign()
    assert [read_checkpoint(line).day for line in world.files.lines(world.agency_id)][2:] == ["2026-05-04"]


async def test_a_torn_line_is_mended_and_a_lost_copy_made_again(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(1)
    await world.sign()
    path = world.files.path(world.agency_id)
    with path.open("a") as file:
        file.write('{"agency":"half')
    await attacker.execute("DELETE FROM audit_checkpoint")  # the crash came between the file and the database
    await world.write(1)
    await world.sign()
    assert len(path.read_text().splitlines()) == 2
    async with world.database.connection() as connection:
        assert await chain.checkpoint_lines(connection, world.agency_id) == path.read_text().splitlines()
    assert (await world.check()).holds


async def test_another_machine_takes_the_checkpoints_over(world: World, tmp_path: Path) -> None:
    await world.write(1)
    await world.sign()
    earlier = world.files
    world.files = CheckpointFiles(tmp_path / "elsewhere")
    await world.write(1)
    await world.sign()
    assert len(list(world.files.lines(world.agency_id))) == 2
    assert list(world.files.lines(world.agency_id))[:1] == list(earlier.lines(world.agency_id))
    assert (await world.check()).holds


async def test_one_seals_and_another_goes_on_after_it(
    world: World, posts: Posts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "SEAL_S", 0.01)
    linked: asyncio.Queue[int] = asyncio.Queue()
    first, second = (
        Sealer(
            settings,
            posts.sealer.another(size=2, application=f"sealer-{number}", command_timeout_s=30),
            utc_now,
            f"sealer-{number}",
            observe=linked.put_nowait,
        )
        for number in range(2)
    )
    await first.start()
    await second.start()
    await world.write(1)
    assert await asyncio.wait_for(linked.get(), 30) == 1
    one, other = (first, second) if first.holds else (second, first)
    assert not other.holds
    await one.stop()
    await world.write(1)
    assert await asyncio.wait_for(linked.get(), 30) == 1
    assert other.holds
    await other.stop()
    assert not other.holds
    lines = list(CheckpointFiles(settings.data_dir / "checkpoints").lines(world.agency_id))
    assert read_checkpoint(lines[-1]).position == 2
    assert (settings.data_dir / "signing.key").exists()


async def test_the_database_refuses_to_change_what_was_written(database: Database, world: World) -> None:
    await world.write(1)
    await world.sign()
    for statement in (
        "UPDATE audit SET action = 'x'", "DELETE FROM audit", "TRUNCATE audit", "DELETE FROM audit_link",
        "UPDATE audit_checkpoint SET line = ''",
    ):  # fmt: skip
        async with database.connection() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


@pytest.mark.parametrize("role", ["qorgan_api", "qorgan_device", "qorgan_worker", "qorgan_historian", "qorgan_sealer"])
async def test_no_service_may_change_or_date_a_row(database: Database, role: str) -> None:
    async with database.connection() as connection:
        for table in ("audit", "audit_link", "audit_checkpoint", "audit_cut"):
            for privilege in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):
                assert not await connection.fetchval("SELECT has_table_privilege($1, $2, $3)", role, table, privilege)
        assert not await connection.fetchval("SELECT has_column_privilege($1, 'audit', 'xid', 'INSERT')", role)
