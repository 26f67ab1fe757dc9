"""The registry against a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.ingest.registry import Changes, Registry
from api.ingest.registry_file import RegistryFile
from core.clock import utc_now
from core.ids import token_digest
from core.postgres.database import Database
from core.settings import Settings


async def test_it_knows_devices_and_gateways_by_their_tokens(database: Database, fleet: Any) -> None:
    device, gateway = await fleet.device((2, 1), interval_s=15), await fleet.gateway()
    registry = Registry(database, utc_now)
    await registry.start()
    known = registry.device_by_token(device.token)
    assert known is not None
    assert (known.number, known.id, known.routes, known.interval_s) == (device.number, device.id, (2, 1), 15.0)
    assert registry.device_by_id(device.id) is known
    assert registry.device_by_text(str(device.id).upper()) is known
    found = registry.gateway_by_token(gateway.token)
    assert found is not None
    assert (found.agency_id, found.digest) == (fleet.agency_id, token_digest(gateway.token))
    assert registry.device_by_token(gateway.token) is None
    assert registry.gateway_by_token(device.token) is None
    assert registry.device_by_token("forged") is None
    assert registry.why_unknown("forged") == "unknown"
    await registry.stop()


async def test_it_says_why_a_token_does_not_hold_and_whose_it_was(database: Database, fleet: Any) -> None:
    now = utc_now()
    expired = await fleet.device(expires_at=now - timedelta(seconds=1))
    returned = await fleet.device(status="returned")
    revoked = await fleet.device()
    await fleet.revoke_token(revoked.token)
    registry = Registry(database, lambda: now)
    await registry.refresh()
    for device, doubt in ((expired, "expired"), (returned, "revoked"), (revoked, "revoked")):
        assert registry.device_by_token(device.token) is None
        assert registry.why_unknown(device.token) == doubt
        owner = registry.owner_of(device.token)
        assert owner is not None
        assert owner.number == device.number


async def test_it_hears_of_changes_by_itself_and_tells_who_asked(database: Database, fleet: Any) -> None:
    registry = Registry(database, utc_now)
    await registry.start()
    heard: asyncio.Queue[Changes] = asyncio.Queue()
    forget = registry.on_changed(heard.put_nowait)
    device = await fleet.device()
    changes = await asyncio.wait_for(heard.get(), 5)
    assert str(device.id) in changes.devices
    assert token_digest(device.token) in changes.digests
    await fleet.revoke_token(device.token)
    changes = await asyncio.wait_for(heard.get(), 5)
    assert (changes.devices, changes.digests) == (frozenset(), frozenset({token_digest(device.token)}))
    forget()
    await registry.stop()
    await registry.stop()


async def test_no_change_is_missed_however_transactions_interleave(database: Database, fleet: Any) -> None:
    registry = Registry(database, utc_now)
    first, second = await fleet.device(), await fleet.device()
    await registry.refresh()
    change = "UPDATE device SET status = 'revoked', changed_xid = pg_current_xact_id() WHERE id = $1"
    async with database.transaction() as slow:
        await slow.execute(change, first.id)
        async with database.transaction() as quick:
            await quick.execute(change, second.id)
        await registry.refresh()
        assert registry.device_by_token(second.token) is None
        assert registry.device_by_token(first.token) is not None
    await registry.refresh()
    assert registry.device_by_token(first.token) is None


async def test_started_without_postgres_it_loads_once_it_is_there(database_url: str) -> None:
    away = Database("postgresql://postgres@/nothing?host=/nowhere")
    registry = Registry(away, utc_now)
    await registry.start()
    assert not registry.loaded
    away.url = database_url
    while not registry.loaded:
        await asyncio.sleep(0.01)
    await registry.stop()
    await away.close()


async def test_a_new_token_can_be_waited_for(database: Database, fleet: Any) -> None:
    registry = Registry(database, utc_now)
    await registry.start()
    device = await fleet.device()
    assert await registry.known(device.token, 5)
    assert await registry.known(device.token, 0)
    assert not await registry.known("forged", 0.01)
    await registry.stop()


def registry_file(tmp_path: Path) -> RegistryFile:
    return RegistryFile(Settings(data_dir=tmp_path), "api")


async def test_started_while_postgresql_is_away_it_knows_whom_its_last_run_knew(
    database: Database, fleet: Any, tmp_path: Path
) -> None:
    device, gateway = await fleet.device((2, 1), interval_s=15), await fleet.gateway()
    revoked = await fleet.device()
    await fleet.revoke_token(revoked.token)
    first = Registry(database, utc_now, registry_file(tmp_path))
    await first.start()
    known = first.device_by_token(device.token)
    await first.stop()
    held = b"".join(path.read_bytes() for path in (tmp_path / "last-known").iterdir())
    assert token_digest(device.token) not in held

    away = Database("postgresql:///none?host=/nowhere", size=1)
    second = Registry(away, utc_now, registry_file(tmp_path))
    await second.open()
    assert second.device_by_token(device.token) == known
    assert second.gateway_by_token(gateway.token) == first.gateway_by_token(gateway.token)
    assert second.why_unknown(revoked.token) == "revoked"
    assert second.knows(token_digest(revoked.token))
    assert not second.knows(token_digest("made since")), "nobody is told that a token is unknown that may be new"
    await second.close()
    assert registry_file(tmp_path).read() is not None, "what was never read anew is not written over"


async def test_what_only_the_file_knew_is_forgotten_once_postgresql_is_read(
    database: Database, fleet: Any, tmp_path: Path
) -> None:
    device, gone = await fleet.device(), await fleet.device()
    first = Registry(database, utc_now, registry_file(tmp_path))
    await first.start()
    await first.stop()
    async with database.connection() as connection:
        await connection.execute("DELETE FROM bearer_token WHERE device_id = $1", gone.id)
        await connection.execute("DELETE FROM device WHERE id = $1", gone.id)
    second = Registry(database, utc_now, registry_file(tmp_path))
    second._read_file()
    assert second.device_by_token(gone.token) is not None
    heard: list[Changes] = []
    second.on_changed(heard.append)
    await second.refresh()
    assert second.device_by_token(gone.token) is None
    assert second.device_by_id(gone.id) is None
    assert second.device_by_token(device.token) is not None
    assert str(gone.id) in heard[0].devices, "its sockets are closed"
    assert str(device.id) not in heard[0].devices
