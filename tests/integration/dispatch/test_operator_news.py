"""Whoever runs the installation is told by one process that a part is missing, also PostgreSQL, and that it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from api import operator_news
from api.operator_news import OperatorNews, OperatorRoute, read_routes
from api.outage_clock import OutageClock
from core.clock import utc_now
from core.domain.delivery import Delivery
from core.domain.told import Posted
from core.errors import Misconfigured
from core.postgres.database import Database
from core.redis import keys, outages
from core.redis.client import connect
from notifier.templates.render import render

WAIT_S = 20.0
ROUTES = [OperatorRoute("email", "ops@example.org"), OperatorRoute("sms", "+77001234567")]


class Post:
    """Providers; the first attempt at each message fails."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Delivery] = asyncio.Queue()
        self.attempts: list[int] = []

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Refuse once, then take it."""
        assert created_at <= utc_now()
        self.attempts.append(attempt)
        if attempt == 1:
            return Posted(sent=False, again_in_s=0.0)
        self.sent.put_nowait(delivery)
        return Posted(sent=True)

    async def aclose(self) -> None:
        """Nothing is open."""


class Hanging(Post):
    """Providers that do not answer."""

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Never."""
        await asyncio.Event().wait()
        return await super().send(delivery, created_at, attempt)


class Dog:
    """A watchdog that says what a test wants."""

    parts: tuple[str, ...] = ()

    async def red(self) -> tuple[str, ...]:
        """What is red."""
        return self.parts


At = Callable[..., Any]


@pytest.fixture
async def clocks() -> AsyncIterator[Callable[..., Any]]:
    """Makes the clocks of two processes, without PostgreSQL, and moves their time on."""
    made: list[OutageClock] = []

    def make(client: Any, post: Post) -> At:
        dog, moment = Dog(), [utc_now()]
        away = Database("postgresql:///none?host=/nowhere", size=1)
        mine = [
            OutageClock(
                away, dog, lambda: moment[0],  # type: ignore[arg-type]
                news=OperatorNews(ROUTES, "ru", post, client, utc_now, index),
            )
            for index in range(2)
        ]  # fmt: skip
        made.extend(mine)

        async def at(seconds: float, *red: str) -> None:
            moment[0] += timedelta(seconds=seconds)
            dog.parts = red
            for clock in mine:
                await clock.step()

        return at

    yield make
    for clock in made:
        await clock.close()


async def told(post: Post) -> list[tuple[str, str, str]]:
    async with asyncio.timeout(WAIT_S):
        found = [await post.sent.get() for _ in ROUTES]
    assert post.sent.empty()
    for one in found:
        assert render(one.template, one.language, one.data, utc_now()).short
    return sorted((one.template, one.channel, one.data["what"]) for one in found)


@pytest.mark.parametrize(("red", "what"), [("postgres", "postgres"), ("redis", "redis"), ("engine", "geo")])
async def test_the_operator_hears_once_of_an_outage_and_of_its_end(
    clocks: Any, redis_client: Any, red: str, what: str
) -> None:
    post = Post()
    at = clocks(redis_client, post)
    await at(0, red)
    await at(20, red)
    assert post.attempts == [], "a hiccup is none"
    for _ in range(3):
        await at(20, red)
    assert await told(post) == [("outage_operator", "email", what), ("outage_operator", "sms", what)]
    await at(1)
    await at(30)
    await at(30)
    assert await told(post) == [("outage_over_operator", "email", what), ("outage_over_operator", "sms", what)]
    assert post.attempts.count(2) == 4, "tried again until it is taken"


async def test_with_redis_away_the_first_process_of_a_machine_tells(clocks: Any) -> None:
    away = connect("unix:///nonexistent/valkey.sock", timeout_s=1)
    post = Post()
    at = clocks(away, post)
    await at(0, "postgres", "redis")
    await at(40, "postgres", "redis")
    assert [one[0] for one in await told(post)] == ["outage_operator"] * 2
    await at(1)
    await at(30)
    assert [one[0] for one in await told(post)] == ["outage_over_operator"] * 2
    await away.aclose()


async def test_where_the_process_that_tells_dies_before_a_message_is_taken_another_tells(redis_client: Any) -> None:
    since = utc_now()
    hanging, post = Hanging(), Post()
    first, second = (
        OperatorNews(ROUTES, "ru", one, redis_client, utc_now, index) for index, one in enumerate((hanging, post))
    )
    assert await first.began("database", since) is True
    assert await second.began("database", since) is False, "the first is at it"
    assert 0 < await redis_client.ttl(keys.outage_told("database")) <= outages.CLAIMED_S
    await first.close()
    await redis_client.delete(keys.outage_told("database"))  # as it is gone once its time is over
    assert await second.began("database", since) is True
    assert {one[0] for one in await told(post)} == {"outage_operator"}
    async with asyncio.timeout(WAIT_S):
        while await redis_client.get(keys.outage_told("database")) != outages.TOLD:
            await asyncio.sleep(0.01)
    assert await redis_client.ttl(keys.outage_told("database")) > outages.CLAIMED_S
    third = OperatorNews(ROUTES, "ru", Post(), redis_client, utc_now, 2)
    assert await third.began("database", since) is True, "it was told"
    await second.over("database", since)
    assert {one[0] for one in await told(post)} == {"outage_over_operator"}
    await second.close()


async def test_a_claim_is_kept_while_its_process_tries_and_asked_for_again_while_the_outage_lasts(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_news, "KEEP_EVERY_S", 0.05)
    hanging, post, dog, moment = Hanging(), Post(), Dog(), [utc_now()]
    away = Database("postgresql:///none?host=/nowhere", size=1)
    news = [OperatorNews(ROUTES, "ru", one, redis_client, utc_now, n) for n, one in enumerate((hanging, post))]
    clocks = [OutageClock(away, dog, lambda: moment[0], news=one) for one in news]  # type: ignore[arg-type]
    dog.parts = ("postgres",)
    for _ in range(2):
        for clock in clocks:
            await clock.step()
        moment[0] += timedelta(seconds=40)
    key = keys.outage_told("database")
    assert await redis_client.get(key) == outages.CLAIMED
    await redis_client.expire(key, 100)
    async with asyncio.timeout(WAIT_S):
        while await redis_client.ttl(key) > outages.CLAIMED_S:  # kept: its time is set anew
            await asyncio.sleep(0.01)
    await clocks[1].step()
    assert post.attempts == []
    await clocks[0].close()
    await redis_client.delete(key)
    await clocks[1].step()
    assert {one[0] for one in await told(post)} == {"outage_operator"}
    await clocks[1].close()


def test_where_to_is_read_and_what_cannot_be_used_is_said() -> None:
    assert read_routes(" email:ops@example.org , sms:+77001234567,") == ROUTES
    assert read_routes("") == []
    for wrong in ("ops@example.org", "fax:1", "email:"):
        with pytest.raises(Misconfigured, match="QORGAN_OPERATOR"):
            read_routes(wrong)
