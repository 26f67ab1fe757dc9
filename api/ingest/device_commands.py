"""Commands that wait for devices: each goes out once, with the device's next acknowledgement.

Model: a command is a row (`device_command`). Each process that answers devices looks for those that wait, `LOOK_S`
apart, hands each to the device when that is heard next, and says so in the row. Two processes that a device speaks to
at the same moment may both hand it out: it bears an id, by which the device drops a repeat.

Failure: PostgreSQL away: what was read is handed out, and said later. A process that dies with a command in an
acknowledgement that was not sent loses it; a command says nothing that somebody's safety waits for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

import structlog

from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import aggressor_warnings as store
from core.postgres.database import Database
from core.service import Loop

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
WAITING_MAX: Final = 1_000
"""Commands held at once; the next look takes the rest."""

Command = dict[str, Any]


class DeviceCommands(Loop):
    """What waits for which device; one a process that answers devices."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__("device-commands", self.look, LOOK_S)
        self._database = database
        self._clock = clock
        self._waiting: dict[int, dict[uuid.UUID, Command]] = {}
        self._handed: set[uuid.UUID] = set()
        """Handed out, and not yet said in the row."""
        self._listeners: list[Callable[[int], object]] = []

    def take(self, number: int) -> list[Command]:
        """What waits for a device, for the acknowledgement that is about to go to it."""
        found = self._waiting.pop(number, {})
        self._handed |= found.keys()
        return list(found.values())

    def on_waiting(self, listener: Callable[[int], object]) -> Callable[[], None]:
        """Call `listener` with the number of each device for which something waits; returns what takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def look(self) -> None:
        """Say what was handed out, and read what waits."""
        try:
            handed = set(self._handed)
            async with self._database.connection() as connection:
                if handed:
                    await store.take_commands(connection, sorted(handed), self._clock())
                    self._handed -= handed
                rows = await store.waiting_commands(connection, self._clock(), WAITING_MAX)
        except StoreUnavailable:
            return
        except Exception as error:  # this runs beside what takes pings and panics
            log.error("device_commands_failed", error=type(error).__name__)
            return
        waiting: dict[int, dict[uuid.UUID, Command]] = {}
        for row in rows:
            if row["id"] not in self._handed:
                said = {"kind": row["kind"], "id": str(row["id"]), **row["body"]}
                waiting.setdefault(row["number"], {})[row["id"]] = said
        self._waiting = waiting
        for number in list(waiting):
            for listener in list(self._listeners):
                listener(number)
