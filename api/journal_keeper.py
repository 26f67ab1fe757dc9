"""Keeps this process's panic journal: its file, the thread that waits for the disk, and what the dead left behind."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from api.panic_index import PanicIndex, Record
from api.panic_journal import PanicJournal

log = structlog.get_logger(__name__)

JOURNAL_WAIT_S: Final = 0.5
"""How long a panic waits for the disk; a disk that hangs is a disk that refuses."""
BATCH: Final = 256
"""Records that are written together when nobody waits for them."""


class JournalKeeper:
    """The journal, once there is one; without a disk everything here says so and nothing fails."""

    def __init__(self, directory: Path, index: PanicIndex) -> None:
        """`index` is kept up with what waits here."""
        self._directory = directory
        self._index = index
        self._writer: ThreadPoolExecutor | None = None
        self._journal: PanicJournal | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Have the journal; a second call does nothing. Raises OSError when the disk does not give it."""
        if self._journal is not None:
            return
        async with self._opening:
            if self._journal is None:
                self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="panic-journal")
                self._journal = await asyncio.get_running_loop().run_in_executor(
                    self._writer, PanicJournal.create, self._directory
                )

    def close(self) -> None:
        """Let go of it; what is not settled stays in the file. A second call does nothing."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._writer is not None:
            self._writer.shutdown(wait=False)
            self._writer = None

    # writing ----------------------------------------------------------------------------------------------------

    async def append(self, payload: bytes, record: Record) -> int | None:
        """The place of a record, sealed as `payload`, in hand; None when the disk refuses it or hangs."""
        writing = asyncio.ensure_future(self._write([payload]))
        await asyncio.wait({writing}, timeout=JOURNAL_WAIT_S)
        if not writing.done():
            log.error("panic_journal_refused", error="TimeoutError")
            writing.add_done_callback(lambda written: self._written_late(written, record))
            return None
        places = writing.result()
        if not places:
            return None
        self._index.note(places[0], record)
        return places[0]

    async def keep(self, payloads: Sequence[bytes]) -> bool:
        """Have records on disk for the drain, few at once so that no panic waits behind them; False: not all are."""
        for start in range(0, len(payloads), BATCH):
            places = await self._write(payloads[start : start + BATCH])
            if places is None:
                return False
            for place in places:
                self.release(place)
        return True

    async def _write(self, payloads: Sequence[bytes]) -> list[int] | None:
        try:
            await self.open()
            assert self._writer is not None
            assert self._journal is not None
            return await asyncio.get_running_loop().run_in_executor(self._writer, self._journal.append_all, payloads)
        except (OSError, RuntimeError) as error:  # the disk refuses, or the writer was shut down meanwhile
            log.error("panic_journal_refused", error=type(error).__name__)
            return None

    def _written_late(self, writing: asyncio.Future[list[int] | None], record: Record) -> None:
        """What the disk took after all is the drain's: taken twice it is still one panic."""
        if not writing.cancelled():
            for place in writing.result() or ():
                self._index.note(place, record)
                self.release(place)

    async def adopt(self, seal: Callable[[bytes], bytes]) -> bool:
        """Take over what the dead left waiting, none of it plain; False: some stays there, as the disk refuses."""
        with contextlib.closing(PanicJournal.abandoned(self._directory)) as journals:
            for journal in journals:
                left = journal.waiting()
                if left and not await self.keep([seal(payload) for _, payload in left]):
                    return False
                for place, _ in left:
                    journal.settle(place)
        return True

    # what is in it ----------------------------------------------------------------------------------------------

    def settle(self, place: int | None) -> None:
        """PostgreSQL has it."""
        if place is not None and self._journal is not None:
            self._index.drop(place)
            self._journal.settle(place)

    def thin(self, device_id: uuid.UUID) -> None:
        """Let go of a device's oldest wishes to cancel beyond their bound."""
        for place in self._index.surplus(device_id, int):
            assert isinstance(place, int)
            self.settle(place)

    def release(self, place: int | None) -> None:
        """Whoever wrote it is done trying: it is the drain's now."""
        if place is not None and self._journal is not None:
            self._journal.release(place)

    def left(self) -> list[tuple[int, bytes]]:
        """(place, payload) of what is neither settled nor in hand, oldest first."""
        return self._journal.left() if self._journal is not None else []

    def count(self) -> int:
        """How many records are not settled."""
        return self._journal.count() if self._journal is not None else 0
