"""Ways that nobody is known to have gone: corrections of an estimate, and courses that are not certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.domain.ping import FLAG_PRIMARY, NO, SHIFT_MOVING, SHIFT_SOURCE, Source
from core.domain.transition import Transition
from geo.doubts import YOUNG_SHIFT
from geo.fix_filter import advance, estimate
from geo.frame import Floats
from geo.track import (
    BELIEF,
    FIX_REST,
    FIX_SIGMA,
    FIX_SPEED,
    FIX_WIDTH,
    LIVE,
    PLACE,
    PP,
    TAKEN,
    VELOCITY,
    VV,
    WIDTH,
    WORD,
)
from geo.view import LEAD_S

GPS = FLAG_PRIMARY | Source.GPS << SHIFT_SOURCE
WIFI = FLAG_PRIMARY | Source.WIFI << SHIFT_SOURCE
CELL = FLAG_PRIMARY | Source.CELL << SHIFT_SOURCE
STILL = NO << SHIFT_MOVING
NAN = float("nan")
HER, HIM = 11, 12
MOVING = 1
"""The level cruise, as a row keeps it."""


def rings(found: list[Transition]) -> list[str]:
    return [each.to_state for each in found if each.kind == "proximity"]


def device(speed_mps: float, unsure_mps: float, sigma_m: float = 20.0) -> Floats:
    """One device that goes along the second axis."""
    row = np.zeros((1, WIDTH))
    row[0, PLACE] = 6_371_000.0, 0.0, 0.0
    row[0, LIVE] = row[0, TAKEN] = 1e12
    row[0, VELOCITY] = 0.0, speed_mps, 0.0
    row[0, PP], row[0, VV] = sigma_m**2, unsure_mps**2
    row[0, BELIEF], row[0, WORD] = -3.5, MOVING | 3 << YOUNG_SHIFT
    return row


def carried_m(row: Floats, seconds: float) -> float:
    place, _ = estimate(row, np.array([1_000_000_000_000 + round(1000 * seconds)]), LEAD_S)
    return float(place[0, 1])


def test_back_from_where_a_cell_had_put_her_she_passed_nobody(world: Any) -> None:
    world.configure()
    for second in range(0, 300, 10):
        world.ping(second, HER, 0.0, speed_mps=0.0, flags=GPS | STILL)
        world.ping(second + 1, HIM, 900.0, speed_mps=0.0, flags=GPS | STILL)
    told = []
    for second in range(300, 330):  # by one far cell that errs alike in each fix she is beyond him, then at home again
        told += world.ping(second, HER, 2_900.0, speed_mps=NAN, accuracy_m=800.0, flags=CELL)
    for second in range(330, 345):
        told += world.ping(second, HER, 0.0, speed_mps=NAN, accuracy_m=60.0, flags=WIFI)
    assert "breach" not in rings(told)


@pytest.mark.parametrize(("speed_mps", "unsure_mps"), [(17.0, 1.0), (5.0, 0.5)])
def test_a_certain_course_is_gone_on_with(speed_mps: float, unsure_mps: float) -> None:
    assert carried_m(device(speed_mps, unsure_mps), 5.0) == pytest.approx(5.0 * speed_mps, rel=0.08)


@pytest.mark.parametrize(("speed_mps", "unsure_mps"), [(12.5, 6.8), (30.0, 20.0)])
def test_an_uncertain_course_carries_nobody_farther_than_a_walk(speed_mps: float, unsure_mps: float) -> None:
    assert carried_m(device(speed_mps, unsure_mps), 5.0) == pytest.approx(5.0 * 1.5, rel=0.05)


def test_a_walker_is_carried_on_however_uncertain_the_course() -> None:
    assert carried_m(device(1.4, 0.8), 5.0) == pytest.approx(5.0 * 1.4, rel=0.05)


def test_fixes_that_say_nothing_carry_an_uncertain_course_no_farther_either() -> None:
    certain, unsure = device(30.0, 1.0), device(30.0, 15.0)
    row = np.concatenate([certain, unsure])
    fix = np.zeros((2, FIX_WIDTH))
    fix[:, PLACE] = row[:, PLACE]
    fix[:, FIX_SIGMA], fix[:, FIX_SPEED], fix[:, FIX_REST] = 600.0, NAN, -2.0
    fix[:, LIVE] = fix[:, TAKEN] = 1e12 + 5_000.0
    after, _ = advance(row, fix, np.full(2, NAN))
    went = after[:, PLACE][:, 1]
    assert went[0] > 130.0
    assert went[1] < 15.0
