"""Which fix an open panic's place becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import to_ms
from core.domain.panic import PanicIn, place_doubts
from core.domain.panic_place import EVERY_MS, GOOD_M, STILL_MS, Seen, next_place
from core.ids import new_id

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NOW_MS = to_ms(NOW)


def seen(s: float = 0.0, north_m: float = 0.0, accuracy_m: float | None = 8.0) -> Seen:
    """A fix so many seconds after now, so far north."""
    at_ms = NOW_MS + round(s * 1000)
    return Seen(43.2 + north_m / 111_195, 76.9, accuracy_m, at_ms, at_ms + 500)


fixes = st.lists(
    st.builds(seen, st.floats(-120, 120), st.floats(-500, 500), st.none() | st.floats(0, 5_000)), max_size=5
)


@given(fixes, fixes)
def test_a_place_never_goes_back_in_time_and_never_comes_twice_within_five_seconds(
    first: list[Seen], more: list[Seen]
) -> None:
    told = next_place(None, first)
    assert (told is None) == (not first)
    if told is None:
        return
    after = next_place(told.as_place(), [*first, *more])
    assert after is None or after.moment_ms - told.moment_ms >= EVERY_MS


@pytest.mark.parametrize(
    ("fix", "is_told"),
    [
        (seen(4, 100), False), (seen(5, 100), True), (seen(5, 3), False), (seen(STILL_MS / 1000, 3), True),
        (seen(-5, 100), False),
    ],
)  # fmt: skip
def test_who_moves_is_told_of_soon_and_who_does_not_now_and_then(fix: Seen, is_told: bool) -> None:
    assert (next_place(seen().as_place(), [fix]) is not None) is is_told


def test_a_good_fix_comes_before_a_newer_one_of_a_cell_until_it_is_old() -> None:
    good, wide = seen(-20, 0, 10.0), seen(0, 3_000, 5_000.0)
    assert next_place(None, [wide, good]) is good
    assert next_place(None, [seen(-61, 0, GOOD_M), wide]) is wide


def test_a_clock_that_runs_ahead_counts_from_when_its_fix_came() -> None:
    ahead = Seen(43.2, 76.9, 5.0, NOW_MS + 3_600_000, NOW_MS)
    assert ahead.as_place()["at"] == "2026-05-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("fields", "doubts"),
    [
        ({}, ["missing"]),
        ({"lat": 43.2}, ["missing"]),
        ({"lat": 43.2, "lon": 76.9}, []),
        ({"lat": 43.2, "lon": 76.9, "accuracy_m": 5_000.0}, ["wide"]),
        ({"lat": 43.2, "lon": 76.9, "at_ms": NOW_MS - 3_600_000, "accuracy_m": 800.0}, ["stale", "wide"]),
        ({"lat": 43.2, "lon": 76.9, "at_ms": NOW_MS + 3_600_000}, []),
    ],
)
def test_what_is_doubtful_about_a_place_is_noted(fields: dict[str, Any], doubts: list[str]) -> None:
    panic = PanicIn(id=new_id(), client_id=None, received_ms=NOW_MS, token_digest=None, source="", **fields)
    assert place_doubts(panic) == doubts
