"""Who is told of an incident: queues the deliveries of its opening and of every rise in severity.

An episode (incidents of one case within minutes) pages once: a second incident of it is told only when it is more
severe than those that are open.

An agency's routes hear of what reaches their severity, and so do those of the agency on whose ground it is. The
protected person's phone gets a discreet word of a breach or an approach, never of her own panic. Her contacts hear of a
panic only.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from core.actions import live_links
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.delivery import PRIORITY_ALARM, PRIORITY_PANIC, Delivery
from core.domain.incident import SEVERITY_RANK
from core.postgres import routing
from core.postgres.incidents import Row

NOT_FOR_OTHERS: Final = frozenset({"distance_m", "order_id"})
"""Facts of a notice that another agency is not told."""
TOLD_TO_HER: Final = frozenset({"proximity", "approach", "zone"})
"""Types of incident of which the protected person's own phone hears."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An incident as it was when somebody had to hear of it, and why."""

    cause: uuid.UUID
    incident_id: uuid.UUID
    agency_id: uuid.UUID
    type: str
    severity: str
    victim_id: uuid.UUID | None
    data: dict[str, Any]
    to_routes: bool = True
    to_her: bool = True
    template: str = "incident_dispatcher"
    """What the agencies' routes read."""
    jurisdiction_agency_id: uuid.UUID | None = None
    """On whose ground it is; None: the agency's own."""

    @property
    def agency_ids(self) -> tuple[uuid.UUID, ...]:
        """The agencies whose routes hear of it."""
        return tuple(dict.fromkeys(one for one in (self.agency_id, self.jurisdiction_agency_id) if one is not None))


def notice_of(row: Row, cause: uuid.UUID, *, to_routes: bool = True, to_her: bool = True) -> Notice:
    """The incident as it stands in `row`, for the agency's routes, for the protected person, or for both."""
    return Notice(
        cause=cause,
        incident_id=row["id"],
        agency_id=row["agency_id"],
        type=row["type"],
        severity=row["severity"],
        victim_id=row["victim_id"],
        data={
            "incident_id": str(row["id"]),
            "type": row["type"],
            "severity": row["severity"],
            "distance_m": row["distance_m"],
            "occurred_at": rfc3339(row["occurred_at"]),
            "order_id": str(row["order_id"]) if row["order_id"] else None,
            "exercise": row["exercise"],
            "do_not_call": row["do_not_call"],
        },
        to_routes=to_routes,
        to_her=to_her,
        jurisdiction_agency_id=row["jurisdiction_agency_id"],
    )


async def tell(unit: Unit, notices: Sequence[Notice]) -> None:
    """Queue what agencies' routes and protected persons' phones are to hear of `notices`."""
    if not notices:
        return
    agency_ids = sorted({one for notice in notices if notice.to_routes for one in notice.agency_ids})
    routes = await routing.agency_routes(unit.connection, agency_ids) if agency_ids else []
    her_ids = sorted({n.victim_id for n in notices if n.to_her and n.victim_id is not None and n.type in TOLD_TO_HER})
    phones = await routing.push_devices(unit.connection, her_ids) if her_ids else []
    for notice in notices:
        for route in routes:
            if (
                notice.to_routes
                and route["agency_id"] in notice.agency_ids
                and SEVERITY_RANK[route["min_severity"]] <= SEVERITY_RANK[notice.severity]
            ):
                unit.queue(_to_route(notice, route))
        if notice.to_her and notice.type in TOLD_TO_HER:
            for phone in phones:
                if phone["person_id"] == notice.victim_id:
                    unit.queue(_to_her(notice, phone))


async def tell_welfare(unit: Unit, notices: Sequence[Notice]) -> None:
    """Queue what agencies' routes are to hear of welfare checks."""
    routes = await routing.agency_routes(unit.connection, sorted({notice.agency_id for notice in notices}))
    for notice in notices:
        for route in routes:
            if (
                route["agency_id"] == notice.agency_id
                and SEVERITY_RANK[route["min_severity"]] <= SEVERITY_RANK[notice.severity]
            ):
                data = {**notice.data, "event": "notice.welfare_check"}
                unit.queue(replace(_to_route(notice, route), template="welfare_check_dispatcher", data=data))


async def tell_contacts(unit: Unit, notice: Notice) -> int:
    """Queue what the contacts of a person who pressed are to hear; returns how many messages."""
    if notice.victim_id is None:
        return 0
    contacts = await routing.contacts(unit.connection, notice.victim_id)
    deliveries = [delivery for contact in contacts for delivery in contact_deliveries(notice, contact)]
    links = await live_links.make_all(
        unit,
        incident_id=notice.incident_id,
        agency_id=notice.agency_id,
        person_id=notice.victim_id,
        ways=[(contact, str(way["channel"])) for contact in contacts for way in contact["channels"]],
    )
    for delivery, link in zip(deliveries, links, strict=True):
        unit.queue(delivery if link is None else replace(delivery, private={**delivery.private, "link": link}))
    return len(deliveries)


def contact_deliveries(notice: Notice, contact: dict[str, Any]) -> list[Delivery]:
    """What one contact (`id`, `language`, `channels`) is to hear of a panic, a message a channel."""
    return [
        Delivery(
            agency_id=notice.agency_id,
            incident_id=notice.incident_id,
            cause=notice.cause,
            audience="contact",
            recipient=f"contact:{contact['id']}",
            channel=str(way["channel"]),
            address=str(way["address"]),
            template="panic_contact",
            language=contact["language"],
            data={
                "type": notice.type,
                "incident_id": str(notice.incident_id),
                "occurred_at": notice.data["occurred_at"],
            },
            priority=PRIORITY_PANIC,
            person_id=notice.victim_id,
        )
        for way in contact["channels"]
    ]


def _to_route(notice: Notice, route: dict[str, Any]) -> Delivery:
    own = route["agency_id"] == notice.agency_id
    data = notice.data if own else {k: v for k, v in notice.data.items() if k not in NOT_FOR_OTHERS}
    data = {**data, "time_zone": route["time_zone"]}
    return Delivery(
        agency_id=route["agency_id"],
        incident_id=notice.incident_id if own else None,
        cause=notice.cause,
        audience="dispatcher",
        recipient=f"route:{route['id']}",
        channel=route["channel"],
        address=route["address"],
        secret=route["secret"],
        template=notice.template,
        language=route["language"],
        data=data,
        priority=PRIORITY_PANIC if notice.type == "panic" else PRIORITY_ALARM,
    )


def _to_her(notice: Notice, phone: dict[str, Any]) -> Delivery:
    return Delivery(
        agency_id=notice.agency_id,
        incident_id=notice.incident_id,
        cause=notice.cause,
        audience="victim",
        recipient=f"device:{phone['id']}",
        channel="fcm",
        address=phone["push_token"],
        template="incident_victim",
        language=phone["language"],
        data={"type": notice.type, "severity": notice.severity, "occurred_at": notice.data["occurred_at"]},
        priority=PRIORITY_ALARM,
        person_id=phone["person_id"],
    )
