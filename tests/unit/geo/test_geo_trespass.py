"""What the engine makes of places: entered, left, crossed, scheduled, small, and when an order is suspended."""

from __future__ import annotations

import math
import uuid
from typing import Any

import msgspec
import pytest

from core.domain.case import CaseZone, encode_cases
from core.domain.log import CONFIGURATION, PINGS
from core.domain.ping import FLAG_PRIMARY, SOURCE_FLAGS, STRAP_FLAGS
from core.domain.transition import Transition
from device_sim.geodesy import Frame, Point
from device_sim.noise import CityNoise
from geo.zones import survey

HIS = 12
MIDDLE = Point(43.25, 76.95)
Moves = list[tuple[str, str]]


def spot(east_m: float, north_m: float = 0.0) -> list[float]:
    return [MIDDLE.lon + east_m / 81_150.0, MIDDLE.lat + north_m / 111_100.0]  # as the world of conftest has it


def box(west_m: float, south_m: float, east_m: float, north_m: float) -> list[list[float]]:
    corners = [(west_m, south_m), (east_m, south_m), (east_m, north_m), (west_m, north_m), (west_m, south_m)]
    return [spot(*corner) for corner in corners]


def square(half_m: float) -> list[list[float]]:
    return box(-half_m, -half_m, half_m, half_m)


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def circle(east_m: float = 0.0, north_m: float = 0.0) -> dict[str, Any]:
    return {"type": "Point", "coordinates": spot(east_m, north_m)}


def zone_moves(transitions: list[Transition]) -> Moves:
    return [(each.from_state, each.to_state) for each in transitions if each.kind == "zone"]


def kinds(transitions: list[Transition]) -> list[tuple[str, str, str]]:
    return [(each.kind, each.from_state, each.to_state) for each in transitions if each.kind in ("zone", "proximity")]


def stay(world: Any, first_s: int, last_s: int, east_m: float, north_m: float = 0.0, **more: Any) -> list[Transition]:
    """He rests: a fix every ten seconds."""
    return [each for now_s in range(first_s, last_s + 1, 10)
            for each in world.ping(now_s, HIS, east_m, north_m, **({"speed_mps": 0.0} | more))]  # fmt: skip


def walk(
    world: Any,
    first_s: int,
    from_m: tuple[float, float],
    to_m: tuple[float, float],
    speed_mps: float,
    every_s: int = 10,
) -> list[Transition]:
    """He goes straight from one spot to another, the last fix there."""
    length = math.dist(from_m, to_m)
    steps = max(1, math.ceil(length / speed_mps / every_s))
    out: list[Transition] = []
    for step in range(1, steps + 1):
        east, north = (a + (b - a) * step / steps for a, b in zip(from_m, to_m, strict=True))
        out += world.ping(first_s + step * every_s, HIS, east, north, speed_mps=length / (steps * every_s))
    return out


# --- entering and leaving


def test_entering_a_place_warns_and_breaches_without_her_being_known(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)), warning_m=300.0)])
    assert stay(world, 0, 60, 1500) == []
    warning, breach = walk(world, 60, (1500, 0), (400, 0), 10.0)
    assert (warning.kind, warning.from_state, warning.to_state) == ("zone", "clear", "warning")
    assert warning.distance_m == pytest.approx(300, abs=100)
    assert (breach.from_state, breach.to_state) == ("warning", "breach")
    assert -100 < breach.distance_m < 0
    assert breach.p_within > 0.5
    assert breach.zone_id == uuid.UUID(int=6)
    assert breach.order_id == uuid.UUID(int=5)
    assert zone_moves(stay(world, 180, 300, 400)) == []
    left = walk(world, 300, (400, 0), (1500, 0), 10.0) + stay(world, 420, 540, 1500)
    assert zone_moves(left) == [("breach", "warning"), ("warning", "clear")] or zone_moves(left) == [
        ("breach", "clear")
    ]


def test_a_first_fix_already_inside_is_a_breach(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    [breach] = world.ping(1, HIS, 100.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")


def test_a_hole_is_not_the_place(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500), square(200)))])
    assert stay(world, 0, 60, 0) == []
    assert zone_moves(walk(world, 60, (0, 0), (350, 0), 2.0)) == [("clear", "breach")]


def test_her_own_pings_do_not_enter_his_zone(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    assert world.ping(1, 11, 0.0) == []


def test_a_loiterer_on_the_edge_is_one_breach(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    told = [each for turn in range(30)
            for each in stay(world, 60 * turn, 60 * turn + 50, 490 if turn % 2 else 510)]  # fmt: skip
    assert zone_moves(told) == [("clear", "breach")]


# --- inclusion


def test_an_inclusion_zone_left_is_a_breach_that_ends_when_he_is_back(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(5000)), kind="inclusion")])
    assert stay(world, 0, 60, 4000) == []
    [breach] = walk(world, 60, (4000, 0), (5600, 0), 10.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert -120 < breach.distance_m < 0
    back = walk(world, 220, (5600, 0), (4000, 0), 10.0) + stay(world, 390, 500, 4000)
    assert zone_moves(back) == [("breach", "clear")]


def test_the_warning_ring_of_an_inclusion_zone_lies_inside_its_edge(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(5000)), kind="inclusion", warning_m=500.0)])
    assert stay(world, 0, 60, 4000) == []
    assert zone_moves(walk(world, 60, (4000, 0), (4700, 0), 10.0)) == [("clear", "warning")]


def notched() -> dict[str, Any]:
    """Two arms, 400 m wide and 600 m apart, joined at their foot."""
    outline = [(-700, 0), (-700, 3000), (-300, 3000), (-300, 400), (300, 400), (300, 3000), (700, 3000), (700, 0)]
    return polygon([spot(*corner) for corner in [*outline, outline[0]]])


def test_a_way_that_left_an_inclusion_zone_and_came_back_between_two_fixes_is_a_breach(world: Any) -> None:
    world.configure(zones=[world.zone(notched(), kind="inclusion")])
    assert stay(world, 0, 60, -500, 2500) == []
    [breach] = world.ping(120, HIS, 500, 2500, speed_mps=17.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["crossed"] is True
    assert world.start_ms + 60_000 < breach.at_ms < world.start_ms + 120_000


def test_a_way_within_an_inclusion_zone_is_none(world: Any) -> None:
    world.configure(zones=[world.zone(notched(), kind="inclusion")])
    assert stay(world, 0, 60, -500, 200) == []
    assert world.ping(120, HIS, 500, 200, speed_mps=17.0) == []


def test_the_margin_and_the_warning_ring_fit_the_room_a_house_has() -> None:
    """Nobody gets the exit margin of 100 m away from the edge of a house and its garden."""
    home = CaseZone(id=uuid.UUID(int=6), kind="inclusion", geometry=circle(), radius_m=60.0, warning_m=100.0)
    inner, outer, inner_exit, outer_exit = survey(home, 100.0).limits
    assert inner == 0
    assert 0 < inner_exit <= 15
    assert outer < outer_exit < 60


def test_a_curfew_broken_ends_when_he_is_home_again(world: Any) -> None:
    world.configure(zones=[world.zone(circle(), kind="inclusion", radius_m=60.0)])
    assert stay(world, 0, 120, 0) == []
    gone = walk(world, 120, (0, 0), (300, 0), 1.5) + stay(world, 330, 600, 300)
    assert zone_moves(gone) == [("clear", "breach")]
    home = walk(world, 600, (300, 0), (0, 0), 1.5) + stay(world, 810, 1200, 0)
    assert zone_moves(home) == [("breach", "clear")]


def test_where_he_has_room_the_margin_is_the_orders() -> None:
    for geometry, radius_m, kind in ((polygon(square(500)), None, "exclusion"), (circle(), 5000.0, "inclusion")):
        zone = CaseZone(id=uuid.UUID(int=6), kind=kind, geometry=geometry, radius_m=radius_m, warning_m=200.0)
        assert survey(zone, 100.0).limits == (0.0, 200.0, 100.0, 300.0)


def test_a_hole_that_he_lives_in_leaves_room_for_a_breach_to_end() -> None:
    zone = CaseZone(id=uuid.UUID(int=6), kind="exclusion", geometry=polygon(square(5000), square(60)), warning_m=50.0)
    assert survey(zone, 100.0).limits[2] == pytest.approx(15.0, rel=0.05)


# --- the way between two fixes


def test_driving_through_a_place_between_two_fixes_is_a_breach_at_the_time_he_was_there(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    walk(world, 0, (-2500, 0), (-1000, 0), 25.0)
    [breach] = world.ping(140, HIS, 1000, speed_mps=25.0)
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["crossed"] is True
    assert breach.at_ms == pytest.approx(world.start_ms + 100_000, abs=15_000)


def test_driving_past_a_place_between_two_fixes_warns(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)), warning_m=300.0)])
    walk(world, 0, (-2500, 350), (-1000, 350), 25.0)
    assert zone_moves(world.ping(140, HIS, 1000, 350, speed_mps=25.0)) == [("clear", "warning")]


def test_cutting_the_corner_of_a_place_by_less_than_the_noise_is_none(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    walk(world, 0, (-2500, 1500), (-900, 1500), 25.0, every_s=20)
    # the straight way to here passes the corner (200, 200) at 5 m, and lies within for some 10 m
    assert world.ping(180, HIS, 905, -510, speed_mps=25.0, accuracy_m=20.0) == []


def test_fixes_far_apart_in_time_are_not_joined(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    stay(world, 0, 60, -1000)
    assert zone_moves(world.ping(360, HIS, 1000, speed_mps=10.0)) == []


def test_a_fix_that_does_not_fit_and_lies_in_a_place_is_a_warning_until_it_is_confirmed(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(200)))])
    stay(world, 1, 301, 3000, accuracy_m=5.0)
    assert zone_moves(world.ping(311, HIS, 0.0, accuracy_m=5.0, speed_mps=0.0)) == [("clear", "warning")]
    told = stay(world, 321, 341, 0, accuracy_m=5.0)
    assert zone_moves(told) == [("warning", "breach")]


# --- poor fixes


@pytest.mark.parametrize("p_enter", [0.5, 0.3])
def test_in_a_place_smaller_than_the_noise_the_estimate_decides_and_says_so(world: Any, p_enter: float) -> None:
    world.configure(zones=[world.zone(circle(), radius_m=30.0)], p_enter=p_enter)
    [breach] = world.ping(1, HIS, 5.0, accuracy_m=75.0)  # sigma 50
    assert (breach.from_state, breach.to_state) == ("clear", "breach")
    assert breach.detail["uncertain"] is True
    assert breach.p_within < 0.2


@pytest.mark.parametrize("p_enter", [0.5, 0.3])
def test_beside_a_place_smaller_than_the_noise_nothing_is_entered(world: Any, p_enter: float) -> None:
    """The straight edge alone would say Φ(-10/50) = 0.42."""
    world.configure(zones=[world.zone(circle(), radius_m=30.0)], p_enter=p_enter)
    assert world.ping(1, HIS, 40.0, accuracy_m=75.0) == []


def test_poor_fixes_and_none_at_all_lower_nothing(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    assert zone_moves(stay(world, 0, 60, 400)) == [("clear", "breach")]
    poor = [each for now_s in range(90, 900, 30) for each in world.ping(now_s, HIS, 800.0, accuracy_m=600.0)]
    assert zone_moves(poor) == []
    assert zone_moves(world.ticks(900, 1200)) == []


def test_a_poor_fix_does_not_take_him_out_of_his_home(world: Any) -> None:
    world.configure(zones=[world.zone(circle(), kind="inclusion", radius_m=60.0)])
    assert stay(world, 0, 300, 10) == []
    assert zone_moves(world.ping(330, HIS, 150.0, accuracy_m=600.0)) == []
    assert zone_moves(stay(world, 360, 600, 10)) == []


@pytest.mark.parametrize(
    ("away_m", "speed_mps", "seed"), [(60.0, 0.0, 1), (80.0, 0.0, 2), (100.0, math.nan, 3), (100.0, math.nan, 4)]
)
def test_a_day_at_rest_beside_a_place_in_the_noise_of_a_city_is_no_breach(
    world: Any, away_m: float, speed_mps: float, seed: int
) -> None:
    """With a device that says it rests, and farther off with one that says nothing (NaN)."""
    world.configure(zones=[world.zone(polygon(square(300)))])
    frame, noise = Frame(MIDDLE), CityNoise(seed)
    truth = frame.point(300 + away_m, 0)
    told: list[Transition] = []
    for now_s in range(0, 86_400, 60):
        fix = noise.fix(truth, float(now_s))
        east_m, north_m = frame.offset_m(fix.point)
        flags = FLAG_PRIMARY | SOURCE_FLAGS[fix.source]
        told += world.ping(now_s, HIS, east_m, north_m, accuracy_m=fix.accuracy_m, speed_mps=speed_mps, flags=flags)
    assert "breach" not in [into for _, into in zone_moves(told)]


# --- schedules


def test_a_zone_whose_hours_begin_while_he_is_inside_is_a_breach_then_and_ends_with_them(world: Any) -> None:
    begin, end = world.start_ms + 10_000, world.start_ms + 20_000
    world.configure(zones=[world.zone(polygon(square(500)), valid_from_ms=begin, valid_until_ms=end)])
    assert world.ping(1, HIS, 0.0) == []
    assert zone_moves(world.ticks(2, 10)) == [("clear", "breach")]
    [clear] = world.ticks(11, 25)
    assert (clear.to_state, clear.detail["reason"]) == ("clear", "schedule_ended")


def test_weekly_hours_begin_and_end_by_ticks_in_the_orders_time_zone(world: Any) -> None:
    # the log begins on Thursday 9 October 2025 at 13:53:20 in Almaty
    hours = [{"days": [4], "from": "13:54", "to": "13:56"}]
    world.configure(zones=[world.zone(polygon(square(500)), schedule=hours)], time_zone="Asia/Almaty")
    assert zone_moves(stay(world, 0, 30, 0)) == []
    [breach] = [each for each in world.ticks(31, 41) if each.kind == "zone"]
    assert (breach.to_state, breach.at_ms) == ("breach", world.start_ms + 40_000)
    [clear] = [each for each in world.ticks(42, 170) if each.kind == "zone"]
    assert (clear.to_state, clear.at_ms) == ("clear", world.start_ms + 160_000)


def test_an_hour_that_begins_far_from_him_is_nothing(world: Any) -> None:
    begin = world.start_ms + 10_000
    world.configure(zones=[world.zone(polygon(square(500)), valid_from_ms=begin)])
    world.ping(1, HIS, 900.0)
    assert zone_moves(world.ticks(2, 30)) == []


# --- suspended, and in force again


def inside(world: Any, **changes: Any) -> dict[str, Any]:
    """Both at one spot, within a zone: breach of both kinds."""
    order = {"zones": [world.zone(polygon(square(500)))], **changes}
    world.configure(**order)
    world.tick(0)
    assert kinds(world.both(1, 100)) == [("proximity", "clear", "breach"), ("zone", "clear", "breach")]
    return order


def test_a_suspension_clears_the_order_and_its_zones_and_says_why(world: Any) -> None:
    order = inside(world)
    told = world.configure(2, **order, active=False)
    assert kinds(told) == [("proximity", "breach", "clear"), ("zone", "breach", "clear")]
    assert {each.detail["reason"] for each in told if each.kind in ("zone", "proximity")} == {"order_inactive"}
    assert kinds([each for now_s in range(10, 200, 10) for each in world.both(now_s, 50)]) == []


def test_a_suspension_silences_no_device(world: Any) -> None:
    order = inside(world)
    world.configure(2, **order, active=False)
    [strap] = world.ping(10, HIS, 100.0, flags=FLAG_PRIMARY | STRAP_FLAGS["open"])
    assert (strap.kind, strap.detail["signal"], strap.to_state) == ("device", "strap", "open")
    signals = [each.detail.get("signal") for each in world.ticks(11, 600) if each.kind == "device"]
    assert signals.count("silence") >= 2


@pytest.mark.parametrize("pings_between", [True, False])
def test_a_suspension_that_ends_while_he_is_inside_is_a_breach_at_once(world: Any, pings_between: bool) -> None:
    order = inside(world)
    world.configure(2, **order, active=False)
    if pings_between:
        world.both(60, 80)
    told = world.configure(65, **order)
    assert kinds(told) == [("proximity", "clear", "breach"), ("zone", "clear", "breach")]
    assert {each.at_ms for each in told if each.kind in ("zone", "proximity")} == {world.start_ms + 65_000}


def test_a_suspension_that_ends_when_he_has_gone_is_quiet(world: Any) -> None:
    order = inside(world)
    world.configure(2, **order, active=False)
    walk(world, 2, (100, 0), (4000, 0), 20.0)
    world.ping(205, 11, 0.0)
    assert kinds(world.configure(206, **order)) == []


def test_an_order_that_starts_while_he_is_inside_is_a_breach_of_both_kinds(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))], valid_from_ms=world.start_ms + 10_000)
    assert kinds(world.both(1, 100)) == []
    assert kinds(world.ticks(2, 10)) == [("proximity", "clear", "breach"), ("zone", "clear", "breach")]


def test_a_zone_added_about_him_and_one_that_grows_to_him_are_breaches(world: Any) -> None:
    world.configure()
    stay(world, 0, 30, 2000)
    near = {"id": uuid.UUID(int=6), "radius_m": 100.0}
    assert kinds(world.configure(40, zones=[world.zone(circle(1800), **near)])) == []
    assert kinds(world.configure(41, zones=[world.zone(circle(1800), **(near | {"radius_m": 400.0}))])) == [
        ("zone", "clear", "breach")
    ]
    other = world.zone(circle(2000), id=uuid.UUID(int=66), radius_m=50.0)
    told = world.configure(42, zones=[world.zone(circle(1800), **(near | {"radius_m": 400.0})), other])
    assert [(each.zone_id, each.to_state) for each in told if each.kind == "zone"] == [(uuid.UUID(int=66), "breach")]


def test_a_radius_that_grows_to_him_is_a_breach(world: Any) -> None:
    world.configure(alert_m=300.0, warning_m=400.0)
    assert kinds(world.both(1, 700)) == []
    assert kinds(world.configure(2, alert_m=1000.0, warning_m=1500.0)) == [("proximity", "clear", "breach")]


def test_a_zone_that_leaves_the_configuration_is_clear(world: Any) -> None:
    world.configure(zones=[world.zone(polygon(square(500)))])
    world.ping(1, HIS, 0.0)
    [clear] = world.configure(2, zones=[])
    assert (clear.kind, clear.to_state, clear.detail["reason"]) == ("zone", "clear", "zone_removed")


# --- a fault of one zone is that zone's


def test_a_shape_that_is_none_is_counted_and_the_order_still_protects(world: Any) -> None:
    world.configure(zones=[world.zone({"type": "Polygon", "coordinates": "?"})])
    assert world.engine.refused_total == 1
    assert [each.to_state for each in world.both(1, 100) if each.kind == "proximity"] == ["breach"]


def break_zone(world: Any, zone_id: uuid.UUID) -> None:
    zones = world.engine._roster.zones
    [row] = [row for row, about in enumerate(zones.about) if about is not None and about[2].id == zone_id]
    zones.shape[row] = "no geometry at all"


@pytest.mark.parametrize("broken_first", [True, False])
def test_a_geometry_that_fails_while_it_is_judged_costs_that_zone_only(world: Any, broken_first: bool) -> None:
    sound, broken = uuid.UUID(int=61), uuid.UUID(int=62)
    zones = [world.zone(polygon(square(500)), id=each) for each in (sound, broken)]
    world.configure(zones=zones[::-1] if broken_first else zones)
    break_zone(world, broken)
    told = world.both(1, 100)
    assert [each.zone_id for each in told if each.kind == "zone"] == [sound]
    assert kinds(told)[0] == ("proximity", "clear", "breach")
    assert world.engine.refused_total == 1
    world.both(11, 100)
    assert world.engine.refused_total == 1


def test_a_geometry_that_fails_when_its_hours_begin_does_not_end_the_ticks(world: Any) -> None:
    begin = world.start_ms + 10_000
    sound, broken = uuid.UUID(int=61), uuid.UUID(int=62)
    world.configure(
        zones=[world.zone(polygon(square(500)), id=each, valid_from_ms=begin) for each in (broken, sound)],
        valid_until_ms=world.start_ms + 20_000,
    )
    world.both(1, 100)
    break_zone(world, broken)
    told = world.ticks(2, 15)
    assert [each.zone_id for each in told if each.kind == "zone"] == [sound]
    assert ("proximity", "breach", "clear") in kinds(world.ticks(16, 25))


def test_a_schedule_nobody_can_read_holds_and_the_ticks_go_on(world: Any) -> None:
    odd = [{"days": None, "from": 7, "to": {}}]
    world.configure(zones=[world.zone(polygon(square(500)), schedule=odd)], time_zone="Nowhere/Land")
    assert zone_moves(world.ping(1, HIS, 0.0)) == [("clear", "breach")]
    world.ticks(2, 20)


def two_cases(world: Any, zones: list[CaseZone]) -> bytes:
    """The world's own case, and another like it of persons 3 and 4 with devices 13 and 14."""
    first = world.case(zones=zones)
    people = [
        msgspec.structs.replace(
            person,
            number=person.number + 2,
            id=uuid.UUID(int=100 + person.number),
            devices=[msgspec.structs.replace(each, number=each.number + 2, id=uuid.UUID(int=100 + each.number))
                     for each in person.devices],
        )
        for person in first.people
    ]  # fmt: skip
    order = msgspec.structs.replace(
        first.orders[0], number=6, id=uuid.UUID(int=105), victim=3, aggressor=4,
        zones=[msgspec.structs.replace(zone, id=uuid.UUID(int=106)) for zone in zones],
    )  # fmt: skip
    second = msgspec.structs.replace(first, number=8, id=uuid.UUID(int=107), people=people, orders=[order])
    return bytes(encode_cases([first, second]))


@pytest.mark.parametrize("doubted_first", [True, False])
def test_who_crosses_a_place_is_told_whoever_else_is_doubted_in_the_same_moment(
    world: Any, doubted_first: bool
) -> None:
    world.add(0, CONFIGURATION, two_cases(world, [world.zone(polygon(square(200)))]))
    stay(world, 1, 61, 5000, accuracy_m=5.0)
    for now_s in range(0, 60, 10):
        world.ping(now_s + 2, 14, -1000 - 25 * (50 - now_s), speed_mps=25.0)
    doubted = world.record(HIS, 9000.0, now_s=132, accuracy_m=5.0, speed_mps=0.0)
    crossing = world.record(14, 1000.0, now_s=132, speed_mps=25.0)
    told = world.add(132, PINGS, doubted + crossing if doubted_first else crossing + doubted)
    assert [(each.zone_id, each.to_state) for each in told if each.kind == "zone"] == [(uuid.UUID(int=106), "breach")]
