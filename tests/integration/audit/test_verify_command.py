"""`qorgan audit verify` as an inspector runs it: its status, its words, and another's copy of the checkpoints."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import asyncpg
import pytest

from core.checkpoints import CheckpointFiles
from core.settings import Settings
from core.signing import load_signer
from tests.integration.audit.audit_world import World


@pytest.fixture
def world_of_settings(world: World, settings: Settings) -> World:
    """The world, with the key and the folder that the command finds by itself."""
    world.signer = load_signer(settings)
    world.files = CheckpointFiles(settings.data_dir / "checkpoints")
    return world


async def qorgan(settings: Settings, *arguments: str) -> tuple[int, str]:
    """Status and all output of `qorgan audit …`."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli", "audit", *arguments,
        env={
            **os.environ,
            "QORGAN_DATABASE_URL": settings.database_url.get_secret_value(),
            "QORGAN_REDIS_URL": settings.redis_url.get_secret_value(),
            "QORGAN_DATA_DIR": str(settings.data_dir),
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_it_tells_what_holds_and_what_does_not(
    world_of_settings: World, settings: Settings, attacker: asyncpg.Connection, tmp_path: Path
) -> None:
    world = world_of_settings
    await world.write(5)
    await world.sign()
    status, said = await qorgan(settings, "verify")
    assert (status, "The audit holds: 5 rows" in said) == (0, True), said
    status, key = await qorgan(settings, "key")
    assert status == 0
    (tmp_path / "key.pem").write_text(key)
    copy = tmp_path / "copy"
    shutil.copytree(world.files.directory, copy)

    # Who owns database, folder and a key of her own writes a new past; a copy and the true key tell.
    row = (await world.ids())[1]
    await attacker.execute("UPDATE audit SET actor_id = 'nobody' WHERE id = $1", row)
    status, said = await qorgan(settings, "verify")
    assert status == 1
    assert f"edited: agency {world.agency_id}, position 2, row {row}" in said
    shutil.rmtree(world.files.directory)
    status, said = await qorgan(
        settings, "verify", "--checkpoints", str(copy), "--public-key", str(tmp_path / "key.pem")
    )
    assert (status, "edited" in said) == (1, True)
    status, said = await qorgan(settings, "verify", "--checkpoints", str(tmp_path / "nowhere"))
    assert (status, said) == (1, f"qorgan: {tmp_path}/nowhere is no folder.\n")
    assert (await qorgan(settings, "verify", "--agency", "here"))[0] == 2


async def test_a_restored_backup_is_accepted_by_a_signed_word(
    world_of_settings: World, settings: Settings, attacker: asyncpg.Connection
) -> None:
    world = world_of_settings
    await world.write(2)
    await world.sign()
    status, said = await qorgan(settings, "accept-restore", "--agency", str(world.agency_id))
    assert (status, "nothing to accept" in said) == (1, True)
    await attacker.execute("DELETE FROM audit_link WHERE position = 2")
    await attacker.execute("DELETE FROM audit WHERE id NOT IN (SELECT audit_id FROM audit_link)")
    assert (await qorgan(settings, "verify"))[0] == 1
    status, said = await qorgan(settings, "accept-restore", "--agency", str(world.agency_id))
    assert (status, said) == (0, "Signed: rows after position 0 that were signed before are lost.\n")
    status, said = await qorgan(settings, "verify")
    assert status == 0, said
    assert "restored" in said
