"""Lives are what they claim to be: apart in every second, noisy, interrupted; and the engine can be run over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.benchmarks.detection import carried
from tests.benchmarks.detection.carried import CAUSES, devices
from tests.benchmarks.detection.lived import live
from tests.benchmarks.detection.lives import BANDS, DAY_S, MARGIN_M, Pair, lives
from tests.benchmarks.detection.run_lives import described, false_incidents, figures, lives_task, stretches


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return list(lives(20))


def test_nobody_is_ever_within_the_radius_and_its_margin(pairs: list[Pair]) -> None:
    for pair in pairs:
        hers, his = pair.lives
        apart_m = np.hypot(*(hers.where - his.where).T)
        assert apart_m.min() > pair.alert_m + MARGIN_M
        assert apart_m.min() == pytest.approx(pair.least_m, abs=0.1)


def test_a_third_of_the_homes_at_least_is_within_a_kilometre_under_an_order_of_500_m(pairs: list[Pair]) -> None:
    near = [pair for pair in pairs if pair.band == BANDS[0].name]
    assert len(near) >= len(pairs) / 3
    assert all(600 <= pair.apart_m <= 1_000 and pair.alert_m == 500 for pair in near)
    assert {pair.band for pair in pairs} == {band.name for band in BANDS}


def test_people_leave_home_and_come_back_at_speeds_of_people(pairs: list[Pair]) -> None:
    for life in itertools.chain.from_iterable(pair.lives for pair in pairs):
        assert life.where[0] == pytest.approx(life.home, abs=0.1)
        assert life.where[-1] == pytest.approx(life.home, abs=0.1)
        step_m = np.hypot(*np.diff(life.where, axis=0).T)
        assert step_m.max() < 26
    ways = [life.mode.any() for pair in pairs for life in pair.lives]
    assert np.mean(ways) > 0.8


def test_some_come_straight_towards_the_other_and_turn_away() -> None:
    turned = [(pair, life) for pair in lives(60) for life in pair.lives if life.turned]
    assert len(turned) >= 8
    nearer = 0
    for pair, life in turned:
        other = pair.lives[0] if life is pair.lives[1] else pair.lives[1]
        begin, end = life.turned[0]
        apart_m = np.hypot(*(life.where - other.home).T)[begin : min(end, DAY_S)]
        nearer += bool(apart_m.min() < apart_m[0] - 50)
    assert nearer >= len(turned) / 2


def test_a_pair_is_the_same_whoever_else_is_made(pairs: list[Pair]) -> None:
    again = list(lives(5))
    for one, other in zip(pairs, again, strict=False):
        assert (one.lives[0].where == other.lives[0].where).all()
        assert (devices(one)[1].error_m == devices(other)[1].error_m).all()


def test_errors_are_the_city_mixture_and_hang_together(pairs: list[Pair]) -> None:
    plain = [each for pair in pairs for each in devices(pair)]
    gps = np.concatenate([each.accuracy_m[each.source == carried.GPS] for each in plain]) / 1.51
    assert 5 < np.median(gps) < 10
    assert 0.01 / 3 < np.mean([np.mean(each.source == carried.CELL) for each in plain]) < 0.03
    error_m = plain[0].error_m[:, 0] / (plain[0].accuracy_m / 1.51)
    assert np.corrcoef(error_m[:-5], error_m[5:])[0, 1] > 0.7
    assert abs(np.corrcoef(error_m[:-300], error_m[300:])[0, 1]) < 0.2


def test_dropouts_are_two_a_pair_day_and_some_batteries_run_flat() -> None:
    both = [devices(pair) for pair in lives(60)]
    spells = [
        np.count_nonzero(np.diff((each.cause == CAUSES.index("dropout")).astype(int), prepend=0) == 1)
        for two in both
        for each in two
    ]
    assert sum(spells) / len(both) == pytest.approx(2, abs=0.4)
    flat = [each for two in both for each in two if (each.cause == CAUSES.index("flat battery")).any()]
    assert 1 <= len(flat) <= 15
    for each in flat:
        gone = np.flatnonzero(each.cause == CAUSES.index("flat battery"))
        assert each.battery_pct[gone[0] - 1] < 1
        assert each.silent[gone].all()
        assert len(gone) >= 3_000


def test_the_engine_takes_a_stretch_of_a_day_and_what_it_tells_is_counted(pairs: list[Pair]) -> None:
    lived = live(pairs[:3], asked=True, seconds=3_600)
    assert (lived.pings >= 50).all()
    for one in false_incidents(lived):
        assert described(lived, one)["true_m"] > pairs[one.pair].alert_m


def test_figures_count_by_band_queue_and_family() -> None:
    found = lives_task(0, 1, "choose", asked=False, values={}, peers=True)
    told = figures(found)
    assert told["pair_days"] == 1
    assert told["least_beyond_m"] > MARGIN_M
    band = told["bands"][BANDS[0].name]
    assert sum(band["dispatcher"].values()) + sum(band["operations"].values()) == len(found.rows)
    assert set(band["peers"]) == {"plain", "crossing", "square", "square once"}


def test_tasks_cover_every_pair_once() -> None:
    assert stretches(220) == [(0, 105), (105, 105), (210, 10)]
