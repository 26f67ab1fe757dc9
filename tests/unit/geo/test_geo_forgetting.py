"""What must not be lost: neither by a restart, nor because something else was told already."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from core.domain.case import CaseDevice, CasePerson
from core.domain.log import PINGS, Entry
from core.domain.ping import FLAG_EXTRA, FLAG_PRIMARY, SHIFT_STRAP
from core.domain.transition import Transition
from geo.engine import Engine

MINUTE_MS = 60_000


def restart(world: Any) -> None:
    """The shard is taken over by another owner, from what this one wrote down."""
    written = world.__dict__.setdefault("written", {})
    for field, value in world.engine.take_changes().state.items():
        written.pop(field, None) if value is None else written.update({field: value})
    world.engine = Engine(3)
    world.engine.restore(written)


def told(transitions: list[Transition]) -> list[tuple[int, str, str]]:
    return [(each.evaluated_ms, each.kind, each.to_state) for each in transitions]


def silences(transitions: list[Transition]) -> list[tuple[str, str]]:
    return [(each.detail["party"], each.to_state) for each in transitions if each.detail.get("signal") == "silence"]


def test_his_silence_is_told_though_hers_has_made_the_separation_unknown_before(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 100)
    seen = []
    for now_s in range(30, 300, 30):
        seen += world.ping(now_s, 12, 100.0) + world.ticks(now_s, now_s + 29)
    [unknown] = [each for each in seen if each.kind == "assurance"]
    assert unknown.detail["silent"] == "victim"
    assert ("aggressor", "silent") in silences(world.ticks(300, 700))


def test_silence_that_was_told_and_ended_is_told_again(world: Any) -> None:
    world.configure()
    world.tick(1)
    world.both(2, 100)
    [unknown] = world.ticks(3, 200)
    assert unknown.detail["silent"] == "both"
    world.ping(201, 12, 100.0)
    assert ("aggressor", "silent") in silences(world.ticks(202, 700))


def test_poor_fixes_are_told_of_though_the_shard_changes_hands_with_each(new_world: Any) -> None:
    outcomes = []
    for restarts in (False, True):
        world = new_world()
        world.configure(interval_s=20.0)
        world.tick(1)
        seen = []
        for now_s in range(2, 200, 10):
            seen += world.ping(now_s, 11, 0.0, accuracy_m=900.0, speed_mps=4.0)
            seen += world.ping(now_s + 1, 12, 1800.0, accuracy_m=900.0, speed_mps=4.0)
            seen += world.tick(now_s + 2)
            if restarts:
                restart(world)
        outcomes.append(told(seen))
    assert "unknown" in {state for _, kind, state in outcomes[0] if kind == "assurance"}
    assert outcomes[1] == outcomes[0]


def test_silence_is_allowed_as_without_a_place_once_the_place_holds_no_more(new_world: Any) -> None:
    outcomes = []
    for restarts in (False, True):
        world = new_world()
        point = {"type": "Point", "coordinates": [76.95, 43.25]}
        until_ms = world.start_ms + MINUTE_MS
        zone = world.zone(point, radius_m=300.0, valid_until_ms=until_ms)
        world.configure(interval_s=20.0, zones=[zone])
        seen = world.tick(1) + world.ping(2, 12, 0.0) + world.ticks(3, 50) + world.ping(51, 12, 0.0)
        assert ("zone", "breach") in [(each.kind, each.to_state) for each in seen]
        seen += world.ticks(52, 62)
        if restarts:
            restart(world)
        seen += world.ticks(63, 900)
        outcomes.append(told(seen))
    assert outcomes[1] == outcomes[0]


def test_an_opened_strap_brings_forward_what_silence_tells_though_it_came_without_a_place(new_world: Any) -> None:
    outcomes = []
    for restarts in (False, True):
        world = new_world()
        world.configure()
        world.tick(1)
        world.ping(2, 11, 0.0)
        world.ping(2, 12, 1000.0, speed_mps=0.0)
        seen = []
        for now_s in range(20, 160, 20):
            seen += world.ping(now_s, 11, 0.0) + world.ticks(now_s, now_s + 19)
        assert not [each for each in seen if each.kind == "assurance" and each.to_state == "unknown"]
        seen += world.ping(161, 12, None, flags=FLAG_PRIMARY | 2 << SHIFT_STRAP)
        if restarts:
            restart(world)
        after = world.tick(162)
        assert [each.detail["silent"] for each in after if each.kind == "assurance"] == ["aggressor"]
        outcomes.append(told(seen + after))
    assert outcomes[1] == outcomes[0]


def test_what_cannot_be_read_beside_a_ping_spoils_nothing(world: Any) -> None:
    world.configure()
    for n, beside in enumerate([{"0": None}, {"0": {"heard": 3}}, {"0": {"heard": [4]}}, {"0": {"heard": None}}], 2):
        record = world.record(11, 0.0, now_s=n, flags=FLAG_PRIMARY | FLAG_EXTRA)
        assert world.engine.process([Entry(world.at(n), 100 + n, PINGS, record, msgspec.json.encode(beside))]) == []


def test_fixes_that_are_all_old_when_they_come_do_not_hide_that_nobody_knows_where_he_is(world: Any) -> None:
    world.configure(interval_s=20.0)
    world.tick(1)
    seen = world.both(2, 1200.0)
    for now_s in range(20, 1800, 20):
        seen += world.ping(now_s, 11, 0.0, speed_mps=0.0)
        seen += world.ping(now_s, 12, 1200.0, at_s=max(3.0, now_s - 600.0) + now_s / 1000, speed_mps=0.0)
        seen += world.ticks(now_s, now_s + 19)
    unknown = [each for each in seen if each.kind == "assurance" and each.to_state == "unknown"]
    assert [each.detail["silent"] for each in unknown] == ["aggressor"]


def test_a_device_whose_fix_is_doubted_does_not_speak_for_its_wearer_by_where_it_was_long_ago(world: Any) -> None:
    phones = [CaseDevice(number=n, id=uuid.UUID(int=n), kind="phone", interval_s=60.0) for n in (11, 21)]
    bracelet = CaseDevice(number=12, id=uuid.UUID(int=12), kind="bracelet", interval_s=60.0)
    world.configure(people=[
        CasePerson(number=1, id=uuid.UUID(int=1), role="victim", devices=phones),
        CasePerson(number=2, id=uuid.UUID(int=2), role="aggressor", devices=[bracelet]),
    ])  # fmt: skip
    world.tick(1)
    for now_s in range(2, 62, 10):
        world.ping(now_s, 21, 0.0, accuracy_m=3.0, speed_mps=0.0)
    for now_s in range(70, 400, 30):  # she left one phone behind
        world.ping(now_s, 11, 9000.0, accuracy_m=30.0, speed_mps=0.0)
    world.ping(401, 12, 12_000.0, speed_mps=0.0)
    roster = world.engine._roster
    speaks = int(roster.lookup[11])
    assert speaks in roster.people.best.tolist()
    world.ping(402, 21, 60_000.0, accuracy_m=3.0, speed_mps=0.0)
    assert speaks in roster.people.best.tolist()


def test_how_long_he_has_been_coming_is_counted_anew_once_an_order_holds_again(world: Any) -> None:
    world.configure(interval_s=10.0)
    world.tick(1)
    for now_s in range(2, 62, 10):
        world.both(now_s, 1400.0 - 1.2 * now_s, speed_mps=1.2)
    orders = world.engine._roster.orders
    assert orders.coming_ms.max() > 0
    world.configure(70.0, active=False, interval_s=10.0)
    world.configure(80_000.0, active=True, interval_s=10.0)
    assert orders.coming_ms.max() in (0, world.start_ms + 80_000_000)
