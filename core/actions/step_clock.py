"""Periodic work beside the panic button, in every process that runs it, each kind at one time in one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from core.actions.unit_of_work import Unit, act
from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import maintenance
from core.postgres.database import Database
from core.service import Loop

log = structlog.get_logger(__name__)

FIRST_OF: Final = {"incident_clock": 0, "drill_clock": 50}
"""Clock → its first number of `core.postgres.maintenance.try_upkeep`; each kind of work has the next."""

Step = Callable[[Unit], Awaitable[None]]


class StepClock(Loop):
    """Does each kind of work once a round; what one stumbles over holds up neither the others nor the process."""

    def __init__(self, name: str, steps: Sequence[Step], database: Database, clock: Clock, interval_s: float) -> None:
        super().__init__(name, self.step, interval_s)
        self._steps = steps
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        """One round."""
        for number, work in enumerate(self._steps, FIRST_OF[self.name]):
            try:
                async with act(self._database, self._clock()) as unit:
                    if await maintenance.try_upkeep(unit.connection, number):
                        await work(unit)
            except StoreUnavailable:
                return
            except Exception as error:  # nothing in an incident may end what takes panics
                log.error(f"{self.name}_failed", step=getattr(work, "__name__", ""), error=type(error).__name__)
