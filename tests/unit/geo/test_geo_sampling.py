"""What devices are asked to wait: by distance, shorter at once, longer slowly, and for him by the rule of cover."""

from __future__ import annotations

import numpy as np
import pytest

from geo import sampling
from geo.asking import DWELL_MS, FORGET_MS, UNASKED
from tests.unit.geo.asking_stage import AGGRESSOR, BEGIN_MS, R_M, VICTIM, Stage

HOUR_S = 3600.0


def place(east_m: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[east_m, 0.0]])


ONE = np.array([0])


@pytest.fixture
def stage() -> Stage:
    """One pair, nobody seen yet."""
    return Stage(1)


def uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoys and no bursts."""
    monkeypatch.setattr(sampling, "DECOY_SHARE", 0.0)
    monkeypatch.setattr(sampling, "BURST_SHARE", 0.0)


def test_the_wait_is_half_of_what_is_safe_and_no_more_than_what_is_left_of_it() -> None:
    bound = sampling.lower_bound_m(np.array([10_000.0]), np.array([20.0]), np.array([10.0]), np.array([4.0]))
    assert bound.tolist() == [10_000 - 60 - 250 - 140]
    safe = sampling.safe_s(np.array([1_600.0, 4_600.0, 4_600.0, 500.0]), np.full(4, R_M))
    assert safe.tolist() == pytest.approx([10, 60, 60, -500 / 60])
    assert sampling.wait_s(safe, np.array([5.0, 5.0, 50.0, 1.0])).tolist() == pytest.approx([5, 30, 10, -500 / 60 - 1])


def test_hers_is_told_to_the_second_and_his_as_one_of_three() -> None:
    waits = np.array([-9.0, 1.0, 5.0, 14.9, 15.0, 59.9, 60.0, 9e9])
    assert sampling.victim_wait_s(waits).tolist() == [1, 1, 5, 14, 15, 59, 60, 60]
    assert sampling.aggressor_step_s(waits).tolist() == [5, 5, 5, 5, 15, 15, 60, 60]


def test_her_device_is_asked_for_more_the_nearer_he_is(stage: Stage) -> None:
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    told = []
    for distance_m in (20_000.0, 5_000.0, 3_000.0, 1_500.0):
        stage.ping(VICTIM, ONE, place(distance_m), 0.0)
        told.append(float(stage.told_s(VICTIM)[0]))
    assert told[0] == 60
    assert told[-1] <= 2
    assert told == sorted(told, reverse=True)


def test_a_longer_wait_is_told_only_after_it_was_wanted_for_a_while(stage: Stage) -> None:
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    stage.ping(VICTIM, ONE, place(1_200.0), 0.0)
    assert stage.told_s(VICTIM)[0] == 1
    for second in range(1, DWELL_MS // 1000 + 1):
        stage.ping(AGGRESSOR, ONE, place(0.0), second)
        stage.ping(VICTIM, ONE, place(9_000.0), second)
        assert stage.told_s(VICTIM)[0] == 1
    stage.ping(AGGRESSOR, ONE, place(0.0), 32)
    stage.ping(VICTIM, ONE, place(9_000.0), 32)
    assert stage.told_s(VICTIM)[0] > 50
    assert len([number for number, _ in stage.asks if number == 1]) == 2


def test_someone_who_comes_slowly_nearer_gets_no_stream_of_corrections(stage: Stage) -> None:
    for second in range(3600):
        if stage.due_s[0, AGGRESSOR] <= second:
            stage.ping(AGGRESSOR, ONE, place(0.0), second)
        if stage.due_s[0, VICTIM] <= second:
            stage.ping(VICTIM, ONE, place(6_000.0 - 1.3 * second), second)
    assert stage.told_s(VICTIM)[0] == 1
    assert len([number for number, _ in stage.asks if number == 1]) < 25


def test_he_is_told_the_shortest_step_while_he_moves_however_far_he_is(stage: Stage) -> None:
    stage.ping(VICTIM, ONE, place(0.0), 0.0)
    for minute in range(180):
        stage.ping(VICTIM, ONE, place(0.0), 60.0 * minute)
        stage.ping(AGGRESSOR, ONE, place(500_000.0 + 200.0 * minute), 60.0 * minute)
        assert stage.told_s(AGGRESSOR)[0] == sampling.FAST_S


@pytest.mark.parametrize(("distance_m", "step"), [(3_000.0, 5), (6_000.0, 15), (12_000.0, 60)])
def test_at_rest_for_two_hours_he_is_told_what_the_distance_allows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, distance_m: float, step: float
) -> None:
    uncovered(monkeypatch)
    for minute in range(125):
        stage.ping(VICTIM, ONE, place(0.0), 60.0 * minute)
        stage.ping(AGGRESSOR, ONE, place(distance_m + 20.0 * (minute % 2)), 60.0 * minute)
        assert minute > 119 or stage.told_s(AGGRESSOR)[0] == sampling.FAST_S
    assert stage.told_s(AGGRESSOR)[0] == step


def test_what_is_on_makes_both_fast(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    uncovered(monkeypatch)
    stage.rested(place(30_000.0), -3 * HOUR_S)
    hot = np.array([True])
    stage.ping(VICTIM, ONE, place(0.0), 0.0)
    stage.ping(AGGRESSOR, ONE, place(30_000.0), 0.0, hot)
    stage.ping(VICTIM, ONE, place(0.0), 1.0, hot)
    assert (stage.told_s(VICTIM)[0], stage.told_s(AGGRESSOR)[0]) == (1, 5)


def test_something_begun_hurries_her_at_once_and_him_not_before_his_next_ping(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncovered(monkeypatch)
    stage.rested(place(30_000.0), -3 * HOUR_S)
    for second in (0.0, 31.0):
        stage.ping(VICTIM, ONE, place(0.0), second)
        stage.ping(AGGRESSOR, ONE, place(30_000.0), second)
    stage.asks.clear()
    stage.asking.hurry(stage.roster, stage.roster.orders.party[stage.orders[0]], BEGIN_MS + 40_000)
    assert stage.asking.take(stage.roster) == [(1, 1.0)]


def test_while_he_is_long_silent_her_battery_is_spared(stage: Stage) -> None:
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    for second in range(0, 400, 10):
        stage.ping(VICTIM, ONE, place(2_500.0), second)
        assert second <= 180 or stage.told_s(VICTIM)[0] in (1, 15)
    assert stage.told_s(VICTIM)[0] == 15


def test_a_device_judged_no_more_goes_back_to_what_is_expected_of_it(stage: Stage) -> None:
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    stage.ping(VICTIM, ONE, place(1_100.0), 0.0)
    assert stage.asks[-1] == (1, 1.0)
    stage.asking.tick(stage.roster, BEGIN_MS + FORGET_MS)
    assert stage.asking.take(stage.roster) == []
    stage.asking.tick(stage.roster, BEGIN_MS + FORGET_MS + 1)
    assert (1, UNASKED) in stage.asking.take(stage.roster)


def test_a_device_made_anew_and_judged_no_more_is_let_go_too(stage: Stage) -> None:
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    stage.ping(VICTIM, ONE, place(1_100.0), 0.0)
    stage.roster.devices.asked_s[stage.rows] = 0.0  # as after a new configuration, or a takeover
    stage.roster.devices.judged_ms[stage.rows] = 0
    for now_ms in (BEGIN_MS + 60_000, BEGIN_MS + 60_001 + FORGET_MS):
        stage.asking.tick(stage.roster, now_ms)
    assert dict(stage.asking.take(stage.roster)) == {1: UNASKED, 2: UNASKED}


def test_what_is_expected_of_a_device_is_never_made_longer() -> None:
    stage = Stage(1, expected_s=4.0)
    stage.ping(AGGRESSOR, ONE, place(0.0), 0.0)
    stage.ping(VICTIM, ONE, place(90_000.0), 0.0)
    stage.ping(AGGRESSOR, ONE, place(0.0), 1.0)
    assert {seconds for _, seconds in stage.asks} == {UNASKED}


def test_bursts_and_decoys_keep_to_their_shares_and_to_their_key() -> None:
    cover, other = sampling.Cover(b"one"), sampling.Cover(b"two")
    numbers = np.repeat(np.arange(500), 200)
    times = BEGIN_MS + np.tile(np.arange(200) * 437_000, 500)
    bursts = cover.is_burst(numbers, times)
    expected = sampling.BURST_SHARE * sum(sampling.BURST_S) / 2 / sampling.WINDOW_S
    assert bursts.mean() == pytest.approx(expected, abs=0.01)
    assert (bursts == sampling.Cover(b"one").is_burst(numbers, times)).all()
    assert 0.2 < (bursts != other.is_burst(numbers, times)).mean() < 0.5
    places = np.random.default_rng(1).uniform(-50_000, 50_000, (len(numbers), 3))
    decoys = cover.is_decoy(numbers, places)
    assert decoys.mean() == pytest.approx(sampling.DECOY_SHARE, abs=0.01)
    assert (decoys != other.is_decoy(numbers, places)).mean() == pytest.approx(0.5, abs=0.01)
