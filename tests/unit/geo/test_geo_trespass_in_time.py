"""Zones that begin, end, are suspended or changed while he is inside, and faults that cost one zone alone."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from core.domain.case import CaseZone, encode_cases
from core.domain.log import CONFIGURATION, PINGS
from core.domain.ping import FLAG_PRIMARY, STRAP_FLAGS
from tests.unit.geo.trespassing import (
    HIS,
    circle,
    kinds,
    polygon,
    square,
    stay,
    walk,
    zone_moves,
)

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
