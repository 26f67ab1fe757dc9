"""What keeps a request to be erased waiting, and what a crash between the ledger and the commit leaves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from core.actions import erasure
from core.erasure_ledger import Erasure, ErasureLedger
from core.errors import StoreUnavailable
from core.ids import new_id
from core.postgres.database import Database
from tests.integration.encryption.test_erasure import SAFE, Case, case, give_history, ledger

__all__ = ["case", "ledger"]

Query = Callable[..., Any]


async def resolve(database: Database, incident_id: uuid.UUID, hands: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE incident SET state = 'resolved', resolved_at = $2, updated_at = $2 WHERE id = $1",
            incident_id, hands(),
        )  # fmt: skip


async def hold(connection: Any, case: Case, hands: Any, column: str, value: uuid.UUID) -> uuid.UUID:
    hold_id = new_id()
    await connection.execute(
        f"INSERT INTO legal_hold (id, agency_id, {column}, reason, placed_at) VALUES ($1, $2, $3, 'court', $4)",
        hold_id, case.office.agency_id, value, hands(),
    )  # fmt: skip
    return hold_id


async def told(case: Case) -> tuple[str, str | None]:
    answer = (await case.office.get(f"/v1/people/{case.her}/erasure")).json()
    return answer["state"], answer["held_for"]


async def test_whom_an_order_keeps_away_since_is_not_erased_while_it_lives(
    case: Case, database: Database, hands: Any
) -> None:
    await case.asked_and_confirmed()
    order = await case.office.order(await case.office.person(), case.her)
    hands.forward(days=14)
    assert await case.carry_out() == 0
    assert await told(case) == ("held", "order")
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_order SET status = 'revoked', revoked_at = $2 WHERE id = $1",
            uuid.UUID(order["id"]), hands(),
        )  # fmt: skip
    assert await case.carry_out() == 1
    assert await told(case) == ("erased", None)


@pytest.mark.parametrize("party", ["victim_id", "aggressor_id"])
async def test_nobody_is_erased_in_the_middle_of_an_incident(
    case: Case, database: Database, hands: Any, party: str
) -> None:
    incident_id = await give_history(case, database)
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET victim_id = NULL WHERE id = $1", incident_id)
        await connection.execute(f"UPDATE incident SET {party} = $2 WHERE id = $1", incident_id, case.her_id)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    assert await case.carry_out() == 0
    assert await told(case) == ("held", "incident")
    await resolve(database, incident_id, hands)
    assert await case.carry_out() == 1


async def test_her_own_phone_is_told_of_a_hold_and_of_nothing_that_another_did(
    case: Case, database: Database, hands: Any
) -> None:
    headers = {"Authorization": f"Bearer {case.phone['token']}"}
    await case.office.context.registry.refresh()
    incident_id = await give_history(case, database)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    await case.carry_out()
    answer = (await case.office.client.get("/v1/me/erasure", headers=headers)).json()
    assert (answer["state"], answer["held_for"]) == ("held", "other")
    await resolve(database, incident_id, hands)
    async with database.transaction() as connection:
        await hold(connection, case, hands, "incident_id", incident_id)
    await case.carry_out()
    answer = (await case.office.client.get("/v1/me/erasure", headers=headers)).json()
    assert (answer["state"], answer["held_for"]) == ("held", "legal_hold")


async def until_somebody_waits_for_a_lock(database: Database, task: asyncio.Task[Any]) -> None:
    async with database.connection() as connection:
        while not task.done() and not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        ):
            await asyncio.sleep(0.01)
    assert not task.done(), "it did not wait"


@pytest.mark.parametrize("column", ["person_id", "case_id", "incident_id"])
async def test_a_hold_that_is_being_placed_is_waited_for(
    case: Case, database: Database, hands: Any, column: str
) -> None:
    incident_id = await give_history(case, database)
    await resolve(database, incident_id, hands)
    named = {"person_id": case.her_id, "case_id": uuid.UUID(case.order["case_id"]), "incident_id": incident_id}
    await case.asked_and_confirmed()
    hands.forward(days=14)
    async with database.transaction() as connection:
        await hold(connection, case, hands, column, named[column])
        erasing = asyncio.create_task(case.carry_out())
        await until_somebody_waits_for_a_lock(database, erasing)
    assert await erasing == 0
    assert await told(case) == ("held", "legal_hold")


async def test_a_hold_comes_too_late_for_who_is_being_erased(case: Case, database: Database, hands: Any) -> None:
    await case.asked_and_confirmed()
    hands.forward(days=14)
    async with database.transaction() as connection:
        request_id = await connection.fetchval("SELECT id FROM erasure_request WHERE person_id = $1", case.her_id)
        assert await connection.fetchval("SELECT carry_out_erasure($1, $2)", request_id, hands()) == case.her_id
        body = {"person_id": case.her, "reason": "criminal_case", "reference": "17-4"}
        placing = asyncio.create_task(case.office.call("supervisor", "POST", "/v1/holds", json=body))
        await until_somebody_waits_for_a_lock(database, placing)
    answer = await placing
    assert (answer.status_code, answer.json()["code"]) == (409, "person_erased")


class LedgerThatBreaksFor(ErasureLedger):
    """A ledger whose disk fails for one person."""

    def __init__(self, like: ErasureLedger, person_id: uuid.UUID) -> None:
        super().__init__(like.path, like._signer, like._trusted)
        self._person_id = person_id

    def _append(self, erasures: Sequence[Erasure], create: int) -> None:
        if any(one.person_id == self._person_id for one in erasures):
            raise OSError("no space left")
        super()._append(erasures, create)


async def test_one_request_that_cannot_be_carried_out_keeps_nobody_else_waiting(case: Case, hands: Any) -> None:
    await case.asked_and_confirmed()
    first, case.her = case.her, await case.office.person(safe_contact=SAFE)
    hands.forward(minutes=1)
    await case.asked_and_confirmed()
    hands.forward(days=14)
    case.ledger = LedgerThatBreaksFor(case.ledger, uuid.UUID(first))
    assert await case.carry_out() == 1
    assert await case.state() == "erased"
    case.her = first
    assert await case.state() == "confirmed"


async def test_a_line_whose_commit_never_came_is_made_true_by_the_request_that_waits(
    case: Case, database: Database, hands: Any
) -> None:
    await case.asked_and_confirmed()
    hands.forward(days=14)
    case.ledger.append([Erasure(case.her_id, case.office.agency_id, hands(), "request")])
    assert await erasure.count_unapplied(case.posts.device, case.ledger) == 1
    assert await case.carry_out() == 1
    assert await erasure.count_unapplied(case.posts.device, case.ledger) == 0


@pytest.mark.parametrize("since", ["hold", "incident", "withdrawn"])
async def test_what_happened_since_such_a_line_is_not_erased_with_her(
    case: Case, database: Database, hands: Any, redis_client: Any, since: str
) -> None:
    await case.asked_and_confirmed()
    hands.forward(days=14)
    case.ledger.append([Erasure(case.her_id, case.office.agency_id, hands(), "request")])
    hands.forward(minutes=1)
    if since == "hold":
        async with database.transaction() as connection:
            await hold(connection, case, hands, "case_id", uuid.UUID(case.order["case_id"]))
    elif since == "incident":
        await give_history(case, database)
    else:
        assert (await case.office.call("caseworker", "DELETE", f"/v1/people/{case.her}/erasure")).status_code == 204
    assert await erasure.count_unapplied(case.posts.device, case.ledger) == 0
    assert await erasure.apply_ledger(database, redis_client, case.ledger, hands()) == 0
    assert (await case.told())["erased"] is False


async def test_a_hold_from_before_the_line_keeps_nobody_who_was_erased(
    case: Case, database: Database, hands: Any, redis_client: Any
) -> None:
    async with database.transaction() as connection:  # lifted later, in a database that is no more
        await hold(connection, case, hands, "person_id", case.her_id)
    hands.forward(days=30)
    case.ledger.append([Erasure(case.her_id, case.office.agency_id, hands(), "request")])
    assert await erasure.apply_ledger(database, redis_client, case.ledger, hands()) == 1
    assert (await case.told())["erased"] is True


async def test_messages_about_who_came_back_with_a_backup_are_not_sent(
    case: Case, database: Database, query: Query, hands: Any
) -> None:
    await case.asked_and_confirmed()
    assert [row["state"] for row in await query("SELECT state FROM delivery")] == ["sending"]
    case.ledger.append([Erasure(case.her_id, case.office.agency_id, hands(), "request")])
    await erasure.silence_unapplied(case.posts.worker, case.ledger)
    assert [row["state"] for row in await query("SELECT state FROM delivery")] == ["cancelled"]


async def test_what_a_device_heard_goes_with_who_wore_it_whoever_wrote_that_down(
    case: Case, database: Database, query: Query, hands: Any
) -> None:
    """Fittings are rows of their own, made by the change itself; no audit row is asked."""
    number = (await query("SELECT number FROM device WHERE id = $1", uuid.UUID(case.phone["id"])))[0]["number"]
    worn_at, taken_at = hands() + timedelta(hours=1), hands() + timedelta(hours=2)
    hers = taken_at - timedelta(minutes=5), taken_at + timedelta(minutes=5)
    async with database.transaction() as connection:
        await connection.execute("SELECT make_ping_day('ping_victim', $1::text::date)", f"{hers[0]:%Y-%m-%d}")
        await connection.execute(
            "UPDATE device SET person_id = NULL, updated_at = $2 WHERE number = $1", number, worn_at
        )
        await connection.execute(
            "UPDATE device SET person_id = $2, updated_at = $3 WHERE number = $1", number, case.her_id, worn_at
        )
        await connection.execute(
            "UPDATE device SET person_id = NULL, updated_at = $2 WHERE number = $1", number, taken_at
        )
        for moment in hers:
            await connection.execute(
                "INSERT INTO ping_heard (device_number, live_at, heard) VALUES ($1, $2, '[]')", number, moment
            )
    await case.asked_and_confirmed()
    hands.forward(days=14)
    assert await case.carry_out() == 1
    assert [row["live_at"] for row in await query("SELECT live_at FROM ping_heard")] == [hers[1]]


async def test_a_store_that_is_away_ends_the_round(case: Case, hands: Any, tmp_path: Any) -> None:
    from core.redis.client import connect

    await case.asked_and_confirmed()
    hands.forward(days=14)
    away = connect(f"unix://{tmp_path}/none.sock")
    with pytest.raises(StoreUnavailable):
        await erasure.carry_out_due(case.posts.device, away, case.ledger, hands())
    await away.aclose()
