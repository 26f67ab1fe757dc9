"""The drain: brings to PostgreSQL, once, what waits in this process's journal, in the stream, and with the dead.

    journals of the dead ──adopt──► own journal ──► one transaction a panic, with what was told of it ──► settled
                                    stream of Redis ──┘ (looked at less often: its panics are in somebody's journal)

Presses come before wishes to cancel, which are judged once their panic is a row (`api.cancel_turns`).

A panic that fails is tried for ever. One whose incident is open while its keys are away is tried at growing intervals,
and told of by the routes last known meanwhile.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from api.cancel_turns import CancelTurns
from api.journal_keeper import JournalKeeper
from api.panic_index import PanicIndex, Record, in_turn
from api.panic_journal import PanicJournal
from api.panic_outage import PanicOutage
from api.panic_records import PanicRecords
from api.panic_rows import PanicRows
from api.panic_streamed import Opened, Streamed
from core.clock import to_ms
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import ToldIn
from core.errors import KeyUnavailable, NotAllowed, StoreUnavailable
from core.key_rings import KeyLost
from core.metrics import PANICS_UNTOLD, PANICS_WAITING
from core.service import Service
from core.vault import Unsealable

if TYPE_CHECKING:
    from api.panic_desk import PanicDesk

log = structlog.get_logger(__name__)

DRAIN_INTERVAL_S: Final = 0.5
ORPHANS_EVERY: Final = 10
"""Rounds of the drain between two looks at the stream and for journals of dead processes."""
REHEARSE_S: Final = 60.0
"""Time between two rehearsals."""
UNTOLD_WAIT_S: Final = (0.5, 30.0)
"""First and longest wait before a panic that lacks keys is brought again."""
FIRST_WAIT_S: Final = 15.0
"""How long a panic waits for the one that was told of instead: that one opens the incident, so that nobody is told of
another."""
TOLD_KEPT_MS: Final = 86_400_000
"""What was told of a panic that never became a row is given up after a day."""


@dataclass(slots=True)
class _Untold:
    attempts: int
    again_at: float
    """On the monotonic clock."""


class Draining:
    """What waits, one record after the other."""

    def __init__(
        self,
        rows: PanicRows,
        records: PanicRecords,
        streamed: Streamed,
        journal: JournalKeeper,
        index: PanicIndex,
        directory: Path,
        outage: PanicOutage | None = None,
        *,
        met: Callable[[Record], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`met` is called with what another process has put into the stream, once, while PostgreSQL is away."""
        self._rows = rows
        self._records = records
        self._streamed = streamed
        self._journal = journal
        self._index = index
        self._cancels = CancelTurns(rows, index, monotonic)
        self._directory = directory
        self._outage = outage
        self._met = met
        self._monotonic = monotonic
        self._opened: dict[int, Record] = {}
        """By place in the journal: each record is opened once."""
        self._untold: dict[uuid.UUID, _Untold] = {}
        self._waits_until: dict[uuid.UUID, float] = {}
        """Panics that wait for the one told of instead."""

    async def drain(self, *, orphans: bool) -> None:
        """Bring everything in, once. Raises StoreUnavailable as soon as PostgreSQL does."""
        adopted = not orphans or await self._journal.adopt(self._records.sealed)
        PANICS_WAITING.set(self._journal.count())
        self._cancels.begin_round()
        if orphans:
            await self._rows.look_up_default_agency()
        await self._drain_journal()
        await self._hush_what_is_cancelled()
        if orphans:
            await self._drain_stream()
        if not adopted:  # this process has no disk
            await self._drain_abandoned()

    async def sweep(self, *, whole: bool) -> None:
        """Have told by the routes last known what waits and is nobody's, and contacts no more of what is to be
        cancelled, by whichever process took that; while PostgreSQL is away."""
        await self.look(whole=whole)
        for record in self._streamed.take_new():
            if self._met is not None:
                self._met(record)
        if self._outage is not None:
            records = [record for _, record in await self._open_left(set_aside=False)]
            self._outage.sweep(
                [record for record in records if isinstance(record, PanicIn)],
                [record for record in records if isinstance(record, ToldIn)],
            )
            self._outage.hush(self._index.cancelling())

    async def look(self, *, whole: bool = False) -> None:
        """See what other processes have put into the stream."""
        await self._streamed.look(self._open_as_it_is, whole=whole)

    # the journal ------------------------------------------------------------------------------------------------

    async def _drain_journal(self) -> None:
        left = await self._open_left(set_aside=True)
        told: dict[uuid.UUID, list[tuple[int, ToldIn]]] = {}
        for place, record in left:
            if isinstance(record, ToldIn):
                told.setdefault(record.panic_id, []).append((place, record))
        if self._outage is not None and any(isinstance(record, PanicIn) for _, record in left):
            await self._rows.probe()  # only then is telling paused for the rows
        # Those that people heard of come first: each opens its incident, and others of the same person fold into it.
        for place, record in in_turn(left, lambda panic: panic.id in told):
            if isinstance(record, PanicIn):
                mine = told.pop(record.id, [])
                if await self._panic(record, [one for _, one in mine]):
                    for settled in (place, *(one for one, _ in mine)):
                        self._settle(settled)
            elif isinstance(record, CancelIn) and await self._cancels.judge(record):
                self._settle(place)
        for place in await self._late(told.values()):
            self._settle(place)

    def _settle(self, place: int) -> None:
        self._journal.settle(place)
        self._opened.pop(place, None)

    async def _open_left(self, *, set_aside: bool) -> list[tuple[int, Record]]:
        """What is left in the journal and opens, oldest first."""
        left = self._journal.left()
        before, self._opened = self._opened, {}
        for place, payload in left:
            record: Opened = before.get(place)
            record = record or await self._open(payload, set_aside=set_aside)
            if record is True:
                self._journal.settle(place)
            elif record:
                self._opened[place] = record
                self._index.note(place, record)
        return list(self._opened.items())

    async def _open_as_it_is(self, payload: bytes) -> Opened:
        return await self._open(payload, set_aside=False)

    async def _open_or_set_aside(self, payload: bytes) -> Opened:
        return await self._open(payload, set_aside=True)

    async def _open(self, payload: bytes, *, set_aside: bool) -> Opened:
        """What came of it; True: it was no record, and is set aside."""
        try:
            return await self._records.open(payload)
        except (msgspec.DecodeError, Unsealable) as error:
            if not set_aside:
                return False
            await self._rows.set_aside(self._records.sealed(payload), error)
            return True
        except KeyLost as error:  # never given up: the key may be put back
            log.error("panic_not_opened", reason=str(error))
        except KeyUnavailable:  # the key service is away; what this process sealed itself opens all the same
            log.warning("panic_not_opened", reason="the key service is away")
        return None

    async def _panic(self, panic: PanicIn, told: Iterable[ToldIn]) -> bool:
        """Whether PostgreSQL has it, whole."""
        untold = self._untold.get(panic.id)
        if untold is not None and self._monotonic() < untold.again_at:
            return False
        before = {one.delivery.id: one for one in told}
        if self._outage is not None:
            if self._has_to_wait(self._outage, panic):
                return False
            just_told = self._outage.pause(panic.id)
            if just_told is None:
                return False  # a message of it is with a provider: within seconds it is known what became of it
            before |= {one.delivery.id: one for one in just_told}
        try:
            result = await self._rows.commit(panic, list(before.values()))
        except NotAllowed:
            self._forget(panic)
            return True
        except StoreUnavailable:
            self._resume(panic)
            raise
        except Exception as error:
            log.error("panic_not_drained", error=type(error).__name__)
            self._resume(panic)
            return False
        if result.complete:
            self._forget(panic)
            return True
        attempts = untold.attempts + 1 if untold is not None else 1
        first, longest = UNTOLD_WAIT_S
        wait_s = min(longest, first * 2 ** min(attempts - 1, 16))
        self._untold[panic.id] = _Untold(attempts, self._monotonic() + wait_s)
        PANICS_UNTOLD.set(len(self._untold))
        if self._outage is not None:
            self._outage.tell(panic, to_staff=False)
        self._resume(panic)
        return False

    async def _hush_what_is_cancelled(self) -> None:
        """While keys alone are away a wish to cancel is judged at once, by whichever process it reaches."""
        if self._outage is not None and self._untold:
            self._outage.hush(await self._rows.cancelled_devices(list(self._untold)))

    def _has_to_wait(self, outage: PanicOutage, panic: PanicIn) -> bool:
        if outage.told_instead(panic) is None:
            self._waits_until.pop(panic.id, None)
            return False
        now = self._monotonic()
        return now < self._waits_until.setdefault(panic.id, now + FIRST_WAIT_S)

    def _resume(self, panic: PanicIn) -> None:
        if self._outage is not None:
            self._outage.resume(panic.id)
            self._outage.tell(panic)

    def _forget(self, panic: PanicIn) -> None:
        self._waits_until.pop(panic.id, None)
        if self._untold.pop(panic.id, None) is not None:
            PANICS_UNTOLD.set(len(self._untold))
        if self._outage is not None:
            self._outage.forget(panic.id)

    async def _late(self, told: Iterable[list[tuple[int, ToldIn]]]) -> list[int]:
        """Note what was told of panics that do not wait here; the places of what is done with."""
        waiting = [(place, one) for some in told for place, one in some]
        if not waiting:
            return []
        taken = {one.delivery.id for one in await self._rows.note_late([one for _, one in waiting])}
        oldest = to_ms(self._rows.clock()) - TOLD_KEPT_MS
        return [place for place, one in waiting if one.delivery.id in taken or one.sent_ms < oldest]

    # the stream, and the dead -----------------------------------------------------------------------------------

    async def _drain_stream(self) -> None:
        await self._streamed.look(self._open_or_set_aside, whole=True)
        here = {record.id for record in self._opened.values() if isinstance(record, PanicIn)}
        entries = list(self._streamed.entries.items())
        told: dict[uuid.UUID, list[tuple[str, ToldIn]]] = {}
        for entry, record in entries:
            if isinstance(record, ToldIn):
                told.setdefault(record.panic_id, []).append((entry, record))
        done: list[str] = []
        for entry, record in in_turn(entries, lambda panic: panic.id in told):
            if isinstance(record, PanicIn) and record.id not in here:
                mine = told.pop(record.id, [])
                if await self._panic(record, [one for _, one in mine]):
                    done += [entry, *(one for one, _ in mine)]
            elif isinstance(record, CancelIn) and await self._cancels.judge(record):
                done.append(entry)
        late = [(entry, one) for some in told.values() for entry, one in some]
        taken = {one.delivery.id for one in await self._rows.note_late([one for _, one in late])} if late else set()
        oldest = to_ms(self._rows.clock()) - TOLD_KEPT_MS
        done += [entry for entry, one in late if one.delivery.id in taken or one.sent_ms < oldest]
        for entry in done:
            await self._streamed.drop(entry)

    async def _drain_abandoned(self) -> None:
        with contextlib.closing(PanicJournal.abandoned(self._directory)) as journals:
            for journal in journals:
                for place, payload in journal.waiting():
                    if await self._drained(await self._open_or_set_aside(payload)):
                        journal.settle(place)

    async def _drained(self, record: Opened) -> bool:
        if isinstance(record, PanicIn):
            return await self._panic(record, ())
        if isinstance(record, CancelIn):
            return await self._cancels.judge(record)
        return record is True


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
            try:
                await self._desk.drain(orphans=orphans)
                if rehearse:
                    await self._desk.rehearse()
            except StoreUnavailable:
                await self._desk.sweep(whole=orphans)
        except Exception as error:  # the drain outlives whatever a disk or a store comes up with
            log.error("panic_drain_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Let go of the journal and the connections."""
        await self._desk.close()
