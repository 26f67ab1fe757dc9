"""The contacts who heard of a panic hear that it is over: once somebody has really ended it, and never after duress.

After duress her contacts' messages and pages stay as they were when it looked cancelled: one that speaks of an end
which nobody on her phone knows of could be read by whoever forced her.
"""

from __future__ import annotations

from typing import Final

from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.delivery import PRIORITY_ALARM, Delivery
from core.domain.panic import is_quiet
from core.ids import derived_id
from core.postgres import contact_tellings, routing
from core.postgres.incidents import Row

ALARM: Final = "panic_contact"
TEMPLATE: Final = "panic_all_clear_contact"
OVER: Final = frozenset({"custody", "warned", "victim_safe", "false_alarm", "technical", "suspension"})
"""Outcomes after which "it is over" is true; a duplicate goes on elsewhere, and of the others nobody can say."""


async def tell(unit: Unit, row: Row) -> int:
    """Queue it for a panic that was just resolved; whoever was not reached yet is told of neither. Returns how many."""
    if row["type"] != "panic" or row["exercise"] or row["victim_id"] is None:
        return 0
    if is_quiet(row["detail"]) or row["outcome"] not in OVER:
        return 0
    await contact_tellings.cancel_untried(unit.connection, row["id"], ALARM, unit.now)
    told = await contact_tellings.told(unit.connection, row["id"], ALARM)
    if not told:
        return 0
    queued = 0
    for contact in await routing.contacts(unit.connection, row["victim_id"]):
        for way in contact["channels"]:
            if (contact["id"], way["channel"]) not in told:
                continue
            unit.queue(
                Delivery(
                    agency_id=row["agency_id"],
                    incident_id=row["id"],
                    cause=derived_id("all clear", row["id"], rfc3339(unit.now)),
                    audience="contact",
                    recipient=f"contact:{contact['id']}",
                    channel=str(way["channel"]),
                    address=str(way["address"]),
                    template=TEMPLATE,
                    language=contact["language"],
                    data={"occurred_at": rfc3339(row["occurred_at"])},
                    priority=PRIORITY_ALARM,
                    person_id=row["victim_id"],
                )
            )
            queued += 1
    return queued
