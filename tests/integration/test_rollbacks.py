"""Every migration leads back to where it began, and forward again to the documented schema."""

from __future__ import annotations

import functools
import logging
import shutil
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from pogo_core.migration import read_sql_migration
from pogo_core.util.migrate import apply, rollback

from core.postgres.migrate import MIGRATIONS
from infra.embedded import EmbeddedStores
from tests.integration.test_schema import dump

FILES = sorted(MIGRATIONS.glob("*.sql"))
FIRST = 3
"""Of these the rolled-back state of an older version is the beginning: what came before has no other."""


def shape(stores: EmbeddedStores) -> list[str]:
    """What a database is, whatever the order in which its columns and privileges came to be."""
    return sorted(line.rstrip(",") for line in dump(stores, "rolled"))


def differences(there: list[str], wanted: list[str]) -> tuple[list[str], list[str]]:
    """What is there and is not wanted, and what is wanted and is not there."""
    return sorted((Counter(there) - Counter(wanted)).elements()), sorted((Counter(wanted) - Counter(there)).elements())


@pytest.mark.timeout(300)
async def test_every_migration_is_rolled_back_to_what_was_before_and_applied_again(
    stores: EmbeddedStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step reads every file twice, and splitting them all into statements takes half a second of a core.
    monkeypatch.setattr("pogo_core.migration.read_sql_migration", functools.cache(read_sql_migration))
    logging.getLogger("pogo_core.util.migrate").setLevel(logging.ERROR)
    admin = await asyncpg.connect(stores.database_url.replace("/qorgan?", "/postgres?"))
    await admin.execute("CREATE DATABASE rolled")
    connection = await asyncpg.connect(stores.database_url.replace("/qorgan?", "/rolled?"))
    try:
        shapes = {}
        for number, file in enumerate(FILES, start=1):
            shutil.copy(file, tmp_path)
            if number >= FIRST:
                await apply(connection, tmp_path, schema_name="public")
                shapes[number] = shape(stores)
        for number in range(len(FILES), FIRST, -1):
            await rollback(connection, tmp_path, schema_name="public", count=1)
            left, lost = differences(shape(stores), shapes[number - 1])
            told = f"{FILES[number - 1].name} leaves {left} behind, and takes {lost}"
            assert (left, lost) == ([], []), told
        await apply(connection, tmp_path, schema_name="public")
        assert differences(shape(stores), shapes[len(FILES)]) == ([], [])
    finally:
        await connection.close()
        await admin.execute("DROP DATABASE rolled WITH (FORCE)")
        await admin.close()
