"""A panic reaches people while PostgreSQL, or both stores, are gone; once, and the rows follow."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(300)]

RECOVERY_S = 45.0


async def press(system: Any, pair: dict[str, Any], panic_id: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as phone:
        return await phone.post(
            "/v1/panic",
            json={"id": panic_id, "lat": 43.24, "lon": 76.95},
            headers={"Authorization": f"Bearer {pair['victim']['token']}"},
        )


def heard(system: Any, before: int) -> list[str]:
    """Ids of the messages about panics that the dispatch system got since."""
    return [
        headers["webhook-id"]
        for headers, body in system.hooks.received[before:]
        if body["data"].get("type") == "panic" and body["type"] == "incident.opened"
    ]


async def sent_in_outages(system: Any) -> float:
    """How many webhooks this API process has brought to their receiver without PostgreSQL, and noted as sent."""
    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as engineer:
        lines = (await engineer.get("/metrics")).text.splitlines()
    name = 'qorgan_outage_deliveries_total{channel="webhook",result="sent"} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


async def told_once(system: Any, eventually: Any, pair: dict[str, Any], panic_id: str, before: int) -> None:
    """The panic is one incident, its messages are rows that are sent, and each was heard once."""

    async def panic_rows() -> list[Any]:
        return list(await system.fetch("SELECT incident_id, verified FROM panic WHERE id = $1", uuid.UUID(panic_id)))

    [row] = await eventually(panic_rows, "the panic's row", RECOVERY_S)
    assert row["verified"], "her token was known"

    async def settled() -> list[Any]:
        rows = await system.fetch(
            "SELECT id, state, sent_at FROM delivery WHERE cause = $1 AND channel = 'webhook'", panic_id
        )
        return list(rows) if rows and all(row["state"] == "sent" for row in rows) else []

    rows = await eventually(settled, "deliveries that are sent", RECOVERY_S)
    opened = await system.fetch("SELECT opened_at, occurred_at FROM incident WHERE id = $1", row["incident_id"])
    assert all(delivery["sent_at"] < opened[0]["opened_at"] for delivery in rows), "sent before the rows were made"
    ids = heard(system, before)
    assert sorted(ids) == sorted(str(delivery["id"]) for delivery in rows)
    again = await press(system, pair, panic_id)
    assert (again.status_code, again.json()["incident_id"]) == (200, str(row["incident_id"]))


async def test_with_postgresql_gone_the_dispatch_system_hears_at_once(system: Any, eventually: Any) -> None:
    pair, panic_id = system.pair(), str(uuid.uuid4())
    before, sent = len(system.hooks.received), await sent_in_outages(system)
    system.stores.postgres.kill()
    try:
        answer = await press(system, pair, panic_id)
        assert (answer.status_code, answer.json()["incident_id"]) == (201, None)

        async def told() -> bool:
            return bool(heard(system, before)) and await sent_in_outages(system) > sent

        await eventually(told, "a webhook about the panic", 15)
    finally:
        system.stores.postgres.start()
    await told_once(system, eventually, pair, panic_id, before)


async def test_an_api_started_with_both_stores_gone_knows_her_and_whom_to_tell(system: Any, eventually: Any) -> None:
    pair, panic_id = system.pair(), str(uuid.uuid4())
    folder = system.data_dir / "last-known"

    async def kept() -> bool:
        return {"registry.api.sealed", "agencies.sealed", "people.sealed"} <= {path.name for path in folder.iterdir()}

    await eventually(kept, "the sealed files")
    before = len(system.hooks.received)
    system.stores.postgres.kill()
    system.stores.valkey.kill()
    try:
        await system.kill("api")
        answer = await press(system, pair, panic_id)
        assert (answer.status_code, answer.json()["incident_id"]) == (201, None)

        async def told() -> bool:
            return bool(heard(system, before)) and await sent_in_outages(system) > 0

        await eventually(told, "a webhook about the panic", 15)
    finally:
        system.stores.valkey.start()
        system.stores.postgres.start()
    await told_once(system, eventually, pair, panic_id, before)
