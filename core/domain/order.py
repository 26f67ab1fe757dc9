"""The life of a protection order: its states, its terms in civil time, and the deadlines that follow from them.

    issued ──serve, enforce──► in_force ──suspend──► suspended ──resume──► in_force
                                  │ ▲
                                  └─┘ serve, extend (a later end, the same state)
    issued, in_force, suspended ──revoke──► revoked
    issued, in_force, suspended ──expire──► expired

`expired` and `revoked` are final: a new order is entered. Neither closes an incident.

Civil time: a term of days, months or years is counted on the calendar of the order's time zone, whatever its clocks do
meanwhile, so thirty days are not always 720 hours. A wall-clock time that a change of the clocks skips becomes the
moment after the skip, and one that it repeats the second of the two: where the clock leaves a choice, it protects
longer.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from core.errors import Conflict, InvalidInput


class Status(StrEnum):
    """Where an order stands."""

    ISSUED = "issued"
    IN_FORCE = "in_force"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    REVOKED = "revoked"


FINAL: Final = frozenset({Status.EXPIRED, Status.REVOKED})
LIVE: Final = frozenset(Status) - FINAL

_SAME: Final = {status: status for status in Status if status not in FINAL}

TRANSITIONS: Final[dict[str, dict[Status, Status]]] = {
    "change": _SAME,
    "withhold": {Status.ISSUED: Status.ISSUED},
    "enforce": {Status.ISSUED: Status.IN_FORCE, Status.IN_FORCE: Status.IN_FORCE},
    "serve": {**_SAME, Status.ISSUED: Status.IN_FORCE},
    "extend": _SAME,
    "suspend": {Status.IN_FORCE: Status.SUSPENDED},
    "resume": {Status.SUSPENDED: Status.IN_FORCE},
    "expire": dict.fromkeys(LIVE, Status.EXPIRED),
    "revoke": dict.fromkeys(LIVE, Status.REVOKED),
}
"""Command → the states it is allowed in and where each leads. What is not here cannot happen."""

WORDS: Final = {
    Status.EXPIRED: "The order is expired; enter a new one.",
    Status.REVOKED: "The order is revoked; enter a new one.",
    Status.SUSPENDED: "The order is suspended; end the suspension first.",
    Status.ISSUED: "The order is not in force yet; serve it or put it in force first.",
    Status.IN_FORCE: "The order is in force already.",
}


def next_status(current: str, command: str) -> Status:
    """The state after `command`; raises Conflict `state_forbids` where the state does not allow it."""
    state = Status(current)
    following = TRANSITIONS[command].get(state)
    if following is None:
        raise Conflict(WORDS[state], code="state_forbids", state=str(state))
    return following


Unit = Literal["day", "month", "year"]
Anchor = Literal["service", "issue", "start"]
Ends = Literal["same_time", "day_end"]


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"counted_from": "from"}):
    """How long an order holds, as the paper says it: "30 days from service"."""

    length: int
    unit: Unit = "day"
    counted_from: Anchor = "service"
    """service (`served_at`), issue (`issued_at`) or start (`valid_from`)."""
    ends: Ends = "same_time"
    """At the wall-clock time at which it began, or when the last day is over."""


LONGEST_TERM: Final[dict[str, int]] = {"day": 3660, "month": 120, "year": 10}
ANCHOR_COLUMNS: Final[dict[str, str]] = {"service": "served_at", "issue": "issued_at", "start": "valid_from"}


def read_term(values: Mapping[str, Any]) -> Term:
    """A term out of its JSON form; raises InvalidInput that says what is wrong."""
    try:
        term = msgspec.convert(dict(values), Term)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The term cannot be read: {error}.") from None
    if not 1 <= term.length <= LONGEST_TERM[term.unit]:
        raise InvalidInput(f"A term in {term.unit}s is between 1 and {LONGEST_TERM[term.unit]} long.")
    return term


def term_ends_at(anchor: datetime, term: Term, time_zone: str) -> datetime:
    """When a term that began at `anchor` (aware) is over, in UTC: the first moment at which it holds no longer.

    Days count from the day after the anchor's own, as calendars and courts do; a month that is too short ends on its
    last day (31 January and one month: 28 or 29 February).
    """
    zone = ZoneInfo(time_zone)
    began = anchor.astimezone(zone)
    last_day = _add(began.date(), term.length, term.unit)
    if term.ends == "day_end":
        return _moment(datetime.combine(last_day + timedelta(days=1), time()), zone)
    return _moment(datetime.combine(last_day, began.time()), zone)


def _add(day: date, length: int, unit: Unit) -> date:
    if unit == "day":
        return day + timedelta(days=length)
    months = day.month - 1 + length * (12 if unit == "year" else 1)
    year, month = day.year + months // 12, months % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment of a wall-clock time: of two the later, and of none the one after the clocks have skipped it."""
    return max(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def ends_by_term(order: Mapping[str, Any]) -> datetime | None:
    """When an order ends by its term; None: it has none, or what it is counted from has not happened yet."""
    if not order.get("term"):
        return None
    term = read_term(order["term"])
    anchor = order.get(ANCHOR_COLUMNS[term.counted_from])
    return None if anchor is None else term_ends_at(anchor, term, order["time_zone"])


class Step(NamedTuple):
    """A reminder before an order's end."""

    name: str
    before: timedelta


EXPIRY_STEPS: Final = (
    Step("7d", timedelta(days=7)),
    Step("72h", timedelta(hours=72)),
    Step("24h", timedelta(hours=24)),
)
"""When the caseworkers are told that an order ends; in real hours, so that a change of the clocks moves none."""


def expiry_reminders(valid_until: datetime, now: datetime) -> list[tuple[Step, datetime]]:
    """The reminders an order's end calls for, with when each is told; of those that are past only the most urgent."""
    reminders = [(step, valid_until - step.before) for step in EXPIRY_STEPS]
    past = [reminder for reminder in reminders if reminder[1] <= now]
    return past[-1:] + [reminder for reminder in reminders if reminder[1] > now]


def gap_from(order: Mapping[str, Any]) -> datetime:
    """When her protection was promised: what the unprotected gap is counted from."""
    start: datetime = order.get("issued_at") or order["valid_from"]
    return start


def gap_s(start: datetime | None, protected_at: datetime | None, now: datetime) -> float | None:
    """Seconds from `start` until both devices worked, or until now; never below 0; None: nothing to count from."""
    if start is None:
        return None
    return max(0.0, ((protected_at or now) - start).total_seconds())
