"""Telling of panics by the routes last known, while PostgreSQL or its keys are away.

Model: a panic that PostgreSQL did not take within its second is told of by the process that took it: to its agency's
routes and to her contacts, as `api.last_known` has them, under the ids that the rows will have. What a provider took is
noted in the journal and in Redis before anything else is done with it. Several panics of one person are told of once.

    tell ──► one task a message: attempt, attempt, … ──► note (journal, Redis)
                 ▲ pause: the drain is about to make the rows, nothing new is begun
                 └ resume: it could not      forget: it has

Guarantee: at least once, under the same id at every attempt; the drain marks the rows `sent` by what was noted. A
process killed between a provider's answer and its note sends once more, with the same id, as the notifier does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import structlog

from api.last_known import LastKnown
from api.turns import Turns
from core.clock import Clock, from_ms, to_ms
from core.domain.delivery import Delivery
from core.domain.panic import TOKEN_DOUBTS, PanicIn
from core.domain.sight import cell_of
from core.domain.told import Posted, ToldIn
from core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

PANICS_MAX: Final = 2_000
"""Panics told of at once; the others follow as these end (`sweep`)."""
ATTEMPTS_MAX: Final = 30
"""Attempts of one message; with the notifier's waits, hours."""
STAFF_AFTER_S: Final = 30.0
"""After which dispatchers and who is on duty are told by their own channels: with PostgreSQL away nobody can
acknowledge, so that is when a critical incident escalates by default."""
KEYS_AGAIN_S: Final = 2.0
"""Between two tries to open her contacts while the key service is away."""


class Post(Protocol):
    """Hands one message to its provider (`notifier.direct`)."""

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """One attempt, `attempt` from 1; never raises."""

    async def aclose(self) -> None:
        """Give connections back."""


@dataclass(slots=True)
class _Telling:
    """One panic being told of."""

    panic: PanicIn
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing new is begun."""
    under_way: int = 0
    """Attempts that are with a provider now."""
    hushed: bool = False
    """Whether her contacts are told no more: her device asked to cancel, and nobody can check the PIN."""
    to_staff: bool = True
    """Whether it also escalates: not where PostgreSQL is there, and does so itself."""
    told: dict[uuid.UUID, ToldIn] = field(default_factory=dict)
    tries: dict[uuid.UUID, tuple[int, float]] = field(default_factory=dict)
    """Delivery → attempts so far, and when the next one is due on the monotonic clock (infinite: never)."""
    task: asyncio.Task[None] | None = None


class PanicOutage:
    """Tells, and remembers what was told until it is in PostgreSQL."""

    def __init__(self, known: LastKnown, post: Post, clock: Clock, *, staff_after_s: float = STAFF_AFTER_S) -> None:
        self._staff_after_s = staff_after_s
        self._known = known
        self._post = post
        self._clock = clock
        self._keep: Callable[[ToldIn], Awaitable[None]] | None = None
        self._is_cancelling: Callable[[PanicIn], bool] = lambda _: False
        self._tellings: dict[uuid.UUID, _Telling] = {}
        self._turns = Turns()
        self._first_of: dict[str, uuid.UUID] = {}
        """Who pressed → the panic that is told of for all of theirs."""

    @property
    def first_agency(self) -> uuid.UUID | None:
        """Whose a panic is of which nobody knows whose it is, as last known."""
        return self._known.agencies.first

    def kept_by(self, keep: Callable[[ToldIn], Awaitable[None]]) -> None:
        """Have what was told noted by `keep`, durably."""
        self._keep = keep

    def hushed_by(self, is_cancelling: Callable[[PanicIn], bool]) -> None:
        """Have it asked, before telling of a panic begins, whether its device has asked to cancel."""
        self._is_cancelling = is_cancelling

    def tell(self, panic: PanicIn, *, to_staff: bool = True) -> None:
        """Begin to tell of a panic; a second call does nothing. Returns at once. Without `to_staff` it does not
        escalate: PostgreSQL is there, and only keys are away."""
        telling = self._tellings.get(panic.id)
        if telling is None:
            if len(self._tellings) >= PANICS_MAX:
                return
            telling = self._tellings[panic.id] = _Telling(panic)
        telling.to_staff = telling.to_staff and to_staff
        self._begin(telling)

    def sweep(self, panics: Iterable[PanicIn], told: Iterable[ToldIn]) -> None:
        """Tell of those that wait and are not told of yet: of a dead process, or beyond `PANICS_MAX` before."""
        told_of: dict[uuid.UUID, dict[uuid.UUID, ToldIn]] = {}
        for one in told:
            told_of.setdefault(one.panic_id, {})[one.delivery.id] = one
        for panic in panics:
            telling = self._tellings.get(panic.id)
            if telling is None:
                if len(self._tellings) >= PANICS_MAX:
                    return
                telling = self._tellings[panic.id] = _Telling(panic, told=told_of.get(panic.id, {}))
                self._begin(telling)
            elif telling.closed.is_set() and not telling.under_way:
                self.resume(panic.id)

    def told_instead(self, panic: PanicIn) -> uuid.UUID | None:
        """The panic that is told of for whoever pressed, when it is another than this one."""
        first = self._first_of.get(_subject(panic))
        return first if first != panic.id else None

    def pause(self, panic_id: uuid.UUID) -> list[ToldIn] | None:
        """What was told of a panic whose rows are about to be made; None: something is with a provider, ask again."""
        telling = self._tellings.get(panic_id)
        if telling is None:
            return []
        telling.closed.set()
        return None if telling.under_way else list(telling.told.values())

    def resume(self, panic_id: uuid.UUID) -> None:
        """The rows could not be made: go on telling."""
        telling = self._tellings.get(panic_id)
        if telling is not None and telling.closed.is_set():
            telling.closed = asyncio.Event()
            telling.task = None
            self._begin(telling)

    def forget(self, panic_id: uuid.UUID) -> None:
        """The rows are there: the notifier tells whoever was not told."""
        telling = self._tellings.pop(panic_id, None)
        if telling is not None:
            telling.closed.set()
            for subject in [one for one, first in self._first_of.items() if first == panic_id]:
                del self._first_of[subject]

    def hush(self, device_ids: Set[uuid.UUID]) -> None:
        """Tell contacts no more of these devices' panics, nor of others of whoever pressed: they asked to cancel,
        perhaps under duress. Dispatchers hear on."""
        hers = {_subject(one.panic) for one in self._tellings.values() if one.panic.device_id in device_ids}
        for telling in self._tellings.values():
            telling.hushed = telling.hushed or _subject(telling.panic) in hers

    async def close(self) -> None:
        """Let what is with a provider end, for a moment, and close the channels."""
        for telling in self._tellings.values():
            telling.closed.set()
        tasks = [telling.task for telling in self._tellings.values() if telling.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=1.0)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._post.aclose()

    def _begin(self, telling: _Telling) -> None:
        telling.hushed = telling.hushed or self._is_cancelling(telling.panic)
        if telling.task is None and not telling.closed.is_set():
            telling.task = asyncio.create_task(self._tell(telling, telling.closed), name=f"told-{telling.panic.id}")

    async def _tell(self, telling: _Telling, closed: asyncio.Event) -> None:
        """One run, from `tell` or `resume` to its end or to `closed`."""
        panic = telling.panic
        if self._first_of.setdefault(_subject(panic), panic.id) != panic.id:
            return
        try:
            async with asyncio.TaskGroup() as group:
                for delivery in self._known.to_agency(panic):
                    group.create_task(self._deliver(telling, delivery, closed))
                if not TOKEN_DOUBTS & set(panic.doubts):
                    group.create_task(self._tell_contacts(group, telling, closed))  # they may wait for keys
                waited_s = self._clock().timestamp() - panic.received_ms / 1000
                await self._rest(closed, max(0.0, self._staff_after_s - waited_s))
                for delivery in self._known.to_staff(panic) if telling.to_staff else ():
                    group.create_task(self._deliver(telling, delivery, closed))
        except* Exception as errors:
            log.error("panic_not_told", errors=[type(error).__name__ for error in errors.exceptions])

    async def _tell_contacts(self, group: asyncio.TaskGroup, telling: _Telling, closed: asyncio.Event) -> None:
        for delivery in await self._to_contacts(telling, closed):
            group.create_task(self._deliver(telling, delivery, closed))

    async def _to_contacts(self, telling: _Telling, closed: asyncio.Event) -> list[Delivery]:
        while not closed.is_set():
            try:
                return await self._known.to_contacts(telling.panic)
            except StoreUnavailable:  # the key service is away too
                await self._rest(closed, KEYS_AGAIN_S)
        return []

    async def _deliver(self, telling: _Telling, delivery: Delivery, closed: asyncio.Event) -> None:
        while delivery.id not in telling.told and not closed.is_set():
            if telling.hushed and delivery.audience == "contact":
                return
            attempts, due_at = telling.tries.get(delivery.id, (0, 0.0))
            if attempts >= ATTEMPTS_MAX or math.isinf(due_at):
                return  # the notifier goes on once there are rows
            if (wait_s := due_at - time.monotonic()) > 0:
                await self._rest(closed, wait_s)
                continue
            await self._turns.take(closed)  # a thousand at once must not keep the next panic from being taken
            if closed.is_set() or (telling.hushed and delivery.audience == "contact"):
                return
            telling.under_way += 1
            try:
                posted = await self._post.send(delivery, from_ms(telling.panic.received_ms), attempts + 1)
                again_at = math.inf if posted.again_in_s is None else time.monotonic() + posted.again_in_s
                telling.tries[delivery.id] = (attempts + posted.counts, again_at)
                if posted.sent:
                    await self._note(telling, delivery, posted)
            finally:
                telling.under_way -= 1

    async def _note(self, telling: _Telling, delivery: Delivery, posted: Posted) -> None:
        panic = telling.panic
        one = ToldIn(
            panic_id=panic.id, received_ms=panic.received_ms, delivery=delivery, sent_ms=to_ms(self._clock()),
            provider_id=posted.provider_id,
        )  # fmt: skip
        telling.told[delivery.id] = one
        if self._keep is not None:
            await self._keep(one)

    @staticmethod
    async def _rest(closed: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), seconds)


def _subject(panic: PanicIn) -> str:
    """By what presses of one person are known to be hers.

    Without device and token only an address is known, and a telephone network shows many of its phones under one: who
    is elsewhere, or is another agency's to answer, is told of too.
    """
    known = panic.person_id or panic.device_id or panic.token_digest
    if known is not None:
        return str(known)
    where = cell_of(panic.lat, panic.lon) if panic.lat is not None and panic.lon is not None else ""
    return f"{panic.agency_id}:{panic.source}:{where}"
