"""Pings that lie in the log before the configuration that names their devices."""

from __future__ import annotations

from typing import Any

from core.domain.log import PINGS
from geo.engine import Engine
from geo.strangers import BOUND, KEPT_MS


def test_who_is_inside_already_is_seen_when_the_order_comes(world: Any) -> None:
    assert world.ping(0, 11, 0.0) == []
    assert world.ping(1, 12, 100.0) == []
    found = world.configure(5)
    assert [(t.kind, t.from_state, t.to_state) for t in found] == [("proximity", "clear", "breach")]
    assert found[0].distance_m is not None
    assert abs(found[0].distance_m - 100) < 1


def test_the_newest_of_several_early_fixes_counts(world: Any) -> None:
    world.ping(0, 11, 0.0)
    world.ping(1, 12, 100.0)
    world.ping(2, 12, 9000.0)
    assert world.configure(5) == []


def test_an_old_fix_raises_nothing(world: Any) -> None:
    world.ping(0, 11, 0.0)
    world.ping(1, 12, 100.0)
    assert world.configure(2 + KEPT_MS / 1000) == []


def test_a_restored_engine_takes_them_up_alike(world: Any) -> None:
    world.ping(0, 11, 0.0)
    world.ping(1, 12, 100.0)
    fields = {k: v for k, v in world.engine.take_changes().state.items() if v is not None}
    other = Engine(3)
    other.restore(fields)
    original = world.configure(5)
    assert other.process([world.log[-1]]) == original
    assert original


def test_they_are_taken_up_once_and_leave_no_state_behind(world: Any) -> None:
    world.ping(0, 11, 0.0)
    world.ping(1, 12, 100.0)
    state = dict(world.engine.take_changes().state)
    world.configure(5)
    state.update(world.engine.take_changes().state)
    assert not [field for field, value in state.items() if field[:1] == b"u" and value is not None]
    assert world.configure(6) == []


def test_any_cut_gives_the_same(new_world: Any) -> None:
    worlds = [new_world(), new_world()]
    for each in worlds:
        each.ping(0, 11, 0.0)
        each.ping(1, 12, 100.0)
        each.configure(5)
        each.ping(6, 12, 90.0)
    apart = Engine(3)
    found = apart.process(worlds[0].log)
    one_by_one = Engine(3)
    assert found == [t for entry in worlds[1].log for t in one_by_one.process([entry])]


def test_no_more_are_kept_than_the_bound(world: Any) -> None:
    strangers = world.engine._strangers
    payload = b"".join(world.record(1000 + n, 0.0, now_s=0) for n in range(BOUND + 10))
    world.add(0, PINGS, payload)
    assert len(strangers.take_changes()) == BOUND
