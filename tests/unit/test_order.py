"""The life of an order: which command leads where, and terms and reminders in civil time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.legal_ground import BY_CODE, GROUNDS, RESTRAINTS, check_term, fill_in
from core.domain.order import (
    EXPIRY_STEPS,
    FINAL,
    TRANSITIONS,
    Status,
    Term,
    ends_by_term,
    expiry_reminders,
    gap_s,
    next_status,
    read_term,
    term_ends_at,
)
from core.errors import Conflict, InvalidInput

ISSUED, IN_FORCE, SUSPENDED, EXPIRED, REVOKED = Status

TABLE = {
    "withhold": {ISSUED: ISSUED},
    "enforce": {ISSUED: IN_FORCE, IN_FORCE: IN_FORCE},
    "serve": {ISSUED: IN_FORCE, IN_FORCE: IN_FORCE, SUSPENDED: SUSPENDED},
    "change": {ISSUED: ISSUED, IN_FORCE: IN_FORCE, SUSPENDED: SUSPENDED},
    "extend": {ISSUED: ISSUED, IN_FORCE: IN_FORCE, SUSPENDED: SUSPENDED},
    "suspend": {IN_FORCE: SUSPENDED},
    "resume": {SUSPENDED: IN_FORCE},
    "expire": {ISSUED: EXPIRED, IN_FORCE: EXPIRED, SUSPENDED: EXPIRED},
    "revoke": {ISSUED: REVOKED, IN_FORCE: REVOKED, SUSPENDED: REVOKED},
}


@pytest.mark.parametrize("command", TRANSITIONS)
@pytest.mark.parametrize("status", Status)
def test_a_command_leads_where_the_picture_says_or_is_refused(command: str, status: Status) -> None:
    if status in TABLE[command]:
        assert next_status(status, command) == TABLE[command][status]
    else:
        with pytest.raises(Conflict) as refused:
            next_status(status, command)
        assert refused.value.code == "state_forbids"
        assert refused.value.context["state"] == status


@given(st.lists(st.sampled_from(sorted(TRANSITIONS)), max_size=30), st.sampled_from(["issued", "in_force"]))
def test_what_is_over_stays_over_whatever_is_asked(commands: list[str], status: str) -> None:
    ended = False
    for command in commands:
        try:
            status = next_status(status, command)
        except Conflict:
            continue
        assert not ended
        ended = status in FINAL


ALMATY, BERLIN, SANTIAGO = "Asia/Almaty", "Europe/Berlin", "America/Santiago"


@pytest.mark.parametrize(
    ("zone", "began", "term", "ends"),
    [
        (ALMATY, "2026-05-01T14:30", Term(30), "2026-05-31T14:30"),
        (ALMATY, "2026-05-01T14:30", Term(30, ends="day_end"), "2026-06-01T00:00"),
        (BERLIN, "2026-03-20T14:30", Term(30), "2026-04-19T14:30"),  # 719 hours: the clocks go forward
        (BERLIN, "2026-10-10T14:30", Term(30), "2026-11-09T14:30"),  # 721 hours
        (BERLIN, "2026-03-28T02:30", Term(1), "2026-03-29T03:30"),  # that time is skipped: after it
        (ALMATY, "2026-01-31T09:00", Term(1, "month"), "2026-02-28T09:00"),
        (ALMATY, "2024-01-31T09:00", Term(1, "month"), "2024-02-29T09:00"),
        (ALMATY, "2024-02-29T09:00", Term(1, "year"), "2025-02-28T09:00"),
        (ALMATY, "2026-11-15T09:00", Term(3, "month"), "2027-02-15T09:00"),
        (SANTIAGO, "2026-08-07T12:00", Term(29, ends="day_end"), "2026-09-06T01:00"),  # midnight is skipped
    ],
)
def test_a_term_is_counted_on_the_calendar_of_its_time_zone(zone: str, began: str, term: Term, ends: str) -> None:
    anchor = datetime.fromisoformat(began).replace(tzinfo=ZoneInfo(zone))
    wanted = datetime.fromisoformat(ends).replace(tzinfo=ZoneInfo(zone))
    assert term_ends_at(anchor, term, zone) == wanted.astimezone(UTC)


def test_of_a_time_the_clocks_show_twice_the_second_is_meant() -> None:
    anchor = datetime(2026, 10, 24, 2, 30, tzinfo=ZoneInfo(BERLIN))
    assert term_ends_at(anchor, Term(1), BERLIN) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
ZONES = st.sampled_from([ALMATY, BERLIN, SANTIAGO, "Australia/Lord_Howe", "Africa/Casablanca", "UTC"])
TERMS = st.one_of(
    st.builds(Term, st.integers(1, 400), st.just("day"), ends=st.sampled_from(["same_time", "day_end"])),
    st.builds(Term, st.integers(1, 60), st.just("month"), ends=st.sampled_from(["same_time", "day_end"])),
)


@given(MOMENTS, ZONES, TERMS)
def test_a_term_protects_for_its_days_and_never_for_less_than_its_hours_but_two(
    anchor: datetime, zone: str, term: Term
) -> None:
    ends = term_ends_at(anchor, term, zone)
    days = term.length if term.unit == "day" else 28 * term.length
    assert ends - anchor >= timedelta(days=days, hours=-2)
    if term.unit == "day":
        assert ends - anchor <= timedelta(days=days + 1, hours=3)
    longer = Term(term.length + 1, term.unit, ends=term.ends)
    assert term_ends_at(anchor, longer, zone) > ends or term.unit == "month"


@given(MOMENTS, ZONES, st.integers(1, 400))
def test_the_wall_clock_shows_the_same_time_at_the_end_unless_it_skips_it(
    anchor: datetime, zone: str, days: int
) -> None:
    began = anchor.astimezone(ZoneInfo(zone))
    ended = term_ends_at(anchor, Term(days), zone).astimezone(ZoneInfo(zone))
    wall = began.replace(tzinfo=None) + timedelta(days=days)
    skipped = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert ended.replace(tzinfo=None) in {wall, skipped}


def test_a_term_waits_for_what_it_is_counted_from() -> None:
    order: dict[str, Any] = {"term": {"length": 30}, "time_zone": ALMATY, "served_at": None}
    assert ends_by_term(order) is None
    order["served_at"] = datetime(2026, 5, 1, tzinfo=UTC)
    assert ends_by_term(order) == datetime(2026, 5, 31, tzinfo=UTC)
    assert ends_by_term({**order, "term": None}) is None


@pytest.mark.parametrize(
    "wrong", [{}, {"length": 0}, {"length": 5000}, {"length": 1, "unit": "week"}, {"length": 2, "x": 1}]
)
def test_a_term_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_term(wrong)


@given(MOMENTS, st.floats(-10, 30))
def test_reminders_come_in_order_and_of_those_past_only_the_most_urgent(until: datetime, days_left: float) -> None:
    now = until - timedelta(days=days_left)
    reminders = expiry_reminders(until, now)
    assert [opens_at for _, opens_at in reminders] == sorted(opens_at for _, opens_at in reminders)
    assert sum(opens_at <= now for _, opens_at in reminders) <= 1
    assert reminders[-1][0] == EXPIRY_STEPS[-1]
    assert all(opens_at == until - step.before for step, opens_at in reminders)


def test_a_gap_runs_until_both_devices_work() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    assert gap_s(start, None, start + timedelta(hours=5)) == 5 * 3600
    assert gap_s(start, start + timedelta(hours=2), start + timedelta(hours=5)) == 2 * 3600
    assert gap_s(start, start - timedelta(hours=2), start) == 0
    assert gap_s(None, start, start) is None


@pytest.mark.parametrize("ground", GROUNDS, ids=lambda ground: ground.code)
def test_every_ground_is_whole_and_its_usual_term_within_its_bounds(ground: Any) -> None:
    assert ground.code.startswith(f"{ground.country.lower()}.")
    assert ground.title.keys() == {"kk", "ru", "en"}
    assert set(ground.restraints) <= RESTRAINTS.keys()
    row = fill_in({"legal_ground": ground.code})
    check_term(row)
    assert row["restraints"]
    assert row["issuer"]


def test_a_ground_fills_in_only_what_the_order_does_not_say() -> None:
    row = fill_in({"legal_ground": "kz.protective_order", "issuer": "Алмалы РУВД", "restraints": ["no_contact"]})
    assert (row["issuer"], row["restraints"]) == ("Алмалы РУВД", ["no_contact"])
    assert row["term"] == {"length": 30, "unit": "day", "from": "service", "ends": "same_time"}
    assert fill_in({"legal_ground": "Gewaltschutzgesetz § 1"}) == {"legal_ground": "Gewaltschutzgesetz § 1"}
    until = {"legal_ground": "kz.protective_order", "valid_until": datetime(2026, 5, 1, tzinfo=UTC)}
    assert "term" not in fill_in(until)


@pytest.mark.parametrize(
    ("code", "term", "holds"),
    [
        ("kz.special_requirements", {"length": 3, "unit": "month"}, True),
        ("kz.special_requirements", {"length": 1, "unit": "year"}, True),
        ("kz.special_requirements", {"length": 2, "unit": "month"}, False),
        ("kz.special_requirements", {"length": 13, "unit": "month"}, False),
        ("kz.protective_order", {"length": 31}, False),
    ],
)
def test_a_term_that_the_law_does_not_know_is_refused(code: str, term: dict[str, Any], holds: bool) -> None:
    assert code in BY_CODE
    row = {"legal_ground": code, "term": term}
    if holds:
        check_term(row)
    else:
        with pytest.raises(InvalidInput):
            check_term(row)
