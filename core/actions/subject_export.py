"""What is held on a person, given to that person: through a caseworker, or on her own device behind a code.

Whoever an order keeps away gets what is his alone: no incident, no order, no look at his data, for when those are would
tell of her. A device's zip is behind a code that goes to the safe contact, as who has only her phone gets nothing.
"""

from __future__ import annotations

import asyncio
import csv
import hmac
import io
import json
import secrets
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.erasure import CODE_DIGITS, CODE_PAUSE, CODE_TRIES, SAFE_CHANNELS, Who
from core.actions.unit_of_work import Unit
from core.clock import from_ms, rfc3339
from core.domain.delivery import PRIORITY_REST, Delivery
from core.domain.evidence import Fix
from core.domain.sealing import person
from core.errors import Conflict, NotAllowed, NotFound
from core.evidence import tracks
from core.ids import derived_id, new_id
from core.postgres import audit, keys, looks, subject_export
from core.postgres.contacts import CONTACTS
from core.postgres.evidence import plain
from core.postgres.people import PEOPLE
from core.postgres.subject_export import FIXES_MAX

CODE_LIFE: Final = timedelta(hours=1)
FURTHEST: Final = timedelta(days=3_650)
LOOKS_MAX: Final = 1_000
OWN: Final = ("identity", "safe_contact", "safe_word", "language", "needs", "created_at", "updated_at")
OF_CONTACT: Final = (
    "name", "relation", "channels", "language", "verified_at", "consented_at", "revoked_at", "may_see", "may_call_her",
)  # fmt: skip
FIX_COLUMNS: Final = (
    "device_id", "at", "received_at", "lat", "lon", "accuracy_m", "speed_mps", "heading_deg", "altitude_m",
    "battery_pct", "source",
)  # fmt: skip

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """What was read of a person, in one transaction."""

    parts: Mapping[str, Any]
    """File name → what it tells."""
    fixes: Sequence[Fix]
    device_ids: dict[int, str]


async def read(
    unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID, since: datetime | None, *, consents: bool
) -> Held:
    """What is held on a person. Raises NotFound."""
    connection = unit.connection
    record = await PEOPLE.get(connection, agency_id, person_id)
    kept_away = await subject_export.is_kept_away(connection, person_id)
    worn = await subject_export.worn_by(connection, person_id)
    fixes = await subject_export.fixes_of(connection, person_id, since or unit.now - FURTHEST, unit.now)
    more_from = fixes[FIXES_MAX].live_ms if len(fixes) > FIXES_MAX else None
    fixes = fixes[:FIXES_MAX]
    contacts = await CONTACTS.page(connection, agency_id, where={"person_id": person_id})
    parts: Json = {
        "person": {"id": person_id, **{name: record[name] for name in OWN}},
        "contacts": [{name: one[name] for name in OF_CONTACT} for one in contacts],
        "devices": [{name: value for name, value in one.items() if name != "number"} for one in worn],
        "panics": await subject_export.panics_of(connection, person_id),
    }
    if not kept_away:
        parts["timers"] = await subject_export.timers_of(connection, person_id)
        parts["incidents"] = await subject_export.incidents_of(connection, person_id)
        seen = await looks.at_person(connection, person_id, None, LOOKS_MAX)
        parts["looks"] = [{name: value for name, value in one.items() if name != "id"} for one in seen]
        if consents:
            parts["consents"] = await subject_export.consents_of(connection, person_id)
    parts["about"] = {
        "person_id": person_id,
        "made_at": unit.now,
        "fixes": len(fixes),
        "more_fixes_from": None if more_from is None else rfc3339(from_ms(more_from)),
    }
    return Held(parts, fixes, {one["number"]: str(one["device_id"]) for one in worn})


def archive(held: Held) -> bytes:
    """The zip: JSON a part, fixes as CSV and GPX. Takes a second of a processor: call it in a thread."""
    table = io.StringIO()
    writer = csv.DictWriter(table, FIX_COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(fix.as_json(held.device_ids) for fix in held.fixes)
    files = {
        f"{name}.json": json.dumps(plain({"_": part})["_"], ensure_ascii=False, indent=1) + "\n"
        for name, part in held.parts.items()
    }
    files |= {"fixes.csv": table.getvalue(), "track.gpx": tracks.gpx(held.fixes, "own", held.device_ids)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name, text)
    return out.getvalue()


async def make(held: Held) -> bytes:
    """As `archive`, without holding up the loop."""
    return await asyncio.to_thread(archive, held)


async def refuse_kept_away(unit: Unit, person_id: uuid.UUID) -> None:
    """Raise NotAllowed for whom an order keeps away, whatever his device passes for."""
    if await subject_export.is_kept_away(unit.connection, person_id):
        raise NotAllowed("This device has no such page.", code="device_forbidden")


async def ask_own(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> datetime:
    """Have a code go to a person's safe contact; until when it holds. Asked again too soon, none goes.

    Raises Conflict `safe_contact_missing`.
    """
    await refuse_kept_away(unit, person_id)
    record = await PEOPLE.get(unit.connection, agency_id, person_id)
    safe = record["safe_contact"] or {}
    if safe.get("channel") not in SAFE_CHANNELS or not safe.get("address"):
        raise Conflict("A code has to reach you: have a safe contact entered.", code="safe_contact_missing")
    found = await subject_export.open_request(unit.connection, person_id, unit.now)
    if found is not None and found["asked_at"] > unit.now - CODE_PAUSE:
        expires_at: datetime = found["expires_at"]
        return expires_at
    code, request_id = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}", new_id()
    values = {
        "id": request_id, "agency_id": agency_id, "person_id": person_id, "device_id": who.id, "asked_at": unit.now,
        "code_digest": await _digest(unit, agency_id, person_id, request_id, code),
        "expires_at": unit.now + CODE_LIFE,
    }  # fmt: skip
    await subject_export.add_request(unit.connection, values)
    unit.queue(
        Delivery(
            agency_id=agency_id,
            incident_id=None,
            cause=derived_id("subject export", request_id),
            audience="victim",
            recipient=f"person:{person_id}",
            channel=safe["channel"],
            address=safe["address"],
            template="erasure_code",
            language=record["language"],
            private={"code": code},
            priority=PRIORITY_REST,
            person_id=person_id,
        )
    )
    await note(unit, who, agency_id, person_id, "export.asked")
    return unit.now + CODE_LIFE


async def _digest(unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID, request_id: uuid.UUID, code: str) -> bytes:
    owner = person(person_id)
    deks = await keys.ensure(unit.connection, {owner: agency_id}, unit.now)
    return deks[owner].digest("export code", f"{request_id}:{code}")


async def spend_code(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID, code: str) -> bool:
    """Whether the code was the one that was sent; a wrong one counts, so commit whatever this says.

    Raises NotFound when nothing waits for a code.
    """
    await refuse_kept_away(unit, person_id)
    request = await subject_export.open_request(unit.connection, person_id, unit.now)
    if request is None:
        raise NotFound("No export waits for a code; ask for one.")
    if request["code_tries"] >= CODE_TRIES:
        return False
    digits = "".join(letter for letter in code if letter.isdigit())
    digest = await _digest(unit, agency_id, person_id, request["id"], digits)
    right = hmac.compare_digest(digest, request["code_digest"])
    await subject_export.note_try(unit.connection, request["id"], unit.now if right else None)
    await note(unit, who, agency_id, person_id, "person.exported" if right else "export.code_wrong")
    return right


async def note(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID, action: str, **detail: Any) -> None:
    """Write who asked for a person's data into the audit."""
    await audit.write(
        unit.connection, unit.now, agency_id=agency_id, actor_kind=who.kind, actor_id=who.id, action=action,
        subject_kind="person", subject_id=person_id, address=who.address or None, role=who.role,
        session_id=who.session_id, purpose=who.purpose, person_ids=[person_id], detail=detail,
    )  # fmt: skip
