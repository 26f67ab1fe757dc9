"""When a place holds: its validity dates and its weekly windows, by the clock on the wall of a named time zone.

A window begins at the first moment at which the clock shows its beginning, and ends at the last moment at which it
shows its end: in the hour that comes twice it holds through both. What the clock jumps over begins, or ends, at the
jump; a window that lies wholly in the missing hour is not, that day. A window that does not end after it begins
ends on the next day. What cannot be read counts as always, for the zone protects somebody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from core.clock import from_ms, to_ms
from core.domain.case import CaseZone

WINDOWS_MAX: Final = 64
DAY: Final = timedelta(days=1)
LOOK_AHEAD_DAYS: Final = 8
"""Every weekday comes within it, with today's behind us."""
MOMENT_MAX_MS: Final = 1 << 62
"""What begins or ends later than this does so never."""
UNREADABLE: Final = (KeyError, TypeError, ValueError, OverflowError, AttributeError, OSError)


def holds_at(zone: CaseZone, time_zone: str, now_ms: int) -> bool:
    """Whether the zone is in force: within its validity dates and, if it has one, its weekly schedule."""
    if zone.valid_from_ms is not None and now_ms < zone.valid_from_ms:
        return False
    if zone.valid_until_ms is not None and now_ms >= zone.valid_until_ms:
        return False
    if not zone.schedule:
        return True
    try:
        return any(start <= now_ms < end for start, end in _windows(zone.schedule, time_zone, now_ms))
    except UNREADABLE:
        return True


def next_change_ms(zone: CaseZone, time_zone: str, now_ms: int) -> int | None:
    """The next moment at which `holds_at` may change; None: never."""
    moments = [moment for moment in (zone.valid_from_ms, zone.valid_until_ms) if moment is not None]
    if zone.schedule:
        with contextlib.suppress(*UNREADABLE):
            moments += [each for window in _windows(zone.schedule, time_zone, now_ms) for each in window]
    return min((moment for moment in moments if now_ms < moment < MOMENT_MAX_MS), default=None)


def _windows(schedule: Sequence[dict[str, Any]], time_zone: str, now_ms: int) -> list[tuple[int, int]]:
    """The schedule's windows from two days ago to a week ahead, in ms; raises one of `UNREADABLE`."""
    out = []
    if len(schedule) > WINDOWS_MAX:
        raise ValueError("more windows than a schedule may have")
    zone = ZoneInfo(time_zone)
    today = from_ms(now_ms).astimezone(zone).date()
    for window in schedule:
        begins, ends = _minutes(window["from"]), _minutes(window["to"])
        weekdays = {int(weekday) for weekday in window["days"]}
        if not weekdays or not weekdays <= set(range(1, 8)):
            raise ValueError("a window without a weekday")
        for offset in range(-2, LOOK_AHEAD_DAYS):
            day = today + offset * DAY
            if day.isoweekday() in weekdays:
                start = _moment(day, begins, zone, last=False)
                end = _moment(day if ends > begins else day + DAY, ends, zone, last=True)
                if start < end:
                    out.append((start, end))
    return out


def _minutes(clock: str) -> int:
    """Minutes since midnight, 24:00 being 1,440."""
    if clock == "24:00":
        return 1440
    read = time.fromisoformat(clock)
    return 60 * read.hour + read.minute


def _moment(day: date, minutes: int, zone: ZoneInfo, *, last: bool) -> int:
    """When the wall's clock shows so many minutes after midnight: the first or the last time; ms since the epoch."""
    if minutes == 1440:
        day, minutes = day + DAY, 0
    wall = datetime.combine(day, time(minutes // 60, minutes % 60))
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return to_ms(second if last else first)
    # the clock jumps over it; read by either offset, the jump lies between the two
    before, after = second, first
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return to_ms(after)
