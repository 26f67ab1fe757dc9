"""Commands that wait for devices: each goes out with the device's next acknowledgement.

Model: a command is a row (`device_command`). Each process that answers devices looks for those that wait, `LOOK_S`
apart, hands each to the device when that is heard next, and says so in the row. By HTTP that is when the answer is
made. By stream it is lent until the device has sent something more on the same connection, and is handed out again
when the connection breaks before. Two processes that a device speaks to at the same moment may both hand it out: it
bears an id, by which the device drops a repeat.

However many devices are away: a look reads the newest commands, and a page of the older ones in turn.

Failure: PostgreSQL away: what was read is handed out, and said later. An HTTP answer that is lost loses its command; a
command says nothing that somebody's safety waits for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from core.clock import Clock
from core.errors import StoreUnavailable
from core.postgres import aggressor_warnings as store
from core.postgres.database import Connection, Database
from core.service import Loop

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
PAGE: Final = 1_000
"""Commands read at once: the newest, and as many of the older ones."""
OLDER_MAX: Final = 50_000
"""Older ones held; a command lives minutes, so there are more of them only in an outage."""

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
        self._ends: dict[uuid.UUID, datetime] = {}
        """When what waits expires."""
        self._lent: dict[uuid.UUID, datetime] = {}
        """Sent on a connection that may have broken before it arrived, and when each expires: one that stays open and
        silent for ever keeps nothing here."""
        self._older: dict[uuid.UUID, Any] = {}
        """Rows beyond the newest page, as they were when their page was read."""
        self._read: set[uuid.UUID] = set()
        """Of `_older`, those of this turn through the pages."""
        self._before: store.Place | None = None
        """Where this turn goes on; None: at the newest page."""
        self._listeners: list[Callable[[int], object]] = []

    def take(self, number: int) -> list[Command]:
        """What waits for a device, for the acknowledgement that is about to go to it."""
        found = self._waiting.pop(number, {})
        self._handed |= found.keys()
        return list(found.values())

    def lend(self, number: int) -> list[Command]:
        """As `take`, to be followed by `arrived` or `returned` with what was given."""
        found = self._waiting.pop(number, {})
        self._lent |= {one: self._ends[one] for one in found}
        return list(found.values())

    def arrived(self, commands: Sequence[Command]) -> None:
        """What was lent has been heard."""
        found = {uuid.UUID(one["id"]) for one in commands}
        self._forget_lent(found)
        self._handed |= found

    def returned(self, commands: Sequence[Command]) -> None:
        """What was lent may not have arrived: it waits again from the next look on."""
        self._forget_lent({uuid.UUID(one["id"]) for one in commands})

    def _forget_lent(self, found: set[uuid.UUID]) -> None:
        for one in found:
            self._lent.pop(one, None)

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
                rows = await self._waiting_rows(connection)
        except StoreUnavailable:
            return
        except Exception as error:  # this runs beside what takes pings and panics
            log.error("device_commands_failed", error=type(error).__name__)
            return
        now = self._clock()
        self._lent = {one: ends for one, ends in self._lent.items() if ends > now}
        self._ends = {row["id"]: row["expires_at"] for row in rows}
        waiting: dict[int, dict[uuid.UUID, Command]] = {}
        for row in rows:
            if row["id"] not in self._handed and row["id"] not in self._lent:
                said = {"kind": row["kind"], "id": str(row["id"]), **row["body"]}
                waiting.setdefault(row["number"], {})[row["id"]] = said
        self._waiting = waiting
        for number in list(waiting):
            for listener in list(self._listeners):
                listener(number)

    async def _waiting_rows(self, connection: Connection) -> list[Any]:
        now = self._clock()
        newest = await store.waiting_commands(connection, now, PAGE)
        if len(newest) < PAGE:
            self._older, self._read, self._before = {}, set(), None
            return newest
        if self._before is None:
            self._before = (newest[-1]["expires_at"], newest[-1]["id"])
        page = await store.waiting_commands(connection, now, PAGE, self._before)
        self._older |= {row["id"]: row for row in page}
        self._read |= {row["id"] for row in page}
        if len(page) < PAGE or len(self._read) >= OLDER_MAX:
            # The turn is over: what it did not meet was taken by another process, or has expired.
            self._older = {one: self._older[one] for one in self._read}
            self._read, self._before = set(), None
        else:
            self._before = (page[-1]["expires_at"], page[-1]["id"])
        mine = {row["id"] for row in newest}
        # A turn takes many looks: what has expired or was handed out meanwhile is not shown from memory.
        self._older = {
            one: row for one, row in self._older.items() if row["expires_at"] > now and one not in self._handed
        }
        return [*newest, *(row for one, row in self._older.items() if one not in mine)]
