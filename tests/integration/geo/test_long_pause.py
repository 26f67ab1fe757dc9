"""The real engine behind the worker, after an hour in which nothing ran: an outage is nobody's silence."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from core.clock import now_ms, utc_now
from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK
from core.domain.transition import Transition, decode_many
from core.redis import keys
from core.redis.shard_log import START
from geo.worker import GeoWorker

HOUR_MS = 3_600_000
PAIRS = 20


def case(order: int, since_ms: int) -> Case:
    her, him = order * 2, order * 2 + 1
    people = [
        CasePerson(number, id_, role, devices=[CaseDevice(number, id_, kind, 60.0, since_ms)])
        for number, id_, role, kind in (
            (her, uuid.UUID(int=her), "victim", "phone"),
            (him, uuid.UUID(int=him), "aggressor", "bracelet"),
        )
    ]
    orders = [CaseOrder(order, uuid.UUID(int=order), her, him, alert_m=500, warning_m=1000)]
    return Case(order, uuid.UUID(int=1000 + order), uuid.UUID(int=7), 1, people, orders)


async def write(ground: Any, *past: tuple[int, str, bytes]) -> None:
    """Entries of the past, at their times."""
    pipeline = ground.client.pipeline(transaction=False)
    for at_ms, kind, payload in past:
        pipeline.execute_command("XADD", keys.pings(0), f"{at_ms}-*", "k", kind, "b", payload)
    await pipeline.execute()


async def decided(ground: Any) -> list[Transition]:
    return [
        item
        for _, fields in await ground.log.read_raw(keys.transitions(0), START, 1000)
        for item in decode_many(fields[b"t"])
    ]


@pytest.mark.parametrize("ran_on", [False, True])
async def test_silence_counts_only_while_the_service_could_hear(ground: Any, ran_on: bool) -> None:
    began_ms = now_ms() - HOUR_MS
    devices = range(2, PAIRS * 2)
    await write(
        ground,
        (began_ms, CONFIGURATION, encode_cases([case(number, began_ms) for number in range(1, PAIRS)])),
        *((began_ms + 10 + number, PINGS, ground.ping(number, 1, at_ms=began_ms + number)) for number in devices),
        *((began_ms + 1000 * second, TICK, b"") for second in range(1, 3600 if ran_on else 6, 4)),
    )
    await ground.client.set(keys.INGEST_BEAT, "1", ex=60)
    worker = GeoWorker(ground.settings, ground.posts.worker, ground.client, "geo-1", utc_now)
    ground.running.append(worker)
    await worker.start()

    async def three_live_ticks() -> bool:
        cursor = await ground.client.get(keys.cursor(0))
        return cursor is not None and int(cursor.split(b"-")[0]) > began_ms + HOUR_MS + 3_000

    await ground.wait_until(three_live_ticks, "the log's present")
    unheard = [
        item
        for item in await decided(ground)
        if item.detail.get("signal") == "silence" or (item.kind == "assurance" and item.to_state == "unknown")
    ]
    assert bool(unheard) is ran_on
