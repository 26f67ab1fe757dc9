"""Who is on call: every moment of every date has somebody when the rota has no gap, also when the clocks change."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.escalation import DEFAULTS, plan_of, policy_json, read_policy
from core.domain.on_call import Override, check_whole, gaps, on_call, read_rota
from core.errors import InvalidInput

DAY, NIGHT, OTHER = (uuid.UUID(int=number) for number in (1, 2, 3))


def rota(zone: str = "Europe/Berlin", **change: Any) -> Any:
    shifts = [
        {"day": 0, "starts": "08:00", "ends": "20:00", "user_ids": [str(DAY)]},
        {"day": 0, "starts": "20:00", "ends": "08:00", "user_ids": [str(NIGHT)]},
    ]
    return read_rota({"time_zone": zone, "starts_on": "2026-01-05", "cycle_days": 1, "shifts": shifts, **change})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@given(st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)), st.sampled_from(["Europe/Berlin", "Asia/Almaty"]))
def test_somebody_is_on_call_at_every_moment(moment: datetime, zone: str) -> None:
    assert len(on_call(rota(zone), [], moment.replace(tzinfo=UTC))) == 1


@pytest.mark.parametrize(
    ("begins", "hours"),
    [("2026-03-28T20:00+01:00", 11), ("2026-10-24T20:00+02:00", 13), ("2026-06-01T20:00+02:00", 12)],
)
def test_a_night_is_as_long_as_the_clocks_make_it(begins: str, hours: int) -> None:
    start = at(begins)
    minutes = [on_call(rota(), [], start + timedelta(minutes=minute)) for minute in range(14 * 60)]
    assert minutes.index((DAY,)) == hours * 60
    assert set(minutes[: hours * 60]) == {(NIGHT,)}


def test_a_change_of_a_countrys_zone_moves_the_shifts_with_the_clocks() -> None:
    """Almaty went from UTC+6 to UTC+5 on the first of March 2024."""
    assert on_call(rota("Asia/Almaty"), [], at("2024-02-29T02:30:00+00:00")) == (DAY,)
    assert on_call(rota("Asia/Almaty"), [], at("2024-03-02T02:30:00+00:00")) == (NIGHT,)


def test_a_cycle_goes_on_before_and_after_the_day_it_is_named_by() -> None:
    made = rota(
        cycle_days=2,
        shifts=[
            {"day": 0, "starts": "00:00", "ends": "24:00", "user_ids": [str(DAY)]},
            {"day": 1, "starts": "00:00", "ends": "24:00", "user_ids": [str(NIGHT)]},
        ],
    )
    assert [on_call(made, [], at(f"2026-01-{day:02d}T12:00+01:00")) for day in (3, 4, 5, 6)] == [
        (DAY,), (NIGHT,), (DAY,), (NIGHT,),
    ]  # fmt: skip


def test_gaps_are_named() -> None:
    made = rota(shifts=[{"day": 0, "starts": "08:00", "ends": "20:00", "user_ids": [str(DAY)]}])
    assert gaps(made) == [(0, 480), (1200, 1440)]
    with pytest.raises(InvalidInput, match="Nobody is duty officer from day 0 00:00 to day 0 08:00"):
        check_whole(made, "duty_officer")
    check_whole(rota(), "duty_officer")


def test_who_stands_in() -> None:
    start, end = at("2026-06-01T10:00+02:00"), at("2026-06-01T12:00+02:00")
    for override, expected in (
        (Override(OTHER, DAY, start, end), (OTHER,)),
        (Override(OTHER, None, start, end), (OTHER,)),
        (Override(OTHER, NIGHT, start, end), (DAY,)),
    ):
        assert on_call(rota(), [override], start) == expected
        assert on_call(rota(), [override], end) == (DAY,)


@pytest.mark.parametrize(
    "change",
    [
        {"zone": "Mars/Olympus"}, {"cycle_days": 0}, {"shifts": []},
        {"shifts": [{"day": 3, "starts": "00:00", "ends": "24:00", "user_ids": [str(DAY)]}]},
        {"shifts": [{"day": 0, "starts": "25:00", "ends": "24:00", "user_ids": [str(DAY)]}]},
        {"shifts": [{"day": 0, "starts": "8", "ends": "24:00", "user_ids": [str(DAY)]}]},
        {"shifts": [{"day": 0, "starts": "00:00", "ends": "24:00", "user_ids": []}]},
    ],
)  # fmt: skip
def test_what_is_no_rota_is_refused(change: Any) -> None:
    with pytest.raises(InvalidInput):
        rota(**change)


def test_the_defaults_are_policies_and_say_what_is_promised() -> None:
    assert all(read_policy(policy_json(policy)) == policy for policy in DEFAULTS.values())
    first = {name: [step.delay_s for step in policy.unacknowledged] for name, policy in DEFAULTS.items()}
    assert first == {"critical": [30, 60, 120], "high": [60, 180, 300], "medium": [300, 900], "low": [14_400]}
    assert [step.to for step in DEFAULTS["critical"].unacknowledged] == [
        ("dispatchers", "duty_officer"), ("supervisor",), ("neighbour",),
    ]  # fmt: skip
    assert DEFAULTS["critical"].undispatched[0].delay_s == 90
    assert {(policy.accept_s, policy.late_s) for policy in DEFAULTS.values()} == {(60, 300)}
    assert plan_of(DEFAULTS["medium"].unacknowledged) == [(1, 0, 300), (2, 0, 900)]
