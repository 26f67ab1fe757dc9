"""The detection world itself: its geometry is the earth's, its noise the stated one, and pairs are alone in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from geopy.distance import geodesic
from numpy.typing import NDArray

from core.domain.log import PINGS, TICK, Entry
from core.domain.past import Want
from core.domain.ping import FLAG_BACKLOG, FLAG_EXTRA, FLAG_POSITION, unpack_records
from core.domain.transition import Transition
from geo.memory import EngineChanges
from tests.benchmarks.detection.noise import MIXTURES, NAMES, DeviceNoise, key_of
from tests.benchmarks.detection.pairs import START_MS, Device, Pair, Person, Window
from tests.benchmarks.detection.paths import Path, Place, Walkers, Way
from tests.benchmarks.detection.run_approaches import SCRIPTS
from tests.benchmarks.detection.scene import PLACES, Expected, plans
from tests.benchmarks.detection.scoring import truth
from tests.benchmarks.detection.world import World

PLACE = Place(43.25, 76.95)


class Listener:
    """Keeps the log."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __call__(self, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def records(self, device: int) -> NDArray[np.void]:
        everything = np.concatenate([unpack_records(each.payload) for each in self.entries if each.kind == PINGS])
        mine: NDArray[np.void] = everything[everything["device"] == device]
        return mine


def pair(
    *, hers: Device | None = None, his: Device | None = None, key: int = 1, apart_m: float = 3_000.0, lasts_s: int = 600
) -> Pair:
    return Pair(
        PLACE,
        (
            Person("victim", Way(0, 0).wait(600).path(), (hers or Device("phone", noise="open"),)),
            Person("aggressor", Way(apart_m, 0).wait(600).path(), (his or Device("bracelet", noise="open"),)),
        ),
        ({"victim": 0, "aggressor": 1},),
        lasts_s,
        (key,),
    )


class Deaf:
    """In the engine's place where only the log matters; asks device 2 for a ping every 5 s once, if it asks."""

    def __init__(self, asks: bool = False) -> None:
        self.asks = [(2, 5.0)] if asks else []

    def process(self, _: Sequence[Entry]) -> list[Transition]:
        return []

    def take_changes(self) -> EngineChanges:
        asks, self.asks = self.asks, []
        return EngineChanges({}, [], [], asks)

    def wants(self, _: int) -> list[Want]:
        return []


def log_of(*pairs: Pair, closed_loop: bool = False, asks: bool = False) -> Listener:
    listener = Listener()
    engine: Any = Deaf(asks)
    World(pairs, closed_loop=closed_loop, observers=[listener], engine=engine).run()
    return listener


# --- the earth


@pytest.mark.parametrize("place", [PLACE, *PLACES])
def test_metres_of_a_path_are_metres_on_the_ellipsoid_everywhere(place: Place) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        here, there = random.uniform(-6_000, 6_000, (2, 2))
        true_m = geodesic(place.degrees(*here), place.degrees(*there)).m
        assert np.hypot(*(here - there)) == pytest.approx(true_m, rel=2e-5, abs=0.01)


def test_a_walker_is_where_his_path_says_at_every_moment() -> None:
    path = Way(1_000, 0).wait(30).to(0, 0, 1.4).wait(100).to(300, 400, 5.0).path()
    walkers = Walkers([Path(np.zeros(1), np.zeros(1), np.zeros(1)), path])
    for second in np.arange(0.3, 1_200, 7.1):
        east, north, east_mps, north_mps = walkers.at(np.asarray([0, 1]), np.full(2, second))
        assert (east[1], north[1]) == pytest.approx(tuple(float(each) for each in path.at(np.asarray(second))))
        assert (east[0], north[0]) == (0, 0)
        assert np.hypot(east_mps[1], north_mps[1]) == pytest.approx(0, abs=1e-9) or np.hypot(
            east_mps[1], north_mps[1]
        ) == pytest.approx(1.4 if second < 800 else 5.0)


def test_a_path_of_seconds_is_the_same_way_in_fewer_points() -> None:
    path = Way(0, 0).wait(50).to(140, 0, 1.4).wait(20).to(140, 500, 10.0).path()
    seconds = np.arange(0, 300.0)
    shorter = Path.of_seconds(np.column_stack(path.at(seconds)))
    assert len(shorter.times_s) < 10
    assert np.column_stack(shorter.at(seconds)) == pytest.approx(np.column_stack(path.at(seconds)), abs=0.05)


# --- the noise


def sample(mixture: str, every_s: float, fixes: int = 300, devices: int = 400) -> tuple[NDArray[np.float64], ...]:
    keys = np.asarray([key_of(k) for k in range(devices)])
    noise = DeviceNoise(keys, np.full(devices, NAMES.index(mixture)))
    rows = np.arange(devices)
    parts = [noise.fixes(rows, np.full(devices, every_s * k)) for k in range(fixes)]
    return tuple(np.asarray([part[k] for part in parts]) for k in range(3))


def test_city_noise_has_its_mixture_its_spread_and_an_honest_accuracy() -> None:
    errors, accuracy, source = sample("city", 60.0)
    shares = [np.mean(source == code) for code in (1, 2, 3)]
    assert shares == pytest.approx([0.95, 0.04, 0.01], abs=0.01)
    for code, low, high in ((2, 70.0, 78.0), (3, 550.0, 650.0)):
        assert low < errors[source == code].std() < high
    within = np.hypot(errors[..., 0], errors[..., 1]) <= accuracy
    assert within.mean() == pytest.approx(0.68, abs=0.02)


def test_errors_hang_together_for_half_a_minute() -> None:
    errors, _, _ = sample("open", 1.0, fixes=400)
    east = errors[..., 0]
    for lag, kept in ((3, np.exp(-0.1)), (30, np.exp(-1)), (120, 0.0)):
        assert np.mean(east[:-lag] * east[lag:]) / east.var() == pytest.approx(kept, abs=0.12)


def test_every_mixture_gives_finite_fixes() -> None:
    for name in MIXTURES:
        errors, accuracy, _ = sample(name, 10.0, fixes=20, devices=20)
        assert np.isfinite(errors).all()
        assert (accuracy > 0).all()


# --- the devices


def test_a_device_pings_at_its_interval_with_growing_sequence() -> None:
    records = log_of(pair(hers=Device("phone", 30.0, noise="open"))).records(1)
    assert set(np.diff(records["at_ms"])) <= {29_999, 30_000, 30_001}
    assert list(np.diff(records["seq"])) == [1] * (len(records) - 1)
    assert len(records) == 20


def test_a_silent_window_leaves_nothing_behind() -> None:
    records = log_of(pair(his=Device("bracelet", 10.0, noise="open", windows=(Window(100, 300, "silent"),)))).records(2)
    at_s = (records["at_ms"] - START_MS) / 1000
    assert not ((at_s >= 100) & (at_s < 300)).any()
    assert (at_s >= 300).any()


def test_what_was_recorded_offline_comes_at_once_and_all_but_the_newest_is_backlog() -> None:
    device = Device("bracelet", 10.0, noise="open", windows=(Window(100, 300, "offline"),))
    log = log_of(pair(his=device))
    at_s = (log.records(2)["at_ms"] - START_MS) / 1000
    late = [
        records
        for each in log.entries
        if each.kind == PINGS
        and len(records := unpack_records(each.payload)[unpack_records(each.payload)["device"] == 2]) > 1
    ]
    assert len(late) == 1
    assert len(late[0]) >= 20
    backlog = (late[0]["flags"] & FLAG_BACKLOG) != 0
    assert backlog.sum() == len(backlog) - 1
    assert not backlog[np.argmax(late[0]["at_ms"])]
    assert np.diff(np.sort(at_s)) == pytest.approx(10.0, abs=0.01)


def test_delayed_pings_overtake_each_other_and_none_is_lost() -> None:
    records = log_of(pair(his=Device("bracelet", 5.0, noise="open", delay_s=(0.0, 40.0)))).records(2)
    assert (np.diff(records["at_ms"]) < 0).any()
    assert len(set(records["seq"].tolist())) == len(records) >= 110


def test_a_frozen_device_repeats_its_place_with_fresh_times() -> None:
    device = Device("bracelet", 10.0, noise="city", windows=(Window(200, 400, "frozen"),))
    records = log_of(pair(his=device)).records(2)
    at_s = (records["at_ms"] - START_MS) / 1000
    frozen = records[(at_s >= 200) & (at_s < 400)]
    assert len(frozen) == 20
    assert len(set(frozen["lat"].tolist())) == 1
    assert len(set(records["lat"].tolist())) == len(records) - 19


def test_without_a_fix_it_is_a_heartbeat() -> None:
    records = log_of(pair(his=Device("bracelet", 10.0, noise="open", windows=(Window(0, 100, "nofix"),)))).records(2)
    heartbeat = (records["flags"] & FLAG_POSITION) == 0
    assert np.isnan(records["lat"]).tolist() == heartbeat.tolist()
    assert heartbeat.sum() == 10


def test_a_unit_hears_the_bracelet_only_when_it_is_near() -> None:
    unit = Device("victim_unit", noise="open", hears=True)
    near, far = log_of(pair(hers=unit, apart_m=10.0)), log_of(pair(hers=unit, apart_m=60.0))
    heard = [each for each in near.entries if each.extras]
    assert len(heard) == 10
    for each in heard:
        assert each.extras is not None
        ((index, extra),) = json.loads(each.extras).items()
        record = unpack_records(each.payload)[int(index)]
        assert (int(record["device"]), int(record["flags"]) & FLAG_EXTRA) == (1, FLAG_EXTRA)
        assert extra["heard"][0]["beacon"] == 2
    assert not [each for each in far.entries if each.extras]


def test_there_is_a_tick_in_every_second() -> None:
    ticks = [each.ms for each in log_of(pair()).entries if each.kind == TICK]
    assert ticks == [START_MS + 1000 * (second + 1) for second in range(601)]


# --- the loop and the scripts


def test_an_ask_is_obeyed_from_the_next_ping_on_and_only_in_a_closed_loop() -> None:
    asked = log_of(pair(), closed_loop=True, asks=True)
    first, *gaps = (np.diff(asked.records(2)["at_ms"]) / 1000).tolist()
    assert first == pytest.approx(60.0, abs=0.01)  # the answer to the first ping was written before the ask
    assert gaps == pytest.approx([5.0] * len(gaps), abs=0.01)
    assert np.diff(asked.records(1)["at_ms"]) / 1000 == pytest.approx(60.0, abs=0.01)
    left_alone = log_of(pair(), asks=True)
    assert np.diff(left_alone.records(2)["at_ms"]) / 1000 == pytest.approx(60.0, abs=0.01)


def test_a_pair_has_the_same_story_whoever_else_is_simulated() -> None:
    city = Device("phone", noise="city"), Device("bracelet", noise="city", delay_s=(0.0, 20.0))
    one, *others = (pair(hers=city[0], his=city[1], key=key, apart_m=560.0, lasts_s=200) for key in (7, 8, 9))

    def told(pairs: Sequence[Pair], index: int) -> list[tuple[str, str, int, float | None]]:
        story = World(pairs).run()[index]
        return [(each.kind, each.to_state, each.evaluated_ms, each.distance_m) for each in story.transitions]

    alone = told([one], 0)
    assert alone
    assert alone == told([others[0], one, others[1]], 1)


def test_every_script_states_a_truth_that_its_paths_bear_out() -> None:
    assert len(SCRIPTS) >= 35
    for name in SCRIPTS:
        for seed in (0, 1, 8, 9):
            plan = plans(name, seed, "city")
            for expected in plan.expected:
                distance, radius = truth(plan.pair, expected.order)
                inside = bool((distance < radius).any())
                assert inside == _is_inside_once(expected), name
                if inside and plan.moving:
                    assert distance[0] > 1_000, name
                    assert distance[: int(np.argmax(distance < radius))].min() >= radius.min(), name


def _is_inside_once(expected: Expected) -> bool:
    return expected.aim in {"alarm", "past"}
