"""Starting whatever the erasure ledger, the database it is held to, and the key service are like: the button works."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.ledger_gate import LedgerGate, State
from core.clock import utc_now
from core.erasure_ledger import Erasure, ErasureLedger, ledger_path, load_ledger
from core.errors import Misconfigured, StoreUnavailable
from core.ids import new_id
from core.postgres.database import Database
from core.settings import Settings
from infra.opening import keep_silent, open_database
from tests.integration.encryption.processes import Target
from tests.integration.encryption.test_erasure import Case, case, ledger

__all__ = ["case", "ledger"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the keys of the tests' vault, so that started processes open what the office sealed."""
    keys = SecretStr("test:" + base64.b64encode(bytes(range(32))).decode())
    return settings.model_copy(update={"keys": keys})


@pytest.fixture
def true_ledger(case: Case, settings: Settings) -> ErasureLedger:
    """The installation's own."""
    case.ledger = load_ledger(settings)
    return case.ledger


def line_of(case: Case) -> Erasure:
    return Erasure(case.her_id, case.office.agency_id, case.office.context.clock(), "request")


def press(token: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token}"}, "json": {"id": str(new_id())}}


async def test_an_api_beside_a_restored_backup_takes_panics_and_shows_nobody(
    case: Case, true_ledger: ErasureLedger, settings: Settings, logins: dict[str, str], database: Database
) -> None:
    true_ledger.append([line_of(case)])
    headers = case.office.headers("dispatcher")
    other = await case.office.enrolled("phone", await case.office.person())
    async with Target("api", settings, logins) as api, httpx.AsyncClient(base_url=api.base_url) as client:
        assert api.said["error"] == ""
        pressed = await client.post("/v1/panic", **press(other["token"]))
        assert pressed.status_code == 201, pressed.text
        assert pressed.json()["incident_id"] is not None
        assert (await client.get("/healthz")).status_code == 200
        for path in ("/v1/board", f"/v1/people/{case.her}", "/v1/incidents"):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unapplied")

        # The owner of the tables does what the error says, and the process opens by itself.
        await open_database(settings)
        async with asyncio.timeout(30):
            while (await client.get("/v1/board", headers=headers)).status_code != 200:
                await asyncio.sleep(0.1)
    assert "closed_until_ledger_is_applied" in api.log
    assert (await case.told())["erased"] is True


async def test_a_process_that_died_between_the_ledger_and_the_commit_is_made_good_by_the_next(
    case: Case, true_ledger: ErasureLedger, settings: Settings, logins: dict[str, str], database: Database, hands: Any
) -> None:
    await case.asked_and_confirmed()
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE erasure_request SET asked_at = asked_at - $1::interval, due_at = $2",
            timedelta(days=15), utc_now() - timedelta(minutes=1),
        )  # fmt: skip
    true_ledger.append([line_of(case)])
    headers = case.office.headers("dispatcher")
    async with Target("api", settings, logins) as api, httpx.AsyncClient(base_url=api.base_url) as client:
        answer = await client.get("/v1/board", headers=headers)
        assert answer.status_code == 200, answer.text
    assert (await case.told())["erased"] is True
    assert await case.state() == "erased"


async def test_a_ledger_that_was_changed_closes_what_is_read_and_stops_no_start(
    case: Case, true_ledger: ErasureLedger, settings: Settings, logins: dict[str, str]
) -> None:
    true_ledger.append([line_of(case)])
    true_ledger.path.write_bytes(true_ledger.path.read_bytes().replace(b'"request"', b'"nothing"'))
    with pytest.raises(Misconfigured, match="was changed"):
        await open_database(settings)
    await open_database(settings, serve_anyway=True)
    async with Target("api", settings, logins) as api, httpx.AsyncClient(base_url=api.base_url) as client:
        assert (await client.post("/v1/panic", **press(case.phone["token"]))).status_code == 201
        assert (await client.get("/v1/board")).json()["code"] == "ledger_unapplied"


async def qorgan(settings: Settings, *command: str, **environment: str) -> tuple[int | None, str]:
    """The command as an operator gives it: its exit status, and all it said."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.keys is not None
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "qorgan"), *command,
        env={
            **os.environ,
            "QORGAN_DATABASE_URL": settings.database_url.get_secret_value(),
            "QORGAN_REDIS_URL": settings.redis_url.get_secret_value(),
            "QORGAN_DATA_DIR": str(settings.data_dir),
            "QORGAN_SHARD_COUNT": str(settings.shard_count),
            "QORGAN_KEYS": settings.keys.get_secret_value(),
            **environment,
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_services_wait_for_the_schema_and_not_for_the_ledger(
    case: Case, true_ledger: ErasureLedger, settings: Settings
) -> None:
    true_ledger.append([line_of(case)])
    true_ledger.path.write_bytes(true_ledger.path.read_bytes().replace(b'"request"', b'"nothing"'))
    status, said = await qorgan(settings, "migrate")
    assert status == 0, said
    assert "was changed" in said
    assert "The schema is up to date" in said


async def test_a_new_installation_begins_its_ledger_and_an_old_one_says_that_it_has_none(
    case: Case, settings: Settings, database: Database, posts: Any, redis_client: Any
) -> None:
    required = settings.model_copy(update={"ledger": "required"})
    gate = LedgerGate(required, posts.device, redis_client, utc_now)
    status, said = await qorgan(settings, "migrate", QORGAN_LEDGER="required")
    assert status == 0, said
    assert not ledger_path(settings).exists()
    await gate.look()
    assert gate.state is State.CLOSED, "it may be a backup on a host without its ledger"
    status, said = await qorgan(settings, "erasure", "rebuild")
    assert status == 0, said
    await gate.look()
    assert gate.state is State.OPEN
    ledger_path(settings).unlink()
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM installation")
    await open_database(required)
    assert ledger_path(settings).read_bytes() == b"", "a new one"


async def test_while_postgres_has_not_answered_nobody_knows_and_nothing_is_read(
    case: Case, true_ledger: ErasureLedger, settings: Settings, redis_client: Any
) -> None:
    true_ledger.append([line_of(case)])
    away = Database("postgresql://nobody@127.0.0.1:1/none", size=1)
    gate = LedgerGate(settings, away, redis_client, utc_now)
    await gate.start()
    assert gate.state is State.UNKNOWN
    await gate.stop()


async def test_a_notifier_beside_a_restored_backup_sends_nothing_about_who_was_erased(
    case: Case, true_ledger: ErasureLedger, settings: Settings, posts: Any
) -> None:
    await case.office.post(f"/v1/people/{case.her}/erasure", {})
    true_ledger.append([line_of(case)])
    await keep_silent(settings, posts.worker)
    [row] = await case.query("SELECT state FROM delivery")
    assert row["state"] == "cancelled"


@pytest.fixture
def without_key_service(settings: Settings) -> dict[str, str]:
    """Of an installation with a key service, while nobody listens there."""
    del settings
    return {"QORGAN_KMS_URL": "http://127.0.0.1:1/v1/transit", "QORGAN_KMS_TOKEN": "t", "QORGAN_KMS_KEY": "qorgan"}


@pytest.mark.parametrize("target", ["geo", "notifier", "ingest", "historian"])
async def test_a_target_starts_while_the_key_service_is_away(
    target: str, settings: Settings, logins: dict[str, str], redis_client: Any, without_key_service: dict[str, str]
) -> None:
    async with Target(target, settings, logins, **without_key_service, QORGAN_STREAM_PORT="0") as started:
        assert started.said.get("error") == ""


async def test_an_installation_is_opened_while_the_key_service_is_away(
    case: Case, settings: Settings, without_key_service: dict[str, str], database: Database
) -> None:
    away = settings.model_copy(
        update={
            "kms_url": without_key_service["QORGAN_KMS_URL"], "kms_key": "qorgan",
            "kms_token": SecretStr("t"),
        }
    )  # fmt: skip
    await open_database(away)  # there is nothing to seal
    async with database.transaction() as connection:
        await connection.execute('UPDATE person SET identity = \'{"name": "Айгүл"}\' WHERE id = $1', case.her_id)
    with pytest.raises(StoreUnavailable):
        await open_database(away)
    await open_database(away, serve_anyway=True)
    await open_database(settings)
    [row] = await case.query("SELECT identity FROM person WHERE id = $1", case.her_id)
    assert row["identity"] is None
