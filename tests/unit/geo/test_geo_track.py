"""The filter of fixes: what moves an estimate, how soon, how sure it is, and what a receiver gives away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.domain.ping import (
    FLAG_POSITION,
    FLAG_PRIMARY,
    NO,
    NO_SEQ,
    RECORD,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    YES,
    Source,
)
from device_sim.noise import CITY, ERROR_MEMORY_S, RADIUS_68_PER_SIGMA
from geo import fix_filter as filters
from geo.doubts import NOTE_FORGED
from geo.fix_filter import (
    CRUISE,
    MANOEUVRE,
    NOTE_ACCEPTED,
    NOTE_CONFLICT,
    NOTE_FROZEN,
    NOTE_JUMP,
    NOTE_SUSPECT,
    REST,
)
from geo.frame import Floats, flatten, tangent_plane, to_degrees
from geo.track import EXACT, LIVE, PLACE, PP, PV, STEP, TAKEN, VV, WIDTH, candidates, is_newer

START_MS = 1_760_000_000_000
NAN = float("nan")
ALMATY = (43.25, 76.95)
CONDITION_MEMORY_S = 20.0


class Devices:
    """n devices side by side, their places in metres east and north of one spot."""

    def __init__(self, count: int = 1, spot: tuple[float, float] = ALMATY) -> None:
        self.plane = tangent_plane(*spot)
        self.rows: Floats = np.zeros((count, WIDTH))
        self.now_ms = np.full(count, START_MS)
        self.notes: NDArray[np.int64] = np.zeros(count, np.int64)

    def records(
        self, now_s: float, metres: Any, accuracy_m: Any = 10.0, *, speed_mps: Any = NAN, heading_deg: Any = NAN,
        source: Any = Source.GPS, moving: int = 0,
    ) -> NDArray[np.void]:  # fmt: skip
        spots = np.broadcast_to(np.asarray(metres, np.float64), (len(self.rows), 2))
        records = np.zeros(len(self.rows), RECORD)
        places = self.plane[:3] + spots[:, :1] * self.plane[3:6] + spots[:, 1:] * self.plane[6:9]
        records["lat"], records["lon"] = to_degrees(places)
        records["accuracy_m"], records["speed_mps"], records["heading_deg"] = accuracy_m, speed_mps, heading_deg
        records["at_ms"], records["seq"] = START_MS + round(now_s * 1000), NO_SEQ
        flags = FLAG_POSITION | FLAG_PRIMARY | moving << SHIFT_MOVING
        records["flags"] = flags | np.asarray(source, np.uint32) << np.uint32(SHIFT_SOURCE)
        return records

    def ping(self, now_s: float, metres: Any, *more: Any, **others: Any) -> int:
        records = self.records(now_s, metres, *more, **others)
        self.now_ms = records["at_ms"].copy()
        fixes, may = candidates(records, self.now_ms)
        assert may.all()
        self.rows, self.notes = filters.advance(self.rows, fixes, records["heading_deg"])
        return int(self.notes[0])

    @property
    def metres(self) -> Floats:
        return flatten(self.plane, self.rows[:, PLACE])

    def off_m(self, metres: Any) -> float:
        """How far the first device's estimate is from a spot."""
        return float(np.hypot(*(self.metres[0] - np.asarray(metres))))

    @property
    def level(self) -> int:
        return int(filters.level_of(self.rows)[0])

    @property
    def sigma_m(self) -> float:
        return float(np.sqrt(self.rows[0, PP]))

    def speeds(self) -> Floats:
        return np.linalg.norm(filters.velocity(self.rows), axis=1)


def resting(spot: tuple[float, float] = ALMATY) -> Devices:
    """A device that has rested at the origin for twenty minutes, a fix a minute."""
    device = Devices(spot=spot)
    wander = np.random.default_rng(4)
    for minute in range(20):
        device.ping(60 * minute, wander.normal(0, 4, 2))
    assert device.level == REST
    return device


class CityNoise:
    """`device_sim.noise.CityNoise` for n devices at once."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = np.random.default_rng(seed)
        self.weights = [condition.weight for condition in CITY]
        self.bounds = np.array([condition.sigma_m for condition in CITY])
        self.sources = np.array([int(Source[condition.source.upper()]) for condition in CITY])
        self.kind, self.sigma = self._chosen(count)
        self.error = self.random.standard_normal((count, 2))

    def _chosen(self, count: int) -> tuple[NDArray[np.int64], Floats]:
        kind = self.random.choice(len(CITY), count, p=self.weights)
        return kind, self.random.uniform(*self.bounds[kind].T)

    def after(self, seconds: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Errors (n, 2), accuracies and sources (n,) of the next fixes."""
        count = len(self.kind)
        kept = np.exp(-seconds / ERROR_MEMORY_S)
        self.error = kept * self.error + np.sqrt(1 - kept**2) * self.random.standard_normal((count, 2))
        changed = self.random.random(count) >= np.exp(-seconds / CONDITION_MEMORY_S)
        kind, sigma = self._chosen(count)
        other = changed & (self.sources[kind] != self.sources[self.kind])
        self.error[other] = self.random.standard_normal((int(other.sum()), 2))
        self.kind, self.sigma = np.where(changed, kind, self.kind), np.where(changed, sigma, self.sigma)
        claimed = RADIUS_68_PER_SIGMA * self.sigma * np.exp(0.15 * self.random.standard_normal(count))
        return self.error * self.sigma[:, None], claimed, self.sources[self.kind]


def drive(way: Floats, interval_s: float, seed: int = 1) -> tuple[Floats, Floats, Floats]:
    """Devices along ways (T, n, 2), in metres, by city noise: errors (T, n, 2), variances and levels (T, n)."""
    devices, noise = Devices(way.shape[1]), CityNoise(seed, way.shape[1])
    errors, variances, levels = np.empty_like(way), np.empty(way.shape[:2]), np.empty(way.shape[:2])
    for k, spots in enumerate(way):
        error, accuracy, source = noise.after(interval_s)
        devices.ping(k * interval_s, spots + error, accuracy, source=source)
        errors[k], variances[k] = devices.metres - spots, filters.variance(devices.rows, devices.now_ms)
        levels[k] = filters.level_of(devices.rows)
    return errors, variances, levels


def straight(speed_mps: float, interval_s: float, duration_s: float, count: int) -> Floats:
    """Ways (T, n, 2) from the origin in all directions."""
    run = speed_mps * np.arange(0, duration_s, interval_s)
    turn = np.linspace(0, 2 * np.pi, count)
    return np.stack([np.outer(run, np.cos(turn)), np.outer(run, np.sin(turn))], axis=-1)


# --- rest


def test_a_first_fix_is_taken_as_it_is() -> None:
    device = Devices()
    assert device.ping(0, (30.0, 40.0), 15.1) == NOTE_ACCEPTED
    assert device.off_m((30, 40)) < 0.01
    assert device.sigma_m == pytest.approx(10, rel=1e-3)
    assert device.speeds()[0] == 0


def test_a_first_fix_with_speed_and_course_moves_at_once() -> None:
    device = Devices()
    device.ping(0, (0.0, 0.0), speed_mps=10.0, heading_deg=90.0)
    place, _ = filters.estimate(device.rows, device.now_ms + 10_000)
    east, north = flatten(device.plane, place)[0]
    assert 80 < east <= 100
    assert abs(north) < 1


@pytest.mark.parametrize(("accuracy_m", "source", "error_m", "most_m"), [
    (60.0, Source.GPS, 60.0, 4.0), (112.0, Source.WIFI, 120.0, 4.0), (900.0, Source.CELL, 1200.0, 40.0),
])  # fmt: skip
def test_a_poor_fix_of_a_resting_device_hardly_moves_it(
    accuracy_m: float, source: Source, error_m: float, most_m: float
) -> None:
    device = resting()
    before = device.metres[0]
    assert device.ping(1200, (error_m, 0.0), accuracy_m, source=source) == NOTE_ACCEPTED
    assert device.off_m(before) < most_m
    assert device.level == REST


def test_an_hour_by_cell_moves_a_resting_device_little_while_it_says_that_it_is_still() -> None:
    def dragged_m(moving: int) -> float:
        device = resting()
        before = device.metres[0]
        for minute in range(20, 60):
            device.ping(60 * minute, (600.0, 0.0), 900.0, source=Source.CELL, moving=moving)
        return device.off_m(before)

    assert dragged_m(NO) < 200
    assert dragged_m(0) > 450
    assert dragged_m(YES) > 550


def test_a_resting_device_in_a_city_is_known_to_a_few_metres_all_day() -> None:
    errors, _, levels = drive(np.zeros((1440, 60, 2)), 60)
    off = np.hypot(errors[5:, :, 0], errors[5:, :, 1])
    assert np.percentile(off, 50) < 6
    assert np.percentile(off, 95) < 13
    assert np.percentile(off, 99.9) < 75  # the fixes themselves: 1,700 m
    assert (off > 100).sum(axis=0).mean() < 1
    assert (levels == REST).mean() > 0.99


# --- motion


@pytest.mark.parametrize("interval_s", [5, 10, 60])
@pytest.mark.parametrize("speed_mps", [1.4, 16.7])
def test_steady_motion_is_followed_with_less_lag_than_one_interval(speed_mps: float, interval_s: int) -> None:
    way = straight(speed_mps, interval_s, 3600, 60)
    errors, _, levels = drive(way, interval_s)
    course = way[-1] / np.linalg.norm(way[-1], axis=1)[:, None]
    lag_m = -(errors[10:] * course).sum(axis=-1).mean()
    assert abs(lag_m) < speed_mps * interval_s
    assert (levels[10:] == REST).mean() < 0.05


@pytest.mark.parametrize("interval_s", [1, 5, 10, 60])
@pytest.mark.parametrize("speed_mps", [0.0, 1.4, 16.7])
def test_an_estimate_is_as_sure_as_it_may_be(speed_mps: float, interval_s: int) -> None:
    errors, variances, _ = drive(straight(speed_mps, interval_s, min(900 * interval_s, 3600), 100), interval_s)
    squares = ((errors**2).sum(axis=-1) / variances)[10:]
    assert 0.60 < (squares < 2.28).mean() < 0.93  # 68 %
    assert (squares < 5.99).mean() > 0.91  # 95 %
    assert 1 / 3 < squares.mean() / 2 < 1.5


@pytest.mark.parametrize(("speed_mps", "level"), [(1.4, CRUISE), (16.7, MANOEUVRE)])
def test_the_first_fix_after_rest_is_followed_at_once(speed_mps: float, level: int) -> None:
    device = resting()
    spot = (60 * speed_mps, 0.0)
    assert device.ping(1200, spot) == NOTE_ACCEPTED
    assert device.level == level
    assert device.off_m(spot) < 0.1 * spot[0]
    assert device.speeds()[0] > 0.5 * speed_mps


def test_who_starts_walking_between_two_fixes_is_followed_by_the_second_of_them() -> None:
    way = straight(1.4, 60, 3600, 100)
    starts = np.random.default_rng(2).uniform(0, 60, 100)
    run = np.clip(60.0 * np.arange(60)[:, None] - 1800 - starts, 0, None) * 1.4
    turn = way[-1] / np.linalg.norm(way[-1], axis=1)[:, None]
    errors, _, levels = drive(run[:, :, None] * turn, 60)
    off = np.hypot(errors[..., 0], errors[..., 1])
    assert np.percentile(off[31], 50) < 25
    assert (levels[32] != REST).mean() > 0.85
    assert np.percentile(off[32], 90) < 45


def test_who_stops_is_at_rest_within_two_intervals() -> None:
    device = Devices()
    for k in range(10):
        device.ping(60 * k, (84.0 * k, 0.0))
    assert device.level == CRUISE
    for k in range(10, 13):
        device.ping(60 * k, (84.0 * 9, 0.0))
    assert device.level == REST
    assert device.speeds()[0] == 0
    assert device.off_m((84 * 9, 0)) < 8


def test_a_walker_of_whom_only_the_cell_is_known_is_followed_unsurely() -> None:
    errors, variances = drive_by_cell(straight(1.4, 60, 7200, 60))
    off = np.hypot(errors[10:, :, 0], errors[10:, :, 1])
    assert np.percentile(off, 95) < 1000  # the fixes themselves: 1,470 m
    assert ((errors**2).sum(axis=-1) / variances < 5.99)[10:].mean() > 0.9


def drive_by_cell(way: Floats) -> tuple[Floats, Floats]:
    """Errors and variances of devices along ways, of which only the cell is known."""
    random, devices = np.random.default_rng(1), Devices(way.shape[1])
    errors, variances = np.empty_like(way), np.empty(way.shape[:2])
    for k, spots in enumerate(way):
        devices.ping(60 * k, spots + random.normal(0, 600, spots.shape), 906.0, source=Source.CELL)
        errors[k], variances[k] = devices.metres - spots, devices.rows[:, PP]
    return errors, variances


def test_a_told_speed_of_zero_stops_what_was_driving() -> None:
    device = Devices()
    for k in range(6):
        device.ping(10 * k, (150.0 * k, 0.0), speed_mps=15.0)
    assert device.speeds()[0] == pytest.approx(15, rel=0.2)
    device.ping(60, (860.0, 0.0), speed_mps=0.0)
    assert device.speeds()[0] < 1


def test_an_estimate_grows_unsure_with_its_age_the_faster_the_faster_it_went() -> None:
    walker, driver = Devices(), Devices()
    for k in range(20):
        walker.ping(10 * k, (14.0 * k, 0.0))
        driver.ping(10 * k, (167.0 * k, 0.0))
    ages = np.array([0, 5, 30, 60, 300, 3600]) * 1000
    grown = [[float(filters.variance(each.rows, each.now_ms + age)[0]) for age in ages] for each in (walker, driver)]
    for of_one in grown:
        assert of_one == sorted(of_one)
    assert (np.array(grown[1][2:]) > 10 * np.array(grown[0][2:])).all()
    place, variance = filters.estimate(walker.rows, walker.now_ms + 30_000)
    assert np.hypot(*(flatten(walker.plane, place)[0] - (14 * 19 + 42, 0))) < 2 * np.sqrt(variance[0])
    assert filters.velocity_variance(walker.rows, walker.now_ms + 30_000)[0] > 0


def test_who_drove_a_minute_ago_and_stands_may_drive_on() -> None:
    parked, driver = resting(), Devices()
    for k in range(20):
        driver.ping(10 * k, (167.0 * min(k, 16), 0.0))
    later = filters.variance(driver.rows, driver.now_ms + 30_000)
    assert later[0] > 4 * filters.variance(parked.rows, parked.now_ms + 30_000)[0]


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


# --- rows


def test_rows_survive_four_bytes_a_column_and_go_on_the_same() -> None:
    devices, noise = Devices(50), CityNoise(3, 50)
    way = np.cumsum(np.random.default_rng(3).normal(0, 300, (40, 50, 2)), axis=0)
    for k, spots in enumerate(way):
        error, accuracy, source = noise.after(20)
        devices.ping(20 * k, spots + error, accuracy, source=source)
        short = devices.rows[:, EXACT:].astype(np.float32).astype(np.float64)
        assert np.array_equal(short, devices.rows[:, EXACT:])


@pytest.mark.parametrize("cuts", [[1], [7, 8], [33], list(range(1, 64))])
def test_any_cut_of_a_batch_gives_the_same_rows_to_the_last_bit(cuts: list[int]) -> None:
    noise, whole = CityNoise(5, 64), Devices(64)
    rows = whole.rows
    random = np.random.default_rng(6)
    for k in range(12):
        error, accuracy, source = noise.after(30)
        spots = random.normal(0, 20, (64, 2)) + 900 * (random.random((64, 1)) < 0.1) * k + error
        records = whole.records(30 * k, spots, accuracy, source=source, speed_mps=random.choice([NAN, 0.0, 2.0], 64))
        fixes, _ = candidates(records, records["at_ms"])
        whole.rows, notes = filters.advance(whole.rows, fixes, records["heading_deg"])
        bounds = [0, *cuts, 64]
        done = [filters.advance(rows[a:b], fixes[a:b], records["heading_deg"][a:b])
                for a, b in pairwise(bounds)]  # fmt: skip
        rows = np.concatenate([each[0] for each in done])
        assert np.array_equal(rows, whole.rows)
        assert np.array_equal(np.concatenate([each[1] for each in done]), notes)


@pytest.mark.parametrize("spot", [(43.25, 76.95), (0.0, 180.0), (-33.0, -179.9999), (90.0, 0.0), (89.9999, 50.0)])
def test_there_is_no_seam_at_the_date_line_or_a_pole(spot: tuple[float, float]) -> None:
    device, near = Devices(spot=spot), Devices()
    for k in range(12):
        for each in (device, near):
            assert each.ping(60 * k, (-400.0 + 84 * k, 0.0)) == NOTE_ACCEPTED
    assert device.off_m(near.metres[0]) < 0.01
    assert device.speeds()[0] == pytest.approx(near.speeds()[0], rel=1e-3)
    assert np.linalg.norm(device.rows[0, STEP]) == pytest.approx(84, rel=0.1)


def test_variances_stay_variances() -> None:
    device = Devices()
    random = np.random.default_rng(8)
    now_s = 0.0
    for _ in range(400):
        now_s += float(random.choice([0.001, 1, 60, 3600, 1e6]))
        device.ping(now_s, random.normal(0, 10 ** random.uniform(0, 5), 2), float(random.choice([0.1, 10, 1e6])))
        pp, pv, vv = device.rows[0, [PP, PV, VV]]
        assert pp > 0
        assert vv > 0
        assert pv >= 0
        assert pv * pv <= pp * vv * (1 + 1e-5)
        assert np.isfinite(device.rows).all()
