"""Fixes that do not fit: when they are believed after all, and what a receiver gives away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.domain.ping import (
    NO,
    YES,
    Source,
)
from geo import fix_filter as filters
from geo.doubts import NOTE_FORGED
from geo.fix_filter import (
    NOTE_ACCEPTED,
    NOTE_CONFLICT,
    NOTE_FROZEN,
    NOTE_JUMP,
    NOTE_SUSPECT,
)
from geo.frame import flatten
from geo.track import LIVE, TAKEN, candidates, is_newer
from tests.unit.geo.tracked import (
    Devices,
    resting,
)

# --- suspects


def test_a_glitch_is_suspect_and_forgotten() -> None:
    device = resting()
    before = device.metres[0]
    assert device.ping(1200, (20_000.0, 0.0)) == NOTE_SUSPECT
    assert device.off_m(before) == 0
    assert device.rows[0, LIVE] < device.rows[0, TAKEN]
    kept, place, variance = filters.suspected(device.rows)
    assert kept[0]
    assert flatten(device.plane, place)[0] == pytest.approx((20_000, 0), abs=1)
    assert variance[0] == pytest.approx((10 / 1.51) ** 2, rel=1e-3)
    assert device.ping(1260, (0.0, 0.0)) & NOTE_ACCEPTED
    assert not filters.suspected(device.rows)[0][0]
    assert device.off_m((0, 0)) < 10


def test_a_coasting_estimate_grows_unsure() -> None:
    device = resting()
    sigma = device.sigma_m
    device.ping(1200, (20_000.0, 0.0))
    assert filters.variance(device.rows, device.now_ms)[0] > 10 * sigma**2


def test_suspects_that_agree_are_believed_by_the_third() -> None:
    device = resting()
    notes = [device.ping(1200 + 60 * k, (20_000.0 + 10 * k, 0.0)) for k in range(3)]
    assert notes == [NOTE_SUSPECT, NOTE_SUSPECT, NOTE_ACCEPTED | NOTE_JUMP | NOTE_FORGED]
    assert device.off_m((20_020, 0)) < 1
    assert device.speeds()[0] < 2


def test_suspects_that_disagree_are_not_believed() -> None:
    device = resting()
    notes = [device.ping(1200 + 60 * k, (20_000.0 * (-1) ** k, 0.0)) for k in range(8)]
    assert notes == [NOTE_SUSPECT] * 8


def test_a_second_suspect_is_believed_when_the_device_says_it_moves() -> None:
    device = resting()
    assert device.ping(1200, (5_000.0, 0.0)) == NOTE_SUSPECT
    assert device.ping(1260, (5_600.0, 0.0), speed_mps=10.0) & NOTE_ACCEPTED
    assert device.speeds()[0] == pytest.approx(10, rel=0.2)


def test_a_second_suspect_is_believed_when_fast_sampling_sees_it_within_15_s() -> None:
    device = resting()
    assert device.ping(1145, (3_000.0, 0.0)) == NOTE_SUSPECT
    assert device.ping(1150, (3_010.0, 0.0)) & NOTE_ACCEPTED


def test_a_fix_that_the_told_speed_explains_is_believed_at_once() -> None:
    device = resting()
    assert device.ping(1200, (3_600.0, 0.0), speed_mps=60.0) == NOTE_ACCEPTED
    assert device.off_m((3600, 0)) < 50


def test_a_repeat_of_a_suspect_is_not_another() -> None:
    device = resting()
    device.ping(1200, (20_000.0, 0.0))
    fixes, _ = candidates(device.records(1200, (20_000.0, 0.0)), device.now_ms)
    assert not is_newer(fixes, device.rows, device.now_ms).any()


def test_a_long_silence_makes_nothing_suspect() -> None:
    device = resting()
    assert device.ping(1200 + 7200, (15_000.0, 0.0)) == NOTE_ACCEPTED
    assert device.off_m((15_000, 0)) < 5


# --- what a receiver gives away


def test_an_impossible_jump_that_does_not_persist_is_told_once() -> None:
    device = resting()
    assert device.ping(1200, (20_000.0, 0.0)) == NOTE_SUSPECT
    assert device.ping(1260, (0.0, 0.0)) == NOTE_ACCEPTED | NOTE_JUMP
    assert device.ping(1320, (0.0, 0.0)) == NOTE_ACCEPTED


def test_an_impossible_jump_that_persists_is_none() -> None:
    device = resting()
    for k in range(3):
        device.ping(1200 + 60 * k, (20_000.0, 0.0))
    assert device.ping(1380, (20_000.0, 5.0)) == NOTE_ACCEPTED


def test_an_access_point_carried_to_another_town_is_nobodys_jump() -> None:
    device = resting()
    assert device.ping(1200, (20_000.0, 0.0), 60.0, source=Source.WIFI) == NOTE_SUSPECT
    assert device.ping(1260, (0.0, 0.0)) == NOTE_ACCEPTED


def test_a_suspect_that_one_may_reach_is_no_jump() -> None:
    device = resting()
    assert device.ping(1200, (3_600.0, 0.0)) == NOTE_SUSPECT
    assert device.ping(1260, (0.0, 0.0)) == NOTE_ACCEPTED


@pytest.mark.parametrize(("says", "frozen"), [
    ({"moving": YES}, True), ({"speed_mps": 1.4}, True), ({"moving": NO}, False), ({}, False),
])  # fmt: skip
def test_the_same_coordinates_are_frozen_only_when_the_device_says_it_moves(says: dict[str, Any], frozen: bool) -> None:
    device = Devices()
    notes = [device.ping(30 * k, (5.0, 5.0), **says) & NOTE_FROZEN for k in range(5)]
    assert notes == [0, 0, NOTE_FROZEN, NOTE_FROZEN, NOTE_FROZEN] if frozen else [0] * 5
    assert not device.ping(150, (5.0, 6.0), **says) & NOTE_FROZEN


def test_a_sleeper_who_stirs_is_frozen_no_sooner_than_a_minute() -> None:
    device = Devices()
    assert not any(device.ping(5 * k, (5.0, 5.0), moving=YES) & NOTE_FROZEN for k in range(12))
    assert device.ping(60, (5.0, 5.0), moving=YES) & NOTE_FROZEN


def test_a_cell_mast_is_always_at_the_same_place_and_not_frozen() -> None:
    device = Devices()
    notes = [device.ping(60 * k, (5.0, 5.0), 900.0, source=Source.CELL, moving=YES) for k in range(6)]
    assert not any(note & NOTE_FROZEN for note in notes)


def conflict_after(device: Devices, count: int, wifi: Sequence[float] = (30_000.0, 0.0)) -> list[bool]:
    told = []
    for k in range(count):
        device.ping(1200 + 60 * k, (0.0, float(k)))
        told.append(bool(device.ping(1230 + 60 * k, wifi, 112.0, source=Source.WIFI) & NOTE_CONFLICT))
    return told


def test_satellites_against_wifi_is_a_conflict_at_the_third_over_two_minutes_and_ends_when_they_agree() -> None:
    device = resting()
    assert conflict_after(device, 4) == [False, False, True, True]
    assert device.off_m((0, 0)) < 15
    assert device.ping(1440, (0.0, 0.0)) & NOTE_CONFLICT
    assert not device.ping(1470, (40.0, 0.0), 112.0, source=Source.WIFI) & NOTE_CONFLICT


def test_wifi_that_agrees_is_no_conflict() -> None:
    assert not any(conflict_after(resting(), 6, (60.0, 0.0)))
