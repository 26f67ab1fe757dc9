"""Panics as they go into PostgreSQL and are looked up there, over a pool of the desk's own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
import structlog

from core.actions.cancels import commit_cancel
from core.actions.panics import PanicResult, take_panic
from core.actions.told import note_late, note_told
from core.actions.unit_of_work import Unit, act
from core.clock import Clock, to_ms
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import ToldIn
from core.errors import KeyUnavailable, NotAllowed, Unavailable
from core.ids import new_id
from core.metrics import POISON
from core.pin_hashes import PinHasher
from core.postgres import last_known
from core.postgres import panics as store
from core.postgres.database import Database

log = structlog.get_logger(__name__)

POOL_SIZE: Final = 4
REHEARSED: Final = 3
"""Connections kept ready; one stays free for whoever presses meanwhile."""
COMMAND_TIMEOUT_S: Final = 5.0
POSTGRES_WAIT_S: Final = 1.0
"""How long a panic waits for PostgreSQL before it is answered without it."""
LOOK_WAIT_S: Final = 5.0
"""How long a look at a panic waits for PostgreSQL: nobody is kept from help by it."""


class PanicRows:
    """A panic's transactions."""

    def __init__(self, database: Database, clock: Clock, index: int = 0, wait_s: float = POSTGRES_WAIT_S) -> None:
        """`wait_s`: how long a press, or a wish to cancel one, waits for a connection."""
        self.clock = clock
        self._wait_s = wait_s
        self.default_agency: uuid.UUID | None = None
        """Whose a panic is of which nobody knows whose it is; None until it was looked up."""
        self._pins = PinHasher()
        self._turns: WeakValueDictionary[uuid.UUID, asyncio.Lock] = WeakValueDictionary()
        """By device, for as long as anybody holds one or waits for it."""
        self._database = database.another(
            size=POOL_SIZE, application=f"qorgan-panic-{index}", command_timeout_s=COMMAND_TIMEOUT_S
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._database.close()
        self._pins.close()

    async def commit(self, panic: PanicIn, told: Sequence[ToldIn] = ()) -> PanicResult:
        """One transaction, with what was told of the panic by the routes last known; tried again when it failed for
        another reason than the store's absence, without what was told, then bare: the press itself is what counts,
        whatever it was that PostgreSQL could not hold. Where only keys are missing, at last without them: the incident
        is on every board, and the drain brings the rest."""
        bare = msgspec.structs.replace(
            panic, body={}, note=None, client_id=None, at_ms=None, lat=None, lon=None, accuracy_m=None
        )
        for attempt, noted in ((panic, told), (panic, ()), (bare, ())):
            try:
                return await self._transaction(attempt, noted)
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

    async def _transaction(self, panic: PanicIn, told: Sequence[ToldIn] = (), *, keyless: bool = False) -> PanicResult:
        async with act(self._database, self.clock(), timeout_s=self._wait_s) as unit:
            result = await take_panic(unit, panic, keyless=keyless)
            await note_told(unit, told, result.incident_id)
            return result

    async def note_late(self, told: Sequence[ToldIn]) -> list[ToldIn]:
        """Note what was told of panics that have rows already; returns what it took. Raises StoreUnavailable."""
        async with act(self._database, self.clock(), timeout_s=POSTGRES_WAIT_S) as unit:
            return await note_late(unit, told)

    async def commit_cancel(self, wish: CancelIn, answered: Callable[[], bool]) -> bool:
        """Carry out a wish to cancel; False: the PIN is to be called wrong (see `core.actions.cancels`).

        One device's are judged one after the other: however many it sends, others' PINs are checked beside them.
        """
        turn = self._turns.setdefault(wish.device_id, asyncio.Lock())
        async with turn:
            return await commit_cancel(
                self._database, self.clock, self._pins, wish, answered=answered, timeout_s=self._wait_s
            )

    async def find(self, client_id: str, device_id: uuid.UUID) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A device's panic and who was told of it; None when PostgreSQL knows none. Raises StoreUnavailable."""
        async with self._database.connection(timeout_s=LOOK_WAIT_S) as connection:
            panic = await store.find_of_device(connection, client_id, device_id)
            if panic is None:
                return None
            return panic, list(await store.told(connection, panic["incident_id"]))

    async def knows(self, client_id: str, device_id: uuid.UUID) -> bool:
        """Whether a device's panic is a row. Raises StoreUnavailable."""
        async with self._database.connection(timeout_s=POSTGRES_WAIT_S) as connection, asyncio.timeout(POSTGRES_WAIT_S):
            return await store.find_of_device(connection, client_id, device_id) is not None

    async def cancelled_devices(self, panic_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Devices that asked to cancel one of these panics. Raises StoreUnavailable."""
        async with self._database.connection(timeout_s=POSTGRES_WAIT_S) as connection:
            return await last_known.cancelled_devices(connection, panic_ids)

    async def probe(self) -> None:
        """Raise StoreUnavailable unless PostgreSQL answers within its second."""
        async with self._database.connection(timeout_s=POSTGRES_WAIT_S) as connection:
            await connection.execute("SELECT 1", timeout=POSTGRES_WAIT_S)

    async def look_up_default_agency(self) -> None:
        """Have `default_agency`; a second call does nothing. Raises StoreUnavailable."""
        if self.default_agency is None:
            async with self._database.connection(timeout_s=POSTGRES_WAIT_S) as connection:
                self.default_agency = await store.default_agency(connection)

    async def rehearse(self) -> None:
        """Take panics and roll them back: the first real ones in hours find connections and plans ready.

        Panics are rare, so without this nearly every one would pay for connecting and planning, and so would one that
        comes while another is under way. Raises StoreUnavailable.
        """
        ended = await asyncio.gather(*(self._rehearse(place) for place in range(REHEARSED)), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _rehearse(self, place: int) -> None:
        now = self.clock()
        panic = PanicIn(
            id=new_id(), client_id=None, received_ms=to_ms(now), token_digest=None, source=f"rehearsal-{place}",
            agency_id=self.default_agency,
        )  # fmt: skip
        with contextlib.suppress(Unavailable):
            async with self._database.rehearsal(timeout_s=POSTGRES_WAIT_S) as connection:
                unit = Unit(connection, now)
                await take_panic(unit, panic)
                await unit.flush()
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what the commit would do

    async def set_aside(self, payload: bytes, error: Exception) -> None:
        """Keep what is no panic record at all; `payload` is sealed. Raises StoreUnavailable."""
        log.error("panic_set_aside", error=type(error).__name__)
        async with self._database.transaction(timeout_s=POSTGRES_WAIT_S) as connection:
            await store.set_aside(connection, payload, type(error).__name__, self.clock())
        POISON.labels("panic").inc()
