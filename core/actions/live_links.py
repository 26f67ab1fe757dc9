"""Live links: made when contacts are told, opened by them, taken back by her, by a dispatcher, and by time.

Who opens a link first has it in that browser; another needs a code, which goes where the link went. Each opening is in
the audit (she sees it in `GET /v1/me/audit`) and on the incident's timeline before anything is shown.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain import live_link as rules
from core.domain.delivery import PRIORITY_PANIC, Delivery
from core.ids import derived_id, new_id, token_digest
from core.postgres import audit
from core.postgres import incidents as incident_store
from core.postgres import live_links as store
from core.postgres.contacts import CONTACTS
from core.postgres.table import Record

TOKEN_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """Who opens a link: what the page sent, and where it came from."""

    token: str | None
    """None: a page that was opened before, known by its browser."""
    browser: str | None
    """The browser's cookie."""
    address: str
    first: bool = False
    """The page was just opened, and does not merely ask again."""
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page is told, and what its browser is to be known by from now on."""

    answer: dict[str, Any]
    browser: str | None = None
    person_id: uuid.UUID | None = None
    """Whose live position may be newer than the incident's; None: none is shown."""
    place: dict[str, Any] | None = None
    """The incident's own."""


async def make_all(
    unit: Unit,
    *,
    incident_id: uuid.UUID,
    agency_id: uuid.UUID,
    person_id: uuid.UUID,
    ways: Sequence[tuple[Record, str]],
) -> list[str | None]:
    """A link for each (contact, channel): the path with its token, told only now; None for who may not see a place."""
    found: list[str | None] = []
    links: list[store.NewLink] = []
    for contact, channel in ways:
        if not rules.may_have(contact):
            found.append(None)
            continue
        token = rules.new_token()
        links.append(
            store.NewLink(new_id(), agency_id, incident_id, person_id, contact["id"], channel, token_digest(token))
        )
        found.append(rules.PATH + token)
    if links:
        await store.add(unit.later, links, unit.now, unit.now + rules.LIFE)
    return found


async def look(unit: Unit, visit: Visit) -> Shown:
    """What a link shows now. Commit whatever it says: a wrong code counts, and an opening is written down."""
    link = await _find(unit, visit)
    if link is None or not rules.shows(link, unit.now):
        return Shown(rules.ENDED)
    browser = None
    if not _is_own(link, visit):
        if link["browser_digest"] is not None and not await _lets_in(unit, link, visit):
            return Shown(rules.ELSEWHERE)
        browser = visit.browser or rules.new_browser()
        await store.change(unit.connection, link["id"], {"browser_digest": token_digest(browser), "code_digest": None})
    await _note(unit, link, visit, new=browser is not None)
    answer = {
        "state": "live",
        "language": link["language"],
        "started_at": rfc3339(link["started_at"]),
        "seen_by_police_at": rfc3339(link["acknowledged_at"]) if link["acknowledged_at"] is not None else None,
        "position": rules.latest([link["place"]]),
        "refresh_s": rules.REFRESH_S,
    }
    return Shown(answer, browser, link["person_id"], link["place"])


async def _find(unit: Unit, visit: Visit) -> Record | None:
    if visit.token is not None:
        return await store.by_token(unit.connection, token_digest(visit.token))
    if visit.browser is not None:
        return await store.by_browser(unit.connection, token_digest(visit.browser))
    return None


def _is_own(link: Record, visit: Visit) -> bool:
    """Whether the browser that asks is the one the link belongs to."""
    return (
        visit.browser is not None
        and link["browser_digest"] is not None
        and hmac.compare_digest(link["browser_digest"], token_digest(visit.browser))
    )


async def _lets_in(unit: Unit, link: Record, visit: Visit) -> bool:
    """Whether a code that was sent opens the link in another browser; a wrong one counts."""
    if (
        visit.code is None
        or visit.token is None
        or link["code_digest"] is None
        or link["code_tries"] >= rules.CODE_TRIES
        or unit.now - link["code_sent_at"] > rules.CODE_LIFE
    ):
        return False
    if hmac.compare_digest(link["code_digest"], _code_digest(visit.token, visit.code)):
        return True
    await store.change(unit.connection, link["id"], {"code_tries": link["code_tries"] + 1})
    return False


def _code_digest(token: str, code: str) -> bytes:
    """The token is part of it and stands nowhere here: six digits alone could be tried out on a stolen table."""
    digits = "".join(letter for letter in code if letter.isdigit())
    return hashlib.sha256(f"{token}:{digits}".encode()).digest()


async def ask_code(unit: Unit, token: str) -> None:
    """Send a code for another browser to where the link went; nothing when it shows nothing or one went just now."""
    link = await store.by_token(unit.connection, token_digest(token))
    if link is None or not rules.shows(link, unit.now) or link["browser_digest"] is None:
        return
    recent = link["code_sent_at"] is not None and unit.now - link["code_sent_at"] < rules.CODE_PAUSE
    if recent or link["codes"] >= rules.CODES_MAX:
        return
    contact = await CONTACTS.get(unit.connection, link["agency_id"], link["contact_id"])
    code = rules.new_code()
    values = {"code_digest": _code_digest(token, code), "code_tries": 0, "code_sent_at": unit.now}
    await store.change(unit.connection, link["id"], {**values, "codes": link["codes"] + 1})
    for way in contact["channels"]:
        if way["channel"] == link["channel"]:
            unit.queue(
                Delivery(
                    agency_id=link["agency_id"],
                    incident_id=link["incident_id"],
                    cause=derived_id("live link code", link["id"], link["codes"]),
                    audience="contact",
                    recipient=f"contact:{link['contact_id']}",
                    channel=str(way["channel"]),
                    address=str(way["address"]),
                    template="live_link_code_contact",
                    language=link["language"],
                    private={"code": code},
                    priority=PRIORITY_PANIC,
                    person_id=link["person_id"],
                )
            )


async def _note(unit: Unit, link: Record, visit: Visit, *, new: bool) -> None:
    """Write down that a link is looked at: at each opening of the page, and again while it stays open."""
    since = unit.now - link["noted_at"] if link["noted_at"] is not None else rules.NOTED_EVERY
    opened = new or (visit.first and since >= rules.SAME_OPENING)
    if not opened and since < rules.NOTED_EVERY:
        return
    values: dict[str, Any] = {"noted_at": unit.now, "openings": link["openings"] + int(opened)}
    if link["opened_at"] is None:
        values["opened_at"] = unit.now
    await store.change(unit.connection, link["id"], values)
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=link["agency_id"],
        actor_kind="contact",
        actor_id=link["contact_id"],
        action="live_link.opened" if opened else "live_link.watched",
        subject_kind="incident",
        subject_id=link["incident_id"],
        address=visit.address or None,
        role="contact",
        detail={"link_id": str(link["id"]), "new_browser": new},
        person_ids=[link["person_id"]],
    )
    if new:
        data = {"what": "opened", "contact_id": str(link["contact_id"]), "again": link["browser_digest"] is not None}
        await _line(unit, link["incident_id"], data, link["id"])


async def revoke_hers(unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID, device_id: uuid.UUID) -> int:
    """Take back every link to a person, as she asks from her device; returns how many held."""
    found = await store.revoke_hers(unit.connection, person_id, unit.now)
    await _revoked(unit, found, "her")
    await audit.write(
        unit.connection, unit.now, agency_id=agency_id, actor_kind="device", actor_id=device_id,
        action="live_link.revoked", subject_kind="person", subject_id=person_id, detail={"links": len(found)},
        person_ids=[person_id],
    )  # fmt: skip
    return len(found)


async def revoke_of_incident(unit: Unit, incident_id: uuid.UUID) -> int:
    """Take back every link of an incident, as a dispatcher asks; returns how many held."""
    return await _revoke(unit, "incident_id", incident_id, "dispatcher")


async def revoke_of_contact(unit: Unit, contact_id: uuid.UUID) -> int:
    """Take back the links of a contact; one who is revoked is shown nothing anyway."""
    return await _revoke(unit, "contact_id", contact_id, "contact")


async def _revoke(unit: Unit, column: str, of: uuid.UUID, because: str) -> int:
    found = await store.revoke(unit.connection, column, of, because, unit.now)
    await _revoked(unit, found, because)
    return len(found)


async def _revoked(unit: Unit, links: Sequence[Record], because: str) -> None:
    by_incident: dict[uuid.UUID, int] = {}
    for link in links:
        by_incident[link["incident_id"]] = by_incident.get(link["incident_id"], 0) + 1
    for incident_id, count in by_incident.items():
        await _line(unit, incident_id, {"what": "revoked", "because": because, "count": count}, because)


async def _line(unit: Unit, incident_id: uuid.UUID, data: dict[str, Any], *parts: object) -> None:
    line_id = derived_id("timeline", incident_id, "live_link", rfc3339(unit.now), *parts)
    await incident_store.add_lines(unit.connection, [(line_id, incident_id, unit.now, "live_link", None, data)])
