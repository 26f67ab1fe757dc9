"""Scripted approaches in which the signal is the trouble: lost, late, frozen, displaced, forged, or poor.

Where the distance can no longer be seen, success is an alarm by the moment he is truly inside (`allowed_s` 0): that a
dispatcher looks before he is there, by whatever name the alarm goes.
"""

from __future__ import annotations

import math

import numpy as np

from core.domain.ping import OPEN, SHIFT_JAMMING, SHIFT_MOCK, SHIFT_STRAP, YES
from tests.benchmarks.detection.pairs import Window
from tests.benchmarks.detection.paths import Way
from tests.benchmarks.detection.scene import (
    NIJ_S,
    SETTLE_S,
    TAMPER,
    UNSEEN,
    WALK,
    Expected,
    Plan,
    Scene,
    alone,
    comes,
    home,
    script,
)

INF = math.inf


def arrives(way: Way, radius_m: float) -> float:
    """The first second in which somebody on a way is within a radius of the place; inf: never."""
    seconds = np.arange(0.0, way.now_s)
    inside = np.hypot(*way.path().at(seconds)) < radius_m
    return float(seconds[np.argmax(inside)]) if inside.any() else INF


@script
def tower_block(s: Scene) -> Plan:
    """Both end in one tower block, where receivers know Wi-Fi and cells better than the sky."""
    his = comes(s, 2_300, WALK, to_m=15)
    inside = arrives(his, 60)
    hers = (s.device("phone", Window(0, INF, "noise", "indoor")),)
    bracelet = s.device("bracelet", Window(inside, INF, "noise", "indoor"))
    return alone(s, his, Expected(early_m=700), hers=hers, his=(bracelet,))


@script
def tower_block_neighbour(s: Scene) -> Plan:
    """He comes into the next tower block, 300 m off, and stays: both indoors."""
    his = comes(s, 2_300, WALK, to_m=300, stays_s=1_200)
    inside = arrives(his, 360)
    hers = (s.device("phone", Window(0, INF, "noise", "indoor")),)
    bracelet = s.device("bracelet", Window(inside, INF, "noise", "indoor"))
    return alone(s, his, Expected(early_m=700), hers=hers, his=(bracelet,))


@script
def two_cells_one_room(s: Scene) -> Plan:
    """Two people located only by cell (σ 400 m) end in one room: a breach, or an alarm that nobody can tell."""
    his = comes(s, 6_000, 8.0, to_m=3, stays_s=900)
    devices = (s.device("phone", noise="cell"),), (s.device("bracelet", noise="cell"),)
    expected = Expected(accept=frozenset({"breach", "unknown"}), early_m=2_500)
    return alone(s, his, expected, hers=devices[0], his=devices[1])


@script
def her_phone_by_cell(s: Scene) -> Plan:
    """Her phone knows only its cell."""
    expected = Expected(accept=frozenset({"breach", "unknown"}), early_m=1_500)
    return alone(s, comes(s, 3_000, WALK), expected, hers=(s.device("phone", noise="cell"),))


@script
def his_signal_lost_at_the_edge(s: Scene) -> Plan:
    """His bracelet falls silent 900 m off, and he walks on."""
    his = comes(s, 2_300, WALK)
    gone = Window(arrives(his, 900), INF, "silent")
    return alone(s, his, Expected(accept=UNSEEN, allowed_s=0.0), his=(s.device("bracelet", gone),))


@script
def her_signal_lost_at_the_edge(s: Scene) -> Plan:
    """Her phone falls silent when he is 900 m off, and he walks on."""
    his = comes(s, 2_300, WALK)
    gone = Window(arrives(his, 900), INF, "silent")
    return alone(s, his, Expected(accept=UNSEEN, allowed_s=0.0), hers=(s.device("phone", gone),))


@script
def both_signals_lost(s: Scene) -> Plan:
    """A cell goes down: both are silent from when he is 1,000 m off."""
    his = comes(s, 2_300, WALK)
    gone = Window(arrives(his, 1_000), INF, "silent")
    expected = Expected(accept=UNSEEN, allowed_s=0.0)
    return alone(s, his, expected, hers=(s.device("phone", gone),), his=(s.device("bracelet", gone),))


@script
def her_battery_flat(s: Scene) -> Plan:
    """Her phone has been dead for a quarter of an hour when he comes, by bicycle, from 3 km."""
    his = Way(s.about(3_000), 0).wait(1_300).to(40, 0, s.about(5.0)).wait(500)
    hers = s.device("phone", Window(300, INF, "silent"), battery_pct=8.0, drain_pct_h=60.0)
    return alone(s, his, Expected(accept=UNSEEN, allowed_s=0.0), hers=(hers,))


@script
def foil_and_walks_on(s: Scene) -> Plan:
    """Foil round the bracelet 1.3 km away, and he walks on."""
    his = comes(s, 2_500, WALK)
    gone = Window(arrives(his, 1_300), INF, "silent")
    return alone(s, his, Expected(accept=UNSEEN, allowed_s=0.0), his=(s.device("bracelet", gone),))


@script
def foil_during_breach(s: Scene) -> Plan:
    """He is told inside; then foil, and he stays. The breach does not end, and the silence is told."""
    his = comes(s, 2_300, WALK, stays_s=1_500)
    foil_s = arrives(his, 45) + 300
    told = frozenset({"unknown", "silence"})
    expected = Expected(held=(0.0, his.now_s), also=told, also_s=(foil_s, foil_s + NIJ_S))
    return alone(s, his, expected, his=(s.device("bracelet", Window(foil_s, INF, "silent")),))


@script
def jammed_and_walks_on(s: Scene) -> Plan:
    """A jammer 1.2 km away: the bracelet says so, has no fix any more, and he walks on."""
    his = comes(s, 2_500, WALK)
    from_s = arrives(his, 1_200)
    device = s.device("bracelet", Window(from_s, INF, "nofix"), Window(from_s, INF, "flag", (SHIFT_JAMMING, YES)))
    return alone(s, his, Expected(accept=TAMPER, allowed_s=0.0), his=(device,))


@script
def strap_cut_and_left(s: Scene) -> Plan:
    """He cuts the strap 1.2 km away, leaves the bracelet there, and walks on."""
    his = comes(s, 2_500, WALK)
    from_s = arrives(his, 1_200)
    east, _ = his.path().at(np.asarray(from_s))
    device = s.device(
        "bracelet", Window(from_s, INF, "flag", (SHIFT_STRAP, OPEN)), Window(from_s, INF, "at", (float(east), 0.0))
    )
    return alone(s, his, Expected(accept=TAMPER, allowed_s=0.0), his=(device,))


@script
def frozen_fixes(s: Scene) -> Plan:
    """From 1.3 km on the bracelet repeats one place with fresh times, though it feels that it moves."""
    his = comes(s, 2_500, WALK)
    device = s.device("bracelet", Window(arrives(his, 1_300), INF, "frozen"), tells_motion=True)
    return alone(s, his, Expected(accept=TAMPER, allowed_s=0.0), his=(device,))


@script
def mock_fixes(s: Scene) -> Plan:
    """From 1.2 km on a forging app puts him 10 km away; the phone says that its fixes are mock."""
    his = comes(s, 2_500, WALK)
    from_s = arrives(his, 1_200)
    device = s.device(
        "bracelet", Window(from_s, INF, "at", (10_000.0, 0.0)), Window(from_s, INF, "flag", (SHIFT_MOCK, YES))
    )
    return alone(s, his, Expected(accept=TAMPER, allowed_s=0.0), his=(device,))


@script
def forged_jump_away(s: Scene) -> Plan:
    """From 1.2 km on forged fixes put him 15 km away, and nothing says that they are forged."""
    his = comes(s, 2_500, WALK)
    device = s.device("bracelet", Window(arrives(his, 1_200), INF, "at", (15_000.0, 4_000.0)))
    return alone(s, his, Expected(accept=TAMPER, allowed_s=0.0), his=(device,))


@script
def jumps_on_the_way(s: Scene) -> Plan:
    """Single fixes land kilometres away while he comes."""
    his = comes(s, 2_500, WALK)
    away = [(float(s.random.uniform(4_000, 9_000)), float(s.random.uniform(-3_000, 3_000))) for _ in range(2)]
    moments = (arrives(his, 1_700), arrives(his, 1_000))
    jumps = [Window(at_s, INF, "stray", spot) for at_s, spot in zip(moments, away, strict=True)]
    return alone(s, his, his=(s.device("bracelet", *jumps),))


@script
def stray_fix_at_her_door(s: Scene) -> Plan:
    """He is at home 5 km away; one of his fixes lands at hers."""
    his = Way(s.about(5_000), 0).wait(1_800)
    stray = Window(900, INF, "stray", (30.0, 0.0))
    expected = Expected("quiet", incidents_max=0)
    return alone(s, his, expected, his=(s.device("bracelet", stray),), moving=False)


@script
def late_uploads(s: Scene) -> Plan:
    """His pings arrive 5 to 90 seconds late, and overtake each other."""
    return alone(s, comes(s, 2_300, WALK), his=(s.device("bracelet", delay_s=(5.0, 90.0)),))


@script
def tunnel_then_backlog(s: Scene) -> Plan:
    """Offline for four minutes while he cycles in; what was recorded comes at once, older pings with the newest."""
    his = comes(s, 3_500, 5.0, stays_s=900)
    from_s = arrives(his, 1_100)
    device = s.device("bracelet", Window(from_s, from_s + 240, "offline"))
    return alone(s, his, his=(device,))


@script
def backlog_shows_past_breach(s: Scene) -> Plan:
    """Offline at home 4 km away, he drives to her, stays for ten minutes, drives home, and then his pings come."""
    his = Way(s.about(4_000), 0).wait(400).to(30, 0, 12.0).wait(600).to(4_000, 0, 12.0).wait(900)
    from_s = 300.0
    to_s = his.now_s - 700
    device = s.device("bracelet", Window(from_s, to_s, "offline"))
    return alone(s, his, Expected("past", from_s=to_s - 2, allowed_s=120.0), his=(device,), moving=False)


@script
def her_phone_sleeps(s: Scene) -> Plan:
    """Her phone has stopped moving and tells itself only every five minutes."""
    hers = s.device("phone", Window(60, INF, "interval", 300.0))
    return alone(s, comes(s, 2_300, WALK), hers=(hers,))


@script
def his_bracelet_sleeps(s: Scene) -> Plan:
    """His bracelet is put to sleep, five minutes a ping, and he walks in."""
    his = comes(s, 2_300, WALK, stays_s=900)
    device = s.device("bracelet", Window(60, INF, "interval", 300.0))
    return alone(s, his, Expected(accept=UNSEEN), his=(device,))


@script
def clocks_astray(s: Scene) -> Plan:
    """His bracelet's clock is 40 s ahead, her phone's 30 s behind."""
    his = comes(s, 2_300, WALK)
    return alone(s, his, hers=(s.device("phone", skew_s=-30.0),), his=(s.device("bracelet", skew_s=40.0),))


@script
def heard_though_far(s: Scene) -> Plan:
    """His fixes are forged 3 km away and he stands before her; her unit hears the bracelet."""
    his = comes(s, 3_000, WALK, to_m=8)
    device = s.device("bracelet", Window(0, INF, "at", (3_000.0, 0.0)))
    reached = arrives(his, 25)
    expected = Expected(entry_s=reached, early_m=INF)
    return alone(s, his, expected, hers=(s.device("victim_unit", hears=True),), his=(device,), moving=False)


@script
def two_devices(s: Scene) -> Plan:
    """She carries a phone that lies at home and a unit that she walks with; he meets her in the street."""
    hers = Way(0, 0).wait(SETTLE_S).to(0, 2_000, 1.3).wait(600)
    his = Way(s.about(2_200), 2_000).wait(SETTLE_S).to(30, 2_000, 1.2).wait(400)
    at_home = s.device("phone", path=home().path())
    return s.plan(hers, his, hers=(s.device("victim_unit"), at_home))


@script
def poor_then_good(s: Scene) -> Plan:
    """He comes through a mall (Wi-Fi and cell) from 1,400 m to 700 m and out again."""
    his = comes(s, 2_500, WALK)
    device = s.device("bracelet", Window(arrives(his, 1_400), arrives(his, 700), "noise", "indoor"))
    return alone(s, his, his=(device,))
