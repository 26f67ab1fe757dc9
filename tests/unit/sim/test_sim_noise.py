"""Noise is the mixture it says, hangs together, and reports an accuracy one can believe; radios drop out by seed."""

from __future__ import annotations

import numpy as np
import pytest

from device_sim.geodesy import Frame, Point
from device_sim.noise import CITY, CityNoise, Exact
from device_sim.radio import Radio

TRUTH = Point(43.238, 76.945)


def errors(seed: int, step_s: float, count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    noise, frame = CityNoise(seed), Frame(TRUTH)
    fixes = [noise.fix(TRUTH, n * step_s) for n in range(count)]
    offsets = np.array([frame.offset_m(fix.point) for fix in fixes])
    return offsets, np.array([fix.accuracy_m for fix in fixes]), [fix.source for fix in fixes]


def test_independent_fixes_follow_the_mixture() -> None:
    offsets, accuracies, sources = errors(1, 1000, 20_000)
    assert sources.count("wifi") / len(sources) == pytest.approx(0.04, abs=0.01)
    assert sources.count("cell") / len(sources) == pytest.approx(0.01, abs=0.005)
    street = np.array([source == "gps" for source in sources]) & (accuracies < 20)
    assert street.mean() == pytest.approx(0.85, abs=0.03)
    spread_m = offsets[street].std(axis=0)
    assert spread_m == pytest.approx([7.6, 7.6], abs=0.5)
    assert np.abs(offsets.mean(axis=0)).max() < 3


def test_two_thirds_of_the_errors_are_within_the_reported_accuracy() -> None:
    offsets, accuracies, _ = errors(2, 1000, 20_000)
    assert (np.hypot(*offsets.T) <= accuracies).mean() == pytest.approx(0.68, abs=0.03)


def test_neighbouring_errors_hang_together_and_distant_ones_do_not() -> None:
    near, _, _ = errors(3, 1, 4_000)
    far, _, _ = errors(3, 300, 4_000)

    def kept(offsets: np.ndarray) -> float:
        return float(np.corrcoef(np.clip(offsets[:-1, 0], -30, 30), np.clip(offsets[1:, 0], -30, 30))[0, 1])

    assert kept(near) > 0.8
    assert abs(kept(far)) < 0.1


def test_the_same_seed_gives_the_same_noise_and_another_does_not() -> None:
    assert np.array_equal(errors(4, 5, 200)[0], errors(4, 5, 200)[0])
    assert not np.array_equal(errors(4, 5, 200)[0], errors(5, 5, 200)[0])


def test_the_weights_of_the_city_are_those_of_the_design() -> None:
    assert [condition.weight for condition in CITY] == [0.85, 0.10, 0.04, 0.01]
    assert Exact(7.0).fix(TRUTH, 0).point == TRUTH


def test_a_radio_is_away_when_told() -> None:
    radio = Radio(dropouts=[(10, 20)])
    assert [radio.is_up(t) for t in (0, 10, 19.9, 20)] == [True, False, False, True]


def test_random_dropouts_take_their_share_of_the_time_and_repeat_by_seed() -> None:
    one, same = (Radio(mean_up_s=60, mean_down_s=20, seed=9) for _ in range(2))
    ups = [one.is_up(t) for t in range(100_000)]
    assert ups == [same.is_up(t) for t in range(100_000)]
    assert np.mean(ups) == pytest.approx(0.75, abs=0.03)


def test_late_pings_keep_their_order() -> None:
    radio = Radio(delay_s=5, seed=1)
    releases = [radio.release_s(t) for t in range(500)]
    assert releases == sorted(releases)
    assert all(release >= t for t, release in enumerate(releases))
    assert Radio().release_s(3.0) == 3.0


def test_a_radio_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout"):
        Radio(dropouts=[(5, 1)])
    with pytest.raises(ValueError, match="negative"):
        Radio(delay_s=-1)
