"""`/v1/panic/timers`, `/v1/me/pins`: panics that give themselves, and the PINs that end them.

What is answered to a PIN takes an even time, and is the same for the PIN and the duress PIN.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter, Response

from api.auth import Manager, ProtectedDevice
from api.deps import ApiContext, Context
from api.even_time import evenly
from api.routes.panic import wrong_pin
from api.schemas.panic_timers import Extension, NewTimer, PinsChange, PinsView, PinTry, TimersView, TimerView
from core.actions import panic_timers, pins
from core.actions.unit_of_work import Unit, act
from core.domain.pins import Match, Verdict, check
from core.errors import KeyUnavailable, NotAllowed, TooMany, Unavailable
from core.postgres import panic_timers as store
from core.postgres import pins as pin_store
from core.postgres.pins import Holder
from core.postgres.table import Record

router = APIRouter(tags=["panic"])

LISTED: Final = 50
"""Timers that are listed."""


async def _holder(context: ApiContext, device_id: uuid.UUID) -> Holder:
    async with context.device_database.connection() as connection:
        holder = await pin_store.of_device(connection, device_id)
    if holder is None:
        raise NotAllowed("This device has no such page.", code="device_forbidden")
    return holder


async def _with_or_without_keys(context: ApiContext, work: Callable[[Unit, bool], Awaitable[Any]]) -> Any:
    """`work(unit, keyless)` in a transaction; again without keys where only they are missing."""
    try:
        async with act(context.device_database, context.clock()) as unit:
            return await work(unit, False)
    except KeyUnavailable:
        async with act(context.device_database, context.clock()) as unit:
            return await work(unit, True)


async def _tried(
    context: ApiContext, device_id: uuid.UUID, pin: str,
    work: Callable[[Unit, Holder, Match | None, bool], Awaitable[Record | None]],
) -> Record:  # fmt: skip
    """What a PIN lets her device do to a timer; raises NotAllowed `wrong_pin`."""
    async with evenly():
        holder = await _holder(context, device_id)
        match = await pins.compare(context.pins, holder, pin)
        timer: Record | None = await _with_or_without_keys(
            context, lambda unit, keyless: work(unit, holder, match, keyless)
        )
        if timer is None:
            raise wrong_pin()
    return _shown(timer)


def _shown(timer: Record) -> Record:
    return {**timer, "state": "fired" if timer["state"] == "firing" else timer["state"]}


@router.get("/v1/me/pins", response_model=PinsView)
async def read_own_pins(device: ProtectedDevice, context: Context) -> dict[str, bool]:
    """Whether the wearer has set her PINs."""
    return {"set": (await _holder(context, device.id)).is_set}


@router.put("/v1/me/pins", status_code=204)
async def set_own_pins(body: PinsChange, device: ProtectedDevice, context: Context) -> None:
    """Set the wearer's PIN and duress PIN; wants the PIN that holds, if there is one."""
    check(body.pin, body.duress_pin)
    async with evenly():
        holder = await _holder(context, device.id)
        try:
            hashes = await context.pins.hash(body.pin, body.duress_pin)
        except TooMany as error:
            raise Unavailable("PINs cannot be set now; try again.") from error
        match = await pins.compare(context.pins, holder, body.old_pin)

        async def work(unit: Unit, keyless: bool) -> Verdict:
            return await pins.change(unit, holder, match, hashes, given=bool(body.old_pin), keyless=keyless)

        if await _with_or_without_keys(context, work) is Verdict.WRONG:
            raise wrong_pin()


@router.delete("/v1/people/{person_id}/pins", status_code=204, tags=["people"])
async def reset_pins(person_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Forget a person's PINs, so that her device sets new ones without the old."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await pins.reset(unit, actor, person_id)


@router.post("/v1/panic/timers", status_code=201, response_model=TimerView)
async def start_timer(body: NewTimer, device: ProtectedDevice, context: Context, response: Response) -> Record:
    """Have a panic given at a time, unless the PIN puts it off or ends it; 200 for a timer that was set before."""
    holder = await _holder(context, device.id)
    async with act(context.device_database, context.clock()) as unit:
        timer, new = await panic_timers.start(unit, holder, body.id, body.values(unit.now))
    response.status_code = 201 if new else 200
    return _shown(timer)


@router.get("/v1/panic/timers", response_model=TimersView)
async def list_timers(device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """The timers that the wearer of the device that asks has set on it."""
    holder = await _holder(context, device.id)
    async with context.device_database.connection() as connection:
        found = await store.of_wearer(connection, holder.device_id, holder.person_id, LISTED)
    return {"items": [_shown(timer) for timer in found]}


@router.get("/v1/panic/timers/{timer_id}", response_model=TimerView)
async def read_timer(timer_id: uuid.UUID, device: ProtectedDevice, context: Context) -> Record:
    """A timer of the device that asks."""
    holder = await _holder(context, device.id)
    async with act(context.device_database, context.clock()) as unit:
        return _shown(await panic_timers.find(unit, holder, timer_id))


@router.post("/v1/panic/timers/{timer_id}/extend", response_model=TimerView)
async def extend_timer(timer_id: uuid.UUID, body: Extension, device: ProtectedDevice, context: Context) -> Record:
    """Put a timer off, with the PIN."""

    async def work(unit: Unit, holder: Holder, match: Match | None, keyless: bool) -> Record | None:
        due_at = body.moment(unit.now)
        return await panic_timers.put_off(unit, holder, timer_id, match, due_at, given=bool(body.pin), keyless=keyless)

    return await _tried(context, device.id, body.pin, work)


@router.post("/v1/panic/timers/{timer_id}/cancel", response_model=TimerView)
async def cancel_timer(timer_id: uuid.UUID, body: PinTry, device: ProtectedDevice, context: Context) -> Record:
    """End a timer, with the PIN."""

    async def work(unit: Unit, holder: Holder, match: Match | None, keyless: bool) -> Record | None:
        return await panic_timers.cancel(unit, holder, timer_id, match, given=bool(body.pin), keyless=keyless)

    return await _tried(context, device.id, body.pin, work)
