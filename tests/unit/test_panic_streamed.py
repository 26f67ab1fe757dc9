"""What waits in Redis is read however large its records are."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from api import panic_streamed
from api.panic_index import PanicIndex
from api.panic_streamed import PAGE_LEAST, Streamed
from core.domain.panic import PanicIn
from core.redis.panics import FIELD, PENDING_BOUND

ENTRIES = 300


class Redis:
    """A stream of large records: `most` of them arrive in time."""

    def __init__(self) -> None:
        self.most = 60
        self.asked: list[int] = []

    async def xrange(self, _key: str, *, min: str, max: str, count: int) -> list[Any]:  # noqa: A002
        """Entries after one."""
        assert max == "+"
        self.asked.append(count)
        if count > self.most:
            await asyncio.Event().wait()
        first = int(min.strip("(").split("-")[0]) + 1
        return [(f"{n}-0".encode(), {FIELD: b"%d" % n}) for n in range(first, ENTRIES + 1)][:count]


class Records:
    """Sealed with one key."""

    def key_of(self, _payload: bytes) -> bytes:
        """The key."""
        return b"key"


async def press(payload: bytes) -> PanicIn:
    """What a payload is."""
    return PanicIn(id=uuid.UUID(int=int(payload)), client_id=None, received_ms=1, token_digest=None, source="s")


async def test_a_page_that_does_not_arrive_in_time_is_asked_for_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panic_streamed, "REDIS_WAIT_S", 0.02)
    redis = Redis()
    streamed = Streamed(redis, Records(), PanicIndex())  # type: ignore[arg-type]
    looks = 0
    while len(streamed.entries) < ENTRIES:
        await streamed.look(press, whole=True)
        looks += 1
        assert looks < 10, redis.asked
    assert redis.asked[0] == PENDING_BOUND
    assert len(streamed.take_new()) == ENTRIES
    redis.most = PENDING_BOUND
    for _ in range(10):
        await streamed.look(press, whole=True)
    assert redis.asked[-1] == PENDING_BOUND, "and whole again, once they do"


async def test_with_redis_not_answering_a_look_is_one_wait_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panic_streamed, "REDIS_WAIT_S", 0.02)
    redis = Redis()
    redis.most = PENDING_BOUND
    streamed = Streamed(redis, Records(), PanicIndex())  # type: ignore[arg-type]
    await streamed.look(press, whole=True)
    redis.most, redis.asked = 0, []
    for _ in range(12):
        await streamed.look(press, whole=True)
    assert len(streamed.entries) == ENTRIES
    assert (len(redis.asked), redis.asked[-1]) == (12, PAGE_LEAST)
