"""Turns: what several shards hand over at about the same time is one batch, and an error in it is blamed on nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain.log import PINGS, TICK, Entry
from geo import turns as module
from geo.engine import Engine, Hall
from geo.pace import Pace
from geo.turns import Spoiled, Turns

TICKS = [Entry(1_760_000_000_000 + 1000 * k, 0, TICK, b"") for k in range(3)]
BAD = [Entry(1_760_000_000_000, 0, PINGS, b"")]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that are evaluated, in order; one with the entries BAD fails."""
    sizes: list[int] = []

    def process_together(parts: list[tuple[Any, Any]]) -> list[list[Any]]:
        sizes.append(len(parts))
        if any(entries is BAD for _, entries in parts):
            raise ArithmeticError
        return [[] for _ in parts]

    monkeypatch.setattr("geo.engine.process_together", process_together)
    return sizes


def engines(count: int) -> list[Engine]:
    hall = Hall(count)
    return [Engine(shard, hall=hall) for shard in range(count)]


async def test_what_is_handed_over_at_once_is_one_batch(batches: list[int]) -> None:
    turns = Turns(Pace(0.001))
    await asyncio.gather(*(turns.evaluate(engine, TICKS) for engine in engines(3)))
    assert batches == [3]


async def test_who_comes_between_two_turns_waits_for_the_next_and_who_is_behind_does_not(batches: list[int]) -> None:
    one, two, three = engines(3)
    turns = Turns(Pace(3600.0))
    await turns.evaluate(one, TICKS, behind=True)
    assert turns.rest_s() > 3000
    waiting = asyncio.ensure_future(turns.evaluate(two, TICKS))
    await asyncio.sleep(0)
    assert batches == [1]
    await turns.evaluate(three, TICKS, behind=True)
    await waiting
    assert batches == [1, 2]


async def test_an_error_of_several_is_nobodys_and_of_one_alone_his(batches: list[int]) -> None:
    one, two = engines(2)
    turns = Turns(Pace(0.001))
    together = await asyncio.gather(turns.evaluate(one, TICKS), turns.evaluate(two, BAD), return_exceptions=True)
    assert [type(each) for each in together] == [Spoiled, Spoiled]
    with pytest.raises(ArithmeticError):
        await turns.evaluate(two, BAD)


async def test_who_gives_up_waiting_is_left_out(batches: list[int]) -> None:
    one, two = engines(2)
    turns = Turns(Pace(0.001))
    leaving = asyncio.ensure_future(turns.evaluate(one, TICKS))
    staying = asyncio.ensure_future(turns.evaluate(two, TICKS))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert batches == [1]
    assert module.GATHER_S < 0.01
