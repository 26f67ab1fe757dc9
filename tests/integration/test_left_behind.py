"""Embedded stores start again over whatever a Qorgan that was killed left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from infra.embedded import EmbeddedStores

HOLD = """
import sys, time
from pathlib import Path
from infra.embedded import EmbeddedStores
EmbeddedStores(Path(sys.argv[1])).start()
print("up", flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_stores_of_a_killed_process_end_though_a_client_stays_and_start_again(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    password = (tmp_path / "postgres.password").read_text()
    client = await asyncpg.connect(f"postgresql://postgres:{password}@/qorgan?host={tmp_path / 'sockets'}")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    stores = EmbeddedStores(tmp_path)
    try:
        stores.start()
        assert stores.postgres is not None
        assert stores.postgres.pid is not None
    finally:
        client.terminate()
        stores.stop()


def test_a_database_left_half_made_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("16\n")
    stores = EmbeddedStores(tmp_path, valkey=False)
    try:
        stores.start()
        assert not half.exists()
    finally:
        stores.stop()
