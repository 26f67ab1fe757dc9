"""Days of two people whom an order keeps apart and who keep to it: home, commute, work, errands, and never near.

Half of what a detector does is to be silent, so most of its day is this. Positions are metres east and north of the
city's middle, one a second for a whole day, and are the truth: the pair is at least `MARGIN_M` further apart than the
order's radius in every second, which is checked and not assumed. Routes follow a street grid, so that people come
towards each other, pass, and turn away; some errands are made to: they lead straight towards the other and turn.

Everything is drawn from the seed: pair k of a band is the same pair in every run, whatever the engine asks of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

DAY_S: Final = 86_400
MARGIN_M: Final = 40.0
"""Least distance of the truth beyond the alert radius: who is nearer counts as met, and such a day is drawn anew."""
STILL, FOOT, BUS, CAR = 0, 1, 2, 3
SPEED_MPS: Final = {FOOT: (1.1, 1.6), BUS: (7.0, 13.0), CAR: (6.0, 17.0)}
LEG_M: Final = {FOOT: 220.0, BUS: 600.0, CAR: 900.0}
"""Way between two corners, on average."""
WAIT_S: Final = {FOOT: (0.0, 25.0), BUS: (10.0, 40.0), CAR: (0.0, 60.0)}
"""Standing at a corner: a kerb, a bus stop, a light."""
WORKDAY_SHARE: Final = 5 / 7
TRIES: Final = 40
HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Band:
    """Pairs by how far apart their homes are."""

    name: str
    apart_m: tuple[float, float]
    share: float
    """Of all pairs."""
    turning_share: float
    """Share of a person's days with an errand that leads towards the other's home and turns back."""

    def alert_m(self, apart_m: float) -> float:
        """The order's radius: a dense city's 500 m where the homes are near, else the default 1,000 m."""
        return 500.0 if apart_m < 1_500 else 1_000.0


BANDS: Final = (
    Band("600–1,000 m", (600.0, 1_000.0), 0.40, 0.25),
    Band("1–3 km", (1_000.0, 3_000.0), 0.30, 0.15),
    Band("3–15 km", (3_000.0, 15_000.0), 0.30, 0.10),
)


@dataclass(slots=True)
class Life:
    """One person's day, a value a second: shapes (DAY_S, 2) and (DAY_S,)."""

    home: Floats
    where: Floats
    mode: NDArray[np.uint8]
    indoors: Bools
    turned: list[tuple[int, int]] = field(default_factory=list)
    """Seconds from and to of errands that lead towards the other."""


@dataclass(slots=True)
class Pair:
    """Two lives under one order; `lives` is (hers, his)."""

    seed: int
    band: str
    alert_m: float
    apart_m: float
    lives: tuple[Life, Life]
    least_m: float
    """Least distance of the day."""

    @property
    def warning_m(self) -> float:
        """The policy's default beside `alert_m`."""
        return self.alert_m + max(self.alert_m, 1_000.0)


@dataclass(frozen=True, slots=True)
class Errand:
    """Where to go at some second, and whether one is under a roof there; `place` is asked anew at each try."""

    depart_s: int
    place: Callable[[np.random.Generator], NDArray[np.float64]]
    indoors: bool
    must: bool = False
    """Without it the day makes no sense (the way home)."""
    mode: int | None = None
    turning: bool = False


def lives(count: int, seed: int = 0) -> Iterator[Pair]:
    """`count` pairs in the bands' shares, interleaved so that any stretch has all of them."""
    due = np.zeros(len(BANDS))
    for index in range(count):
        due += [band.share for band in BANDS]
        chosen = int(np.argmax(due))
        due[chosen] -= 1.0
        yield pair_of(BANDS[chosen], seed * 100_000 + index)


def pair_of(band: Band, seed: int) -> Pair:
    """The pair of a seed; draws until nobody ever comes within the radius and its margin."""
    for attempt in range(TRIES):
        random = np.random.default_rng([seed, attempt])
        pair = _try(band, seed, random)
        if pair is not None:
            return pair
    raise AssertionError(f"no life of seed {seed} keeps {band.name} apart in {TRIES} tries")


def _try(band: Band, seed: int, random: np.random.Generator) -> Pair | None:
    apart_m = float(random.uniform(*band.apart_m))
    alert_m = band.alert_m(apart_m)
    keep_m = alert_m + MARGIN_M
    street = float(random.uniform(0, math.pi / 2))
    bearing = float(random.uniform(0, 2 * math.pi))
    homes = [random.uniform(-2_000, 2_000, 2)]
    homes.append(homes[0] + apart_m * _unit(bearing))
    first = int(random.random() < 0.5)  # whose day is made first, so that neither always gives way
    made: list[Life | None] = [None, None]
    for side in (first, 1 - first):
        other = made[1 - side]
        track = other.where if other is not None else np.broadcast_to(homes[1 - side].astype(np.float32), (DAY_S, 2))
        plan = _plan(band, random, homes[side], homes[1 - side], keep_m)
        made[side] = _live(random, plan, homes[side], street, track, keep_m)
        if made[side] is None:
            return None
    hers, his = made
    assert hers is not None
    assert his is not None
    least_m = float(np.sqrt(np.square(hers.where - his.where).sum(axis=1)).min())
    if least_m <= keep_m:
        return None
    return Pair(seed, band.name, alert_m, apart_m, (hers, his), least_m)


def _plan(
    band: Band,
    random: np.random.Generator,
    home: NDArray[np.float64],
    other: NDArray[np.float64],
    keep_m: float,
) -> list[Errand]:
    """A person's day as errands in the order of their departures."""

    def at_home(_: np.random.Generator) -> NDArray[np.float64]:
        return home

    def about(
        centre: NDArray[np.float64], least_m: float, most_m: float
    ) -> Callable[[np.random.Generator], NDArray[np.float64]]:
        return lambda source: centre + source.uniform(least_m, most_m) * _unit(source.uniform(0, 2 * math.pi))

    def towards(source: np.random.Generator) -> NDArray[np.float64]:
        way = other - home
        length_m = float(np.hypot(*way))
        reach_m = max(60.0, length_m - keep_m - source.uniform(20.0, 300.0))
        return home + way / length_m * min(reach_m, 0.9 * length_m)

    def clock(hour: float, spread_h: float) -> int:
        return int(HOUR * float(np.clip(random.normal(hour, spread_h), hour - 3 * spread_h, hour + 3 * spread_h)))

    out: list[Errand] = []
    if random.random() < WORKDAY_SHARE:
        work = about(home, 900.0, 9_000.0)(random)
        while np.hypot(*(work - other)) < keep_m + 100:
            work = about(home, 900.0, 9_000.0)(random)
        out.append(Errand(clock(7.7, 0.5), lambda _: work, indoors=True))
        if random.random() < 0.5:
            noon = clock(12.5, 0.3)
            out.append(Errand(noon, about(work, 100.0, 500.0), indoors=bool(random.random() < 0.7), mode=FOOT))
            out.append(Errand(noon + int(random.uniform(25, 50) * 60), lambda _: work, indoors=True, must=True))
        leave = clock(17.3, 0.6)
        if random.random() < 0.5:
            out.append(Errand(leave, about(home, 300.0, 2_500.0), indoors=bool(random.random() < 0.7)))
            leave += int(random.uniform(45, 100) * 60)
        out.append(Errand(leave, at_home, indoors=True, must=True))
    else:
        hour = clock(10.2, 0.6)
        for _ in range(int(random.integers(1, 4))):
            out.append(Errand(hour, about(home, 300.0, 4_000.0), indoors=bool(random.random() < 0.6)))
            hour += int(random.uniform(60, 110) * 60)
            out.append(Errand(hour, at_home, indoors=True, must=True))
            hour += int(random.uniform(20, 80) * 60)
    evening = max(clock(20.3, 0.3), out[-1].depart_s + HOUR)
    if random.random() < band.turning_share:
        mode = FOOT if random.random() < 0.7 and band.apart_m[1] <= 3_000 else CAR
        out.append(Errand(evening, towards, indoors=False, mode=mode, turning=True))
        out.append(Errand(evening + int(random.uniform(18, 45) * 60), at_home, indoors=True, must=True, mode=mode))
    elif random.random() < 0.4:
        out.append(Errand(evening, about(home, 300.0, 1_200.0), indoors=False, mode=FOOT))
        out.append(Errand(evening + int(random.uniform(25, 60) * 60), at_home, indoors=True, must=True, mode=FOOT))
    return out


def _live(
    random: np.random.Generator,
    plan: list[Errand],
    home: NDArray[np.float64],
    street: float,
    other: Floats,
    keep_m: float,
) -> Life | None:
    """Walk the plan, choosing places and ways anew until each stretch keeps away from the other's track."""
    life = Life(
        home=home.astype(np.float32),
        where=np.broadcast_to(home.astype(np.float32), (DAY_S, 2)).copy(),
        mode=np.zeros(DAY_S, np.uint8),
        indoors=np.ones(DAY_S, np.bool_),
    )
    here, gone_to_s = home, 0
    for index, errand in enumerate(plan):
        until = min(plan[index + 1].depart_s if index + 1 < len(plan) else DAY_S, DAY_S)
        start = max(errand.depart_s, gone_to_s)
        for _ in range(TRIES):
            place = errand.place(random)
            length_m = float(np.abs(place - here).sum())
            mode = errand.mode or (FOOT if length_m < 1_500 else int(random.choice((BUS, CAR))))
            way = _way(random, here, place, street, mode)
            stretch = np.concatenate([way, np.broadcast_to(place, (max(until - start - len(way), 1), 2))])
            stretch = stretch[: DAY_S - start]
            if np.square(stretch - other[start : start + len(stretch)]).sum(axis=1).min() <= (keep_m + 1.0) ** 2:
                continue
            travelled = min(len(way), DAY_S - start)
            life.where[start:] = place
            life.where[start : start + len(stretch)] = stretch
            life.mode[start : start + travelled] = mode
            life.indoors[start : start + travelled] = False
            life.indoors[start + travelled :] = errand.indoors
            if errand.turning:
                life.turned.append((start, until))
            here, gone_to_s = place, start + len(way)
            break
        else:
            if errand.must:
                return None
    return life


def _way(
    random: np.random.Generator, start: NDArray[np.float64], end: NDArray[np.float64], street: float, mode: int
) -> NDArray[np.float64]:
    """A way along streets that cross at right angles, (seconds, 2): legs in turns along and across, corners waited at.

    Speeds differ by leg. The way ends at `end`; its first row is one second after departure.
    """
    along, across = _unit(street), _unit(street + math.pi / 2)
    delta = end - start
    parts = [_shares(random, float(delta @ axis), LEG_M[mode]) for axis in (along, across)]
    legs: list[NDArray[np.float64]] = []
    turn = int(random.random() < 0.5)
    while parts[0] or parts[1]:
        if not parts[turn]:
            turn = 1 - turn
        legs.append(parts[turn].pop() * (along, across)[turn])
        turn = 1 - turn
    corners = np.vstack([start, start + np.cumsum(legs, axis=0)]) if legs else np.vstack([start, end])
    times, points = [0.0], [corners[0]]
    for a, b in itertools.pairwise(corners):
        speed = float(random.uniform(*SPEED_MPS[mode]))
        times.append(times[-1] + max(float(np.hypot(*(b - a))) / speed, 1.0))
        points.append(b)
        if random.random() < 0.5:
            times.append(times[-1] + float(random.uniform(*WAIT_S[mode])) + 0.001)
            points.append(b)
    moments = np.arange(1, math.ceil(times[-1]) + 1)
    route = np.vstack(points)
    return np.column_stack([np.interp(moments, times, route[:, 0]), np.interp(moments, times, route[:, 1])])


def _shares(random: np.random.Generator, length_m: float, leg_m: float) -> list[float]:
    """A length cut into legs of unequal size."""
    if abs(length_m) < 1.0:
        return []
    cuts = max(1, round(abs(length_m) / leg_m))
    weights = random.uniform(0.4, 1.6, cuts)
    return [float(each) for each in length_m * weights / weights.sum()]


def _unit(angle: float) -> NDArray[np.float64]:
    return np.array([math.cos(angle), math.sin(angle)])
