"""Trusted contacts: asked by her or for her, shown by a code to hold an address, consenting, and taken back at once.

Who is asked is told nothing of an alarm, of police, or of her name (unless she gave one for it) before he has shown
that the address is his. Only the ways that he confirmed are used. What is taken back is taken back from what is queued,
from links, and from every later telling, in one transaction.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core.actions import live_links
from core.actions.erasure import Who
from core.actions.unit_of_work import Unit
from core.domain import trusted_contact as rules
from core.domain.delivery import PRIORITY_REST, Delivery
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import derived_id, new_id, token_digest
from core.postgres import audit, contact_tellings
from core.postgres import contact_invitations as store
from core.postgres.contacts import CONTACTS
from core.postgres.people import PEOPLE
from core.postgres.table import Record

ENDED: Final[dict[str, Any]] = {
    "state": "ended", "language": None, "inviter": None, "may_see": [], "ways": [], "expires_at": None,
    "code_wrong": False,
}  # fmt: skip
"""What every link says that asks nothing: unknown, taken back, refused, lapsed."""
RESETS: Final = ("channels",)
"""What of a contact, when it changes, has to be confirmed and consented to anew."""


async def with_states(unit: Unit, contacts: Iterable[Record]) -> list[Record]:
    """Contacts with where they stand (`state`) and since when they are asked (`invited_at`)."""
    found = list(contacts)
    invitations = await store.last_of(unit.connection, [contact["id"] for contact in found])
    return [
        {
            **contact,
            "state": rules.state_of(contact, invitations.get(contact["id"]), unit.now),
            "invited_at": invitations[contact["id"]]["made_at"] if contact["id"] in invitations else None,
        }
        for contact in found
    ]


async def invite(unit: Unit, who: Who, contact: Record, inviter: str | None, *, held: bool = False) -> None:
    """Ask somebody to be a contact, over the first of his ways that a person reads; an earlier link asks no more.

    `inviter`: the name she gives for it; None: none. `held`: write it down and send nothing.
    Raises Conflict for who was taken back or is linked to the aggressor, InvalidInput for who has no such way.
    """
    if contact["revoked_at"] is not None:
        raise Conflict("This contact was taken back or has refused; enter a new one.")
    if contact["linked_to_aggressor"]:
        raise Conflict("This contact is linked to the aggressor and is told nothing.")
    if contact["verified_at"] is not None and contact["consented_at"] is not None:
        raise Conflict("This contact has consented already.")
    way = next((way for way in contact["channels"] if way["channel"] in rules.CODED_CHANNELS), None)
    if way is None:
        raise InvalidInput("A contact is asked by e-mail or text message; enter such an address.")
    await store.end_of_contact(unit.connection, contact["id"], unit.now)
    token, invitation_id = rules.new_token(), new_id()
    await store.add(
        unit.connection,
        {
            "id": invitation_id, "agency_id": contact["agency_id"], "person_id": contact["person_id"],
            "contact_id": contact["id"], "digest": token_digest(token), "made_at": unit.now,
            "expires_at": unit.now + rules.LIFE, "made_by": who.kind,
        },
        inviter,
        unit.now,
    )  # fmt: skip
    if not held:
        private = {"link": rules.PATH + token} | ({"inviter": inviter} if inviter else {})
        data = {"holds_s": rules.LIFE.total_seconds()}
        unit.queue(_delivery(contact, way, "invitation_contact", invitation_id, data, private))
    await note(unit, who, contact, "contact.invited", held=held, named=inviter is not None)


def _delivery(
    contact: Record, way: Mapping[str, Any], template: str, cause: uuid.UUID, data: dict[str, Any],
    private: dict[str, Any],
) -> Delivery:  # fmt: skip
    return Delivery(
        agency_id=contact["agency_id"],
        incident_id=None,
        cause=cause,
        audience="contact",
        recipient=f"contact:{contact['id']}",
        channel=str(way["channel"]),
        address=str(way["address"]),
        template=template,
        language=contact["language"],
        data=data,
        private=private,
        priority=PRIORITY_REST,
        person_id=contact["person_id"],
    )


async def add_own(unit: Unit, who: Who, agency_id: uuid.UUID, values: dict[str, Any], inviter: str | None) -> Record:
    """A contact that a person asks for from her own device, invited at once; the same `id` again changes nothing.

    While a panic of hers is open nobody new is asked, and the answer does not tell: whoever holds her phone then may
    not be she. Her caseworker sees him and may ask. Raises Conflict when she has as many as she may.
    """
    await PEOPLE.get(unit.connection, agency_id, values["person_id"])
    existing = await CONTACTS.find(unit.connection, agency_id, values["id"])
    if existing is not None:
        if existing["person_id"] != values["person_id"]:
            raise Conflict("This id is taken.", code="id_reused")
        return (await with_states(unit, [existing]))[0]
    if await store.of_person(unit.connection, values["person_id"]) >= rules.CONTACTS_MAX:
        raise Conflict(f"There are {rules.CONTACTS_MAX} contacts already; take one back first.")
    contact = await CONTACTS.insert(
        unit.connection,
        {**values, "agency_id": agency_id, "created_at": unit.now, "updated_at": unit.now},
    )
    await note(unit, who, contact, "contact.created")
    held = await store.has_open_panic(unit.connection, contact["person_id"])
    await invite(unit, who, contact, inviter, held=held)
    return (await with_states(unit, [contact]))[0]


async def own(unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID) -> list[Record]:
    """A person's contacts that she has not taken back, for her own device."""
    found = await CONTACTS.page(unit.connection, agency_id, where={"person_id": person_id})
    return await with_states(unit, [contact for contact in found if contact["revoked_at"] is None])


async def revoke_own(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID, contact_id: uuid.UUID) -> None:
    """Take a contact back, as she asks from her device; twice is once. Raises NotFound for who is not hers."""
    contact = await CONTACTS.find(unit.connection, agency_id, contact_id, lock=True)
    if contact is None or contact["person_id"] != person_id:
        raise NotFound("There is no contact with this id.")
    await revoke(unit, who, contact)


async def revoke(unit: Unit, who: Who, contact: Record) -> None:
    """Tell a contact nothing from now on: not what is queued, not by a link, not by an invitation."""
    if contact["revoked_at"] is None:
        values = {"revoked_at": unit.now, "updated_at": unit.now}
        await CONTACTS.update(unit.connection, contact["agency_id"], contact["id"], values)
        await note(unit, who, contact, "contact.revoked")
    await silence(unit, contact["id"])


async def silence(unit: Unit, contact_id: uuid.UUID) -> None:
    """End what is under way to a contact: invitations, links, and messages that are not sent yet."""
    await store.end_of_contact(unit.connection, contact_id, unit.now)
    await live_links.revoke_of_contact(unit, contact_id)
    await contact_tellings.cancel_all(unit.connection, contact_id, unit.now)


def reset(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A change of a contact with what follows from it: new ways are confirmed and consented to anew."""
    if not any(name in changes for name in RESETS):
        return dict(changes)
    return {"verified_at": None, "consented_at": None, **changes}


def silences(contact: Record, changes: Mapping[str, Any]) -> bool:
    """Whether, after these changes, what is queued for a contact must not go out any more."""
    return bool(
        any(name in changes for name in RESETS)
        or contact["revoked_at"] is not None
        or contact["linked_to_aggressor"]
        or ("consented_at" in changes and contact["consented_at"] is None)
        or ("verified_at" in changes and contact["verified_at"] is None)
    )


# the page ---------------------------------------------------------------------------------------------------------


async def open_page(unit: Unit, token: str, address: str) -> dict[str, Any]:
    """What an invitation's page shows. Its first opening is written down."""
    found = await _answering(unit, token)
    if found is None:
        return ENDED
    invitation, contact = found
    if invitation["opened_at"] is None:
        await store.change(unit.connection, invitation["id"], {"opened_at": unit.now})
        await note(unit, _himself(contact, address), contact, "contact.opened")
    return await _shown(unit, invitation, contact)


async def send_code(unit: Unit, token: str, way: int, address: str) -> dict[str, Any]:
    """Send a code to one of the ways; none when one went just now, or enough have."""
    found = await _answering(unit, token)
    if found is None:
        return ENDED
    invitation, contact = found
    before = (await store.codes_of(unit.connection, invitation["id"])).get(way)
    free = before is None or (
        before["verified_at"] is None
        and before["sent"] < rules.CODES_MAX
        and unit.now - before["sent_at"] >= rules.CODE_PAUSE
    )
    if free and invitation["consented_at"] is None and _is_way(contact, way):
        code = rules.new_code()
        await store.put_code(unit.connection, invitation, way, rules.code_digest(token, way, code), unit.now)
        cause = derived_id("contact code", invitation["id"], way, unit.now)
        data = {"holds_s": rules.CODE_LIFE.total_seconds()}
        unit.queue(_delivery(contact, contact["channels"][way], "code_contact", cause, data, {"code": code}))
        await note(unit, _himself(contact, address), contact, "contact.code_sent")
    return await _shown(unit, invitation, contact)


async def check_code(unit: Unit, token: str, way: int, code: str, address: str) -> dict[str, Any]:
    """Hold a code to the one that was sent. Commit whatever it says: a wrong one counts."""
    found = await _answering(unit, token)
    if found is None:
        return ENDED
    invitation, contact = found
    sent = (await store.codes_of(unit.connection, invitation["id"])).get(way)
    if sent is not None and sent["verified_at"] is not None:
        return await _shown(unit, invitation, contact)
    if (
        sent is None
        or invitation["consented_at"] is not None
        or sent["tries"] >= rules.CODE_TRIES
        or unit.now - sent["sent_at"] > rules.CODE_LIFE
    ):
        return {**await _shown(unit, invitation, contact), "code_wrong": True}
    right = hmac.compare_digest(rules.code_digest(token, way, code), sent["digest"])
    await store.note_try(unit.connection, invitation["id"], way, unit.now if right else None)
    await note(unit, _himself(contact, address), contact, "contact.verified" if right else "contact.code_wrong")
    if right and invitation["verified_at"] is None:
        await store.change(unit.connection, invitation["id"], {"verified_at": unit.now})
        invitation = {**invitation, "verified_at": unit.now}
    return {**await _shown(unit, invitation, contact), "code_wrong": not right}


async def consent(unit: Unit, token: str, language: str | None, address: str) -> dict[str, Any]:
    """He consents: from now on he is told, over the ways that he confirmed and no other. Without one, nothing is so."""
    found = await _answering(unit, token)
    if found is None:
        return ENDED
    invitation, contact = found
    if invitation["consented_at"] is not None:
        return await _shown(unit, invitation, contact)
    codes = await store.codes_of(unit.connection, invitation["id"])
    confirmed = [
        way
        for place, way in enumerate(contact["channels"])
        if place in codes and codes[place]["verified_at"] is not None
    ]
    if not confirmed:
        return await _shown(unit, invitation, contact)
    values = {
        "channels": confirmed, "verified_at": invitation["verified_at"], "consented_at": unit.now,
        "updated_at": unit.now,
    }  # fmt: skip
    if language is not None:
        values["language"] = language
    contact = await CONTACTS.update(unit.connection, contact["agency_id"], contact["id"], values)
    await store.change(unit.connection, invitation["id"], {"consented_at": unit.now})
    await note(unit, _himself(contact, address), contact, "contact.consented", ways=len(confirmed))
    return await _shown(unit, {**invitation, "consented_at": unit.now}, contact)


async def refuse(unit: Unit, token: str, address: str) -> dict[str, Any]:
    """He refuses, or wants to be told no more; both are for good."""
    found = await _answering(unit, token)
    if found is not None:
        invitation, contact = found
        who = _himself(contact, address)
        await store.change(unit.connection, invitation["id"], {"refused_at": unit.now})
        await note(unit, who, contact, "contact.refused")
        await revoke(unit, who, contact)
    return ENDED


async def _answering(unit: Unit, token: str) -> tuple[Record, Record] | None:
    """The invitation of a token and its contact, whose row is locked; None for one that says nothing."""
    digest = token_digest(token)
    invitation = await store.by_token(unit.connection, digest)
    if invitation is None:
        return None
    contact = await CONTACTS.find(unit.connection, invitation["agency_id"], invitation["contact_id"], lock=True)
    invitation = await store.by_token(unit.connection, digest)  # as it is now that nobody else changes it
    if contact is None or invitation is None or not rules.answers(contact, invitation, unit.now):
        return None
    return invitation, contact


def _is_way(contact: Record, way: int) -> bool:
    return way < len(contact["channels"]) and contact["channels"][way]["channel"] in rules.CODED_CHANNELS


async def _shown(unit: Unit, invitation: Record, contact: Record) -> dict[str, Any]:
    """What the page shows: her name, if she gave one, and what he may see only to who holds an address of his."""
    codes = await store.codes_of(unit.connection, invitation["id"])
    active = invitation["consented_at"] is not None
    known = active or invitation["verified_at"] is not None
    ways = [
        {
            "way": place,
            "channel": way["channel"],
            "masked": rules.masked(way["channel"], way["address"]),
            "code_sent": place in codes,
            "verified": active or (place in codes and codes[place]["verified_at"] is not None),
        }
        for place, way in enumerate(contact["channels"])
        if way["channel"] in rules.CODED_CHANNELS
    ]
    return {
        "state": "active" if active else "verified" if known else "invited",
        "language": contact["language"],
        "inviter": invitation["inviter"] if known else None,
        "may_see": [what for what in rules.MAY_SEE if what in contact["may_see"]] if known else [],
        "ways": ways,
        "expires_at": None if active else invitation["expires_at"],
        "code_wrong": False,
    }


def _himself(contact: Record, address: str) -> Who:
    return Who("contact", contact["id"], address)


async def note(unit: Unit, who: Who, contact: Record, action: str, **detail: Any) -> None:
    """Write a step of a contact's life into the audit; never his name or address."""
    await audit.write(
        unit.connection, unit.now, agency_id=contact["agency_id"], actor_kind=who.kind, actor_id=who.id, action=action,
        subject_kind="contact", subject_id=contact["id"], address=who.address or None, role=who.role,
        session_id=who.session_id, purpose=who.purpose, person_ids=[contact["person_id"]], detail=detail,
    )  # fmt: skip
