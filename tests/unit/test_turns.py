"""Work that can wait: one after the other, and the more slowly the more there is to do."""

from __future__ import annotations

import asyncio

from api.turns import BREATH_S, REST_MAX_S, Turns


class Loop:
    """Time that passes when somebody sleeps, and `late_s` more."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 0.0
        self.late_s = late_s
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self.late_s
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return self.now


async def test_turns_come_one_after_the_other_as_they_were_asked_for() -> None:
    loop, order = Loop(), []
    turns = Turns(loop.sleep, loop.monotonic)

    async def work(number: int) -> None:
        await turns.take(asyncio.Event())
        order.append((number, round(loop.now / BREATH_S)))

    await asyncio.gather(*(work(number) for number in range(5)))
    assert order == [(number, number + 1) for number in range(5)]


async def test_a_busy_loop_is_given_as_long_as_it_was_late_and_no_longer_than_a_bound() -> None:
    for late_s, rest in ((0.01, []), (0.1, [0.1]), (5.0, [REST_MAX_S])):
        loop = Loop(late_s)
        await Turns(loop.sleep, loop.monotonic).take(asyncio.Event())
        assert [round(one, 6) for one in loop.slept] == [BREATH_S, *rest]


async def test_who_needs_no_turn_any_more_holds_up_nobody() -> None:
    loop, needless = Loop(), asyncio.Event()
    needless.set()
    await Turns(loop.sleep, loop.monotonic).take(needless)
    assert loop.slept == []
