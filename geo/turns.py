"""Turns: what several shards of a worker have read at about the same time is evaluated as one batch.

Model: shards rest until the next turn, read their logs at once, and hand over what they found; a little later all of it
goes to the engines together (`geo.engine.process_together`), so that a cycle costs what one shard's would. The pace
(`geo.pace`) says how far turns are apart.

Failure: an error in a shared batch spoils every engine that was in it; who handed over is told by `Spoiled`, loads its
engine again, and goes alone past what was in the batch, so that only the entry at fault is blamed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from core.domain.log import Entry
from core.domain.transition import Transition
from geo.pace import Pace

GATHER_S: Final = 0.002
"""How long the first waits for the others of its turn: about what a read takes."""


class Spoiled(Exception):  # noqa: N818 - a sign to load again, never seen outside
    """The engine's batch raised; what it holds is not to be trusted."""


class Turns:
    """The turns of one worker's shards."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._begin_s = self._next_s = 0.0
        self._waiting: list[tuple[Any, Sequence[Entry], asyncio.Future[list[Transition]]]] = []
        self._due: asyncio.TimerHandle | None = None

    def rest_s(self) -> float:
        """Seconds until the next turn."""
        return max(0.0, self._next_s - time.monotonic())

    async def evaluate(self, engine: Any, entries: Sequence[Entry], *, behind: bool = False) -> list[Transition]:
        """The transitions of an engine's entries, in the next batch. Raises Spoiled when the batch was several's.

        Who comes between two turns waits for the next, so that all come to have the same; who is `behind` does not.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Transition]] = loop.create_future()
        self._waiting.append((engine, entries, future))
        rest_s = 0.0 if behind else self.rest_s()
        begin_s = time.monotonic() + rest_s
        if self._due is None or begin_s < self._begin_s:
            if self._due is not None:
                self._due.cancel()
            self._begin_s = begin_s
            self._due = loop.call_later(rest_s + GATHER_S, self._go)
        return await future

    def _go(self) -> None:
        from geo.engine import process_together

        self._due = None
        self._next_s = max(self._begin_s + self._pace.cycle_s(), time.monotonic())
        waiting, self._waiting = [each for each in self._waiting if not each[2].done()], []
        if not waiting:
            return
        try:
            told = process_together([(engine, entries) for engine, entries, _ in waiting])
        except Exception as error:
            for _, _, future in waiting:
                future.set_exception(error if len(waiting) == 1 else Spoiled())
            return
        for (_, _, future), transitions in zip(waiting, told, strict=True):
            future.set_result(transitions)
