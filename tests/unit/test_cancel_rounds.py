"""A round of the drain's wishes to cancel: one that fails as none should leaves the round to the others."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from api.cancel_turns import AGAIN_S, CancelTurns
from api.panic_index import PanicIndex
from core.domain.panic import CancelIn


class Rows:
    """Rows that know every panic; judging takes most of a round, and one device's fails."""

    def __init__(self, fails: uuid.UUID) -> None:
        self.fails = fails
        self.now = 1.0
        self.judged: list[uuid.UUID] = []

    async def knows(self, _panic_id: str, _device_id: uuid.UUID) -> bool:
        return True

    async def commit_cancel(self, wish: CancelIn, _answered: Callable[[], bool]) -> bool:
        self.now += 1.1
        self.judged.append(wish.device_id)
        if wish.device_id == self.fails:
            raise ValueError
        return True


async def test_a_wish_that_fails_is_tried_again_later_and_holds_up_no_other() -> None:
    bad, good = (
        CancelIn(id=uuid.uuid4(), panic_id="p", device_id=uuid.uuid4(), received_ms=0, pin="1") for _ in range(2)
    )
    rows: Any = Rows(bad.device_id)
    turns = CancelTurns(rows, PanicIndex(), lambda: rows.now)

    async def round_of(*wishes: CancelIn) -> list[bool]:
        turns.begin_round()
        return [await turns.judge(wish) for wish in wishes]

    assert await round_of(bad, good) == [False, False], "the first took the whole round"
    assert await round_of(bad, good) == [False, True]
    rows.now += AGAIN_S
    assert await round_of(bad) == [False]
    assert rows.judged == [bad.device_id, good.device_id, bad.device_id]
