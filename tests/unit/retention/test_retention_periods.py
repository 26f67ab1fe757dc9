"""Periods: named, bounded, without contradiction; and from which day on history is kept."""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec
import pytest

from core.domain.retention import BOUNDS, Periods, check_room, first_day_of_hers, first_day_of_his, read_periods
from core.errors import InvalidInput
from core.postgres.retention_sweeps import SWEEPS

TODAY = date(2026, 5, 20)


def test_every_period_has_bounds_and_its_default_is_within() -> None:
    assert set(BOUNDS) == set(Periods.__struct_fields__)
    assert read_periods({}) == Periods()
    assert all(least <= getattr(Periods(), name) <= most for name, (least, most) in BOUNDS.items())


def test_what_is_promised_by_default() -> None:
    periods = msgspec.structs.asdict(Periods())
    assert (periods["victim_fix_days"], periods["aggressor_fix_days"], periods["audit_days"]) == (7, 90, 3650)
    assert periods["incident_fix_judged_days"] == 3 * 365


@pytest.mark.parametrize("name", BOUNDS)
def test_a_period_out_of_its_bounds_is_refused_by_name(name: str) -> None:
    for value in (BOUNDS[name][0] - 1, BOUNDS[name][1] + 1):
        with pytest.raises(InvalidInput, match=name):
            read_periods({name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"victim_days": 7},
        {"victim_fix_days": "7"},
        {"victim_fix_days": 7.5},
        {"incident_days": 1825, "incident_fix_unjudged_days": 1826},
        {"delivery_days": 30, "delivery_text_days": 31},
        {"audit_days": 1825, "export_days": 1826},
    ],
)
def test_what_is_unknown_or_contradicts_itself_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        read_periods(values)


def test_an_agency_keeps_no_longer_than_the_installation_has_room_for() -> None:
    check_room(Periods(), 7, 455)
    with pytest.raises(InvalidInput, match="at most 7"):
        check_room(Periods(victim_fix_days=8), 7, 455)


def test_days_are_kept_as_long_as_the_most_patient_agency_shows_them() -> None:
    agencies = [Periods(victim_fix_days=3), Periods(victim_fix_days=14)]
    assert first_day_of_hers(TODAY, agencies, 30) == date(2026, 5, 6)
    assert first_day_of_hers(TODAY, agencies, 7) == date(2026, 5, 13), "never longer than there is room"
    assert first_day_of_hers(TODAY, [], 30) == date(2026, 5, 13)


def test_his_days_are_kept_from_the_beginning_of_the_oldest_order_that_counts() -> None:
    agencies = [Periods(aggressor_fix_days=10)]
    assert first_day_of_his(TODAY, agencies, None, 455) == date(2026, 5, 10)
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert first_day_of_his(TODAY, agencies, since, 455) == date(2026, 3, 1)
    assert first_day_of_his(TODAY, agencies, since, 30) == date(2026, 4, 20)


def test_every_sweep_is_of_a_period() -> None:
    for sweep in SWEEPS:
        for rule in filter(None, (sweep.rule, sweep.second)):
            assert f"{rule}_days" in BOUNDS
        assert any(kind for kind, _ in sweep.steps), "something is counted"
