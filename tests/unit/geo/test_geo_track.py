"""The filter of fixes: what moves an estimate, how soon, and how sure it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from core.domain.ping import (
    NO,
    YES,
    Source,
)
from geo import fix_filter as filters
from geo.fix_filter import (
    CRUISE,
    MANOEUVRE,
    NOTE_ACCEPTED,
    REST,
)
from geo.frame import Floats, flatten
from geo.track import EXACT, PP, PV, STEP, VV, candidates
from tests.unit.geo.tracked import (
    NAN,
    CityNoise,
    Devices,
    drive,
    resting,
    straight,
)

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
