"""The panic desk: takes a panic whatever stores are away, and brings it to PostgreSQL exactly once.

    PostgreSQL within a second ──► answered with the incident
    journal (fsync), beside it ──► Redis stream + provisional frame on the feeds ──► answered without one; drained later
                                   people told by the routes last known (`api.panic_outage`)

It is answered once one of the two has it for good; who waited for the disk first made her wait for both.

Its pool of connections and its thread are its own: nothing of it waits behind telemetry or management.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from api.ingest.presses import Presses
from api.journal_keeper import JournalKeeper
from api.live.provisional import provisional_panic
from api.panic_drain import Draining, PanicDrain
from api.panic_index import PanicIndex, Record, as_answered, wish_for
from api.panic_outage import PanicOutage
from api.panic_records import PanicAnswer, PanicRecords
from api.panic_rows import POSTGRES_WAIT_S, PanicRows
from api.panic_streamed import Streamed
from core.clock import Clock, from_ms
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import ToldIn
from core.errors import NotAllowed, QorganError, StoreUnavailable
from core.metrics import PANICS
from core.postgres.database import Database
from core.postgres.keys import vault_of
from core.redis.client import Client
from core.settings import Settings

__all__ = ["PanicDesk", "PanicDrain"]

log = structlog.get_logger(__name__)

CANCEL_WAIT_S: Final = 3.0
"""How long a cancelling waits to be judged: it takes two slow hashes, and nobody is kept from help by it."""
NOTES_AT_ONCE: Final = 64
"""Notes of what was told that are written together."""
CANCEL_BOUND: Final = 16
"""Cancellings judged at once; beyond it they are the drain's, so that a flood of them leaves panics their room."""
LATE_BOUND: Final = 64
"""Panics still waiting for PostgreSQL after their answer; beyond it new ones do not try it first."""


@dataclass(frozen=True, slots=True)
class _Late:
    """What waits for PostgreSQL: where it is in the journal, and which panic it is (None: a wish to cancel one)."""

    place: asyncio.Future[int | None]
    panic_id: uuid.UUID | None


class PanicDesk:
    """Takes panics; `PanicDrain` runs it."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: Client,
        registry: Any,
        tail: Any,
        clock: Clock,
        index: int = 0,
        outage: PanicOutage | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: tuple[float, float] = (POSTGRES_WAIT_S, CANCEL_WAIT_S),
    ) -> None:
        """Without `outage` nobody is told by the routes last known. `wait_s`: how long PostgreSQL may take for a panic,
        and for judging a wish to cancel."""
        self._wait_s, self._cancel_wait_s = wait_s
        self.registry = registry
        self.clock = clock
        directory = settings.data_dir / "journal"
        self._index = PanicIndex()
        self._journal = JournalKeeper(directory, self._index)
        self._records = PanicRecords(vault_of(database).traveller)
        self._streamed = Streamed(client, self._records, self._index, monotonic)
        self._rows = PanicRows(database, clock, index, self._wait_s)
        self._outage = outage
        self._draining = Draining(
            self._rows,
            self._records,
            self._streamed,
            self._journal,
            self._index,
            directory,
            outage,
            met=self._met,
            monotonic=monotonic,
        )
        self._tail = tail
        self._late: dict[asyncio.Task[Any], _Late] = {}
        self._cancelling = 0
        self._unanswered: set[uuid.UUID | None] = set()
        """Wishes to cancel whose device was told nothing yet."""
        self._presses = Presses(client)
        self._notes: list[tuple[bytes, asyncio.Future[None]]] = []
        self._noting: asyncio.Task[None] | None = None
        if outage is not None:
            outage.kept_by(self._keep_told)
            outage.hushed_by(self._index.is_cancelling)

    # taking -----------------------------------------------------------------------------------------------------

    async def take(self, panic: PanicIn) -> PanicAnswer:
        """Take a panic. Raises NotAllowed for an aggressor's device, and StoreUnavailable only when neither disk
        nor any store takes it."""
        payload = await self._records.seal(panic)
        self._presses.note(panic, self.registry)
        writing = asyncio.ensure_future(self._journal.append(payload, panic))
        result = await self._within_a_second(self._rows.commit(panic), _Late(writing, panic.id), self._wait_s)
        if result is not None:
            PANICS.labels("postgres").inc()
            if not result.complete:
                self._tell(panic, to_staff=False)
                if await writing is None:
                    await self._streamed.push(payload, copies=False)
            return PanicAnswer(result.panic_id, result.incident_id, result.state, result.received_at, result.created)
        place = await writing
        self._tell(panic)
        self._show(panic)
        pushed = await self._streamed.push(payload, copies=place is not None)
        if place is None and not pushed:
            raise StoreUnavailable("No store takes the panic; send it again, and call for help another way.")
        PANICS.labels("journal" if not pushed else "stream").inc()
        return PanicAnswer(panic.id, None, "received", from_ms(panic.received_ms), created=True)

    async def cancel(self, wish: CancelIn) -> bool:
        """Take a wish to cancel; never fails. False: her phone is to be told that the PIN is wrong.

        What cannot be checked in time is answered as cancelled, and judged when it can be.
        """
        self._unanswered.add(wish.id)
        try:
            return await self._cancel(wish)
        finally:
            self._unanswered.discard(wish.id)

    async def _cancel(self, wish: CancelIn) -> bool:
        payload = await self._records.seal(wish)
        answered = False
        waits = await self._waits(wish)
        writing = asyncio.ensure_future(self._journal.append(payload, wish))
        place = await writing
        self._journal.thin(wish.device_id)
        if waits:
            if self._outage is not None:
                self._outage.hush({wish.device_id})
            # Whoever else tells of it is to hear as well.
            waits = await self._streamed.push(payload, copies=place is not None) or place is not None
        if waits or (place is not None and self._cancelling >= CANCEL_BOUND):
            self._journal.release(place)  # the drain brings the panic first, and this after it
            return True
        self._cancelling += 1
        try:
            work = self._rows.commit_cancel(wish, lambda: answered)
            result = await self._within_a_second(work, _Late(writing, None), self._cancel_wait_s)
        finally:
            self._cancelling -= 1
        if result is None:
            answered = True
            await self._streamed.push(payload, copies=place is not None)
        return result is not False

    async def _waits(self, wish: CancelIn) -> bool:
        """Whether the panic to be cancelled waits for PostgreSQL: here, or with the process that took it."""
        if self._index.is_here(wish.panic_id, wish.device_id):
            return True
        await self._draining.look()
        if self._index.panic(wish.panic_id, wish.device_id) is None:
            return False
        try:  # what was brought in is in Redis for some seconds more
            return not await self._rows.knows(wish.panic_id, wish.device_id)
        except Exception:  # PostgreSQL is away or unwilling: the drain judges it
            return True

    async def _within_a_second(self, work: Awaitable[Any], late: _Late, wait_s: float) -> Any:
        """The work's result, or None when PostgreSQL is away, slow or unwilling; late work goes on and settles."""
        if len(self._late) >= LATE_BOUND:
            assert asyncio.iscoroutine(work)
            work.close()
            _once_written(late.place, self._journal.release)
            return None
        task = asyncio.ensure_future(work)
        self._late[task] = late
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=wait_s)
        if not task.done():
            return None
        error = task.exception()
        if isinstance(error, NotAllowed):
            raise error
        if error is not None:
            return None
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        late = self._late.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, QorganError):
            log.error("panic_not_committed", error=type(error).__name__)
        if isinstance(error, NotAllowed) or (error is None and getattr(task.result(), "complete", True)):
            _once_written(late.place, self._journal.settle)
            if self._outage is not None and late.panic_id is not None:
                self._outage.forget(late.panic_id)  # the notifier tells whoever was not told
        else:
            _once_written(late.place, self._journal.release)

    # telling ----------------------------------------------------------------------------------------------------

    def _tell(self, panic: PanicIn, *, to_staff: bool = True) -> None:
        if self._outage is not None:
            self._outage.tell(panic, to_staff=to_staff)

    async def _keep_told(self, one: ToldIn) -> None:
        """Have on disk and in Redis that somebody was told; several at once, so that no panic waits behind them."""
        noted = asyncio.get_running_loop().create_future()
        self._notes.append((await self._records.seal(one), noted))
        if self._noting is None:
            self._noting = asyncio.create_task(self._note_all())
        await noted

    async def _note_all(self) -> None:
        try:
            while self._notes:
                notes, self._notes = self._notes[:NOTES_AT_ONCE], self._notes[NOTES_AT_ONCE:]
                try:
                    kept = await self._journal.keep([payload for payload, _ in notes])
                    await self._streamed.push(*(payload for payload, _ in notes), copies=kept)
                finally:
                    for _, noted in notes:
                        if not noted.done():
                            noted.set_result(None)
        finally:
            self._noting = None

    def _show(self, panic: PanicIn) -> None:
        agency_id = panic.agency_id or self._agency_of_nobody()
        if agency_id is not None and self._tail is not None:
            self._tail.publish_provisional(agency_id, provisional_panic(panic, agency_id))

    def _met(self, record: Record) -> None:
        """Show a panic of nobody known that another process took: whose board it is on, the desk alone knows. Others'
        are shown by the tail (`api.live.provisional_source`)."""
        if isinstance(record, PanicIn) and record.agency_id is None:
            self._show(record)

    def _agency_of_nobody(self) -> uuid.UUID | None:
        return self._rows.default_agency or (self._outage.first_agency if self._outage is not None else None)

    # reading ----------------------------------------------------------------------------------------------------

    async def find(self, client_id: str, device_id: uuid.UUID) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A device's panic and who was told of it; None when PostgreSQL knows none. One that is yet to be cancelled is
        told as its device was: as cancelled. Raises StoreUnavailable."""
        answered = self.answered(device_id)
        try:
            found = await self._rows.find(client_id, device_id)
        except StoreUnavailable:
            await self._draining.look()
            raise
        if found is None:
            await self._draining.look()
            return None
        panic, told = found
        as_answered(panic, (*answered, *self.answered(device_id)))
        return panic, told

    def answered(self, device_id: uuid.UUID | None) -> list[CancelIn]:
        """A device's wishes to cancel that were answered as cancelled, and wait to be judged. To be asked before a row
        is read, and after: one may be judged in between, and another come."""
        return [wish for wish in self._index.wishes(device_id) if wish.id not in self._unanswered]

    def waiting(self, client_id: str, device_id: uuid.UUID) -> PanicIn | None:
        """A device's panic that waits for PostgreSQL: here, or in Redis as this process last saw it."""
        return self._index.panic(client_id, device_id)

    def cancels_waiting(self, panic: PanicIn) -> bool:
        """Whether a wish to cancel this panic waits beside it."""
        return wish_for(self.answered(panic.device_id), (str(panic.id), panic.client_id)) is not None

    # life and drain ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Have the journal and its key; a second call does nothing.

        Raises OSError when the disk does not give it, StoreUnavailable when the key service is away.
        """
        await self._records.prepare()
        await self._journal.open()

    async def close(self) -> None:
        """Wait shortly for late panics, then let go of everything; what is not settled stays in the journal."""
        if self._late:
            await asyncio.wait(set(self._late), timeout=POSTGRES_WAIT_S)
        for task in list(self._late):
            task.cancel()
        self._presses.close()
        if self._outage is not None:
            await self._outage.close()
        await self._rows.close()
        self._journal.close()

    async def rehearse(self) -> None:
        """Take a panic and roll it back, so that the next real one finds a connection and plans ready."""
        await self._rows.rehearse()

    async def drain(self, *, orphans: bool) -> None:
        """Bring to PostgreSQL whatever waits here, in the stream, and in journals of the dead. Raises
        StoreUnavailable as soon as PostgreSQL does."""
        await self._draining.drain(orphans=orphans)

    async def sweep(self, *, whole: bool = True) -> None:
        """While PostgreSQL is away: have told of what waits and was not told of yet, and of nothing cancelled."""
        await self._draining.sweep(whole=whole)


def _once_written(writing: asyncio.Future[int | None], do: Callable[[int | None], None]) -> None:
    """Do something with a place in the journal as soon as the disk has given it."""
    if not writing.done():
        writing.add_done_callback(lambda _: _once_written(writing, do))
    elif not writing.cancelled():
        do(writing.result())
