"""What the two devices of a pair make of their day: errors, silences, batteries; one value a second.

The errors of a day are drawn once and do not depend on when a device is asked, so that the engine that asks more often
sees the same sky as the one that asks less. Conditions and errors are those of `device_sim.noise` (the city mixture),
run at one hertz. Beside them: two dropouts a pair-day, tunnels, a phone that sleeps for five minutes at rest, hours
indoors by Wi-Fi or by cell alone, and about once in twenty device-days a battery that runs flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from device_sim.noise import ACCURACY_SPREAD, CITY, CONDITION_MEMORY_S, ERROR_MEMORY_S, RADIUS_68_PER_SIGMA
from tests.benchmarks.detection.lives import BUS, CAR, DAY_S, FOOT, HOUR, STILL, Bools, Floats, Life, Pair

DROPOUTS_A_PAIR_DAY: Final = 2
DROPOUT_MEDIAN_S: Final = 240.0
DROPOUT_SPREAD: Final = math.log(15 / 4) / 1.645
"""Of the logarithm: with a median of 4 minutes, 95 of 100 dropouts are shorter than 15."""
UPLOADED_SHARE: Final = 0.5
"""Dropouts that were the radio's: the device went on measuring and uploads what it missed."""
UPLOAD_EVERY_S: Final = 60
TUNNEL_SHARE: Final = 0.1
"""Of ways by bus or car that lose the sky for one to four minutes, heartbeats without a position."""
SLEEPS_A_DAY: Final = 2.0
"""Stop-detections of a phone at rest."""
SLEEP_S: Final = 300
WIFI_SHARE, WIFI_S = 0.25, (1_800.0, 10_800.0)
"""Stays under a roof that are located by Wi-Fi for a while, and how long."""
WIFI_SIGMA_M: Final = (20.0, 78.0)
CELL_SHARE, CELL_S = 0.01, (600.0, 2_400.0)
"""The same by cell alone."""
CELL_SIGMA_M: Final = (550.0, 650.0)
STAY_S: Final = 1_200
"""A shorter stay has no hour of its own."""
FLAT_SHARE: Final = 1 / 20
"""Device-days whose battery runs flat, because it was not charged the night before."""
GPS, WIFI, CELL = 1, 2, 3
SOURCES: Final = {"gps": GPS, "wifi": WIFI, "cell": CELL}

PLAIN, DROPOUT, FLAT, ASLEEP, TUNNEL, BY_WIFI, BY_CELL = range(7)
CAUSES: Final = ("nothing", "dropout", "flat battery", "stop-detection", "tunnel", "Wi-Fi hour", "cell hour")


@dataclass(slots=True)
class Carried:
    """A device's day, (DAY_S,) each but `error_m` (DAY_S, 2)."""

    error_m: Floats
    accuracy_m: Floats
    source: NDArray[np.uint8]
    speed_mps: Floats
    """NaN where the source tells none."""
    heading_deg: Floats
    located: Bools
    """Whether a ping has a position."""
    silent: Bools
    battery_pct: Floats
    charging: Bools
    moving: Bools
    cause: NDArray[np.uint8]
    """Index into `CAUSES`: what is out of the ordinary."""
    uploads: list[tuple[int, int]]
    """Seconds from and to of silences whose pings come afterwards."""


def devices(pair: Pair) -> tuple[Carried, Carried]:
    """Her device (a phone) and his (a bracelet)."""
    random = np.random.default_rng([pair.seed, 7_001])
    whose = [int(side) for side in random.integers(0, 2, DROPOUTS_A_PAIR_DAY)]
    hers, his = (
        _device(np.random.default_rng([pair.seed, 7_002 + side]), pair.lives[side], whose.count(side), phone=side == 0)
        for side in (0, 1)
    )
    return hers, his


def _device(random: np.random.Generator, life: Life, dropouts: int, *, phone: bool) -> Carried:
    sigma_m, source = _conditions(random)
    cause = np.zeros(DAY_S, np.uint8)
    for start, end in _stretches(life.indoors & (life.mode == STILL)):
        if end - start < STAY_S:
            continue
        for share, lengths, sigmas, code, why in (
            (WIFI_SHARE, WIFI_S, WIFI_SIGMA_M, WIFI, BY_WIFI),
            (CELL_SHARE, CELL_S, CELL_SIGMA_M, CELL, BY_CELL),
        ):
            if random.random() < share:
                begin = int(random.uniform(start, end))
                stretch = slice(begin, min(end, begin + int(random.uniform(*lengths))))
                sigma_m[stretch], source[stretch], cause[stretch] = random.uniform(*sigmas), code, why
    error_m = (_errors(random, source) * sigma_m[:, None]).astype(np.float32)
    accuracy_m = RADIUS_68_PER_SIGMA * sigma_m * np.exp(ACCURACY_SPREAD * random.standard_normal(DAY_S))
    located = np.ones(DAY_S, np.bool_)
    for start, end in _stretches((life.mode == BUS) | (life.mode == CAR)):
        if random.random() < TUNNEL_SHARE and end - start > 120:
            begin = int(random.uniform(start, end - 60))
            stretch = slice(begin, min(end, begin + int(random.uniform(60, 240))))
            located[stretch], cause[stretch] = False, TUNNEL
    silent = np.zeros(DAY_S, np.bool_)
    uploads = []
    for _ in range(dropouts):
        begin = int(random.uniform(0, DAY_S))
        end = min(DAY_S, begin + int(DROPOUT_MEDIAN_S * math.exp(DROPOUT_SPREAD * random.standard_normal())))
        silent[begin:end], cause[begin:end] = True, DROPOUT
        if random.random() < UPLOADED_SHARE:
            uploads.append((begin, end))
    if phone:
        for _ in range(int(random.poisson(SLEEPS_A_DAY))):
            begin = int(random.uniform(0, DAY_S))
            if not life.mode[begin : begin + SLEEP_S].any():
                silent[begin : begin + SLEEP_S], cause[begin : begin + SLEEP_S] = True, ASLEEP
    battery_pct, charging, flat = _battery(random)
    silent |= flat
    cause[flat] = FLAT
    speed_mps, heading_deg, moving = _motion(random, life, source)
    return Carried(
        error_m=error_m,
        accuracy_m=accuracy_m.astype(np.float32),
        source=source,
        speed_mps=speed_mps,
        heading_deg=heading_deg,
        located=located,
        silent=silent,
        battery_pct=battery_pct,
        charging=charging,
        moving=moving,
        cause=cause,
        uploads=uploads,
    )


def _conditions(random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """σ an axis and source, a value a second: the mixture, a condition lasting twenty seconds on average."""
    starts = np.flatnonzero(random.random(DAY_S) >= math.exp(-1 / CONDITION_MEMORY_S))
    lengths = np.diff(np.concatenate([[0], starts, [DAY_S]]))
    weights = np.array([condition.weight for condition in CITY])
    chosen = random.choice(len(CITY), size=len(lengths), p=weights / weights.sum())
    least, most = (np.array([condition.sigma_m[k] for condition in CITY]) for k in (0, 1))
    sigma_m = random.uniform(least[chosen], most[chosen])
    source = np.array([SOURCES[condition.source] for condition in CITY], np.uint8)[chosen]
    return np.repeat(sigma_m, lengths), np.repeat(source, lengths)


def _errors(random: np.random.Generator, source: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Errors in units of σ, (DAY_S, 2): a first-order autoregression, one of its own for every source."""
    kept = math.exp(-1 / ERROR_MEMORY_S)
    out = np.empty((DAY_S, 2))
    for code in (GPS, WIFI, CELL):
        noise = random.standard_normal((DAY_S, 2))
        noise[1:] *= math.sqrt(1 - kept * kept)
        mine = source == code
        out[mine] = lfilter([1.0], [1.0, -kept], noise, axis=0)[mine]
    return out


def _battery(random: np.random.Generator) -> tuple[Floats, Bools, Bools]:
    """Charge, whether it is being charged, and whether it is flat: charged at night, or, one day in twenty, not."""
    seconds = np.arange(DAY_S)
    lasts_h = float(random.uniform(26, 40))
    wake_s = HOUR * float(random.uniform(5.5, 7.5))
    sleep_s = HOUR * float(random.uniform(22.0, 23.5))
    fall = 100.0 / (lasts_h * HOUR)
    gain = 40.0 / HOUR
    flat = np.zeros(DAY_S, np.bool_)
    if random.random() < FLAT_SHARE:
        empty_s = int(HOUR * random.uniform(10, 20))
        back_s = min(DAY_S, empty_s + int(HOUR * random.uniform(1, 4)))
        charge = fall * (empty_s - seconds)
        flat[empty_s:back_s] = True
        charge[back_s:] = gain * (seconds[back_s:] - back_s) + 3.0
        charging = seconds >= back_s
    else:
        charge = np.minimum(100.0, 40.0 + gain * seconds)
        charge = np.where(seconds < wake_s, charge, 100.0 - fall * (seconds - wake_s))
        at_night = max(5.0, 100.0 - fall * (sleep_s - wake_s))
        charge = np.where(seconds < sleep_s, charge, at_night + gain * (seconds - sleep_s))
        charging = (seconds < wake_s) | (seconds >= sleep_s)
    return np.clip(charge, 0.0, 100.0).astype(np.float32), charging, flat


def _motion(random: np.random.Generator, life: Life, source: NDArray[np.uint8]) -> tuple[Floats, Floats, Bools]:
    """Speed and heading as a satellite receiver tells them, and what the motion sensor says."""
    step = np.diff(life.where.astype(np.float64), axis=0, prepend=life.where[:1])
    speed = np.hypot(step[:, 0], step[:, 1])
    told = np.abs(speed + 0.3 * random.standard_normal(DAY_S))
    heading = np.degrees(np.arctan2(step[:, 0], step[:, 1])) % 360
    told[source != GPS] = np.nan
    heading[(source != GPS) | (speed < 0.5)] = np.nan
    moving = (speed > 0.5) | ((life.mode != STILL) & (life.mode != FOOT))
    return told.astype(np.float32), heading.astype(np.float32), moving


def _stretches(mask: Bools) -> list[tuple[int, int]]:
    """Where a mask is set: starts and ends (exclusive)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
