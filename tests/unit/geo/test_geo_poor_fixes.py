"""Poor fixes: what they may not do to who rests in a known place, and what is said when nothing better is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.domain.ping import FLAG_PRIMARY, NO, SHIFT_MOVING, SHIFT_SOURCE, YES, Source
from core.domain.transition import Transition
from geo import assurance

GPS = FLAG_PRIMARY | Source.GPS << SHIFT_SOURCE
CELL = FLAG_PRIMARY | Source.CELL << SHIFT_SOURCE
STILL = NO << SHIFT_MOVING
MOVES = YES << SHIFT_MOVING
NAN = float("nan")
HER, HIM = 11, 12


def told(found: list[Transition]) -> list[tuple[str, str]]:
    """What changed in the order: (kind, to)."""
    return [(each.kind, each.to_state) for each in found if each.kind in {"proximity", "approach", "assurance"}]


def rest(world: Any, his_east_m: float, minutes: int = 20) -> None:
    """Both at home and placed by satellites, he so far east of her."""
    world.configure()
    for minute in range(minutes):
        world.ping(60 * minute, HER, 0.0, speed_mps=0.0, flags=GPS | STILL)
        world.ping(60 * minute + 1, HIM, his_east_m, speed_mps=0.0, flags=GPS | STILL)


def cell_hour(world: Any, minutes: range, his_east_m: float, flags: int) -> list[Transition]:
    """She as before; he located by his cell alone, wherever the network believes him to be."""
    out = []
    for minute in minutes:
        out += world.ping(60 * minute, HER, 0.0, speed_mps=0.0, flags=GPS | STILL)
        swing_m = 150.0 if minute % 2 else -150.0
        out += world.ping(60 * minute + 1, HIM, his_east_m, swing_m, speed_mps=NAN, accuracy_m=900.0, flags=flags)
    return out


def test_who_rests_stays_where_good_fixes_placed_him_though_his_cell_is_next_to_her(world: Any) -> None:
    rest(world, 750.0)
    # a guarantee is given up, and no more
    assert told(cell_hour(world, range(20, 60), 150.0, CELL | STILL)) == [("assurance", "likely")]


def test_who_says_that_he_moves_is_not_held_by_where_he_rested(world: Any) -> None:
    rest(world, 750.0)
    assert ("proximity", "breach") in told(cell_hour(world, range(20, 60), 150.0, CELL | MOVES))


def test_who_leaves_after_an_hour_by_cell_is_followed_by_the_first_good_fix(world: Any) -> None:
    rest(world, 750.0)
    cell_hour(world, range(20, 50), 150.0, CELL | STILL)
    world.ping(3000, HER, 0.0, speed_mps=0.0, flags=GPS | STILL)
    assert ("proximity", "breach") in told(world.ping(3001, HIM, 300.0, speed_mps=1.4, flags=GPS | MOVES))


def test_who_was_never_placed_by_any_but_poor_fixes_is_not_known_however_many_they_are(world: Any) -> None:
    world.configure()
    found = []
    for minute in range(8):
        # now a little above the bound (400 m an axis), now a little below
        accuracy_m = 660.0 if minute % 2 == 0 else 560.0
        found += world.ping(60 * minute, HER, 0.0, speed_mps=NAN, accuracy_m=accuracy_m, flags=CELL | STILL)
        found += world.ping(60 * minute + 1, HIM, 1100.0, speed_mps=0.0, flags=GPS | STILL)
    [unknown] = [each for each in found if each.kind == "assurance"]
    assert (unknown.to_state, unknown.detail["reason"]) == ("unknown", "poor_fixes")


@pytest.mark.parametrize(("sigma_m", "state"), [(330.0, assurance.UNKNOWN), (290.0, assurance.LIKELY)])
def test_poor_fixes_are_at_an_end_only_well_below_the_bound_at_which_they_began(sigma_m: float, state: int) -> None:
    one = np.ones(1)

    def after(sigma_m: float, now_s: int, before: int, poor_ms: np.ndarray) -> tuple[int, np.ndarray]:
        states, _, since = assurance.step(
            np.array([before], np.int8), np.zeros(1, np.int64), poor_ms, 0.0 * one, 0.0 * one, 500.0 * one, 700.0 * one,
            sigma_m * one, np.array([True]), 120_000.0 * one, np.array([1_000_000 + 1_000 * now_s]),
        )  # fmt: skip
        return int(states[0]), since

    held, since = after(410.0, 0, assurance.LIKELY, np.zeros(1, np.int64))
    assert held == assurance.LIKELY
    held, since = after(390.0, 60, held, since)
    held, since = after(390.0, 120, held, since)
    assert held == assurance.UNKNOWN
    assert after(sigma_m, 180, held, since)[0] == state


@pytest.mark.parametrize(("gap_m", "graces"), [(1_000.0, 4.0), (6_000.0, 4.0), (7_850.0, 4.5), (30_000.0, 5.5)])
def test_the_silence_of_who_rested_far_off_is_told_by_when_he_could_be_there_at_a_citys_pace(
    gap_m: float, graces: float
) -> None:
    one = np.ones(1)
    _, told_ms = assurance.deadlines_ms(
        service_ms=np.array([[9e9, 0.0]]), fresh_ms=np.full((1, 2), 120_000.0), gap_m=gap_m * one,
        sigma_sum_m=10.0 * one, closing_mps=np.zeros((1, 2)), speed_mps=0.0 * one, radius_m=500.0 * one,
        warning_m=1_500.0 * one, horizon_s=300.0 * one, grace_ms=300_000.0 * one, resting=np.ones((1, 2), np.bool_),
        feared=np.zeros(1, np.bool_), tampered=np.zeros(1, np.bool_),
    )  # fmt: skip
    assert float(told_ms[0]) == pytest.approx(120_000.0 + graces * 300_000.0)
