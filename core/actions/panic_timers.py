"""Timers that press for her: "check on me in 20 minutes".

A timer gives its panic at its time unless her PIN puts it off or ends it. Its deadline is a row: a process that dies
makes it late and nothing else. The duress PIN does on her phone what the right PIN does, and gives a panic under duress
at once, of which her device never hears. A PIN that cannot be checked changes nothing: the timer runs on.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from core.actions import pins
from core.actions.panics import take_panic
from core.actions.unit_of_work import Unit, act
from core.clock import Clock, to_ms
from core.domain.panic import PanicIn
from core.domain.pins import Match, Verdict
from core.errors import Conflict, InvalidInput, KeyUnavailable, NotFound, StoreUnavailable, Unavailable
from core.ids import derived_id
from core.metrics import POISON
from core.postgres import audit, poison
from core.postgres import panic_timers as store
from core.postgres.database import Database
from core.postgres.pins import Holder
from core.postgres.table import Record
from core.service import Loop

log = structlog.get_logger(__name__)

SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(hours=24)
RUNNING_MAX: Final = 10
"""Timers that may run on one device."""
INTERVAL_S: Final = 1.0
BATCH: Final = 100
SET_ASIDE: Final = timedelta(minutes=1)
"""How long a timer that failed alone is left alone: a panic waits in it."""
NO_DEVICE: Final = "revoked_token"
"""Doubt about a timer whose person has no device any more: a dispatcher hears of it, with its place and words."""
KEPT: Final = timedelta(days=30)
"""How long it is known that a timer ended."""


def check_due(due_at: datetime, now: datetime) -> None:
    """Raise InvalidInput `time_invalid` for a time too near or too far."""
    if not SHORTEST <= due_at - now <= LONGEST:
        raise InvalidInput("A timer runs for a minute at least, and for a day at most.", code="time_invalid")


async def start(unit: Unit, holder: Holder, timer_id: uuid.UUID, values: Mapping[str, Any]) -> tuple[Record, bool]:
    """Set a timer; one of this id that is there already is given as it is now, and False.

    `values`: due_at, mode, lat, lon, accuracy_m, placed_at, note. Raises Conflict `pins_not_set`, `state_forbids`,
    `already_exists` (another device's id), InvalidInput `time_invalid`.
    """
    found = await store.find(unit.connection, timer_id, holder.device_id, holder.person_id, lock=True)
    if found is not None:
        return found, False
    if holder.person_id is None:
        raise Conflict("Nobody wears this device.", code="state_forbids")
    if not holder.is_set:
        raise Conflict("A timer is ended with a PIN: set your PINs first.", code="pins_not_set")
    check_due(values["due_at"], unit.now)
    if await store.running(unit.connection, holder.device_id, holder.person_id) >= RUNNING_MAX:
        raise Conflict(f"At most {RUNNING_MAX} timers run on a device; end one first.", code="state_forbids")
    row = {
        **{name: value for name, value in values.items() if name != "note"},
        "id": timer_id, "agency_id": holder.agency_id, "person_id": holder.person_id, "device_id": holder.device_id,
        "started_at": unit.now, "updated_at": unit.now,
    }  # fmt: skip
    if not await store.add(unit.connection, row, values.get("note"), unit.now):
        raise Conflict("Another timer has this id; choose a new one.", code="already_exists")
    await _audit(unit, holder, "timer.started", timer_id)
    return await find(unit, holder, timer_id), True


async def find(unit: Unit, holder: Holder, timer_id: uuid.UUID) -> Record:
    """A device's timer; raises NotFound."""
    found = await store.find(unit.connection, timer_id, holder.device_id, holder.person_id)
    if found is None:
        raise NotFound("This device has set no such timer.")
    return found


async def put_off(
    unit: Unit, holder: Holder, timer_id: uuid.UUID, match: Match | None, due_at: datetime, *, given: bool,
    keyless: bool = False,
) -> Record | None:  # fmt: skip
    """Have a timer's time be another; None: the PIN is wrong, which is counted: commit all the same.

    Raises NotFound, Conflict `state_forbids` (it is over), InvalidInput `time_invalid`, Unavailable.
    """
    check_due(due_at, unit.now)
    if not await _try(unit, holder, timer_id, match, given=given, keyless=keyless, what="timer.put_off"):
        return None
    await store.extend(unit.connection, timer_id, due_at, unit.now)
    return await find(unit, holder, timer_id)


async def cancel(
    unit: Unit, holder: Holder, timer_id: uuid.UUID, match: Match | None, *, given: bool, keyless: bool = False
) -> Record | None:
    """End a timer; None as in `put_off`. One that was cancelled before is given as it is."""
    found = await store.find(unit.connection, timer_id, holder.device_id, holder.person_id, lock=True)
    if found is not None and found["state"] == "cancelled":
        return found
    if not await _try(unit, holder, timer_id, match, given=given, keyless=keyless, what="timer.cancelled"):
        return None
    await store.end(unit.connection, timer_id, "cancelled", unit.now)
    return await find(unit, holder, timer_id)


async def _try(
    unit: Unit, holder: Holder, timer_id: uuid.UUID, match: Match | None, *, given: bool, keyless: bool, what: str
) -> bool:
    """Whether a running timer may be changed, as far as her device is concerned; False: the PIN is wrong."""
    found = await store.find(unit.connection, timer_id, holder.device_id, holder.person_id, lock=True)
    if found is None:
        raise NotFound("This device has set no such timer.")
    if found["state"] != "running":
        raise Conflict("The timer is over.", code="state_forbids")
    if not holder.is_set:
        raise Conflict("Your PINs were reset: set new ones first; the timer runs on.", code="pins_not_set")
    verdict, why = await pins.weigh(unit, holder, match, counts=given)
    if verdict is Verdict.UNVERIFIED:
        raise Unavailable("The PIN cannot be checked now, and the timer runs on; try again.")
    if verdict is Verdict.WRONG:
        return False
    if verdict is Verdict.DURESS:
        await pins.press_forced(unit, holder, derived_id("timer", timer_id, unit.now), why, keyless=keyless)
    await _audit(unit, holder, what, timer_id)
    return True


async def _audit(unit: Unit, holder: Holder, action: str, timer_id: uuid.UUID) -> None:
    await audit.write(
        unit.connection, unit.now, agency_id=holder.agency_id, actor_kind="device", actor_id=holder.device_id,
        action=action, subject_kind="timer", subject_id=timer_id, person_ids=[holder.person_id],
    )  # fmt: skip


async def fire(unit: Unit, timer_id: uuid.UUID, *, keyless: bool = False) -> bool:
    """Give the panic of a timer whose time has come; False when another process did, or it was put off or ended.

    Its id is derived: a press under the timer's id, long over or cancelled, must not swallow it. Her device knows it by
    the timer's. It is given for who set the timer, also when another wears that device by now.
    """
    timer = await store.claim(unit.connection, timer_id, unit.now)
    if timer is None:
        return False
    note = None if keyless else await store.note_of(unit.connection, timer)
    panic = PanicIn(
        id=derived_id("timer panic", timer["id"]), client_id=str(timer["id"]), received_ms=to_ms(unit.now),
        token_digest=None, source=f"timer:{timer_id}", doubts=[] if timer["bearer_id"] is not None else [NO_DEVICE],
        device_id=timer["bearer_id"], person_id=timer["person_id"], agency_id=timer["agency_id"],
        at_ms=to_ms(timer["placed_at"]) if timer["placed_at"] is not None else None,
        mode=timer["mode"], trigger="timer", lat=timer["lat"], lon=timer["lon"], accuracy_m=timer["accuracy_m"],
        note=note, body={"note": note} if note else {},
    )  # fmt: skip
    result = await take_panic(unit, panic, keyless=keyless)
    if result.complete:
        await store.end(unit.connection, timer_id, "fired", unit.now)
    else:
        await store.hold(unit.connection, timer_id, unit.now)
    return True


class TimerClock(Loop):
    """Gives the panics of timers whose time has come; in every API process, each timer in one of them."""

    def __init__(self, database: Database, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        super().__init__("timer_clock", self.step, interval_s)
        self._database = database
        self._clock = clock
        self._aside: dict[uuid.UUID, datetime] = {}

    async def step(self) -> None:
        """Give every panic that is due, each in a transaction of its own; what one stumbles over delays no other."""
        now = self._clock()
        self._aside = {one: until for one, until in self._aside.items() if until > now}
        try:
            async with self._database.connection() as connection:
                wanted = await store.due(connection, now, BATCH, list(self._aside))
            for timer_id in wanted:
                await self._fire(timer_id)
            if not wanted:
                async with self._database.connection() as connection:
                    await store.forget(connection, now - KEPT, BATCH)
        except StoreUnavailable:
            return
        except Exception as error:  # this runs beside the panic button: no row may end it
            log.error("timer_clock_failed", error=type(error).__name__)

    async def _fire(self, timer_id: uuid.UUID) -> None:
        try:
            try:
                await self._once(timer_id)
            except KeyUnavailable:
                log.error("timer_lacks_keys")
                await self._once(timer_id, keyless=True)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("timer_set_aside", id=str(timer_id), error=type(error).__name__)
            now = self._clock()
            self._aside[timer_id] = now + SET_ASIDE
            POISON.labels("timer").inc()
            async with act(self._database, now) as unit:
                await poison.set_aside(unit.connection, "timer", str(timer_id), type(error).__name__, b"", now)

    async def _once(self, timer_id: uuid.UUID, *, keyless: bool = False) -> None:
        async with act(self._database, self._clock()) as unit:
            await fire(unit, timer_id, keyless=keyless)
