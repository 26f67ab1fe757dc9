"""Whom a role, a name or a route comes to, and by which ways they can be told.

A user is told by her own channels and in her own browsers; never one who is related to somebody in the incident. Where
somebody has no way at all she is not silently counted as told: the caller learns how many messages there are.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.delivery import PRIORITY_ALARM, PRIORITY_PANIC, Delivery
from core.domain.escalation import ROLES, Target
from core.domain.incident import SEVERITY_RANK
from core.domain.on_call import DUTIES, Rota, on_call, read_rota
from core.ids import derived_id
from core.postgres import agencies, routing, user_channels
from core.postgres import on_call as rotas
from core.postgres.incidents import Row
from core.postgres.user_channels import Staff, StaffAsked

SUPERVISOR: Final = "supervisor"
DISPATCHER: Final = "dispatcher"


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: a template, its facts, and what makes its deliveries' ids."""

    cause: uuid.UUID
    step: int
    template: str
    audience: str
    data: Mapping[str, Any]


@dataclass
class Group:
    """Those of one agency whom some targets come to."""

    users: dict[uuid.UUID, Staff] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)

    def take(self, users: Iterable[Staff], routes: Iterable[dict[str, Any]] = ()) -> None:
        """Add some, each once."""
        self.users |= {user.user_id: user for user in users}
        known = {route["id"] for route in self.routes}
        self.routes += [route for route in routes if route["id"] not in known]


async def people_to_tell(
    unit: Unit, row: Row, agency_id: uuid.UUID, targets: Sequence[str | Target], *, severity: str | None = None
) -> Group:
    """Those of an agency whom targets come to now, for an incident (of another agency as well); `neighbour` is not
    one of the agency's own and is left to the caller."""
    staff = await staff_of(unit, row, agency_id)
    routes = await unit.once(("routes", agency_id), lambda: routing.agency_routes(unit.connection, [agency_id]))
    loud = [
        route for route in routes
        if SEVERITY_RANK[route["min_severity"]] <= SEVERITY_RANK[severity or row["severity"]]
    ]  # fmt: skip
    group = Group()
    for target in targets:
        if isinstance(target, Target):
            group.take([one for one in staff.values() if one.user_id == target.user_id])
            group.take((), [route for route in routes if route["id"] == target.route_id])
        elif target == "dispatchers":
            group.take([one for one in staff.values() if one.role == DISPATCHER], loud)
        elif target in DUTIES:
            group.take(await _on_duty(unit, agency_id, target, staff))
    return group


async def staff_of(unit: Unit, row: Row, agency_id: uuid.UUID) -> Mapping[uuid.UUID, Staff]:
    """An agency's users who may be told of an incident, of another agency's as well."""
    asked = _asked(row, agency_id)
    found: Mapping[uuid.UUID, Staff] = await unit.once(
        ("staff", asked), lambda: user_channels.staff(unit.connection, asked.agency_id, asked.people, asked.case_id)
    )
    return found


async def know_staff(unit: Unit, rows: Iterable[Row]) -> None:
    """Read at once what `staff_of` will be asked for incidents of their own agencies."""
    asked = list(dict.fromkeys(_asked(row, row["agency_id"]) for row in rows))
    for one, staff in zip(asked, await user_channels.staff_of_each(unit.connection, asked), strict=True):
        unit.know(("staff", one), staff)


def _asked(row: Row, agency_id: uuid.UUID) -> StaffAsked:
    if agency_id != row["agency_id"]:
        return StaffAsked(agency_id)
    named = tuple(person for person in (row.get("victim_id"), row.get("aggressor_id")) if person is not None)
    return StaffAsked(agency_id, named, row.get("case_id"))


async def _ways(unit: Unit, users: Sequence[uuid.UUID]) -> list[dict[str, Any]]:
    """The ways to tell users; each user's is read once in a unit."""
    known: dict[uuid.UUID, list[dict[str, Any]]] = await unit.once("ways", _nothing_known)
    missing = [user for user in users if user not in known]
    known |= {user: [] for user in missing}
    for way in await user_channels.of_users(unit.connection, missing):
        known[way["user_id"]].append(way)
    return [way for user in users for way in known[user]]


async def _nothing_known() -> dict[uuid.UUID, list[dict[str, Any]]]:
    return {}


async def _on_duty(unit: Unit, agency_id: uuid.UUID, duty: str, staff: Mapping[uuid.UUID, Staff]) -> list[Staff]:
    """Who is on call; without a rota, or where none of them may be told, every supervisor."""
    rota = await unit.once(("rota", agency_id, duty), lambda: rota_of(unit, agency_id, duty))
    found: list[Staff] = []
    if rota is not None:
        overrides = await unit.once(
            ("overrides", agency_id), lambda: rotas.overrides(unit.connection, [agency_id], unit.now)
        )
        standing_in = [rotas.as_override(one) for one in overrides if one["duty"] == duty]
        found = [staff[user] for user in on_call(rota, standing_in, unit.now) if user in staff]
    return found or [one for one in staff.values() if one.role == SUPERVISOR]


async def rota_of(unit: Unit, agency_id: uuid.UUID, duty: str) -> Rota | None:
    """An agency's rota for a duty, if it has one."""
    for one in await rotas.rotas(unit.connection, [agency_id]):
        if one["duty"] == duty:
            return read_rota(one["body"])
    return None


async def tell_group(
    unit: Unit, row: Row, agency_id: uuid.UUID, group: Group, message: Message, channels: Sequence[str] = ()
) -> int:
    """Queue a message to all of a group by every way they have, or by `channels` alone; how many messages.

    `agency_id` is theirs: their addresses are sealed with its key. An incident of another agency is not named as
    theirs (`incident_id` of the delivery), only in the facts.
    """
    own = agency_id == row["agency_id"]
    agency = await unit.once(("agency", agency_id), lambda: agencies.get(unit.connection, agency_id))
    data = {**message.data, "time_zone": agency["time_zone"]}
    priority = PRIORITY_PANIC if row["type"] == "panic" else PRIORITY_ALARM
    queued = 0
    for route in group.routes:
        if channels and route["channel"] not in channels:
            continue
        unit.queue(
            Delivery(
                agency_id=agency_id, incident_id=row["id"] if own else None, cause=message.cause,
                audience=message.audience, recipient=f"route:{route['id']}", channel=route["channel"],
                address=route["address"], secret=route["secret"], template=message.template,
                language=route["language"], data=data, priority=priority, step=message.step,
            )
        )  # fmt: skip
        queued += 1
    users = sorted(group.users)
    for way in await _ways(unit, users):
        if channels and way["channel"] not in channels:
            continue
        # Two browsers of one user are told each under an id of its own.
        cause = message.cause if way["unique"] is None else derived_id(message.cause, way["unique"])
        unit.queue(
            Delivery(
                agency_id=agency_id, incident_id=row["id"] if own else None, cause=cause, audience=message.audience,
                recipient=f"user:{way['user_id']}", channel=way["channel"], address=way["address"],
                template=message.template, language=way["language"] or group.users[way["user_id"]].language,
                data=data, priority=priority, step=message.step,
            )
        )  # fmt: skip
        queued += 1
    return queued


def facts_of(row: Row) -> dict[str, Any]:
    """What a message to those who work on an incident may say of it."""
    return {
        "incident_id": str(row["id"]),
        "type": row["type"],
        "severity": row["severity"],
        "occurred_at": rfc3339(row["occurred_at"]),
        "exercise": row["exercise"],
    }


# whether a policy reaches anybody -------------------------------------------------------------------------------------


async def unreached(
    unit: Unit,
    agency_id: uuid.UUID,
    wheres: Sequence[tuple[str, Sequence[str | Target], Sequence[str], str]],
    working: frozenset[str],
) -> list[str]:
    """Sentences that say who is missing, one for each of (where, targets, channels, severity) that reaches nobody.

    Every target has to reach somebody by a channel that works here, everybody on a rota besides: at three in the
    morning it is that one of them.
    """
    staff = await user_channels.staff(unit.connection, agency_id, [], None)
    ways = await user_channels.channels_of_users(unit.connection, sorted(staff))
    routes = await routing.agency_routes(unit.connection, [agency_id])
    made = {duty: await rota_of(unit, agency_id, duty) for duty in DUTIES}
    found = []
    for where, targets, channels, severity in wheres:
        wanted = frozenset(channels) & working if channels else working
        if not wanted:
            found.append(f"{where}: none of the channels {', '.join(channels)} is set up.")
            continue
        for target in targets:
            told = _Told(staff, ways, routes, made, wanted, severity)
            found += [f"{where}: {missing}" for missing in told.missing(target)]
    return found


@dataclass
class _Told:
    staff: Mapping[uuid.UUID, Staff]
    ways: Mapping[uuid.UUID, set[str]]
    routes: Sequence[Mapping[str, Any]]
    rotas: Mapping[str, Rota | None]
    wanted: frozenset[str]
    severity: str

    def missing(self, target: str | Target) -> list[str]:
        """Who is missing of a target, in words; empty: it reaches somebody."""
        if isinstance(target, Target):
            return self._missing_named(target)
        if target == "neighbour":
            return []  # who that is depends on the place; its own feed always hears
        if target == "dispatchers":
            by_route = any(
                route["channel"] in self.wanted and SEVERITY_RANK[route["min_severity"]] <= SEVERITY_RANK[self.severity]
                for route in self.routes
            )
            if by_route or any(self._reached(user) for user in self._of_role(DISPATCHER)):
                return []
            return [f"no dispatcher and no route of the agency can be told by {self._words()}."]
        rota = self.rotas[target]
        if rota is not None:
            people = sorted({user for shift in rota.shifts for user in shift.user_ids})
            lost = [str(user) for user in people if not self._reached(user)]
            return [f"on the rota of {target}, {', '.join(lost)} cannot be told by {self._words()}."] if lost else []
        if any(self._reached(user) for user in self._of_role(SUPERVISOR)):
            return []
        return [f"there is no rota of {target}, and no supervisor can be told by {self._words()}."]

    def _missing_named(self, target: Target) -> list[str]:
        if target.user_id is not None:
            if self._reached(target.user_id):
                return []
            return [f"user {target.user_id} is not there or cannot be told by {self._words()}."]
        if any(route["id"] == target.route_id and route["channel"] in self.wanted for route in self.routes):
            return []
        return [f"route {target.route_id} is not there, switched off, or none of {self._words()}."]

    def _of_role(self, role: str) -> list[uuid.UUID]:
        return [user for user, one in self.staff.items() if one.role == role]

    def _reached(self, user_id: uuid.UUID) -> bool:
        return user_id in self.staff and bool(self.ways.get(user_id, set()) & self.wanted)

    def _words(self) -> str:
        return ", ".join(sorted(self.wanted))


assert set(ROLES) == {"dispatchers", "neighbour", *DUTIES}
