"""The panic desk: takes a panic whatever stores are away, and brings it to PostgreSQL exactly once.

    journal (fsync) ──► PostgreSQL within a second ──► answered with the incident
                 └────► Redis stream + provisional frame on the feeds ──► answered without one; drained later

Its pool of connections and its thread are its own: nothing of it waits behind telemetry or management.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from api.ingest.presses import Presses
from api.live.provisional import provisional_panic
from api.panic_journal import PanicJournal
from api.panic_records import PanicAnswer, PanicRecords
from core.actions.panics import PanicResult, ask_cancel, take_panic
from core.actions.unit_of_work import Unit, act
from core.clock import Clock, from_ms, to_ms
from core.domain.panic import CancelIn, PanicIn
from core.errors import KeyUnavailable, NotAllowed, QorganError, StoreUnavailable, Unavailable
from core.ids import new_id
from core.key_rings import KeyLost
from core.metrics import PANICS, POISON
from core.postgres import panics as panic_store
from core.postgres.database import Database
from core.postgres.keys import vault_of
from core.redis import panics as panic_stream
from core.redis.client import Client
from core.service import Service
from core.settings import Settings
from core.vault import Unsealable

log = structlog.get_logger(__name__)

POOL_SIZE: Final = 4
COMMAND_TIMEOUT_S: Final = 5.0
POSTGRES_WAIT_S: Final = 1.0
"""How long a panic waits for PostgreSQL before it is answered without it."""
LOOK_WAIT_S: Final = 5.0
"""How long a look at a panic waits for PostgreSQL: nobody is kept from help by it."""
REDIS_WAIT_S: Final = 0.5
JOURNAL_WAIT_S: Final = 0.5
"""How long a panic waits for the disk; a disk that hangs is a disk that refuses."""
LATE_BOUND: Final = 64
"""Panics still waiting for PostgreSQL after their answer; beyond it new ones do not try it first."""
DRAIN_INTERVAL_S: Final = 0.5
ORPHANS_EVERY: Final = 10
"""Rounds of the drain between two looks for journals of dead processes."""


class _RolledBack(Exception):  # noqa: N818
    """Ends a rehearsal."""


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
    ) -> None:
        self.registry = registry
        self.clock = clock
        self._directory = settings.data_dir / "journal"
        self._database = database.another(
            size=POOL_SIZE, application=f"qorgan-panic-{index}", command_timeout_s=COMMAND_TIMEOUT_S
        )
        self._client = client
        self._records = PanicRecords(vault_of(database).traveller)
        self._tail = tail
        self._writer: ThreadPoolExecutor | None = None
        self._journal: PanicJournal | None = None
        self._opening = asyncio.Lock()
        self._late: dict[asyncio.Task[Any], int | None] = {}
        self._default_agency: uuid.UUID | None = None
        self._presses = Presses(client)

    # taking -----------------------------------------------------------------------------------------------------

    async def take(self, panic: PanicIn) -> PanicAnswer:
        """Take a panic. Raises NotAllowed for an aggressor's device, and StoreUnavailable only when neither disk
        nor any store takes it."""
        payload = await self._records.seal(panic)
        self._presses.note(panic, self.registry)
        place = await self._journalled(payload)
        result = await self._within_a_second(self._commit(panic), place)
        if result is not None:
            PANICS.labels("postgres").inc()
            if place is None and not result.complete:
                await self._pushed(payload)
            return PanicAnswer(result.panic_id, result.incident_id, result.state, result.received_at, result.created)
        pushed = await self._pushed(payload)
        self._show(panic)
        if place is None and not pushed:
            raise StoreUnavailable("No store takes the panic; send it again, and call for help another way.")
        PANICS.labels("journal" if not pushed else "stream").inc()
        return PanicAnswer(panic.id, None, "received", from_ms(panic.received_ms), created=True)

    async def cancel(self, wish: CancelIn) -> None:
        """Note a wish to cancel; never fails, so that the answer tells nothing."""
        payload = await self._records.seal(wish)
        place = await self._journalled(payload)
        await self._within_a_second(self._commit_cancel(wish), place)

    async def _within_a_second(self, work: Awaitable[Any], place: int | None) -> Any:
        """The work's result, or None when PostgreSQL is away, slow or unwilling; late work goes on and settles."""
        if len(self._late) >= LATE_BOUND:
            assert asyncio.iscoroutine(work)
            work.close()
            if place is not None and self._journal is not None:
                self._journal.release(place)
            return None
        task = asyncio.ensure_future(work)
        self._late[task] = place
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=POSTGRES_WAIT_S)
        if not task.done():
            return None
        error = task.exception()
        if isinstance(error, NotAllowed):
            raise error
        if error is not None:
            return None
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        place = self._late.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, QorganError):
            log.error("panic_not_committed", error=type(error).__name__)
        if place is not None and self._journal is not None:
            if isinstance(error, NotAllowed) or (error is None and getattr(task.result(), "complete", True)):
                self._journal.settle(place)
            else:
                self._journal.release(place)

    async def _commit(self, panic: PanicIn) -> PanicResult:
        """One transaction; tried again when it failed for another reason than the store's absence, then bare: the
        press itself is what counts, whatever it was that PostgreSQL could not hold. Where only keys are missing, at
        last without them: the incident is on every board, and the drain brings the rest."""
        bare = msgspec.structs.replace(
            panic, body={}, note=None, client_id=None, at_ms=None, lat=None, lon=None, accuracy_m=None
        )
        for attempt in (panic, panic, bare):
            try:
                return await self._transaction(attempt)
            except KeyUnavailable:
                log.error("panic_lacks_keys")
                break
            except (NotAllowed, Unavailable):
                raise
            except Exception as error:
                if attempt is bare:
                    raise
                log.error("panic_attempt_failed", error=type(error).__name__)
        return await self._transaction(panic, keyless=True)

    async def _transaction(self, panic: PanicIn, *, keyless: bool = False) -> PanicResult:
        async with act(self._database, self.clock(), timeout_s=POSTGRES_WAIT_S) as unit:
            return await take_panic(unit, panic, keyless=keyless)

    async def _commit_cancel(self, wish: CancelIn) -> bool:
        async with act(self._database, self.clock(), timeout_s=POSTGRES_WAIT_S) as unit:
            await ask_cancel(unit, wish)
        return True

    async def _journalled(self, payload: bytes) -> int | None:
        """The payload's place in the journal; None when the disk refuses it."""
        writing = asyncio.ensure_future(self._write(payload))
        await asyncio.wait({writing}, timeout=JOURNAL_WAIT_S)
        if not writing.done():
            log.error("panic_journal_refused", error="TimeoutError")
            writing.add_done_callback(self._written_late)
            return None
        return writing.result()

    async def _write(self, payload: bytes) -> int | None:
        try:
            await self.open()
            assert self._writer is not None
            assert self._journal is not None
            return await asyncio.get_running_loop().run_in_executor(self._writer, self._journal.append, payload)
        except (OSError, RuntimeError) as error:  # the disk refuses, or the writer was shut down meanwhile
            log.error("panic_journal_refused", error=type(error).__name__)
            return None

    def _written_late(self, writing: asyncio.Future[int | None]) -> None:
        """What the disk took after all is the drain's: taken twice it is still one panic."""
        if not writing.cancelled() and (place := writing.result()) is not None and self._journal is not None:
            self._journal.release(place)

    async def _pushed(self, payload: bytes) -> bool:
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                await panic_stream.push(self._client, payload)
        except Exception as error:  # any failure means: the journal has to do
            log.warning("panic_stream_refused", error=type(error).__name__)
            return False
        return True

    def _show(self, panic: PanicIn) -> None:
        agency_id = panic.agency_id or self._default_agency
        if agency_id is not None and self._tail is not None:
            self._tail.publish_provisional(agency_id, provisional_panic(panic, agency_id))

    # reading ----------------------------------------------------------------------------------------------------

    async def find(self, client_id: str, device_id: uuid.UUID) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A device's panic and who was told of it; None when PostgreSQL knows none. Raises StoreUnavailable."""
        async with self._database.connection(timeout_s=LOOK_WAIT_S) as connection:
            panic = await panic_store.find_of_device(connection, client_id, device_id)
            if panic is None:
                return None
            return panic, list(await panic_store.told(connection, panic["incident_id"]))

    def waiting(self, client_id: str, device_id: uuid.UUID) -> PanicIn | None:
        """A device's panic that this process has taken but PostgreSQL has not."""
        for _, payload in self._journal.waiting() if self._journal is not None else ():
            record = self._records.open_own(payload)
            if (
                isinstance(record, PanicIn)
                and record.device_id == device_id
                and client_id.lower() in {str(record.id), (record.client_id or "").lower()}
            ):
                return record
        return None

    # life and drain ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Have the journal and its key; a second call does nothing.

        Raises OSError when the disk does not give it, StoreUnavailable when the key service is away.
        """
        await self._records.prepare()
        if self._journal is not None:
            return
        async with self._opening:
            if self._journal is None:
                self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="panic-journal")
                self._journal = await asyncio.get_running_loop().run_in_executor(
                    self._writer, PanicJournal.create, self._directory
                )

    async def close(self) -> None:
        """Wait shortly for late panics, then let go of everything; what is not settled stays in the journal."""
        if self._late:
            await asyncio.wait(set(self._late), timeout=POSTGRES_WAIT_S)
        for task in list(self._late):
            task.cancel()
        self._presses.close()
        await self._database.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._writer is not None:
            self._writer.shutdown(wait=False)
            self._writer = None

    async def rehearse(self) -> None:
        """Take a panic and roll it back: the first real one in hours finds a connection and plans ready.

        Panics are rare, so without this nearly every one would pay for connecting and planning.
        """
        now = self.clock()
        panic = PanicIn(
            id=new_id(), client_id=None, received_ms=to_ms(now), token_digest=None, source="rehearsal",
            agency_id=self._default_agency,
        )  # fmt: skip
        try:
            async with self._database.transaction(timeout_s=POSTGRES_WAIT_S) as connection:
                unit = Unit(connection, now)
                await take_panic(unit, panic)
                await unit.flush()
                raise _RolledBack
        except (_RolledBack, Unavailable):
            return

    async def drain(self, *, orphans: bool) -> None:
        """Bring to PostgreSQL whatever waits here, in the stream, and in journals of the dead. Raises
        StoreUnavailable as soon as PostgreSQL does."""
        if self._journal is not None:
            for place, payload in self._journal.left():
                if await self._drained(payload):
                    self._journal.settle(place)
        if orphans:
            if self._default_agency is None:
                async with self._database.connection(timeout_s=POSTGRES_WAIT_S) as connection:
                    self._default_agency = await panic_store.first_agency(connection)
            await self._drain_abandoned(self._directory)
        for entry, payload in await self._streamed():
            if await self._drained(payload):
                await panic_stream.drop(self._client, entry)

    async def _drain_abandoned(self, directory: Path) -> None:
        with contextlib.closing(PanicJournal.abandoned(directory)) as journals:
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
            return await self._set_aside(payload, error)
        except KeyLost as error:  # never given up: the key may be put back
            log.error("panic_not_opened", reason=str(error))
            return False
        try:
            if isinstance(record, PanicIn):
                return (await self._commit(record)).complete
            await self._commit_cancel(record)
        except NotAllowed:
            return True
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("panic_not_drained", error=type(error).__name__)
            return False
        return True

    async def _set_aside(self, payload: bytes, error: Exception) -> bool:
        """Keep what is no panic record at all, sealed as it came."""
        log.error("panic_set_aside", error=type(error).__name__)
        async with self._database.transaction(timeout_s=POSTGRES_WAIT_S) as connection:
            await panic_store.set_aside(connection, self._records.sealed(payload), type(error).__name__, self.clock())
        POISON.labels("panic").inc()
        return True


REHEARSE_S: Final = 60.0
"""Time between two rehearsals."""


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
