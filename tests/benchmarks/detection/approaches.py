"""Scripted approaches: what happens, what is true, and what counts as success. People on foot, by bicycle, by car.

Each script is drawn with its scene's random numbers (distances, speeds, directions vary with the seed), the aggressor
along the east axis, and then turned by a random angle at one of many places on earth. Orders are 500 m, warning
1,500 m, unless said. The signal's troubles are in `approaches_signal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from core.domain.case import CaseZone
from tests.benchmarks.detection.pairs import Change, Pair, Person
from tests.benchmarks.detection.paths import Way
from tests.benchmarks.detection.scene import (
    PLACES,
    SETTLE_S,
    WALK,
    Expected,
    Plan,
    Scene,
    alone,
    comes,
    home,
    script,
)


@script
def on_foot(s: Scene) -> Plan:
    """He walks to her home."""
    return alone(s, comes(s, 2_300, WALK))


@script
def creeping(s: Scene) -> Plan:
    """He comes at half a metre a second."""
    return alone(s, comes(s, 1_300, 0.6, to_m=200))


@script
def running(s: Scene) -> Plan:
    """He runs, 3 m/s."""
    return alone(s, comes(s, 2_800, 3.0))


@script
def bicycle(s: Scene) -> Plan:
    """He cycles, 5 m/s."""
    return alone(s, comes(s, 4_000, 5.0))


@script
def car_60(s: Scene) -> Plan:
    """He drives at 60 km/h."""
    return alone(s, comes(s, 8_000, 60 / 3.6))


@script
def car_110(s: Scene) -> Plan:
    """He comes down a motorway."""
    return alone(s, comes(s, 14_000, 110 / 3.6))


@script
def bus_with_stops(s: Scene) -> Plan:
    """He comes by a city bus, 9 m/s with a stop of 25 s every 450 m, and walks the last stretch."""
    way = Way(s.about(5_500), 0).wait(SETTLE_S)
    while way.spot[0] > 650:
        way.to(way.spot[0] - 450, 0, s.about(9.0)).wait(s.about(25, 0.5))
    return alone(s, way.to(60, 0, WALK).wait(600))


@script
def both_walking(s: Scene) -> Plan:
    """They walk towards each other."""
    apart = s.about(3_200)
    meet = apart / 2
    hers = Way(0, 0).wait(SETTLE_S).to(meet, 15, s.about(1.3)).wait(600)
    his = Way(apart, 0).wait(SETTLE_S).to(meet, -15, s.about(1.4)).wait(600)
    return s.plan(hers, his)


@script
def both_cycling_crossing(s: Scene) -> Plan:
    """Their ways cross at right angles; they pass each other within a hundred metres."""
    reach, speed = s.about(3_000), s.about(5.0)
    hers = Way(-reach, 0).wait(SETTLE_S).to(reach, 0, speed).wait(120)
    his = Way(0, -reach - 80).wait(SETTLE_S).to(0, reach, speed).wait(120)
    return s.plan(hers, his)


@script
def both_driving(s: Scene) -> Plan:
    """They drive towards each other on one road, 50 km/h each, and pass: inside for 36 seconds."""
    reach, speed = s.about(6_000), s.about(50 / 3.6)
    hers = Way(-reach, 10).wait(SETTLE_S).to(reach, 10, speed).wait(240)
    his = Way(reach, -10).wait(SETTLE_S).to(-reach, -10, speed).wait(240)
    return s.plan(hers, his)


@script
def parked_aggressor(s: Scene) -> Plan:
    """He sits in a parked car; she drives up and stops 100 m off."""
    hers = Way(s.about(4_000), 0).wait(SETTLE_S).to(100, 0, s.about(10.0)).wait(600)
    return s.plan(hers, home(hers.now_s))


@script
def victim_walks_up(s: Scene) -> Plan:
    """He does not move; she walks up and past him."""
    hers = Way(s.about(2_200), 30).wait(SETTLE_S).to(-900, 30, s.about(1.3)).wait(120)
    return s.plan(hers, home(hers.now_s))


@script
def waits_at_her_door(s: Scene) -> Plan:
    """He waits at her home when she comes back by car."""
    hers = Way(s.about(9_000), 0).wait(SETTLE_S).to(0, 0, s.about(14.0)).wait(600)
    return s.plan(hers, Way(0, 25).wait(hers.now_s))


@script
def drive_past(s: Scene) -> Plan:
    """He drives by at 60 km/h, 200 m off: inside for less than a minute."""
    reach = s.about(6_000)
    return alone(s, Way(reach, 200).wait(SETTLE_S).to(-reach, 200, s.about(60 / 3.6)).wait(60))


@script
def drive_past_wide(s: Scene) -> Plan:
    """He drives by at 50 km/h, 330 m off."""
    reach = s.about(5_000)
    return alone(s, Way(reach, 330).wait(SETTLE_S).to(-reach, 330, s.about(50 / 3.6)).wait(60))


@script
def loiterer_on_the_line(s: Scene) -> Plan:
    """He comes to the line and wanders about it for half an hour, inside and out by 25 m, then goes. One incident."""
    way = Way(s.about(2_000), 0).wait(SETTLE_S).to(470, 0, WALK).wait(120)
    end = way.now_s + 1_800
    while way.now_s < end:
        angle, radius = s.random.uniform(-0.15, 0.15), s.random.uniform(475, 525)
        way.to(radius * math.cos(angle), radius * math.sin(angle), s.about(0.8, 0.4)).wait(s.about(60, 0.9))
    return alone(s, way.to(2_500, 0, WALK).wait(120))


@script
def loiterer_outside(s: Scene) -> Plan:
    """He stands for half an hour 650 m off: he may be warned of, he is not inside."""
    way = Way(s.about(2_000), 0).wait(SETTLE_S).to(s.about(650, 0.03), 0, WALK).wait(1_800).to(2_400, 0, WALK)
    return alone(s, way, Expected("quiet", warned=True), moving=False)


@script
def probing_circles(s: Scene) -> Plan:
    """He walks round her at 620 to 700 m, and round again."""
    way = Way(s.about(2_000), 0).wait(SETTLE_S).to(s.about(660, 0.05), 0, WALK)
    way.arc(way.spot[0], 4.5, WALK).to(-1_700, -1_700, WALK).wait(60)
    return alone(s, way, Expected("quiet", warned=True), moving=False)


@script
def turns_away(s: Scene) -> Plan:
    """He walks straight towards her and turns off 650 m away: an approach may be foreseen, a breach there is none."""
    way = Way(s.about(2_200), 0).wait(SETTLE_S).to(s.about(650, 0.04), 0, WALK).to(900, 2_000, WALK).wait(300)
    return alone(s, way, Expected("quiet", warned=True), moving=False)


@script
def drive_past_outside(s: Scene) -> Plan:
    """He drives by at 60 km/h on a road 750 m off."""
    reach, aside = s.about(6_000), s.about(750, 0.04)
    way = Way(reach, aside).wait(SETTLE_S).to(-reach, aside, s.about(60 / 3.6)).wait(60)
    return alone(s, way, Expected("quiet"), moving=False)


@script
def shared_bus(s: Scene) -> Plan:
    """Both walk to one stop from two sides, ride the same bus, and part."""
    hers, his = Way(-s.about(900), 0), Way(s.about(1_600), 0)
    hers.wait(SETTLE_S).to(0, 0, 1.3)
    his.wait(SETTLE_S).to(5, 0, 1.5)
    start = max(hers.now_s, his.now_s) + 60
    for way, aside in ((hers, 0), (his, 5)):
        way.wait_until(start)
        for stop in range(1, 11):
            way.to(aside, stop * 500, 9.0).wait(20)
    return s.plan(hers.to(-1_500, 5_000, 1.3), his.to(1_500, 5_000, 1.4))


@script
def shared_street_followed(s: Scene) -> Plan:
    """He turns into her street and walks 300 m behind her, then they go apart."""
    his = Way(s.about(1_600), 0).wait(3 * SETTLE_S).to(0, 0, WALK)
    ahead = his.now_s - s.about(300) / 1.35  # when she passed the corner
    hers = Way(0, -2_000).wait(ahead - 2_000 / 1.35).to(0, 2_500, 1.35).to(-2_000, 2_500, 1.35)
    his.to(0, 2_200, 1.35).to(2_000, 2_200, 1.35)
    return s.plan(hers, his)


@script
def shared_street_never_inside(s: Scene) -> Plan:
    """They walk down the same street 750 m apart and turn off to two sides: nobody was ever inside."""
    gap = s.about(760, 0.03)
    hers = Way(0, 0).wait(SETTLE_S).to(0, 2_500, 1.35).to(-1_200, 2_500, 1.35).wait(60)
    his = Way(0, -gap).wait(SETTLE_S).to(0, 2_500 - gap, 1.35).to(1_200, 2_500 - gap, 1.35).wait(60)
    return s.plan(hers, his, Expected("quiet", warned=True), moving=False)


@script
def diagonal_with_stops(s: Scene) -> Plan:
    """He comes slantwise, block by block, waiting at corners."""
    way = Way(s.about(1_900), s.about(1_500)).wait(SETTLE_S)
    for share in (0.8, 0.62, 0.45, 0.3, 0.15, 0.05):
        way.to(1_900 * share, way.spot[1], 1.4).wait(s.about(40, 0.8))
        way.to(way.spot[0], 1_500 * share, 1.4).wait(s.about(40, 0.8))
    return alone(s, way.wait(600))


@script
def dashes_in_and_out(s: Scene) -> Plan:
    """He cycles to her door, stays for two minutes and leaves as he came."""
    way = Way(s.about(3_000), 0).wait(SETTLE_S).to(30, 0, s.about(5.0)).wait(120).to(3_000, 0, 5.0)
    return alone(s, way)


@script
def high_risk(s: Scene) -> Plan:
    """A high-risk order: a probability of 0.3 is enough."""
    return alone(s, comes(s, 2_300, WALK), Expected(early_m=400), order={"p_enter": 0.3})


@script
def large_radius(s: Scene) -> Plan:
    """A rural order of 2,000 m, by car."""
    return alone(s, comes(s, 9_000, 14.0), order={"alert_m": 2_000.0, "warning_m": 4_000.0})


@script
def date_line(s: Scene) -> Plan:
    """On foot across ±180°."""
    s.place, s.angle_rad = PLACES[0], 0.0
    return alone(s, comes(s, 2_300, WALK))


@script
def far_north(s: Scene) -> Plan:
    """By bicycle at 69.65° north."""
    s.place = PLACES[2]
    return alone(s, comes(s, 3_500, 5.0))


@script
def two_victims(s: Scene) -> Plan:
    """One aggressor, two protected people; he goes to the one and then to the other."""
    other = (s.about(4_000), 0.0)
    his = Way(-s.about(2_500), 0).wait(SETTLE_S).to(-30, 0, 5.0).wait(420).to(other[0] - 40, 0, 5.0).wait(500)
    people = (
        Person("victim", home(his.now_s).path().turned(s.angle_rad), (s.device("phone"),)),
        Person("aggressor", his.path().turned(s.angle_rad), (s.device("bracelet"),)),
        Person("victim", Way(*other).wait(his.now_s).path().turned(s.angle_rad), (s.device("phone"),)),
    )
    orders = ({"victim": 0, "aggressor": 1}, {"victim": 2, "aggressor": 1})
    pair = Pair(s.place, people, orders, math.ceil(his.now_s), s.key)
    return Plan(pair, (Expected(), Expected(order=1)), moving=True)


# --- orders that begin, grow or resume


@script
def first_fix_inside(s: Scene) -> Plan:
    """The devices are switched on when he is there already."""
    way = Way(s.about(250), 0).wait(900)
    return alone(s, way, moving=False)


@script
def order_starts_inside(s: Scene) -> Plan:
    """The order takes effect while he is there."""
    his = Way(s.about(250), 0).wait(1_500)
    return alone(s, his, Expected(entry_s=600, from_s=599), order={"valid_from_s": 600.0}, moving=False)


@script
def order_made_inside(s: Scene) -> Plan:
    """The case is entered while both already report and he is there."""
    his = Way(s.about(250), 0).wait(1_500)
    return alone(s, his, Expected(entry_s=600, from_s=599), begins_s=600, moving=False)


@script
def radius_grows(s: Scene) -> Plan:
    """A court makes 500 m into 1,000 m while he lives 750 m off."""
    his = Way(s.about(750, 0.05), 0).wait(1_500)
    change = Change(600, 0, {"alert_m": 1_000.0, "warning_m": 2_000.0})
    return alone(s, his, Expected(entry_s=600, from_s=599), changes=(change,), moving=False)


@script
def suspension_ends_inside(s: Scene) -> Plan:
    """A hearing is over, the order holds again, and he is still there."""
    his = Way(s.about(120), 0).wait(1_800)
    changes = (Change(900, 0, {"active": True}),)
    return alone(s, his, Expected(entry_s=900, from_s=899), order={"active": False}, changes=changes, moving=False)


@script
def resolved_while_inside(s: Scene) -> Plan:
    """He comes and stays for an hour and a half: whatever is done about the incident, the state stays."""
    his = comes(s, 2_300, WALK, stays_s=5_400)
    return alone(s, his, Expected(held=(0.0, his.now_s)))


# --- zones


@script
def zone_polygon(s: Scene) -> Plan:
    """He walks into a forbidden quarter; she is far away."""
    spots = [(-400.0, -300.0), (400.0, -300.0), (400.0, 350.0), (-400.0, 250.0)]
    his = Way(s.about(1_500), 0).wait(SETTLE_S).to(0, 0, s.about(WALK)).wait(400)
    crossing = _first(his, lambda spots: spots[0] <= 400)
    return _zoned(s, his, s.zone("exclusion", spots), Expected("zone", accept=frozenset({"zone"}), entry_s=crossing))


@script
def zone_circle(s: Scene) -> Plan:
    """He cycles to a school."""
    his = Way(s.about(2_500), 0).wait(SETTLE_S).to(0, 0, s.about(5.0)).wait(400)
    crossing = _first(his, lambda spots: np.hypot(*spots) <= 300)
    return _zoned(
        s, his, s.zone("exclusion", [(0, 0)], 300.0), Expected("zone", accept=frozenset({"zone"}), entry_s=crossing)
    )


@script
def zone_driven_through(s: Scene) -> Plan:
    """He drives through a zone 400 m wide at 60 km/h: 24 seconds."""
    spots = [(-200.0, -500.0), (200.0, -500.0), (200.0, 500.0), (-200.0, 500.0)]
    his = Way(s.about(5_000), 30).wait(SETTLE_S).to(-5_000, 30, s.about(60 / 3.6)).wait(100)
    crossing = _first(his, lambda spots: spots[0] <= 200)
    return _zoned(s, his, s.zone("exclusion", spots), Expected("zone", accept=frozenset({"zone"}), entry_s=crossing))


@script
def inclusion_zone_left(s: Scene) -> Plan:
    """He is to stay within 400 m of his home, and goes."""
    his = Way(s.about(60, 0.5), 0).wait(s.about(900)).to(1_500, 0, s.about(WALK)).wait(400)
    crossing = _first(his, lambda spots: np.hypot(*spots) > 400)
    return _zoned(
        s, his, s.zone("inclusion", [(0, 0)], 400.0), Expected("zone", accept=frozenset({"zone"}), entry_s=crossing)
    )


def _first(way: Way, inside: Callable[[Any], Any]) -> float:
    """The first second in which a way is where a condition holds."""
    seconds = np.arange(0, math.ceil(way.now_s) + 1, dtype=np.float64)
    return float(seconds[np.argmax(inside(way.path().at(seconds)))])


def _zoned(s: Scene, his: Way, zone: CaseZone, expected: Expected) -> Plan:
    return s.plan(Way(20_000, 5_000).wait(his.now_s), his, expected, order={"zones": [zone]}, moving=False)
