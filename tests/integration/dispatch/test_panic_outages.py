"""A panic while a store is away: taken, shown, and made into rows exactly once afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.panic_desk import CANCEL_WAIT_S, POSTGRES_WAIT_S, PanicDesk
from api.panic_journal import PanicJournal
from core.clock import now_ms, utc_now
from core.domain import panic as panic_domain
from core.domain.panic import PanicIn
from core.redis import keys
from core.redis.client import connect

Query = Callable[..., Any]
RECOVERY_S = 20.0


@pytest.fixture
async def gated_api(settings: Any, gated_database: Any, redis_client: Any, pair: Any, serve: Any) -> AsyncIterator[Any]:
    """An API whose way to PostgreSQL can be shut."""
    async with serve(settings, gated_database, redis_client) as served:
        yield served


async def settled(query: Query, panic_id: str) -> Any:
    """The panic's rows, once they are there."""
    async with asyncio.timeout(RECOVERY_S):
        while not (rows := await query("SELECT * FROM panic WHERE id = $1", uuid.UUID(panic_id))):
            await asyncio.sleep(0.05)
    return rows


async def test_with_postgresql_gone_a_panic_is_shown_and_follows_once(
    gated_api: Any, gate: Any, pair: Any, query: Query, receive: Any, redis_client: Any
) -> None:
    token = gated_api.token(pair.agency_id, pair.users["dispatcher"])
    panic_id = str(uuid.uuid4())
    async with gated_api.feed(token, 0) as socket, gated_api.client(pair.phone_token) as phone:
        await gate.shut()
        first = await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9})
        again = await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9})
        assert (first.status_code, first.json()["incident_id"]) == (201, None)
        assert (again.status_code, again.json()["panic_id"]) == (201, panic_id)
        shown = await receive(socket, "provisional")
        assert shown["data"]["provisional"] is True
        assert shown["data"]["victim_id"] == str(pair.victim_id)
        status = await phone.get(f"/v1/panic/{panic_id}")
        assert (status.status_code, status.json()["incident_id"]) == (200, None)

        await gate.open()
        opened = await receive(socket, "incident.opened", RECOVERY_S)
        assert opened["data"]["id"] == shown["data"]["id"], "the same incident, no longer provisional"
        assert opened["data"]["provisional"] is False
        third = await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9})
        assert (third.status_code, third.json()["incident_id"]) == (200, shown["data"]["id"])
    assert len(await settled(query, panic_id)) == 1
    assert len(await query("SELECT 1 FROM feed")) == 1
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'contact'")) == 1
    async with asyncio.timeout(RECOVERY_S):
        while await redis_client.xlen(keys.PANICS):
            await asyncio.sleep(0.05)


async def test_with_postgresql_not_answering_a_panic_is_answered_in_time(
    settings: Any, gated_database: Any, redis_client: Any, serve: Any, gate: Any, pair: Any, query: Query
) -> None:
    panic_id = str(uuid.uuid4())
    async with (
        serve(settings, gated_database, redis_client, wait_s=(POSTGRES_WAIT_S, CANCEL_WAIT_S)) as served,
        served.client(pair.phone_token) as phone,
    ):
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
        gate.hold()
        started = time.monotonic()
        answer = await phone.post("/v1/panic", json={"id": panic_id})
        assert answer.status_code == 201
        assert answer.json()["incident_id"] is None
        assert time.monotonic() - started < 4
        await gate.open()
    assert len(await settled(query, panic_id)) == 1
    assert len(await query("SELECT 1 FROM timeline WHERE kind = 'panic'")) == 2


async def test_with_both_stores_gone_the_journal_keeps_the_panic(
    settings: Any, gated_database: Any, gate: Any, pair: Any, serve: Any, query: Query
) -> None:
    away = connect("unix:///nonexistent/valkey.sock", timeout_s=1)
    panic_id = str(uuid.uuid4())
    async with (
        serve(settings, gated_database, away) as api,
        api.client(pair.phone_token) as phone,
    ):
        await gate.shut()
        answer = await phone.post("/v1/panic", json={"id": panic_id})
        assert (answer.status_code, answer.json()["incident_id"]) == (201, None)
        await gate.open()
        assert len(await settled(query, panic_id)) == 1
    await away.aclose()


async def test_redis_gone_changes_nothing_for_a_panic(
    settings: Any, database: Any, pair: Any, serve: Any, receive: Any
) -> None:
    away = connect("unix:///nonexistent/valkey.sock", timeout_s=1)
    async with serve(settings, database, away) as api:
        token = api.token(pair.agency_id, pair.users["dispatcher"])
        async with api.client(pair.phone_token) as phone, api.feed(token, 0) as socket:
            answer = await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
            assert answer.json()["incident_id"] is not None
            assert await receive(socket, "incident.opened")
        async with api.client(token) as desk:
            board = (await desk.get("/v1/board")).json()
            assert board["health"]["redis"] == "away"
            assert len(board["incidents"]) == 1
    await away.aclose()


async def test_the_journal_of_a_dead_process_is_drained_by_another(
    settings: Any, database: Any, redis_client: Any, pair: Any, serve: Any, query: Query
) -> None:
    panic = PanicIn(
        id=uuid.uuid4(), client_id=None, received_ms=now_ms(), token_digest=None, source="s", device_id=pair.phone_id,
    )  # fmt: skip
    of_aggressor = PanicIn(
        id=uuid.uuid4(), client_id=None, received_ms=now_ms(), token_digest=None, source="s",
        device_id=pair.bracelet_id,
    )  # fmt: skip
    journal = PanicJournal.create(settings.data_dir / "journal")
    journal.append(panic_domain.encode(of_aggressor))
    journal.append(panic_domain.encode(panic))
    journal.close()
    assert journal.path.exists()
    async with serve(settings, database, redis_client):
        await settled(query, str(panic.id))
        async with asyncio.timeout(RECOVERY_S):
            while journal.path.exists():
                await asyncio.sleep(0.02)
    assert len(await query("SELECT 1 FROM panic")) == 1
    assert list((settings.data_dir / "journal").iterdir()) == [], "a clean stop leaves nothing behind"


async def test_without_a_disk_the_stores_take_the_panic(
    settings: Any, database: Any, redis_client: Any, pair: Any, query: Query, tmp_path: Path
) -> None:
    file = tmp_path / "no-directory"
    file.write_text("")
    desk = PanicDesk(settings.model_copy(update={"data_dir": file}), database, redis_client, None, None, utc_now)
    panic = PanicIn(
        id=uuid.uuid4(), client_id=None, received_ms=now_ms(), token_digest=None, source="s", device_id=pair.phone_id,
    )  # fmt: skip
    answer = await desk.take(panic)
    assert answer.incident_id is not None
    await desk.close()


async def test_a_panic_that_cannot_be_held_whole_is_taken_bare(
    settings: Any, database: Any, redis_client: Any, pair: Any, query: Query
) -> None:
    desk = PanicDesk(settings, database, redis_client, None, None, utc_now)
    panic = PanicIn(
        id=uuid.uuid4(), client_id="\x00", received_ms=now_ms(), token_digest=None, source="s",
        device_id=pair.phone_id, note="\x00", body={"id": "\x00"},
    )  # fmt: skip
    answer = await desk.take(panic)
    assert answer.incident_id is not None
    await desk.close()


async def test_what_the_engine_decides_while_postgresql_is_away_is_shown_once_as_provisional(
    gated_api: Any, gate: Any, pair: Any, another_pair: Any, transition: Any, receive: Any, redis_client: Any
) -> None:
    other = await another_pair()
    token = gated_api.token(pair.agency_id, pair.users["dispatcher"])
    breach = transition("proximity", "warning", "breach", distance_m=77.0)
    foreign = msgspec.structs.replace(breach, id=uuid.uuid4(), agency_id=other.agency_id, distance_m=1.0)
    async with gated_api.feed(token, 0) as socket:
        await gate.shut()
        assert (await receive(socket, "health"))["data"] == {"postgres": "away", "redis": "up"}
        for item in (foreign, breach, transition("proximity", "breach", "clear"), breach):
            await redis_client.xadd(keys.transitions(pair.shard), {b"t": msgspec.json.encode([item])})
        shown = await receive(socket, "provisional")
        assert (shown["data"]["type"], shown["data"]["distance_m"]) == ("proximity", 77.0)
        assert shown["data"]["order_id"] == str(pair.order_id)
        await gate.open()
        # Nothing else came before word that PostgreSQL is back: neither a repeat nor another agency's.
        async with asyncio.timeout(RECOVERY_S):
            frames = [json.loads(await socket.recv())]
            while frames[-1]["kind"] not in {"health", "provisional"}:
                frames.append(json.loads(await socket.recv()))
        assert frames[-1]["data"] == {"postgres": "up", "redis": "up"}


async def test_a_rehearsal_leaves_nothing(
    settings: Any, database: Any, redis_client: Any, pair: Any, query: Query
) -> None:
    desk = PanicDesk(settings, database, redis_client, None, None, utc_now)
    await desk.rehearse()
    for table in ("panic", "incident", "timeline", "delivery", "feed"):
        assert await query(f"SELECT 1 FROM {table}") == []
    await desk.close()


async def test_a_disk_that_hangs_holds_up_no_panic(
    api: Any, pair: Any, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    sync = os.fdatasync

    def hang(descriptor: int) -> None:
        free.wait(RECOVERY_S)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", hang)
    panic_ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    try:
        async with api.client(pair.phone_token) as phone, asyncio.timeout(8):
            for panic_id in panic_ids:
                answer = await phone.post("/v1/panic", json={"id": panic_id})
                assert answer.status_code == 201
                assert answer.json()["incident_id"] is not None
    finally:
        free.set()
    assert [len(await settled(query, panic_id)) for panic_id in panic_ids] == [1, 1]
