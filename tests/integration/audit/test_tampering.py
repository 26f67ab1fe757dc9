"""Each way to change what was written is found, though whoever does it owns the database and turns its bars off."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from core.domain.chain import chain_hash, genesis
from core.postgres import chain
from core.signing import new_signer
from tests.integration.audit.audit_world import World


def kinds(report: Any) -> set[str]:
    """What was found."""
    return {finding.kind for finding in report.findings}


async def rehash(attacker: asyncpg.Connection, world: World) -> None:
    """Hash the whole chain anew from the rows as they are now, as an attacker who has read the source would."""
    transaction = attacker.transaction()
    await transaction.start()
    await chain.text_form(attacker)
    lines: list[bytes] = []

    async def sink(data: bytes) -> None:
        lines.append(data)

    columns = ", ".join(f"a.{name}" for name in chain.COLUMNS)
    await attacker.copy_from_query(
        f"SELECT {columns} FROM audit_link l JOIN audit a ON a.id = l.audit_id"
        f" WHERE l.agency_id = '{world.agency_id}' ORDER BY l.position",
        output=sink,
    )
    await attacker.execute("DELETE FROM audit_link WHERE agency_id = $1", world.agency_id)
    previous = genesis(world.agency_id)
    for position, line in enumerate(b"".join(lines).split(b"\n")[:-1], start=1):
        row = hashlib.sha256(line).digest()
        previous = chain_hash(previous, row)
        await attacker.execute(
            "INSERT INTO audit_link VALUES ($1, $2, $3, 1, $4, $5)",
            world.agency_id, position, uuid.UUID(line[:36].decode()), row, previous,
        )  # fmt: skip
    await transaction.commit()


async def test_an_untouched_audit_holds(world: World) -> None:
    await world.write(30)
    await world.write(3, agency_id=None)
    await world.sign()
    await world.write(5)
    await world.sign()
    report = await world.check()
    assert report.holds, report.findings
    assert report.rows == 38
    assert report.checkpoints == 3
    assert not report.notes


@pytest.mark.parametrize("column", ["at", "actor_id", "action", "address", "detail", "role", "purpose", "person_ids"])
async def test_an_edited_row_is_found(world: World, attacker: asyncpg.Connection, column: str) -> None:
    await world.write(9, address="10.0.0.1", role="officer", purpose="case")
    await world.sign()
    victim = (await world.ids())[4]
    other = {
        "at": "at + interval '1 microsecond'", "actor_id": "'someone'", "action": "'person.listed'", "address": "null",
        "detail": "'{}'", "role": "'admin'", "purpose": "''", "person_ids": "ARRAY[gen_random_uuid()]",
    }[column]  # fmt: skip
    await attacker.execute(f"UPDATE audit SET {column} = {other} WHERE id = $1", victim)
    report = await world.check()
    assert [(f.kind, f.position, f.audit_id) for f in report.findings] == [("edited", 5, victim)]


async def test_a_deleted_row_is_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(9)
    await world.sign()
    gone = (await world.ids())[2]
    await attacker.execute("DELETE FROM audit WHERE id = $1", gone)
    report = await world.check()
    assert [(f.kind, f.position, f.audit_id) for f in report.findings] == [("deleted", 3, gone)]


async def test_a_row_deleted_with_its_link_is_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(9)
    await world.sign()
    gone = (await world.ids())[2]
    await attacker.execute("DELETE FROM audit WHERE id = $1", gone)
    await attacker.execute("DELETE FROM audit_link WHERE audit_id = $1", gone)
    report = await world.check()
    assert "missing_link" in kinds(report)
    assert report.findings[0].position == 3


async def test_a_missing_link_is_found_at_the_end_too(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(9)
    await world.sign()
    last = (await world.ids())[-1]
    await attacker.execute("DELETE FROM audit_link WHERE audit_id = $1", last)
    report = await world.check()
    assert {"unlinked", "behind_checkpoints"} <= kinds(report)
    assert last in {finding.audit_id for finding in report.findings}


async def test_an_inserted_row_is_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(9)
    await world.sign()
    forged = uuid.uuid4()
    await attacker.execute(
        "INSERT INTO audit (id, at, agency_id, actor_kind, action, xid)"
        " SELECT $1, at, agency_id, actor_kind, action, xid FROM audit LIMIT 1",
        forged,
    )
    report = await world.check()
    assert [(f.kind, f.audit_id) for f in report.findings] == [("unlinked", forged)]


async def test_a_row_put_where_the_sealer_never_comes_is_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(2)
    await world.sign()
    forged = uuid.uuid4()
    await attacker.execute(
        "INSERT INTO audit (id, at, agency_id, actor_kind, action, xid) VALUES ($1, $2, $3, 'user', 'x', '9000000000')",
        forged, world.now, world.agency_id,
    )  # fmt: skip
    world.now += timedelta(minutes=5)
    await world.write(1)
    await world.sign()
    report = await world.check()
    assert [(f.kind, f.audit_id) for f in report.findings] == [("unsealed", forged)]


async def test_reordered_rows_are_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(9)
    await world.sign()
    await attacker.execute("ALTER TABLE audit_link DROP CONSTRAINT audit_link_position_check")
    for old, new in ((4, -4), (5, 4), (-4, 5)):
        await attacker.execute(
            "UPDATE audit_link SET position = $2 WHERE position = $1 AND agency_id = $3", old, new, world.agency_id
        )
    report = await world.check()
    assert "broken" in kinds(report)
    assert min(finding.position or 99 for finding in report.findings) == 4


@pytest.mark.parametrize("deed", ["edited", "deleted", "inserted"])
async def test_a_chain_hashed_anew_contradicts_its_checkpoints(
    world: World, attacker: asyncpg.Connection, deed: str
) -> None:
    await world.write(4)
    await world.sign()
    await world.write(4)
    await world.sign()
    ids = await world.ids()
    if deed == "edited":
        await attacker.execute("UPDATE audit SET actor_id = 'somebody else' WHERE id = $1", ids[5])
    elif deed == "deleted":
        await attacker.execute("DELETE FROM audit WHERE id = $1", ids[5])
    else:
        forged = uuid.uuid4()
        await attacker.execute(
            "INSERT INTO audit (id, at, agency_id, actor_kind, action, xid)"
            " SELECT $1, at, agency_id, actor_kind, action, xid FROM audit WHERE id = $2",
            forged, ids[0],
        )  # fmt: skip
        await attacker.execute("UPDATE audit_link SET audit_id = $2 WHERE audit_id = $1", ids[5], forged)
    await rehash(attacker, world)
    report = await world.check()
    assert kinds(report) & {"checkpoint_contradicts", "behind_checkpoints"}
    assert any(
        "position 4" in finding.text for finding in report.findings if finding.kind == "checkpoint_contradicts"
    ) or (deed == "deleted")


@pytest.mark.parametrize("field", ["chain_hash", "position", "at", "previous", "signature"])
async def test_an_edited_checkpoint_is_found(world: World, field: str) -> None:
    for _ in range(3):
        await world.write(2)
        await world.sign()
    path = world.files.path(world.agency_id)
    lines = path.read_text().splitlines()
    members = json.loads(lines[1])
    members[field] = {"position": 3, "at": "2026-05-04T12:00:30.000Z"}.get(
        field, "ab" * (len(str(members[field])) // 2)
    )
    lines[1] = json.dumps(members, sort_keys=True, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    assert "checkpoint_edited" in kinds(await world.check())


async def test_a_checkpoint_taken_away_or_signed_by_another_key_is_found(world: World) -> None:
    for _ in range(3):
        await world.write(2)
        await world.sign()
    path = world.files.path(world.agency_id)
    whole = path.read_text()
    lines = whole.splitlines()
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    assert "checkpoint_edited" in kinds(await world.check())
    path.write_text(f"{lines[0]}\n")
    assert "checkpoint_missing" in kinds(await world.check())
    path.write_text(whole)
    assert "checkpoint_edited" in kinds(await world.check(new_signer().public_key_bytes))
    assert (await world.check()).holds


async def test_a_restored_old_backup_is_found_and_nothing_is_signed_over_it(
    world: World, attacker: asyncpg.Connection
) -> None:
    await world.write(4)
    await world.sign()
    await world.write(4)
    await world.sign()
    # What a backup from before the second four rows would bring back.
    for identity in (await world.ids())[4:]:
        await attacker.execute("DELETE FROM audit WHERE id = $1", identity)
        await attacker.execute("DELETE FROM audit_link WHERE audit_id = $1", identity)
    await attacker.execute("DELETE FROM audit_checkpoint WHERE number > 1")
    assert kinds(await world.check()) == {"behind_checkpoints"}
    # Work goes on until the position is beyond the lost one: still found, and no checkpoint hides it.
    await world.write(9)
    await world.sign()
    assert len(list(world.files.lines(world.agency_id))) == 2
    assert kinds(await world.check()) == {"checkpoint_contradicts"}
    # Only a signed word of the operator's lets it go on, and that stays in the file.
    accepted = await world.notary.accept_restore(world.agency_id)
    assert accepted is not None
    assert accepted.kept == 4
    report = await world.check()
    assert report.holds, report.findings
    assert any("restored" in note for note in report.notes)
    await world.write(1)
    await world.sign()
    assert (await world.check()).holds
