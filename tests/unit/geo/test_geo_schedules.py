"""When a place holds: weekly windows by the clock on the wall, on the days the clocks change, and dates of validity."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import to_ms
from core.domain.case import CaseZone
from geo.schedules import holds_at, next_change_ms

WEEK = [1, 2, 3, 4, 5, 6, 7]
MINUTE_MS = 60_000


def zone(*windows: tuple[list[int], str, str], **more: Any) -> CaseZone:
    schedule = [{"days": days, "from": begins, "to": ends} for days, begins, ends in windows]
    return CaseZone(id=uuid.UUID(int=1), kind="exclusion", geometry={}, schedule=schedule or None, **more)


def moment(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


def held(place: CaseZone, time_zone: str, begins: str, ends: str) -> list[tuple[str, str]]:
    """The stretches in which it holds, found by stepping from change to change, in local time with its offset."""
    now, until = moment(begins), moment(ends)
    out: list[tuple[str, str]] = []
    since = now if holds_at(place, time_zone, now) else None
    while now < until:
        change = next_change_ms(place, time_zone, now)
        now = until if change is None else min(change, until)
        holds = holds_at(place, time_zone, now) and now < until
        if since is None and holds:
            since = now
        elif since is not None and not holds:
            out.append((shown(since, time_zone), shown(now, time_zone)))
            since = None
    return out


def shown(now_ms: int, time_zone: str) -> str:
    return datetime.fromtimestamp(now_ms / 1000, ZoneInfo(time_zone)).isoformat(timespec="minutes")[5:]


@pytest.mark.parametrize(
    ("time_zone", "day", "window", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00
        ("Europe/Berlin", "2026-03-29", ("01:00", "05:00"), [("03-29T01:00+01:00", "03-29T05:00+02:00")]),
        ("Europe/Berlin", "2026-03-29", ("02:30", "05:00"), [("03-29T03:00+02:00", "03-29T05:00+02:00")]),
        ("Europe/Berlin", "2026-03-29", ("01:00", "02:30"), [("03-29T01:00+01:00", "03-29T03:00+02:00")]),
        ("Europe/Berlin", "2026-03-29", ("02:15", "02:45"), []),
        ("Europe/Berlin", "2026-03-29", ("02:00", "03:00"), []),
        # Berlin, 25 October 2026: 03:00 becomes 02:00
        ("Europe/Berlin", "2026-10-25", ("01:00", "02:30"), [("10-25T01:00+02:00", "10-25T02:30+01:00")]),
        ("Europe/Berlin", "2026-10-25", ("02:30", "04:00"), [("10-25T02:30+02:00", "10-25T04:00+01:00")]),
        ("Europe/Berlin", "2026-10-25", ("02:15", "02:45"), [("10-25T02:15+02:00", "10-25T02:45+01:00")]),
        ("Europe/Berlin", "2026-10-25", ("00:00", "24:00"), [("10-25T00:00+02:00", "10-26T00:00+01:00")]),
        # New York, 8 March and 1 November 2026
        ("America/New_York", "2026-03-08", ("02:30", "06:00"), [("03-08T03:00-04:00", "03-08T06:00-04:00")]),
        ("America/New_York", "2026-03-08", ("00:00", "24:00"), [("03-08T00:00-05:00", "03-09T00:00-04:00")]),
        ("America/New_York", "2026-11-01", ("00:30", "01:30"), [("11-01T00:30-04:00", "11-01T01:30-05:00")]),
        # Kazakhstan went from UTC+6 to UTC+5 on 1 March 2024: 29 February had its last hour twice
        ("Asia/Almaty", "2024-02-29", ("22:00", "23:30"), [("02-29T22:00+06:00", "02-29T23:30+05:00")]),
        ("Asia/Almaty", "2024-02-29", ("23:15", "24:00"), [("02-29T23:15+06:00", "03-01T00:00+05:00")]),
        ("Asia/Almaty", "2024-03-01", ("00:00", "08:00"), [("03-01T00:00+05:00", "03-01T08:00+05:00")]),
        ("Asia/Almaty", "2026-03-29", ("02:15", "02:45"), [("03-29T02:15+05:00", "03-29T02:45+05:00")]),
        # where the missing hour begins at midnight
        ("Asia/Beirut", "2026-03-29", ("00:00", "06:00"), [("03-29T01:00+03:00", "03-29T06:00+03:00")]),
        ("Asia/Beirut", "2026-03-28", ("20:00", "24:00"), [("03-28T20:00+02:00", "03-29T01:00+03:00")]),
    ],
)  # fmt: skip
def test_a_window_of_one_day_on_the_day_the_clocks_change(
    time_zone: str, day: str, window: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    weekday = datetime.fromisoformat(day).isoweekday()
    place = zone(([weekday], *window))
    begins = (datetime.fromisoformat(day) - timedelta(days=2)).date()
    ends = (datetime.fromisoformat(day) + timedelta(days=3)).date()
    assert held(place, time_zone, f"{begins}T00:00+00:00", f"{ends}T00:00+00:00") == expected


@pytest.mark.parametrize(
    ("time_zone", "saturday", "expected"),
    [
        ("Europe/Berlin", "2026-03-28", ("03-28T22:00+01:00", "03-29T06:00+02:00")),
        ("Europe/Berlin", "2026-10-24", ("10-24T22:00+02:00", "10-25T06:00+01:00")),
        ("America/New_York", "2026-03-07", ("03-07T22:00-05:00", "03-08T06:00-04:00")),
        ("America/New_York", "2026-10-31", ("10-31T22:00-04:00", "11-01T06:00-05:00")),
        ("Asia/Almaty", "2024-03-02", ("03-02T22:00+05:00", "03-03T06:00+05:00")),
    ],
)
def test_a_night_runs_past_midnight_and_over_the_change(
    time_zone: str, saturday: str, expected: tuple[str, str]
) -> None:
    place = zone(([6], "22:00", "06:00"))
    ends = (datetime.fromisoformat(saturday) + timedelta(days=4)).date()
    assert held(place, time_zone, f"{saturday}T06:00+00:00", f"{ends}T00:00+00:00") == [expected]


def test_the_night_in_which_kazakhstan_changed_its_offset_had_an_hour_more() -> None:
    place = zone(([4], "22:00", "06:00"))
    [(begins, ends)] = held(place, "Asia/Almaty", "2024-02-28T00:00+00:00", "2024-03-03T00:00+00:00")
    assert (begins, ends) == ("02-29T22:00+06:00", "03-01T06:00+05:00")
    assert moment(f"2024-{ends}") - moment(f"2024-{begins}") == 9 * 60 * MINUTE_MS


def test_what_begins_and_ends_at_one_time_lasts_a_day() -> None:
    place = zone(([3], "09:00", "09:00"))
    assert held(place, "Asia/Almaty", "2026-03-02T00:00+00:00", "2026-03-08T00:00+00:00") == [
        ("03-04T09:00+05:00", "03-05T09:00+05:00")
    ]


@pytest.mark.parametrize("time_zone", ["Europe/Berlin", "America/New_York", "Asia/Almaty", "Asia/Beirut",
                                       "America/Havana", "Pacific/Apia", "Australia/Lord_Howe"])  # fmt: skip
def test_all_week_is_always_whatever_the_clocks_do(time_zone: str) -> None:
    for place in (zone((WEEK, "00:00", "24:00")), zone((WEEK, "08:00", "20:00"), (WEEK, "20:00", "08:00"))):
        for year in (2011, 2024, 2026):
            begins, ends = f"{year}-01-01T00:00+00:00", f"{year + 1}-01-01T00:00+00:00"
            assert held(place, time_zone, begins, ends) == [
                (shown(moment(begins), time_zone), shown(moment(ends), time_zone))
            ]


@given(
    minutes=st.integers(0, 3 * 366 * 24 * 60),
    time_zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Almaty"]),
    begins=st.integers(0, 1439),
    ends=st.integers(1, 1440),
    days=st.sets(st.integers(1, 7), min_size=1),
)
def test_outside_the_doubled_hour_it_holds_when_the_clock_on_the_wall_says_so(
    minutes: int, time_zone: str, begins: int, ends: int, days: set[int]
) -> None:
    now = moment("2024-01-01T00:00+00:00") + minutes * MINUTE_MS
    local = datetime.fromtimestamp(now / 1000, ZoneInfo(time_zone))
    doubled = any(
        (local + timedelta(minutes=shift)).replace(tzinfo=ZoneInfo(time_zone), fold=0).utcoffset() != local.utcoffset()
        for shift in (-60, 0, 60)
    )
    clock = 60 * local.hour + local.minute
    if ends > begins:
        said = local.isoweekday() in days and begins <= clock < ends
    else:
        yesterday = (local - timedelta(days=1)).isoweekday()
        said = (local.isoweekday() in days and clock >= begins) or (yesterday in days and clock < ends)
    place = zone((sorted(days), text(begins), text(ends)))
    if not doubled:
        assert holds_at(place, time_zone, now) == said


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    windows=st.lists(
        st.tuples(
            st.lists(st.integers(1, 7), min_size=1, max_size=7, unique=True),
            st.sampled_from(["00:00", "02:15", "08:00", "22:00"]),
            st.sampled_from(["02:30", "06:00", "18:00", "24:00"]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_between_two_changes_nothing_changes(minutes: int, windows: list[tuple[list[int], str, str]]) -> None:
    place = zone(*windows)
    now = moment("2026-01-01T00:00+00:00") + minutes * MINUTE_MS
    change = next_change_ms(place, "Europe/Berlin", now)
    assert change is None or change > now
    until = now + 7 * 24 * 60 * MINUTE_MS if change is None else change
    for share in range(20):
        assert holds_at(place, "Europe/Berlin", now + share * (until - now) // 20) == holds_at(
            place, "Europe/Berlin", now
        )


def text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def test_validity_bounds_a_schedule() -> None:
    place = zone((WEEK, "08:00", "18:00"), valid_from_ms=moment("2026-03-02T10:00+05:00"),
                 valid_until_ms=moment("2026-03-03T10:00+05:00"))  # fmt: skip
    assert held(place, "Asia/Almaty", "2026-02-25T00:00+00:00", "2026-03-10T00:00+00:00") == [
        ("03-02T10:00+05:00", "03-02T18:00+05:00"),
        ("03-03T08:00+05:00", "03-03T10:00+05:00"),
    ]


@pytest.mark.parametrize(
    "schedule",
    [
        [{"days": "x", "from": "08:00", "to": "18:00"}],
        [{"days": [], "from": "08:00", "to": "18:00"}],
        [{"days": [9], "from": "08:00", "to": "18:00"}],
        [{"days": [1], "from": "8", "to": "18:00"}],
        [{"days": [1], "from": 8, "to": 18}],
        [{"from": "08:00", "to": "18:00"}],
        ["text"],
        [{"days": [1], "from": "08:00", "to": "18:00"}] * 65,
        [{"days": [1], "from": "08:00", "to": "09:00"}, {"days": [None], "from": "08:00", "to": "09:00"}],
    ],
)
def test_a_schedule_that_cannot_be_read_counts_as_always(schedule: Any) -> None:
    place = CaseZone(id=uuid.UUID(int=1), kind="exclusion", geometry={}, schedule=schedule)
    assert holds_at(place, "Asia/Almaty", moment("2026-03-01T23:00+05:00"))
    next_change_ms(place, "Asia/Almaty", moment("2026-03-01T23:00+05:00"))


@pytest.mark.parametrize("time_zone", ["Nowhere/Land", "", "../../etc/passwd", "Asia/Almaty\0"])
def test_a_time_zone_nobody_knows_counts_as_always(time_zone: str) -> None:
    place = zone(([1], "08:00", "09:00"))
    assert holds_at(place, time_zone, moment("2026-03-01T23:00+05:00"))
    assert next_change_ms(place, time_zone, moment("2026-03-01T23:00+05:00")) is None


@pytest.mark.parametrize("year_ms", [0, -(10**15), 10**15, 10**18])
def test_no_clock_is_so_wrong_that_it_ends_the_shard(year_ms: int) -> None:
    place = zone(([1], "08:00", "09:00"), valid_until_ms=10**25)
    holds_at(place, "Asia/Almaty", year_ms)
    change = next_change_ms(place, "Asia/Almaty", year_ms)
    assert change is None or change < 2**63
