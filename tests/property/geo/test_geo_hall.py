"""Engines side by side in one hall: each decides, and keeps, what it would have alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.domain.log import PINGS
from core.domain.transition import Transition
from geo.engine import Engine, Hall, process_together
from tests.property.geo.test_geo_log import make_log

SHARDS = (0, 1, 2)
SLOTS = 4
quickly = settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate))


class Told:
    """An engine, and all that it told and gave away."""

    def __init__(self, shard: int, hall: Hall | None = None) -> None:
        self.shard, self.hall = shard, hall
        self.engine = Engine(shard, hall=hall)
        self.transitions: list[Transition] = []
        self.state: dict[bytes, bytes] = {}
        self.asks: list[tuple[int, float]] = []

    def keep(self) -> None:
        """Take over what changed."""
        changes = self.engine.take_changes()
        for field, value in changes.state.items():
            if value is None:
                self.state.pop(field, None)
            else:
                self.state[field] = value
        self.asks += sorted(changes.asks)

    def restart(self) -> None:
        """Go on with an engine restored from what was given away."""
        self.engine.close()
        self.engine = Engine(self.shard, hall=self.hall)
        self.engine.restore(self.state)


@quickly
@given(seed=st.integers(0, 10**9))
def test_who_shares_a_batch_decides_and_keeps_what_it_would_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    logs = [make_log(seed + shard, 60) for shard in SHARDS]
    hall = Hall(SLOTS)
    alone = [Told(shard) for shard in SHARDS]
    beside = [Told(shard, hall) for shard in SHARDS]
    at = [0, 0, 0]
    while any(place < len(log) for place, log in zip(at, logs, strict=True)):
        some = [k for k in SHARDS if at[k] < len(logs[k]) and random.random() < 0.7]
        parts = [logs[k][at[k] : at[k] + int(random.integers(1, 30))] for k in some]
        if some:
            told = process_together([(beside[k].engine, part) for k, part in zip(some, parts, strict=True)])
            for k, part, transitions in zip(some, parts, told, strict=True):
                beside[k].transitions += transitions
                alone[k].transitions += alone[k].engine.process(part)
                at[k] += len(part)
        k = int(random.integers(len(SHARDS)))
        for one in (alone[k], beside[k]):
            one.keep()
            if random.random() < 0.2:
                one.restart()
    for one, other in zip(alone, beside, strict=True):
        one.keep()
        other.keep()
        assert other.transitions == one.transitions
        assert other.state == one.state
        assert other.engine.case_versions() == one.engine.case_versions()
        assert other.engine.records_total == one.engine.records_total


def test_devices_are_asked_the_same_in_company() -> None:
    logs = [make_log(7 + shard, 100) for shard in SHARDS]
    hall = Hall(SLOTS)
    alone = [Told(shard) for shard in SHARDS]
    beside = [Told(shard, hall) for shard in SHARDS]
    for start in range(0, max(map(len, logs)), 10):
        parts = [log[start : start + 10] for log in logs]
        process_together([(one.engine, part) for one, part in zip(beside, parts, strict=True)])
        for one, other, part in zip(alone, beside, parts, strict=True):
            one.engine.process(part)
            one.keep()
            other.keep()
    for one, other in zip(alone, beside, strict=True):
        assert one.asks
        assert {number for number, _ in one.asks} == {number for number, _ in other.asks}


def test_who_leaves_gives_the_rows_back_and_the_next_begins_empty() -> None:
    hall = Hall(SLOTS)
    log = make_log(3, 60)
    first, other = Engine(0, hall=hall), Engine(1, hall=hall)
    process_together([(first, log), (other, log)])
    rows = hall.tables.devices.in_use
    first.close()
    first.close()
    assert hall.tables.devices.in_use == rows // 2
    assert hall.tables.orders.in_use == hall.tables.orders.slot.tolist().count(1)
    again = Engine(0, hall=hall)
    assert again.case_versions() == {}
    assert [each.id for each in again.process(log)] == [each.id for each in Engine(0).process(log)]
    assert other.case_versions() != {}


def test_an_error_leaves_nothing_half_told_to_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(SLOTS)
    log = make_log(5, 60)
    sound, faulty = Engine(0, hall=hall), Engine(1, hall=hall)
    begin = next(k for k, entry in enumerate(log) if entry.kind == PINGS)
    process_together([(sound, log[:begin]), (faulty, log[:begin])])

    def refuse(_: object) -> None:
        raise ArithmeticError

    with monkeypatch.context() as patch:
        patch.setattr(hall.asking, "judged", refuse)
        with pytest.raises(TypeError):
            process_together([(sound, log[begin:]), (faulty, log[begin:])])
    again = Engine(0, hall=hall)
    again.restore({})
    assert again.process(log) == Engine(0).process(log)
