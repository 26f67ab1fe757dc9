"""`/v1/people`: whom Qorgan protects, and from whom. Every reading is audited."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Response

from api.auth import Actor, FieldReader, Manager, Reader
from api.deps import Context
from api.schemas.base import Page, Paging, page_of
from api.schemas.people import NewPerson, PersonChange, PersonSearch, PersonView
from core.actions import records
from core.actions.unit_of_work import act
from core.postgres.people import PEOPLE, search
from core.postgres.table import MAX_PAGE, Record

router = APIRouter(prefix="/v1/people", tags=["people"])


def as_told(actor: Actor, person: Record) -> Record:
    """The person as this user may know her: an officer on the street gets the name, needs and hazards alone."""
    if actor.role != "officer":
        return person
    identity = {name: value for name, value in person["identity"].items() if name == "name"}
    return {**person, "identity": identity, "safe_contact": None, "safe_word": None}


@router.post("", status_code=201, response_model=PersonView)
async def create_person(body: NewPerson, actor: Manager, context: Context, response: Response) -> Record:
    """Enter a person."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        person, new = await records.create(unit, actor, PEOPLE, body.id, body.values())
    response.status_code = 201 if new else 200
    return person


@router.get("", response_model=Page[PersonView])
async def list_people(actor: FieldReader, context: Context, paging: Paging) -> dict[str, Any]:
    """Your agency's people."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await PEOPLE.page(unit.connection, actor.agency_id, after=paging.after, limit=paging.limit)
        seen = [person["id"] for person in found]
        await records.note(unit, actor, "person.listed", "person", people=seen, count=len(found))
    return page_of([as_told(actor, person) for person in found], paging.limit)


@router.post("/search", response_model=Page[PersonView])
async def search_people(body: PersonSearch, actor: Reader, context: Context) -> dict[str, Any]:
    """Your agency's people of whom a name, telephone number or IIN is exactly this, however it was written."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await search(unit.connection, actor.agency_id, body.field, body.value, MAX_PAGE)
        seen = [person["id"] for person in found]
        await records.note(unit, actor, "person.searched", "person", people=seen, count=len(found), field=body.field)
    return {"items": [as_told(actor, person) for person in found], "next": None}


@router.get("/{person_id}", response_model=PersonView)
async def read_person(person_id: uuid.UUID, actor: FieldReader, context: Context) -> Record:
    """One person."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        person = await PEOPLE.get(unit.connection, actor.agency_id, person_id)
        await records.note(unit, actor, "person.read", "person", person_id)
    return as_told(actor, person)


@router.patch("/{person_id}", response_model=PersonView)
async def update_person(person_id: uuid.UUID, body: PersonChange, actor: Manager, context: Context) -> Record:
    """Change a person; `identity` and `hazards` are replaced whole."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await records.change(unit, actor, PEOPLE, person_id, body.values())
