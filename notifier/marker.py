"""How attempts ended, written for all lanes together.

A panic goes out on several channels within a few milliseconds of one another. Marked lane by lane each would be a
transaction of its own, and every one of them locks the agency's feed while it commits: the next panic would wait for
the last one's book-keeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.actions import deliveries
from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres.database import Database
from core.postgres.deliveries import Ended, Mark

GATHER_S: Final = 0.015
"""How long the first that has finished waits for others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished attempt, not yet marked."""

    mark: Mark
    gone_token: tuple[uuid.UUID, str] | None = None
    gone_subscription: str | None = None


class Marker:
    """One process's; lanes share it."""

    def __init__(self, database: Database, clock: Clock, holder: str) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder
        self._waiting: list[tuple[Sequence[Outcome], asyncio.Future[list[Ended]]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def mark(self, outcomes: Sequence[Outcome]) -> list[Ended]:
        """Record how these attempts ended, in one transaction with what else is to be marked; those that are sent or
        dead thereby. Raises StoreUnavailable, and then nothing of them is recorded."""
        ended: asyncio.Future[list[Ended]] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcomes, ended))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="notifier-marks")
        return await ended

    async def _write(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                together, self._waiting = self._waiting, []
                try:
                    await self._write_together(together)
                except BaseException:  # the loop ends: nobody waits for what will not come
                    for _, told in together:
                        told.cancel()
                    raise
        finally:
            self._writing = None

    async def _write_together(self, lots: Sequence[tuple[Sequence[Outcome], asyncio.Future[list[Ended]]]]) -> None:
        try:
            ended = await self._finish([outcome for outcomes, _ in lots for outcome in outcomes])
        except StoreUnavailable as error:
            for _, told in lots:
                _fail(told, error)
        except Exception as error:
            if len(lots) == 1:
                _fail(lots[0][1], error)
            else:  # whoever's mark it was, nobody else's is kept back by it
                for lot in lots:
                    await self._write_together([lot])
        else:
            for outcomes, told in lots:
                ids = {outcome.mark.delivery_id for outcome in outcomes}
                with contextlib.suppress(asyncio.InvalidStateError):
                    told.set_result([one for one in ended if one.id in ids])

    async def _finish(self, outcomes: Sequence[Outcome]) -> list[Ended]:
        return await deliveries.finish(
            self._database,
            [outcome.mark for outcome in outcomes],
            holder=self._holder,
            now=self._clock(),
            gone_tokens=[one.gone_token for one in outcomes if one.gone_token is not None],
            gone_subscriptions=[one.gone_subscription for one in outcomes if one.gone_subscription is not None],
        )


def _fail(told: asyncio.Future[list[Ended]], error: Exception) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        told.set_exception(error)
