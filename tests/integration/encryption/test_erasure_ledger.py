"""The ledger of erasures beside a backup: it brings nobody back, and nothing is read before it was applied."""

from __future__ import annotations

from typing import Any

import pytest

from api.ledger_gate import LedgerGate, State
from core.actions import erasure
from core.clock import utc_now
from core.domain.sealing import person
from core.erasure_ledger import load_ledger
from core.errors import Misconfigured
from core.postgres.database import Database
from core.settings import Settings
from tests.integration.encryption.erasing import IDENTITY, Case, case, ledger

__all__ = ["case", "ledger"]


async def looked(settings: Settings, case: Case) -> State:
    """What a process that starts now finds."""
    gate = LedgerGate(settings, case.posts.device, case.redis, case.office.context.clock)
    await gate.look()
    return gate.state


async def test_a_restored_backup_is_not_served_until_the_ledger_was_applied(
    case: Case, database: Database, settings: Settings, hands: Any, redis_client: Any
) -> None:
    case.ledger = load_ledger(settings)
    async with database.connection() as connection:
        before = await connection.fetchrow("SELECT * FROM person WHERE id = $1", case.her_id)
        key = await connection.fetchrow("SELECT * FROM person_key WHERE person_id = $1", case.her_id)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    assert await looked(settings, case) is State.OPEN

    async with database.transaction() as connection:  # what a backup from before brings back
        await connection.execute(
            "UPDATE person SET identity_sealed = $2, erased_at = NULL WHERE id = $1",
            case.her_id, before["identity_sealed"],
        )  # fmt: skip
        await connection.execute("DELETE FROM erasure_request")
        await connection.execute(
            "UPDATE person_key SET kek_id = $2, wrapped = $3, erased_at = NULL WHERE person_id = $1",
            case.her_id, key["kek_id"], key["wrapped"],
        )  # fmt: skip
        database.vault.forget(person(case.her_id))
    assert (await case.told())["identity"] == IDENTITY
    assert await looked(settings, case) is State.CLOSED

    assert await erasure.apply_ledger(database, redis_client, case.ledger, utc_now()) == 1
    assert await erasure.apply_ledger(database, redis_client, case.ledger, utc_now()) == 0
    assert await looked(settings, case) is State.OPEN
    assert (await case.told())["identity"] == {}


@pytest.mark.parametrize("left", [None, b""], ids=["no file", "an old copy"])
async def test_a_lost_ledger_closes_what_is_read_until_somebody_says_that_it_is_lost(
    case: Case, database: Database, settings: Settings, hands: Any, redis_client: Any, left: bytes | None
) -> None:
    case.ledger = load_ledger(settings)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    case.ledger.path.unlink()
    if left is not None:
        case.ledger.path.write_bytes(left)
    assert await looked(settings, case) is State.CLOSED
    with pytest.raises(Misconfigured, match="lacks 1 people"):
        await erasure.apply_ledger(database, redis_client, case.ledger, utc_now())
    assert case.ledger.read() == [], "nobody writes it anew unasked: it may be somewhere"
    assert await erasure.rebuild_ledger(database, case.ledger) == 1
    assert await erasure.rebuild_ledger(database, case.ledger) == 0
    assert [(one.person_id, one.rule) for one in case.ledger.read()] == [(case.her_id, "found")]
    assert await looked(settings, case) is State.OPEN


async def test_where_a_ledger_is_required_none_closes_what_is_read(
    case: Case, database: Database, settings: Settings, hands: Any
) -> None:
    assert await looked(settings, case) is State.OPEN, "nobody was ever erased"
    required = settings.model_copy(update={"ledger": "required"})
    assert await looked(required, case) is State.CLOSED
    case.ledger = load_ledger(required)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    assert await case.state() == "confirmed", "an erasure that is due makes no ledger, and waits for it"
    assert await looked(required, case) is State.CLOSED
    assert await erasure.rebuild_ledger(database, load_ledger(required)) == 0
    assert await looked(required, case) is State.OPEN
    await case.carry_out()
    assert await case.state() == "erased"
