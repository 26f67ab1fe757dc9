"""`/v1/contacts`: whom a protected person wants told."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.auth import Manager, Reader
from api.deps import Context
from api.routes.erasure import user_of
from api.schemas.base import Page, PageQuery, page_of
from api.schemas.contacts import ContactChange, ContactView, Invitation, NewContact
from core.actions import contacts, records
from core.actions.unit_of_work import Unit, act
from core.postgres.contacts import CONTACTS
from core.postgres.table import Record

router = APIRouter(prefix="/v1/contacts", tags=["contacts"])


class ContactQuery(PageQuery):
    """Contacts, of one person or of all."""

    person_id: uuid.UUID | None = None


async def _with_state(unit: Unit, contact: Record) -> Record:
    return (await contacts.with_states(unit, [contact]))[0]


@router.post("", status_code=201, response_model=ContactView)
async def create_contact(body: NewContact, actor: Manager, context: Context, response: Response) -> Record:
    """Enter a contact; he is told nothing before he is verified and has consented."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        await records.check_people(unit, actor.agency_id, [body.person_id])
        contact, new = await records.create(unit, actor, CONTACTS, body.id, body.values())
        shown = await _with_state(unit, contact)
    response.status_code = 201 if new else 200
    return shown


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
        shown = await contacts.with_states(unit, found)
        people = records.whose(*found)
        await records.note(unit, actor, "contact.listed", "person", paging.person_id, people=people, count=len(found))
    return page_of(shown, paging.limit)


@router.get("/{contact_id}", response_model=ContactView)
async def read_contact(contact_id: uuid.UUID, actor: Reader, context: Context) -> Record:
    """One contact."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        contact = await CONTACTS.get(unit.connection, actor.agency_id, contact_id)
        shown = await _with_state(unit, contact)
        await records.note(unit, actor, "contact.read", "contact", contact_id, people=records.whose(contact))
    return shown


@router.patch("/{contact_id}", response_model=ContactView)
async def update_contact(contact_id: uuid.UUID, body: ContactChange, actor: Manager, context: Context) -> Record:
    """Change a contact. New channels have to be confirmed and consented to anew.

    What is queued to the old ones, or to who is revoked or linked to the aggressor, does not go out any more.
    """
    values = body.values()
    async with act(context.database, context.clock(), actor.scope) as unit:
        contact = await records.change(unit, actor, CONTACTS, contact_id, contacts.reset(values))
        if contacts.silences(contact, values):
            await contacts.silence(unit, contact_id)
        return await _with_state(unit, contact)


@router.post("/{contact_id}/invite", status_code=202, response_model=ContactView)
async def invite_contact(contact_id: uuid.UUID, body: Invitation, actor: Manager, context: Context) -> Record:
    """Ask somebody to be a contact: a link goes to the first of his e-mail addresses and telephone numbers.

    On its page he confirms by a code that the address is his, and consents or refuses. Asked again, the earlier ends.
    """
    async with act(context.database, context.clock(), actor.scope) as unit:
        contact = await CONTACTS.get(unit.connection, actor.agency_id, contact_id, lock=True)
        await contacts.invite(unit, user_of(actor), contact, body.as_name)
        return await _with_state(unit, contact)


@router.delete("/{contact_id}", status_code=204)
async def revoke_contact(contact_id: uuid.UUID, actor: Manager, context: Context) -> None:
    """Tell a contact nothing from now on, nor what is queued already; the row stays for who asks later."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        contact = await CONTACTS.get(unit.connection, actor.agency_id, contact_id, lock=True)
        await contacts.revoke(unit, user_of(actor), contact)
