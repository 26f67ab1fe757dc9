"""Drills: pressed by her, sent to her contacts, marked as a test everywhere, and never told to police.

What is proved is written on the device or the contact (`last_proved_at`); what is not proved in time is a task for the
caseworker. Nobody is sent a test while anything of hers is open.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from core.actions import tasks
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain import drill as rules
from core.domain.delivery import PRIORITY_REST, Delivery
from core.errors import Conflict, NotFound
from core.ids import derived_id, new_id
from core.postgres import drills as store
from core.postgres import routing
from core.postgres import tasks as task_store
from core.postgres.contacts import CONTACTS
from core.postgres.table import Record
from core.postgres.tasks import NewTask

BATCH: Final = 100
"""Drills, contacts and devices that one step takes."""
TASK_WITHIN: Final = timedelta(days=7)
"""By when somebody should have seen to what is not proved."""
EXERCISE: Final = {"exercise": True}


async def press(
    unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID, device_id: uuid.UUID, journal_s: float | None
) -> Record:
    """Take a drill from her device; one pressed again within a minute is the same. Her phone gets a message to answer.

    Nobody else hears of it: no dispatcher's queue, no contact, no officer.
    """
    last = await store.latest(unit.connection, "device_id", device_id)
    if last is not None and unit.now - last["started_at"] < rules.AGAIN_AFTER:
        return last
    # Under duress too: a test that her phone asked for and that stays away would tell whoever holds it.
    takers = await routing.push_devices(unit.connection, [person_id], quiet_too=True)
    phones = [one for one in takers if one["id"] == device_id]
    drill = _row(unit, "device", agency_id, person_id, rules.DEVICE_ANSWERS)
    drill |= {"device_id": device_id, "journal_s": journal_s}
    await store.add(unit.connection, drill)
    for phone in phones:
        unit.queue(
            Delivery(
                agency_id=agency_id,
                incident_id=None,
                cause=drill["id"],
                audience="victim",
                recipient=f"device:{device_id}",
                channel="fcm",
                address=phone["push_token"],
                template=rules.TEMPLATES["device"],
                language=phone["language"],
                data={**EXERCISE, "drill_id": str(drill["id"])},
                priority=PRIORITY_REST,
                person_id=person_id,
            )
        )
    if not phones:  # it takes no messages: that its press was taken is all there is to prove
        await _proved(unit, drill)
    unit.emit(agency_id, "drill.pressed", _json(drill))
    return drill


async def answer(unit: Unit, device_id: uuid.UUID, drill_id: uuid.UUID) -> Record:
    """Her phone has got the message of its drill. Raises NotFound."""
    drill = await store.of_device(unit.connection, device_id, drill_id)
    if drill is None:
        raise NotFound("This device has pressed no such drill.")
    if drill["proved_at"] is None:
        await _proved(unit, drill)
    return drill


async def send_to_contact(unit: Unit, agency_id: uuid.UUID, contact_id: uuid.UUID) -> Record:
    """Send a contact a test, at most one in `CONTACT_EVERY`.

    Raises NotFound; Conflict `state_forbids` when she may not be told of a panic, was sent one lately, or anything of
    the protected person is open.
    """
    contact = await CONTACTS.get(unit.connection, agency_id, contact_id)
    told = await routing.contacts(unit.connection, contact["person_id"])
    if contact_id not in {one["id"] for one in told}:
        raise Conflict("This contact would not be told of a panic either.", code="state_forbids")
    last = await store.latest(unit.connection, "contact_id", contact_id)
    if last is not None and unit.now - last["started_at"] < rules.CONTACT_EVERY:
        raise Conflict("This contact was sent a test within the last month.", code="state_forbids")
    if await store.is_in_danger(unit.connection, contact["person_id"]):
        raise Conflict("Something of hers is open; nobody is sent a test now.", code="state_forbids")
    return await _send(unit, contact)


async def _send(unit: Unit, contact: Record) -> Record:
    drill = _row(unit, "contact", contact["agency_id"], contact["person_id"], rules.CONTACT_ANSWERS)
    drill |= {"contact_id": contact["id"]}
    await store.add(unit.connection, drill)
    for way in contact["channels"]:
        unit.queue(
            Delivery(
                agency_id=contact["agency_id"],
                incident_id=None,
                cause=drill["id"],
                audience="contact",
                recipient=f"contact:{contact['id']}",
                channel=str(way["channel"]),
                address=str(way["address"]),
                template=rules.TEMPLATES["contact"],
                language=contact["language"],
                data=dict(EXERCISE),
                priority=PRIORITY_REST,
                person_id=contact["person_id"],
            )
        )
    return drill


def _row(unit: Unit, kind: str, agency_id: uuid.UUID, person_id: uuid.UUID, answers: timedelta) -> dict[str, Any]:
    return {
        **dict.fromkeys(store.COLUMNS),
        "id": new_id(),
        "agency_id": agency_id,
        "kind": kind,
        "person_id": person_id,
        "started_at": unit.now,
        "answers_by": unit.now + answers,
    }


async def _proved(unit: Unit, drill: Record) -> None:
    drill |= {"proved_at": unit.now, "sent_at": drill["sent_at"] or unit.now}
    await store.prove(unit.connection, drill, unit.now)
    for column in ("device_id", "contact_id"):
        if drill[column] is not None:
            await tasks.close_proved(unit, await store.tasks_about(unit.connection, column, drill[column]))
    unit.emit(drill["agency_id"], "drill.proved", _json(drill))


def _json(drill: Record) -> dict[str, Any]:
    return {
        "drill_id": str(drill["id"]),
        "kind": drill["kind"],
        "exercise": True,
        "device_id": str(drill["device_id"]) if drill["device_id"] else None,
        "contact_id": str(drill["contact_id"]) if drill["contact_id"] else None,
        "person_id": str(drill["person_id"]) if drill["person_id"] else None,
        "proved_at": rfc3339(drill["proved_at"]) if drill["proved_at"] else None,
    }


# by the clock -------------------------------------------------------------------------------------------------------


async def follow(unit: Unit) -> None:
    """Take over what became of the messages of drills: sent, opened, or not answered in time."""
    await store.note_sent(unit.connection, BATCH)
    for drill in await store.answered(unit.connection, BATCH):
        await _proved(unit, {name: drill[name] for name in store.COLUMNS})
    late = await store.unanswered(unit.connection, unit.now, BATCH)
    for drill in late:
        failure = "not_answered" if drill["sent_at"] is not None else "not_sent"
        await store.fail(unit.connection, drill["id"], failure, unit.now)
    await _tell(unit, [drill for drill in late if drill["kind"] == "contact"])


async def send_due(unit: Unit) -> None:
    """Send tests to contacts whose last is a month ago, by day."""
    for contact in await store.due_contacts(unit.connection, unit.now - rules.CONTACT_EVERY, BATCH):
        if rules.in_the_day(unit.now.astimezone(ZoneInfo(contact["time_zone"]))):
            await _send(unit, contact)


async def tell_overdue(unit: Unit) -> None:
    """Make tasks of devices that were not proved for long."""
    before = unit.now - rules.DEVICE_EVERY
    found = await store.overdue_devices(unit.connection, before, unit.now, BATCH)
    made = [
        _task(unit, "device_unproved", one["agency_id"], one["case_id"], {"device_id": str(one["id"])}, one["since"])
        for one in found
    ]
    await tasks.open_tasks(unit, await task_store.add(unit.connection, made, unit.now))


async def _tell(unit: Unit, late: Sequence[Record]) -> None:
    made = [
        _task(unit, "contact_unproved", drill["agency_id"], None, {"contact_id": str(drill["contact_id"])}, drill["id"])
        for drill in late
    ]
    await tasks.open_tasks(unit, await task_store.add(unit.connection, made, unit.now))


def _task(
    unit: Unit, kind: str, agency_id: uuid.UUID, case_id: uuid.UUID | None, detail: dict[str, Any], since: object
) -> NewTask:
    task_id = derived_id("task", kind, *detail.values(), since)
    return NewTask(task_id, agency_id, kind, case_id, None, unit.now, unit.now + TASK_WITHIN, detail)


STEPS: Final = (follow, send_due, tell_overdue)
