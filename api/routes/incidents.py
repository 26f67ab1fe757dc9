"""`/v1/incidents`: what dispatchers read and what they do."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api import seen
from api.auth import Actor, require
from api.deps import ApiContext, Context
from api.live.positions import PositionSource, Shown, watched_by
from api.schemas.base import Body, Moment, PageQuery, page_of
from core.actions import commands, records
from core.actions.unit_of_work import Unit, act
from core.domain import sight
from core.domain.incident import Severity, State, Type
from core.domain.panic import lines_seen
from core.errors import NotFound, StoreUnavailable
from core.postgres import board
from core.postgres import incidents as store
from core.postgres.protection import violations
from core.redis.client import AWAY, RedisError

router = APIRouter(prefix="/v1/incidents", tags=["dispatch"])

TIMELINE_LINES: Final = 1_000
"""Lines of a timeline shown, the newest."""
EPISODE_MAX: Final = 50
"""Incidents of one episode shown."""
NEAREST_MAX: Final = 50

Watcher = Annotated[Actor, Depends(require("dispatcher", "supervisor", "admin", "officer", "caseworker", "auditor"))]
Dispatcher = Annotated[Actor, Depends(require("dispatcher", "supervisor", "admin"))]
Noter = Annotated[Actor, Depends(require("dispatcher", "supervisor", "admin", "officer"))]


class Command(Body):
    """What every command bears: the version it was decided on, and an id that makes it happen once."""

    version: int = Field(ge=1)
    id: uuid.UUID | None = None
    note: str | None = Field(None, max_length=4_000)

    def by(self, actor: Actor, incident_id: uuid.UUID) -> commands.By:
        """Who commands what."""
        return commands.By(
            actor.user_id, actor.agency_id, incident_id, self.version, self.id, self.note or None, actor.address,
            actor.role, actor.session_id, actor.purpose,
        )  # fmt: skip


class Dispatch(Command):
    """Which units to send, and when they should be there."""

    unit_ids: list[uuid.UUID] = Field(default_factory=list, max_length=commands.UNITS_PER_INCIDENT)
    eta_s: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)
    override_reason: str | None = Field(
        None, min_length=10, max_length=1_000, description="Why a unit in conflict is sent all the same; supervisors."
    )


class Answer(Command):
    """A unit that was sent answers, or somebody for it."""

    version: int = Field(1, ge=1)
    unit_id: uuid.UUID


class Acceptance(Answer):
    """It goes, and when it should be there."""

    eta_s: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)


class Note(Command):
    """A line for the timeline."""

    version: int = Field(1, ge=1)
    note: str = Field(min_length=1, max_length=4_000)


class Resolve(Command):
    """How it ended."""

    outcome: str = Field(max_length=50)
    cause: str | None = Field(None, max_length=500)
    false_alarm_cause: str | None = Field(None, max_length=500)


class Filters(PageQuery):
    """Which incidents a list shows; several of one filter are alternatives."""

    state: list[State] | None = None
    kind: list[Type] | None = Field(None, alias="type")
    severity: list[Severity] | None = None
    order: uuid.UUID | None = None
    person: uuid.UUID | None = None
    since: Moment | None = None


@router.get("")
async def list_incidents(context: Context, actor: Watcher, filters: Annotated[Filters, Query()]) -> dict[str, Any]:
    """The agency's incidents, newest first; where they are is told coarsely."""
    wanted = {
        "state": [str(one) for one in filters.state] if filters.state else None,
        "type": [str(one) for one in filters.kind] if filters.kind else None,
        "severity": [str(one) for one in filters.severity] if filters.severity else None,
        "order": filters.order,
        "person": filters.person,
        "since": filters.since,
        "after": filters.after,
    }
    async with act(context.database, context.clock(), actor.scope) as unit:
        items = await store.listing(unit.connection, actor.agency_id, wanted, filters.limit)
        people = records.whose(*items)
        await records.note(unit, actor, "incident.listed", "incident", people=people, count=len(items))
        items = await seen.incidents_seen(unit, actor, items, coarsely=True)
    return page_of(items, filters.limit)


@router.get("/{incident_id}")
async def read_incident(incident_id: uuid.UUID, context: Context, actor: Watcher) -> dict[str, Any]:
    """An incident with its timeline, and how often its order, and the same man any order, was violated."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        row = await store.find(unit.connection, actor.agency_id, incident_id)
        if row is None:
            raise NotFound("There is no such incident.")
        lines = await store.timeline(unit.connection, incident_id, TIMELINE_LINES)
        repeated = None
        if row["case_id"] is not None:
            repeated = await violations(unit.connection, row["agency_id"], row["case_id"], row["order_id"])
        incident = store.incident_json(row)
        her, him = sight.sights_now(actor.role, incident, await seen.looks_of(unit, actor))
        await records.note(
            unit, actor, "incident.read", "incident", incident_id, people=records.whose(row), her_place=str(her)
        )
        shown = await seen.incident_seen(unit, actor, incident)
    told = lines_seen(actor.role, lines)
    return {**shown, "timeline": sight.lines_seen(told, incident, her, him), "violations": repeated}


@router.get("/{incident_id}/episode")
async def read_episode(incident_id: uuid.UUID, context: Context, actor: Watcher) -> dict[str, Any]:
    """The incidents of an incident's episode, itself among them: what tells them apart, in the order they opened."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        row = await store.find(unit.connection, actor.agency_id, incident_id)
        if row is None:
            raise NotFound("There is no such incident.")
        episode = await store.of_episode(unit.connection, actor.agency_id, row["episode_id"], EPISODE_MAX)
        await records.note(unit, actor, "incident.episode_read", "incident", incident_id, people=records.whose(row))
    return {"incidents": episode}


@router.post("/{incident_id}/acknowledge")
async def acknowledge(incident_id: uuid.UUID, body: Command, context: Context, actor: Dispatcher) -> dict[str, Any]:
    """Take it in hand."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await seen.incident_seen(unit, actor, await commands.acknowledge(unit, body.by(actor, incident_id)))


@router.post("/{incident_id}/dispatch")
async def dispatch(incident_id: uuid.UUID, body: Dispatch, context: Context, actor: Dispatcher) -> dict[str, Any]:
    """Send units."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await seen.incident_seen(
            unit,
            actor,
            await commands.dispatch(unit, body.by(actor, incident_id), body.unit_ids, body.eta_s, body.override_reason),
        )


@router.post("/{incident_id}/accept")
async def accept(incident_id: uuid.UUID, body: Acceptance, context: Context, actor: Noter) -> dict[str, Any]:
    """A unit that was sent says that it goes; whoever goes with it, or sends units, says it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        answer = await commands.accept(unit, body.by(actor, incident_id), body.unit_id, body.eta_s)
        return await seen.incident_seen(unit, actor, answer)


@router.post("/{incident_id}/decline")
async def decline(incident_id: uuid.UUID, body: Answer, context: Context, actor: Noter) -> dict[str, Any]:
    """A unit that was sent cannot go: the next nearest is sent, where there is one."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        answer = await commands.decline(unit, body.by(actor, incident_id), body.unit_id)
        return await seen.incident_seen(unit, actor, answer)


@router.post("/{incident_id}/note")
async def note(incident_id: uuid.UUID, body: Note, context: Context, actor: Noter) -> dict[str, Any]:
    """Write a line into the timeline."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await seen.incident_seen(unit, actor, await commands.note(unit, body.by(actor, incident_id)))


@router.post("/{incident_id}/resolve")
async def resolve(incident_id: uuid.UUID, body: Resolve, context: Context, actor: Dispatcher) -> dict[str, Any]:
    """End it; while he is still inside only custody or a suspension does."""
    ending = commands.Ending(body.outcome, body.cause, body.false_alarm_cause)
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await seen.incident_seen(unit, actor, await commands.resolve(unit, body.by(actor, incident_id), ending))


@router.post("/{incident_id}/reopen")
async def reopen(incident_id: uuid.UUID, body: Command, context: Context, actor: Dispatcher) -> dict[str, Any]:
    """Open it again."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await seen.incident_seen(unit, actor, await commands.reopen(unit, body.by(actor, incident_id)))


@router.get("/{incident_id}/nearest-units")
async def nearest_units(
    incident_id: uuid.UUID,
    context: Context,
    actor: Dispatcher,
    limit: Annotated[int, Query(ge=1, le=NEAREST_MAX)] = 10,
) -> dict[str, Any]:
    """The units on duty by their distance from the incident's place as you see it; none that is in conflict."""
    live = await _live(context, actor)
    async with act(context.database, context.clock(), actor.scope) as work:
        row = await store.find(work.connection, actor.agency_id, incident_id)
        if row is None:
            raise NotFound("There is no such incident.")
        units = await board.units(work.connection, actor.agency_id)
        await records.note(work, actor, "incident.place_read", "incident", incident_id, people=[row["victim_id"]])
        place = await _place_of(work, actor, store.incident_json(row), live)
    point = sight.point_of(place)
    parties = {row["victim_id"], row["aggressor_id"]}
    found = []
    for unit in units:
        if unit["status"] == "off_duty" or parties & set(unit["conflicts"]):
            continue
        distance_m = None
        if point is not None and unit["lat"] is not None and unit["lon"] is not None:
            distance_m = round(sight.apart_m(point, (unit["lat"], unit["lon"])), 1)
        found.append({**board.unit_json(unit), "distance_m": distance_m, "in_conflict": False})
    found.sort(
        key=lambda unit: (
            unit["status"] != "available",
            unit["distance_m"] if unit["distance_m"] is not None else float("inf"),
        )
    )
    return {"place": place, "units": found[:limit]}


async def _place_of(unit: Unit, actor: Actor, incident: dict[str, Any], live: Sequence[Shown]) -> dict[str, Any] | None:
    """The incident's place as the user sees it; of one that told none, where its protected person is now."""
    place: dict[str, Any] | None = (await seen.incident_seen(unit, actor, incident))["place"]
    if place is not None or incident["victim_id"] is None or incident["state"] == sight.RESOLVED:
        return place
    looked = await seen.looks_of(unit, actor)
    for position in watched_by(actor.role, looked, live):
        if position["person_id"] == incident["victim_id"] and incident["id"] in position["incident_ids"]:
            return {"precision": "exact", **{name: position[name] for name in ("lat", "lon", "accuracy_m", "at")}}
    her, _ = sight.sights_now(actor.role, incident, looked)
    return await seen.place_now(unit, actor, uuid.UUID(incident["victim_id"]), her)


async def _live(context: ApiContext, actor: Actor) -> Sequence[Shown]:
    try:
        return (await PositionSource(context.database, context.redis).read(actor.agency_id, actor.scope))[0]
    except (RedisError, StoreUnavailable, *AWAY):
        return ()
