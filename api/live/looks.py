"""Who has whom on her screen: one row of the audit for each user, person, purpose and five minutes.

Model: what a socket is about to be shown is noted in memory first; a few seconds later it is a row. While PostgreSQL
does not take rows, what waits is also in a journal on disk, so that neither a stop nor a crash loses it, and the next
process writes it. Rows have ids that follow from what they say: written twice, they are there once.

Failure: when rows have waited for longer than a bound, or there are too many, live positions are no longer shown.
Alarms are: they are noted too, but no alarm ever waits for the audit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import IO, Final

import msgspec
import structlog

from core.clock import Clock, to_ms
from core.domain.scope import Scope
from core.errors import StoreUnavailable
from core.ids import timed_id
from core.metrics import AUDIT_LOOKS_WAITING
from core.postgres import audit
from core.postgres.audit import Look
from core.postgres.database import Database
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

WINDOW_S: Final = 300
"""A stretch of looking that is one row."""
FLUSH_S: Final = 2.0
WAITING_BOUND: Final = 100_000
"""Looks that may wait."""
BATCH: Final = 2_000
ACTION: Final = "person.watched"
PURPOSE: Final = "open_incident"
"""Why, when she does not say: live positions are those of open incidents' parties alone."""

_Seen = tuple[uuid.UUID, uuid.UUID | None, str, str]


class Looks(Service):
    """Notes and writes the looks of one process's sockets."""

    name = "looks"

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._directory = settings.data_dir
        self._path = self._directory / f"looks-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._bound_s = settings.look_unwritten_s
        self._window = -1
        self._seen: set[_Seen] = set()
        self._waiting: list[Look] = []
        self._journal: IO[bytes] | None = None
        self._journalled = 0
        """How many of those that wait are in the journal."""

    def note(self, scope: Scope, people: Iterable[str]) -> None:
        """Note that a user is about to be shown something of these people."""
        now = self._clock()
        window = to_ms(now) // (WINDOW_S * 1000)
        if window != self._window:
            self._window = window
            self._seen.clear()
        purpose = scope.purpose or PURPOSE
        for person in people:
            seen = (scope.user_id, scope.session_id, person, purpose)
            if seen not in self._seen:
                self._seen.add(seen)
                self._waiting.append(_look(scope, purpose, person, window, now))

    def may_watch(self, scope: Scope | None, people: Iterable[str]) -> bool:
        """Whether a user may be shown these people's positions now; that she is, is noted."""
        if scope is None or not self.may_show():
            return False
        self.note(scope, people)
        return True

    def may_show(self) -> bool:
        """Whether what is looked at is written soon enough."""
        if not self._waiting:
            return True
        waited_s = (self._clock() - self._waiting[0].at).total_seconds()
        return waited_s <= self._bound_s and len(self._waiting) <= WAITING_BOUND

    @property
    def waiting(self) -> int:
        """Looks not yet written."""
        return len(self._waiting)

    async def open(self) -> None:
        """Take up what processes before this one left."""
        try:
            await asyncio.to_thread(self._take_up)
        except OSError as error:
            log.error("looks_journal_unusable", error=error.strerror)

    async def run(self) -> None:
        """Write every few seconds until stopped, and then the rest."""
        await self.flush()
        while not await self.pause(FLUSH_S):
            await self.flush()
        await self.flush()

    async def close(self) -> None:
        """Leave the journal to the next process if anything is in it."""
        if self._journal is not None:
            if not self._journalled:
                self._path.unlink(missing_ok=True)
            self._journal.close()
            self._journal = None

    async def flush(self) -> None:
        """Write what waits; what PostgreSQL does not take goes into the journal."""
        try:
            while self._waiting:
                batch = self._waiting[:BATCH]
                async with self._database.transaction() as connection:
                    await audit.write_looks(connection, batch, ACTION)
                del self._waiting[: len(batch)]
                self._journalled = max(0, self._journalled - len(batch))
            await asyncio.to_thread(self._empty_journal)
        except StoreUnavailable:
            await asyncio.to_thread(self._keep)
        AUDIT_LOOKS_WAITING.set(len(self._waiting))

    # the journal --------------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._directory.glob("looks-*.jsonl")):
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # its process lives
                self._waiting += _decode(file.read())
                self._keep()
                path.unlink()

    def _keep(self) -> None:
        """Have what waits on disk too."""
        fresh = self._waiting[self._journalled :]
        if not fresh:
            return
        try:
            if self._journal is None:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                self._journal = os.fdopen(descriptor, "r+b")
                fcntl.flock(self._journal, fcntl.LOCK_EX)
            self._journal.seek(0, os.SEEK_END)
            self._journal.write(b"".join(msgspec.json.encode(look) + b"\n" for look in fresh))
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            log.error("looks_not_kept", error=error.strerror, waiting=len(self._waiting))
            return
        self._journalled += len(fresh)

    def _empty_journal(self) -> None:
        if self._journal is not None and self._journalled == 0 and self._journal.tell():
            self._journal.seek(0)
            self._journal.truncate()


def _look(scope: Scope, purpose: str, person: str, window: int, now: datetime) -> Look:
    identity = timed_id(window * WINDOW_S * 1000, "look", scope.user_id, scope.session_id, person, purpose)
    return Look(
        identity, now, scope.agency_id, scope.user_id, scope.role, scope.session_id, purpose, scope.address,
        uuid.UUID(person), float(WINDOW_S),
    )  # fmt: skip


def _decode(data: bytes) -> list[Look]:
    """The looks of a journal; the one that a crash left half written is none."""
    found = []
    for line in data.split(b"\n"):
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line, type=Look))
    return found
