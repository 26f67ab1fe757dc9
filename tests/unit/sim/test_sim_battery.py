"""Batteries run down with time and use, and last a day of being asked as the service asks (`pytest -s` prints it)."""

from __future__ import annotations

import numpy as np
import pytest

from device_sim.battery import BRACELET, PHONE, Battery
from geo import sampling
from tests.unit.geo.asking_stage import AGGRESSOR, VICTIM, Floats, Stage

STEP_S = 5.0
DAY_S = 86_400.0


def test_a_battery_drains_by_time_by_fixes_and_by_transmissions() -> None:
    asleep, awake, unheard = Battery(BRACELET), Battery(BRACELET), Battery(BRACELET)
    drained = [0.0, 0.0, 0.0]
    for now_s in np.arange(0.0, 3600.0, 60.0):
        drained[0] += asleep.drained_pct(now_s, fixed=False, sent=False)
        drained[1] += awake.drained_pct(now_s, fixed=True, sent=True)
        drained[2] += unheard.drained_pct(now_s, fixed=True, sent=False)
    assert drained[0] < drained[2] < drained[1]
    assert drained[1] == pytest.approx(100 / BRACELET.hours(60.0), rel=0.05)


def test_the_faster_the_sooner_and_a_script_may_say_how_long_it_lasts() -> None:
    for energy in (BRACELET, PHONE):
        hours = [energy.hours(interval_s) for interval_s in (1.0, 5.0, 15.0, 60.0)]
        assert hours == sorted(hours)
    battery = Battery(PHONE, hours=10.0, interval_s=5.0)
    drained = sum(battery.drained_pct(now_s, fixed=True, sent=True) for now_s in np.arange(0.0, 3600.0, 5.0))
    assert drained == pytest.approx(10.0, rel=0.02)


def day(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """A day from midnight at each `STEP_S`, (steps, count, 2 axes), hers and his: home, way, work, way, home.

    Homes and places of work lie 5 to 15 km from the other's, and each commutes at 8 m/s between 7 and 9 and 17 and 19.
    """
    hours = np.arange(0.0, DAY_S, STEP_S) / 3600

    def around(places: Floats) -> Floats:
        angle, apart = random.uniform(0, 2 * np.pi, count), random.uniform(5_000, 15_000, count)
        return np.asarray(places + apart[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))

    def life(home: Floats, work: Floats) -> Floats:
        way_hours = np.linalg.norm(work - home, axis=1) / 8.0 / 3600
        out, back = random.uniform(7, 9, count), random.uniform(17, 19, count)
        there = np.clip((hours[:, None] - out) / way_hours, 0, 1) - np.clip((hours[:, None] - back) / way_hours, 0, 1)
        return np.asarray(home + there[:, :, None] * (work - home) + random.normal(0, 10, (len(hours), count, 2)))

    home, work = np.zeros((count, 2)), around(np.zeros((count, 2)))
    return life(home, work), life(around(home), around(work))


def test_a_phone_and_a_bracelet_last_a_normal_day_sampled_as_told() -> None:
    count, random = 40, np.random.default_rng(21)
    hers, his = day(random, count)
    stage = Stage(count)
    stage.rested(his[0], -3 * sampling.REST_S)
    used = {VICTIM: np.zeros(count), AGGRESSOR: np.zeros(count)}
    pings = {VICTIM: np.zeros(count), AGGRESSOR: np.zeros(count)}
    last = {VICTIM: np.full(count, -60.0), AGGRESSOR: np.full(count, -60.0)}
    for step in range(len(hers)):
        now_s = step * STEP_S
        for side, places, energy in ((AGGRESSOR, his, BRACELET), (VICTIM, hers, PHONE)):
            # between two steps a device asked for less than a step pings as often as it is asked
            often = np.maximum(1.0, STEP_S / stage.told_s(side))
            due = np.flatnonzero(stage.due_s[:, side] <= now_s)
            since_s = (now_s - last[side][due]) / often[due]
            cost_mj = [energy.fix_mj(gap_s) + energy.transmission_mj(gap_s) for gap_s in since_s.tolist()]
            used[side][due] += often[due] * np.array(cost_mj)
            pings[side][due] += often[due]
            last[side][due] = now_s
            stage.ping(side, due, places[step, due], now_s)
    for side, energy, name in ((VICTIM, PHONE, "her phone"), (AGGRESSOR, BRACELET, "his bracelet")):
        hours = energy.capacity_mwh / (energy.idle_mw + used[side] / DAY_S)
        print(
            f"{name}: {hours.min():.0f} to {hours.max():.0f} h, median {np.median(hours):.0f} h;"
            f" {np.median(pings[side]):,.0f} pings a day, at most {pings[side].max():,.0f}"
        )
        assert hours.min() >= 24.0
