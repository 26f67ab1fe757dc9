"""Panics: one transaction each, exactly once by id, never refused for content, rate or token."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from core.actions import escalation
from core.actions.duress import CANCEL_FIELDS, tell_again, turn
from core.actions.notices import notice_of, tell, tell_contacts
from core.actions.pressers import CLOSED, Presser, who_pressed
from core.actions.unit_of_work import Unit
from core.clock import from_ms, rfc3339
from core.domain.escalation import Deadline
from core.domain.panic import CANCELLED, PanicIn, incident_id_of, is_quiet, place_doubts, place_of
from core.domain.sight import apart_m
from core.ids import derived_id
from core.metrics import INCIDENTS_OPENED
from core.postgres import audit, pins
from core.postgres import incidents as incident_store
from core.postgres import panics as store
from core.postgres.incidents import Row

REUSED_AFTER: Final = timedelta(hours=1)
"""After which the id of a panic that is over is another press, not its repeat: some buttons count from 1 again, or send
one id for ever, and no press may go unheard for that."""
AGAIN_AFTER: Final = timedelta(seconds=30)
"""Presses on an open panic page again at most this often: a flood of them is one incident, and one page."""
ELSEWHERE_M: Final = 1_000.0
"""Beyond this a press under the same address, of nobody known, may be somebody else's: a telephone network shows many
of its phones under one."""
OTHER_PLACES_MAX: Final = 20
"""Places beside the first that an incident says, the newest; the timeline has them all."""
OPEN: Final = "open"


@dataclass(frozen=True, slots=True)
class PanicResult:
    """What became of a panic."""

    panic_id: uuid.UUID
    incident_id: uuid.UUID
    state: str
    """As her device may know it."""
    received_at: datetime
    created: bool
    """False when this panic was known already."""
    complete: bool = True
    """False while nobody was messaged and her words are not kept, for want of keys: bring it again."""


async def take_panic(unit: Unit, panic: PanicIn, *, keyless: bool = False, forced: str | None = None) -> PanicResult:
    """Make a panic's rows, or find them made; the incident it opens or folds into.

    `keyless` asks for no key: the incident is on every board and its deadlines run, while messages and what she wrote
    wait (`detail.untold`) until the same panic is brought again with keys at hand. `forced` (why: see `duress.turn`):
    nobody pressed, but a duress PIN was given; her device never hears of such a panic.

    Raises NotAllowed `device_forbidden` for an aggressor's device, and nothing else for what was sent.
    """
    presser = await who_pressed(unit, panic)
    panic_id = panic.id
    if keyless:
        panic = msgspec.structs.replace(panic, note=None, body={})
    opening = _opening_row(unit, panic, panic_id, presser, keyless=keyless, forced=forced is not None)
    clocks = await escalation.wind(unit, opening, presser.person.get("plan"))
    # Nearly always nothing is there yet: no question is asked of which the answer is no.
    if await incident_store.open_for_panic(unit.connection, opening, panic_id):
        return await _new(unit, panic, panic_id, presser, opening, clocks, keyless=keyless, forced=forced)
    known = await store.find(unit.connection, panic_id, words=not keyless)
    if known is not None and _is_anothers(known, panic, presser):
        # Two devices, or two women, under one id: the second is a panic of its own, whatever its sender meant.
        panic_id = derived_id("panic", panic.id, presser.device_id or panic.token_digest or panic.source)
        if known["device_id"] == presser.device_id:
            panic_id = derived_id("panic", panic_id, presser.person.get("person_id"))
        await store.lock_id(unit.connection, panic_id)
        known = await store.find(unit.connection, panic_id, words=not keyless)
    if known is not None and _is_reused(known, panic):
        hour = panic.received_ms // int(REUSED_AFTER.total_seconds() * 1000)
        panic_id = derived_id("panic", panic_id, "reused", hour)
        await store.lock_id(unit.connection, panic_id)
        known = await store.find(unit.connection, panic_id, words=not keyless)
    if known is not None:
        return await _repeat(unit, panic, known, presser, keyless=keyless)
    key = (presser.subject, "panic")
    opening = _opening_row(unit, panic, panic_id, presser, keyless=keyless, forced=forced is not None)
    clocks = await escalation.wind(unit, opening, presser.person.get("plan"))
    found, opened = await incident_store.claim(unit.connection, {key}, {key: opening})
    return await _new(
        unit, panic, panic_id, presser, found[key], clocks if opened else None, keyless=keyless, forced=forced
    )


def _is_anothers(known: dict[str, Any], panic: PanicIn, presser: Presser) -> bool:
    """Whether a panic bears the id of one that somebody else pressed: on another device, or on this one while she wore
    it. Hers that is brought again, by a journal, is known by when it was received."""
    if known["device_id"] != presser.device_id:
        return True
    anothers: bool = known["person_id"] != presser.person.get("person_id")
    return anothers and bool(known["received_at"] != from_ms(panic.received_ms))


def _is_reused(known: dict[str, Any], panic: PanicIn) -> bool:
    """Whether a panic bears the id of one that was over long ago; a text message is replayed by whoever has it."""
    late = from_ms(panic.received_ms) - known["received_at"] >= REUSED_AFTER
    return late and known["incident_state"] == "resolved" and not known["untold"] and panic.trigger != "sms"


async def _new(
    unit: Unit,
    panic: PanicIn,
    panic_id: uuid.UUID,
    presser: Presser,
    row: Row,
    clocks: Sequence[Deadline] | None,
    *,
    keyless: bool,
    forced: str | None,
) -> PanicResult:
    """The rows of a panic that opened the incident `row`, whose `clocks` then run, or folds into it (None)."""
    opened = clocks is not None
    if clocks is not None:
        await escalation.run(unit, row, clocks)
    if forced is not None:
        # A right PIN given there would have changed nothing of a panic that is open already.
        await turn(unit, row, from_ms(panic.received_ms), forced, panic_id, shown=opened, keyless=keyless)
    contacts_told = False if keyless else await _tell_contacts(unit, row, panic_id, presser)
    if opened:
        if not keyless and forced is None:
            await tell(unit, [notice_of(row, panic_id)])
        counter = INCIDENTS_OPENED.labels(row["type"], row["severity"])
        unit.after_commit(counter.inc)
    elif forced is None:
        await _press_again(unit, row, panic, panic_id, presser, keyless=keyless)
    if contacts_told or forced is not None or not opened:
        await incident_store.update_many(unit.connection, [row])
    values = _panic_values(unit, panic, panic_id, presser, row)
    await store.insert(unit.later, {**values, "unshown": forced is not None}, presser.sealer_id)
    await audit_press(unit, "panic.taken", presser.agency_id, presser.device_id, row)
    line = {
        "panic_id": str(panic_id), "mode": panic.mode, "trigger": panic.trigger, "note": panic.note,
        "lat": panic.lat, "lon": panic.lon, "accuracy_m": panic.accuracy_m, "place_doubts": place_doubts(panic) or None,
        "at": rfc3339(from_ms(panic.at_ms)) if panic.at_ms is not None else None,
        "verified": not presser.doubts, "doubt": ",".join(presser.doubts) or None,
    }  # fmt: skip
    await incident_store.add_lines(
        unit.later,
        [(derived_id("timeline", panic_id), row["id"], from_ms(panic.received_ms), "panic", None, _said(line))],
        {row["id"]: (presser.sealer_id, presser.agency_id)},
    )
    kind = "incident.opened" if opened else "incident.updated"
    unit.emit(row["agency_id"], kind, incident_store.incident_json(row))
    # Always open: a press on an incident that somebody has in hand already is news to them, and what they had in hand
    # may be what whoever holds her phone must not know.
    return PanicResult(panic_id, row["id"], OPEN, from_ms(panic.received_ms), created=True, complete=not keyless)


async def _tell_contacts(unit: Unit, row: Row, panic_id: uuid.UUID, presser: Presser) -> bool:
    """Have her contacts told, once an incident; whether there was somebody to tell."""
    if not presser.known or row["detail"].get("contacts_told") or is_quiet(row["detail"]):
        return False
    if not await tell_contacts(unit, notice_of(row, panic_id)):
        return False
    row["detail"] = {**row["detail"], "contacts_told": True}
    return True


def _opening_row(
    unit: Unit, panic: PanicIn, panic_id: uuid.UUID, presser: Presser, *, keyless: bool, forced: bool
) -> Row:
    person_id = presser.person.get("person_id")
    orders = presser.person.get("orders", ())
    order = orders[0] if len(orders) == 1 else None
    incident_id = incident_id_of(panic_id, panic.received_ms)
    hazards: dict[str, Any] = {}
    for found in (*orders, presser.person):
        hazards |= found.get("hazards") or {}
    detail = {
        "panic_id": str(panic_id),
        "presses": 0 if forced else 1,
        "mode": panic.mode,
        "trigger": panic.trigger,
        "verified": not presser.doubts,
        "doubt": ",".join(presser.doubts) or None,
        "unverified_device": not presser.known or presser.device_id is None or CLOSED in presser.doubts,
        "place_doubts": place_doubts(panic) or None,
        "order_reference": order["reference"] if order else None,
        "untold": keyless or None,
    }
    return incident_store.new_row(
        id=incident_id,
        type="panic",
        family="panic",
        severity="critical",
        episode_id=presser.person.get("episode_id") or incident_id,
        agency_id=presser.agency_id,
        jurisdiction_agency_id=presser.agency_id,
        case_id=presser.person.get("case_id"),
        order_id=order["id"] if order else None,
        victim_id=person_id,
        aggressor_id=order["aggressor_id"] if order else None,
        device_id=presser.device_id,
        subject=presser.subject,
        occurred_at=from_ms(panic.received_ms),
        opened_at=unit.now,
        updated_at=unit.now,
        place=place_of(panic),
        fix_age_s=_fix_age(panic),
        # He may be beside her: nobody rings her unless she chose to be heard.
        do_not_call=_must_not_call(panic, presser),
        hazards=hazards,
        language=presser.person.get("language"),
        detail=_said(detail),
    )


async def _press_again(
    unit: Unit, row: Row, panic: PanicIn, panic_id: uuid.UUID, presser: Presser, *, keyless: bool
) -> None:
    """A press on an open panic: it is more urgent than before, whatever was said of cancelling meanwhile."""
    detail = {name: value for name, value in row["detail"].items() if name not in CANCEL_FIELDS}
    if row["detail"].get("cancel_unverified") and await pins.are_set(unit.connection, row["victim_id"]):
        detail["cancel_unverified"] = True  # it may have been the duress PIN: she stays unwritten to until one is read
    detail["presses"] = int(detail.get("presses", 1)) + 1  # none yet, where a duress PIN opened it
    if not presser.doubts:
        detail["verified"] = True
        detail.pop("doubt", None)
        detail["unverified_device"] = False
    detail["pressed_at"] = rfc3339(from_ms(panic.received_ms))
    told_at = detail.get("pressed_again_at")
    pages = told_at is None or unit.now - datetime.fromisoformat(told_at) >= AGAIN_AFTER
    if pages:
        detail["pressed_again_at"] = rfc3339(unit.now)
    if keyless:
        detail["untold"] = True
    row["detail"] = detail
    _place_again(row, panic, presser)
    row["do_not_call"] = row["do_not_call"] or _must_not_call(panic, presser)
    row["updated_at"] = unit.now
    if pages and not keyless:
        await tell_again(unit, row, panic_id, "panic_again_dispatcher", {"presses": detail["presses"]})


def _place_again(row: Row, panic: PanicIn, presser: Presser) -> None:
    """Where an open incident is, after another press: there, where it says a place. Nobody is sent away from somebody
    whom nobody knows: a place far from the first is said beside it."""
    if (place := place_of(panic)) is None:
        return
    if presser.is_nobody and row["place"] is not None and not _is_near(row["place"], place):
        others = [one for one in row["detail"].get("other_places", ()) if not _is_near(one, place)]
        row["detail"] = {**row["detail"], "other_places": [*others, place][-OTHER_PLACES_MAX:]}
        return
    row["place"], row["fix_age_s"] = place, _fix_age(panic)
    row["detail"] = {**row["detail"], "place_doubts": place_doubts(panic)}


def _is_near(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return apart_m((one["lat"], one["lon"]), (other["lat"], other["lon"])) <= ELSEWHERE_M


def _must_not_call(panic: PanicIn, presser: Presser) -> bool:
    return panic.mode != "audible" or "deaf" in (presser.person.get("needs") or ())


def _panic_values(unit: Unit, panic: PanicIn, panic_id: uuid.UUID, presser: Presser, row: Row) -> dict[str, Any]:
    return {
        "id": panic_id,
        "client_id": panic.client_id,
        "device_id": presser.device_id,
        "person_id": presser.person.get("person_id"),
        "agency_id": presser.agency_id,
        "incident_id": row["id"],
        "mode": panic.mode,
        "trigger": panic.trigger,
        "at": from_ms(panic.at_ms) if panic.at_ms is not None else None,
        "received_at": from_ms(panic.received_ms),
        "lat": panic.lat,
        "lon": panic.lon,
        "accuracy_m": panic.accuracy_m,
        "note": panic.note,
        "verified": not presser.doubts,
        "doubt": ",".join(presser.doubts) or None,
        "body": panic.body,
        "created_at": unit.now,
    }


async def _repeat(unit: Unit, panic: PanicIn, known: dict[str, Any], presser: Presser, *, keyless: bool) -> PanicResult:
    """The same panic again: what differs becomes a line of the timeline, once."""
    if known["untold"]:
        return await _complete(unit, panic, known, presser, keyless=keyless)
    state = CANCELLED if known["cancel_asked_at"] is not None else known["incident_state"]
    result = PanicResult(known["id"], known["incident_id"], state, known["received_at"], created=False)
    if keyless or panic.body == known["body"]:
        return result
    digest = hashlib.sha256(msgspec.json.encode(panic.body, order="sorted")).hexdigest()
    line_id = derived_id("timeline", known["id"], digest)
    row = await incident_store.lock(unit.connection, known["agency_id"], known["incident_id"])
    assert row is not None
    if await incident_store.line_exists(unit.connection, line_id) is not None:
        return result
    differs = {
        name: panic.body.get(name)
        for name in sorted(panic.body.keys() | known["body"].keys())
        if panic.body.get(name) != known["body"].get(name)
    }
    data = {"panic_id": str(known["id"]), "differs": differs}
    await audit_press(unit, "panic.repeated", known["agency_id"], known["device_id"], row)
    await incident_store.add_lines(
        unit.connection,
        [(line_id, row["id"], from_ms(panic.received_ms), "panic_again", None, data)],
        {row["id"]: (row["victim_id"], row["agency_id"])},
    )
    _place_again(row, panic, presser)
    row["updated_at"] = unit.now
    await incident_store.update_many(unit.connection, [row])
    unit.emit(row["agency_id"], "incident.updated", incident_store.incident_json(row))
    return result


async def _complete(
    unit: Unit, panic: PanicIn, known: dict[str, Any], presser: Presser, *, keyless: bool
) -> PanicResult:
    """The same panic once there are keys: her words are kept, and whoever is to be told is told, once."""
    row = await incident_store.lock(unit.connection, known["agency_id"], known["incident_id"])
    assert row is not None
    state = CANCELLED if known["cancel_asked_at"] is not None else row["state"]
    result = PanicResult(
        known["id"], row["id"], state, known["received_at"], created=False,
        complete=not (keyless and row["detail"].get("untold")),
    )  # fmt: skip
    if keyless or not row["detail"].get("untold"):
        return result
    words = {"note": panic.note, "body": panic.body}
    await store.keep_words(unit.connection, known["id"], presser.agency_id, presser.sealer_id, words, unit.now)
    row["detail"] = {name: value for name, value in row["detail"].items() if name != "untold"}
    if row["state"] != "resolved":
        await _tell_contacts(unit, row, known["id"], presser)
        await tell(unit, [notice_of(row, known["id"])])
    if panic.note is not None:
        line_id = derived_id("timeline", known["id"], "words")
        data = {"panic_id": str(known["id"]), "note": panic.note}
        await incident_store.add_lines(
            unit.connection,
            [(line_id, row["id"], from_ms(panic.received_ms), "panic_again", None, data)],
            {row["id"]: (presser.sealer_id, presser.agency_id)},
        )
    row["updated_at"] = unit.now
    await incident_store.update_many(unit.connection, [row])
    unit.emit(row["agency_id"], "incident.updated", incident_store.incident_json(row))
    return result


async def audit_press(unit: Unit, action: str, agency_id: uuid.UUID, device_id: uuid.UUID | None, row: Row) -> None:
    """What her device did, in the audit. It is chained later, by the sealer: here nobody waits for anybody."""
    await audit.write(
        unit.later,
        unit.now,
        agency_id=agency_id,
        actor_kind="device" if device_id is not None else "unknown",
        actor_id=device_id,
        action=action,
        subject_kind="incident",
        subject_id=row["id"],
        person_ids=[row["victim_id"]],
    )


def _fix_age(panic: PanicIn) -> dict[str, float | None] | None:
    if panic.lat is None or panic.at_ms is None:
        return None
    return {"victim": max(0.0, (panic.received_ms - panic.at_ms) / 1000.0), "aggressor": None}


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
