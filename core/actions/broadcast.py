"""Telling of outages: every agency at once, which acknowledges; and whoever is not seen for two minutes, discreetly.

She is told once an outage that the service works in part only, and what to do until it does: nothing of him, of places
or of police. By push to her own phone, else over her safe contact within its hours; never while a panic of hers is
open, or anything says not to call.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.delivery import PRIORITY_ALARM, Delivery
from core.domain.drill import SELF_AGENCY
from core.domain.safe_hours import is_within
from core.errors import NotFound
from core.ids import derived_id
from core.postgres import routing
from core.postgres import service_outages as store
from core.postgres.table import Record

UNSEEN: Final = timedelta(minutes=2)
"""How long she may be unseen before she is told."""
BATCH: Final = 200
WORDS: Final = {"positions": "redis", "detection": "geo", "database": "postgres"}
"""What is missing, as the templates call it."""
SAFE_CHANNELS: Final = ("sms", "email")


async def begin(unit: Unit, what: str, started_at: datetime) -> bool:
    """Tell every agency that the service is without a part since then; False when it was told already."""
    outage_id = derived_id("outage", what, rfc3339(started_at))
    outage = await store.begin(unit.connection, outage_id, what, started_at, unit.now)
    if outage is None:
        return False
    await _tell_agencies(unit, outage, "outage.started", "outage_dispatcher")
    return True


async def end(unit: Unit, what: str) -> bool:
    """Tell every agency that a part works again; False when none was missing."""
    outage = await store.end(unit.connection, what, unit.now)
    if outage is None:
        return False
    await _tell_agencies(unit, outage, "outage.ended", "outage_over_dispatcher")
    return True


async def _tell_agencies(unit: Unit, outage: Record, kind: str, template: str) -> None:
    agencies = await store.agencies(unit.connection, SELF_AGENCY)
    zones = {agency["id"]: agency["time_zone"] for agency in agencies}
    for agency_id in zones:
        unit.emit(agency_id, kind, _json(outage))
    for route in await routing.agency_routes(unit.connection, sorted(zones)):
        unit.queue(
            Delivery(
                agency_id=route["agency_id"],
                incident_id=None,
                cause=derived_id(kind, outage["id"]),
                audience="dispatcher",
                recipient=f"route:{route['id']}",
                channel=route["channel"],
                address=route["address"],
                secret=route["secret"],
                template=template,
                language=route["language"],
                data={
                    "what": WORDS[outage["what"]],
                    "occurred_at": rfc3339(outage["started_at"]),
                    "time_zone": zones[route["agency_id"]],
                    "event": kind,
                },
                priority=PRIORITY_ALARM,
            )
        )


def _json(outage: Record) -> dict[str, Any]:
    return {
        "outage_id": str(outage["id"]),
        "what": outage["what"],
        "started_at": rfc3339(outage["started_at"]),
        "ended_at": rfc3339(outage["ended_at"]) if outage["ended_at"] is not None else None,
    }


async def acknowledge(unit: Unit, asker: Asker, outage_id: uuid.UUID) -> None:
    """Note that the asker's agency has heard of an outage; once. Raises NotFound."""
    if not await store.exists(unit.connection, asker.agency_id, outage_id):
        raise NotFound("There is no such outage.")
    if await store.acknowledge(unit.connection, outage_id, asker.agency_id, asker.user_id, unit.now):
        await note(unit, asker, "outage.acknowledged", "outage", outage_id)
        said = {"outage_id": str(outage_id), "user_id": str(asker.user_id), "at": rfc3339(unit.now)}
        unit.emit(asker.agency_id, "outage.acknowledged", said)


# her ----------------------------------------------------------------------------------------------------------------


async def tell_untracked(unit: Unit) -> None:
    """Tell those who are not seen for two minutes; once an outage each."""
    for person in await store.untracked(unit.connection, unit.now - UNSEEN, BATCH):
        messages = await _tell_her(unit, person, "untracked_victim")
        await store.keep_word(unit.connection, person, messages, unit.now)


async def tell_seen_again(unit: Unit) -> None:
    """Tell those who were told of an outage that it is over."""
    for person in await store.told(unit.connection, BATCH):
        await _tell_her(unit, person, "outage_over_victim")
        await store.keep_over(unit.connection, person, unit.now)


async def _tell_her(unit: Unit, person: Record, template: str) -> int:
    """Queue a word to a person; how many messages."""
    phones = await routing.push_devices(unit.connection, [person["id"]])
    ways = [(f"device:{phone['id']}", "fcm", phone["push_token"]) for phone in phones] or _safe_way(unit, person)
    for recipient, channel, address in ways:
        unit.queue(
            Delivery(
                agency_id=person["agency_id"],
                incident_id=None,
                cause=derived_id(template, person["outage_id"], person["id"]),
                audience="victim",
                recipient=recipient,
                channel=channel,
                address=address,
                template=template,
                language=person["language"],
                priority=PRIORITY_ALARM,
                person_id=person["id"],
            )
        )
    return len(ways)


def _safe_way(unit: Unit, person: Record) -> list[tuple[str, str, str]]:
    safe = person["safe_contact"] or {}
    local = unit.now.astimezone(ZoneInfo(person["time_zone"]))
    if safe.get("channel") not in SAFE_CHANNELS or not safe.get("address") or not is_within(safe.get("hours"), local):
        return []
    return [(f"person:{person['id']}", str(safe["channel"]), str(safe["address"]))]


STEPS: Final = (tell_untracked, tell_seen_again)
