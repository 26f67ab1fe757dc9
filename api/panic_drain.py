"""The drain: brings to PostgreSQL what waits in this process's journal, in the stream, and in journals of the dead."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from api.panic_journal import PanicJournal
from api.panic_records import PanicRecords
from api.panic_rows import PanicRows
from core.domain.panic import PanicIn
from core.errors import NotAllowed, StoreUnavailable
from core.key_rings import KeyLost
from core.redis import panics as panic_stream
from core.redis.client import Client
from core.service import Service
from core.vault import Unsealable

if TYPE_CHECKING:
    from api.panic_desk import PanicDesk

log = structlog.get_logger(__name__)

REDIS_WAIT_S: Final = 0.5
DRAIN_INTERVAL_S: Final = 0.5
ORPHANS_EVERY: Final = 10
"""Rounds of the drain between two looks for journals of dead processes."""
REHEARSE_S: Final = 60.0
"""Time between two rehearsals."""


class Draining:
    """What waits, one record after the other."""

    def __init__(self, rows: PanicRows, records: PanicRecords, client: Client, directory: Path) -> None:
        self._rows = rows
        self._records = records
        self._client = client
        self._directory = directory

    async def drain(self, journal: PanicJournal | None, *, orphans: bool) -> None:
        """Bring everything in, once. Raises StoreUnavailable as soon as PostgreSQL does."""
        if journal is not None:
            for place, payload in journal.left():
                if await self._drained(payload):
                    journal.settle(place)
        if orphans:
            await self._rows.look_up_default_agency()
            await self._drain_abandoned()
        for entry, payload in await self._streamed():
            if await self._drained(payload):
                await panic_stream.drop(self._client, entry)

    async def _drain_abandoned(self) -> None:
        with contextlib.closing(PanicJournal.abandoned(self._directory)) as journals:
            for journal in journals:
                for place, payload in journal.waiting():
                    if await self._drained(payload):
                        journal.settle(place)

    async def _streamed(self) -> list[tuple[str, bytes]]:
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                return await panic_stream.read(self._client)
        except Exception:  # Redis away: the journals have what it has
            return []

    async def _drained(self, payload: bytes) -> bool:
        """Whether PostgreSQL has the record now, or it was set aside. A panic that fails is tried for ever."""
        try:
            record = await self._records.open(payload)
        except (msgspec.DecodeError, Unsealable) as error:
            await self._rows.set_aside(self._records.sealed(payload), error)
            return True
        except KeyLost as error:  # never given up: the key may be put back
            log.error("panic_not_opened", reason=str(error))
            return False
        try:
            if isinstance(record, PanicIn):
                return (await self._rows.commit(record)).complete
            await self._rows.commit_cancel(record, lambda: True)  # her phone was told "cancelled" long ago
        except NotAllowed:
            return True
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("panic_not_drained", error=type(error).__name__)
            return False
        return True


class PanicDrain(Service):
    """Runs the desk: opens its journal, drains what waits, closes it."""

    name = "panic-drain"

    def __init__(self, desk: PanicDesk, interval_s: float = DRAIN_INTERVAL_S) -> None:
        super().__init__()
        self._desk = desk
        self._interval_s = interval_s
        self._rehearse_every = max(1, round(REHEARSE_S / interval_s))

    async def open(self) -> None:
        """Have a journal before the first panic; without a disk the desk goes on without one."""
        try:
            await self._desk.open()
        except OSError as error:
            log.error("panic_journal_refused", error=type(error).__name__)

    async def run(self) -> None:
        rounds = 0
        while not self.stopping.is_set():
            await self._once(orphans=rounds % ORPHANS_EVERY == 0, rehearse=rounds % self._rehearse_every == 0)
            rounds += 1
            if await self.pause(self._interval_s):
                return

    async def _once(self, *, orphans: bool, rehearse: bool) -> None:
        try:
            await self._desk.drain(orphans=orphans)
            if rehearse:
                await self._desk.rehearse()
        except StoreUnavailable:
            return
        except Exception as error:  # the drain outlives whatever a disk or a store comes up with
            log.error("panic_drain_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Let go of the journal and the connections."""
        await self._desk.close()
