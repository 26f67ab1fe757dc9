"""What the engine writes down for devices to be told, beside its transitions."""

from __future__ import annotations

import uuid
from typing import Any

from core.domain.case import CaseDevice, CasePerson
from geo.engine import Engine

HERS, HIS = 11, 12


def test_a_pair_that_comes_near_is_asked_for_more_each_in_its_own_way(world: Any) -> None:
    world.configure(alert_m=500.0, warning_m=1_500.0)
    world.both(1, 4_000)
    world.engine.take_changes()
    world.both(61, 2_000)
    asks = dict(world.engine.take_changes().asks)
    assert HIS not in asks, "he was told the shortest step at his first ping"
    assert asks[HERS] == 1.0, "she may hear it only a minute from now, and then nothing is left of what was safe"
    world.both(66, 1_000)  # in warning
    assert world.engine.take_changes().asks == [], "what changed, once"


def test_a_new_configuration_changes_nothing_of_what_is_asked(world: Any) -> None:
    world.configure()
    for second in (1, 61, 121):
        world.both(second, 9_000)
    before = dict(world.engine.take_changes().asks)
    world.configure(150)
    world.both(181, 9_000)
    after = dict(world.engine.take_changes().asks)
    assert {number: after.get(number, seconds) for number, seconds in before.items()} == before


def test_far_apart_she_is_asked_for_no_more_than_is_expected(world: Any) -> None:
    world.configure()
    world.both(1, 40_000)
    world.both(61, 40_000)
    asks = dict(world.engine.take_changes().asks)
    assert asks[HERS] == 0.0
    assert asks[HIS] == 5.0, "whoever has not rested is told the shortest step, however far he is"


def test_an_engine_taken_over_asks_the_same_again(world: Any) -> None:
    world.configure(alert_m=500.0, warning_m=1_500.0)
    fields: dict[bytes, bytes] = {}
    for second, distance_m in ((1, 2_000), (31, 1_400)):
        world.both(second, distance_m)
    changes = world.engine.take_changes()
    fields.update({name: value for name, value in changes.state.items() if value is not None})
    assert dict(changes.asks)[HERS] == 1.0
    world.engine = Engine(3)
    world.engine.restore(fields)
    world.both(36, 1_400)
    assert dict(world.engine.take_changes().asks)[HERS] == 1.0


def test_a_device_whose_person_left_is_let_go(world: Any) -> None:
    world.configure(alert_m=500.0, warning_m=1_500.0)
    world.both(1, 1_400)
    world.both(6, 1_400)
    assert dict(world.engine.take_changes().asks)[HERS] == 1.0
    other = [
        CasePerson(
            number, uuid.UUID(int=number), role, devices=[CaseDevice(10 + number, uuid.UUID(int=number), "phone")]
        )
        for number, role in ((1, "victim"), (2, "aggressor"), (3, "victim"))
    ]
    world.configure(7, people=[other[2], other[1]], orders=[world.order(victim=3, id=uuid.UUID(int=8), number=8)])
    world.ping(8, 13, 30_000)
    for minute in range(1, 14):
        world.ping(60 * minute, HIS, 0)
        world.tick(60 * minute + 1)
    assert dict(world.engine.take_changes().asks)[HERS] == 0.0, "she left the case"


def test_whoever_is_in_several_orders_is_asked_for_the_least_of_them(world: Any) -> None:
    people = [
        CasePerson(number, uuid.UUID(int=number), role, devices=[CaseDevice(10 + number, uuid.UUID(int=9), kind)])
        for number, role, kind in ((1, "victim", "phone"), (2, "aggressor", "bracelet"), (3, "aggressor", "bracelet"))
    ]
    orders = [world.order(), world.order(number=6, id=uuid.UUID(int=60), aggressor=3)]
    world.configure(people=people, orders=orders)
    for second in (1, 61, 91, 121):
        world.ping(second, HIS, 30_000)
        world.ping(second, 13, 0, 3_000)
        world.ping(second, HERS, 0)
    near = dict(world.engine.take_changes().asks)[HERS]
    assert 1.0 <= near <= 20.0, "one is far, the other 3 km away"
