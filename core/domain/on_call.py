"""Who is on call: a rota of shifts in wall-clock time, and who stands in for whom.

A rota is a cycle of days, each with shifts from one time of the wall clock to another. A moment is looked up by what
the wall clock shows then in the rota's time zone. So a shift ends at eight whatever the sun does, a night in which the
clocks go forward is an hour shorter for who is on call, and where they go back both hours of the same name are his.
Every moment has a wall-clock time: a rota without a gap on paper has none on any date.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core.errors import InvalidInput

DAY_MIN: Final = 1_440
DUTIES: Final[dict[str, str]] = {"duty_officer": "duty officer", "supervisor": "supervisor"}
CYCLE_DAYS_MAX: Final = 366
SHIFTS_MAX: Final = 1_500
SHIFT_USERS_MAX: Final = 20
GAPS_TOLD: Final = 5


class Shift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From one time to another, which is the next day's where it is not later."""

    day: int
    """Of the cycle, from 0 on."""
    starts: str
    """HH:MM"""
    ends: str
    user_ids: tuple[uuid.UUID, ...]


class Rota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cycle of shifts."""

    time_zone: str
    starts_on: date
    """The first day of a cycle, of any."""
    cycle_days: int
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody stands in for a while."""

    user_id: uuid.UUID
    instead_of: uuid.UUID | None
    """None: instead of whoever is on call then."""
    from_at: datetime
    until_at: datetime


def read_rota(values: dict[str, Any]) -> Rota:
    """A rota out of its JSON form; raises InvalidInput with what is wrong, also where it leaves a gap."""
    try:
        rota = msgspec.convert(values, Rota)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The rota cannot be read: {error}.") from None
    try:
        ZoneInfo(rota.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(f"There is no time zone {rota.time_zone!r:.60}.") from None
    if not 1 <= rota.cycle_days <= CYCLE_DAYS_MAX:
        raise InvalidInput(f"cycle_days has to be between 1 and {CYCLE_DAYS_MAX}.")
    if not 1 <= len(rota.shifts) <= SHIFTS_MAX:
        raise InvalidInput(f"A rota has 1 to {SHIFTS_MAX} shifts.")
    for shift in rota.shifts:
        if not 0 <= shift.day < rota.cycle_days:
            raise InvalidInput(f"A shift is on day {shift.day}; the days of this rota are 0 to {rota.cycle_days - 1}.")
        if not 1 <= len(shift.user_ids) <= SHIFT_USERS_MAX:
            raise InvalidInput(f"The shift of day {shift.day} at {shift.starts} has nobody, or too many.")
        _minutes(shift)
    return rota


def check_whole(rota: Rota, duty: str) -> None:
    """Raise InvalidInput that names the gaps of a rota."""
    if found := gaps(rota):
        named = "; ".join(f"{_said(start)} to {_said(end)}" for start, end in found[:GAPS_TOLD])
        more = f" and {len(found) - GAPS_TOLD} more" if len(found) > GAPS_TOLD else ""
        raise InvalidInput(f"Nobody is {DUTIES[duty]} from {named}{more}.", code="policy_reaches_nobody")


def gaps(rota: Rota) -> list[tuple[int, int]]:
    """Minutes of the cycle, [start, end), in which nobody is on call."""
    whole = rota.cycle_days * DAY_MIN
    parts: list[tuple[int, int]] = []
    for shift in rota.shifts:
        start, end = _minutes(shift)
        parts += [(start, end)] if end <= whole else [(start, whole), (0, min(end - whole, whole))]
    found, covered = [], 0
    for start, end in sorted(parts):
        if start > covered:
            found.append((covered, start))
        covered = max(covered, end)
    if covered < whole:
        found.append((covered, whole))
    return found


def on_call(rota: Rota, overrides: Sequence[Override], moment: datetime) -> tuple[uuid.UUID, ...]:
    """Who is on call at a moment, stand-ins considered in the order given."""
    found = list(
        dict.fromkeys(user for shift in rota.shifts if _covers(rota, shift, moment) for user in shift.user_ids)
    )
    for override in overrides:
        if not override.from_at <= moment < override.until_at:
            continue
        if override.instead_of is None:
            found = []
        elif override.instead_of not in found:
            continue
        found = [user for user in found if user not in (override.instead_of, override.user_id)]
        found.append(override.user_id)
    return tuple(found)


def people_of(rota: Rota) -> list[uuid.UUID]:
    """Everybody who is on it."""
    return sorted({user for shift in rota.shifts for user in shift.user_ids})


def _covers(rota: Rota, shift: Shift, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(rota.time_zone))
    whole = rota.cycle_days * DAY_MIN
    now_min = (local.date() - rota.starts_on).days % rota.cycle_days * DAY_MIN + local.hour * 60 + local.minute
    start, end = _minutes(shift)
    return start <= now_min < end or start <= now_min + whole < end


def _minutes(shift: Shift) -> tuple[int, int]:
    """A shift's [start, end) in minutes of the cycle; the end may be beyond it. Raises InvalidInput."""
    start, end = _minute(shift.starts), _minute(shift.ends)
    if end <= start:
        end += DAY_MIN
    return shift.day * DAY_MIN + start, shift.day * DAY_MIN + end


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    if colon and len(hour) == len(minute) == 2 and (hour + minute).isdigit() and int(minute) < 60:
        found = int(hour) * 60 + int(minute)
        if found <= DAY_MIN:
            return found
    raise InvalidInput(f"A time of a shift is HH:MM, not {text!r:.20}.")


def _said(minute: int) -> str:
    day, rest = divmod(minute, DAY_MIN)
    return f"day {day} {rest // 60:02d}:{rest % 60:02d}"
