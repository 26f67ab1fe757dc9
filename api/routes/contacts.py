"""`/v1/contacts`: whom a protected person wants told."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.auth import Manager, Reader
from api.deps import Context
from api.schemas.base import Page, PageQuery, page_of
from api.schemas.people import ContactChange, ContactView, NewContact
from core.actions import records
from core.actions.unit_of_work import act
from core.postgres.contacts import CONTACTS
from core.postgres.table import Record

router = APIRouter(prefix="/v1/contacts", tags=["contacts"])


class ContactQuery(PageQuery):
    """Contacts, of one person or of all."""

    person_id: uuid.UUID | None = None


@router.post("", status_code=201, response_model=ContactView)
async def create_contact(body: NewContact, actor: Manager, context: Context, response: Response) -> Record:
    """Enter a contact; nobody is told anything before she is verified and has consented."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await records.check_people(unit, actor.agency_id, [body.person_id])
        contact, new = await records.create(unit, actor, CONTACTS, body.id, body.values())
    response.status_code = 201 if new else 200
    return contact


@router.get("", response_model=Page[ContactView])
async def list_contacts(actor: Reader, context: Context, paging: Annotated[ContactQuery, Query()]) -> dict[str, Any]:
    """Contacts, of one person or of all."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await CONTACTS.page(
            unit.connection,
            actor.agency_id,
            after=paging.after,
            limit=paging.limit,
            where={"person_id": paging.person_id},
        )
        people = records.whose(*found)
        await records.note(unit, actor, "contact.listed", "person", paging.person_id, people=people, count=len(found))
    return page_of(found, paging.limit)


@router.get("/{contact_id}", response_model=ContactView)
async def read_contact(contact_id: uuid.UUID, actor: Reader, context: Context) -> Record:
    """One contact."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        contact = await CONTACTS.get(unit.connection, actor.agency_id, contact_id)
        await records.note(unit, actor, "contact.read", "contact", contact_id, people=records.whose(contact))
    return contact


@router.patch("/{contact_id}", response_model=ContactView)
async def update_contact(contact_id: uuid.UUID, body: ContactChange, actor: Manager, context: Context) -> Record:
    """Change a contact."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await records.change(unit, actor, CONTACTS, contact_id, body.values())


@router.delete("/{contact_id}", status_code=204)
async def revoke_contact(contact_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Tell a contact nothing from now on; the row stays for who asks later."""
    now = context.clock()
    async with act(context.database, now, actor.scope) as unit:
        await records.change(unit, actor, CONTACTS, contact_id, {"revoked_at": now}, "revoked")
