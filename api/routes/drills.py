"""Drills, and the watchdog: that the pipe works is pressed by her, sent to her contacts, and watched from outside."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from api.auth import Manager, ProtectedDevice
from api.deps import Context
from api.drill_clock import prove_disk
from api.routes.operations import from_within
from api.schemas.base import View
from api.who_may import ANYONE
from core.actions import drills as actions
from core.actions import records
from core.actions.unit_of_work import act
from core.errors import Conflict, NotFound
from core.postgres import drills as store

router = APIRouter(tags=["drills"])


class DrillView(View):
    """A drill: `proved_at` once the whole way was gone."""

    id: uuid.UUID
    kind: Literal["device", "contact"]
    exercise: Literal[True] = True
    started_at: datetime
    answers_by: datetime
    sent_at: datetime | None
    proved_at: datetime | None
    failed_at: datetime | None
    failure: Literal["not_sent", "not_answered"] | None


class WatchdogView(View):
    """Green: everything moves. Red: something does not; `red` names it to who asks from within."""

    status: Literal["green", "red"]
    red: list[str] | None = None


@router.post("/v1/panic/drill", status_code=201, response_model=DrillView)
async def press_drill(device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """Test the button: the way of a panic, told to nobody but this phone. Pressed again within a minute: the same."""
    if device.person_id is None:
        raise Conflict("Nobody wears this device yet.", code="state_forbids")
    journal_s = await prove_disk(context.settings)
    async with act(context.device_database, context.clock()) as unit:
        return await actions.press(unit, device.agency_id, device.person_id, device.id, journal_s)


@router.post("/v1/panic/drill/{drill_id}/received", response_model=DrillView)
async def answer_drill(drill_id: uuid.UUID, device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """The drill's message has reached this phone: the drill is proved."""
    async with act(context.device_database, context.clock()) as unit:
        return await actions.answer(unit, device.id, drill_id)


@router.get("/v1/panic/drill/{drill_id}", response_model=DrillView)
async def read_drill(drill_id: uuid.UUID, device: ProtectedDevice, context: Context) -> dict[str, Any]:
    """What became of this device's drill."""
    async with act(context.device_database, context.clock()) as unit:
        drill = await store.of_device(unit.connection, device.id, drill_id)
    if drill is None:
        raise NotFound("This device has pressed no such drill.")
    return drill


@router.post("/v1/contacts/{contact_id}/drill", status_code=201, response_model=DrillView)
async def drill_contact(contact_id: uuid.UUID, actor: Manager, context: Context) -> dict[str, Any]:
    """Send a contact a message marked as a test, at most one a month; opening its link proves her."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        drill = await actions.send_to_contact(unit, actor.agency_id, contact_id)
        await records.note(unit, actor, "contact.drilled", "contact", contact_id, people=[drill["person_id"]])
    return drill


@router.get("/watchdog", response_model=WatchdogView, responses={503: {"model": WatchdogView}}, openapi_extra=ANYONE)
async def read_watchdog(request: Request, response: Response, context: Context) -> dict[str, Any]:
    """Whether everything between a press and a message moves: 200 green, 503 red; nothing else is told outside."""
    red = await context.watchdog.red()
    response.status_code = 503 if red else 200
    return {"status": "red" if red else "green", "red": list(red) if from_within(request) else None}
