"""The clocks of an incident, whatever happens to it in whatever order: none runs behind what was done, none twice."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.clock import rfc3339
from core.domain.escalation import DEFAULTS, LATE, UNACCEPTED, UNDISPATCHED, Deadline, applies, changes, plan_of

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
UNITS = [uuid.UUID(int=number) for number in (1, 2)]
POLICY = DEFAULTS["critical"]

steps = st.one_of(
    st.just(("acknowledge", 0, None)),
    st.tuples(st.sampled_from(["dispatch", "accept", "decline", "arrive"]), st.integers(0, 1), st.just(60.0)),
    st.just(("resolve", 0, None)),
    st.tuples(st.just("wait"), st.just(0), st.floats(1, 200)),
)


class World:
    """An incident and its deadlines, as the database would keep them."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {"state": "open", "version": 1, "units": []}
        self.now = NOW
        self.pending = [
            Deadline("unacknowledged", step, NOW + timedelta(seconds=due_s), turn, round=1)
            for step, turn, due_s in plan_of(POLICY.unacknowledged)
        ]
        self.over: list[Deadline] = []
        self.fired: list[Deadline] = []

    def do(self, what: str, number: int, figure: float | None) -> None:
        """One thing that somebody does, as the commands do it."""
        units = {unit["unit_id"]: unit for unit in self.row["units"]}
        unit = units.get(str(UNITS[number]))
        state = self.row["state"]
        if what == "wait":
            assert figure is not None
            self.now += timedelta(seconds=figure)
            self.fire()
            return
        if state == "resolved" or (what == "acknowledge" and state != "open"):
            return
        if what == "acknowledge":
            self.row |= {"state": "acknowledged", "version": self.row["version"] + 1}
        elif what == "resolve":
            self.row |= {"state": "resolved", "version": self.row["version"] + 1}
        elif what == "dispatch":
            if unit is None or unit["declined"]:
                units[str(UNITS[number])] = {
                    "unit_id": str(UNITS[number]), "dispatched_at": rfc3339(self.now), "accepted": None,
                    "declined": None, "en_route": None, "on_scene": None, "eta_s": figure,
                    "eta_told_at": rfc3339(self.now),
                }  # fmt: skip
            self.row |= {"state": "dispatched", "version": self.row["version"] + 1, "units": list(units.values())}
        elif unit is not None and not unit["declined"]:
            unit[{"accept": "accepted", "decline": "declined", "arrive": "on_scene"}[what]] = rfc3339(self.now)
        self.settle()

    def settle(self) -> None:
        """As `note_progress`."""
        stop, add = changes(self.row, POLICY, self.pending, self.over, self.now)
        self.over += stop
        self.pending = [one for one in self.pending if one not in stop] + add

    def fire(self) -> None:
        """As the escalator."""
        due = [one for one in self.pending if one.due_at <= self.now]
        self.fired += [one for one in due if applies(self.row, one)]
        self.over += due
        self.pending = [one for one in self.pending if one not in due]
        self.settle()


@given(st.lists(steps, max_size=25))
def test_what_runs_is_what_the_state_wants(history: list[Any]) -> None:
    world = World()
    for what, number, figure in history:
        world.do(what, number, figure)
        assert all(applies(world.row, one) for one in world.pending), "no clock runs behind what was done"
        assert len(world.pending) == len(set(world.pending))
        assert not set(world.pending) & set(world.over), "what is over is not begun again"
        if world.row["state"] == "resolved":
            assert world.pending == []
    assert len(world.fired) == len(set(world.fired)), "nothing is told twice"


@given(st.lists(steps, max_size=25))
def test_nothing_is_told_after_it_was_done(history: list[Any]) -> None:
    world = World()
    for what, number, figure in history:
        before = len(world.fired)
        world.do(what, number, figure)
        for one in world.fired[before:]:
            assert what == "wait"
            assert one.due_at <= world.now
            if one.kind == UNDISPATCHED:
                assert world.row["state"] in {"acknowledged", "dispatched"}
            if one.kind in {UNACCEPTED, LATE}:
                assert world.row["state"] == "dispatched"


def test_an_acknowledged_incident_always_has_a_clock_until_somebody_is_sent() -> None:
    world = World()
    world.do("acknowledge", 0, None)
    assert {one.kind for one in world.pending} == {UNDISPATCHED}
    assert min(one.due_at for one in world.pending) == NOW + timedelta(seconds=90)
    world.do("dispatch", 0, 60.0)
    assert {one.kind for one in world.pending} == {UNACCEPTED, LATE}
    world.do("decline", 0, None)
    assert {one.kind for one in world.pending} == {UNDISPATCHED}
