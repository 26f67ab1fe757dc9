"""No breach begins between two pings of a device that was told more than its shortest wait.

Two people move as they like within the sampling speeds (35 m/s he, 25 m/s she), their fixes lie within three
accuracies of the truth, and their devices wait exactly as told: over HTTP, where a ping's answer bears what was known
before it, or over the stream, where what the ping itself brought follows at once. Rests, decoys and bursts are taken
away: they only ever make his waits shorter.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson
from geo import sampling
from geo.asking import Asking
from geo.roster import Roster

R_M = 1_000.0
SECONDS = 900
TOP_MPS = (sampling.SAMPLING_SPEED_VICTIM_MPS, sampling.SAMPLING_SPEED_AGGRESSOR_MPS)
SHORTEST_S = (sampling.SHORTEST_S, sampling.FAST_S)
BEGIN_MS = 1_800_000_000_000


@dataclass
class Chance:
    """What is drawn for one run."""

    apart_m: float
    legs: list[tuple[int, float, float, float, float]]
    """(seconds, her share of top speed, her heading, his share, his heading); heading 0 is towards the other."""
    errors: list[tuple[float, float]]
    """Of successive fixes: share of three accuracies, direction."""
    accuracy_m: tuple[float, float]
    by_stream: tuple[bool, bool]
    phase_s: int


share = st.sampled_from([0.0, 0.3, 1.0, 1.0])
heading = st.one_of(st.just(0.0), st.floats(-3.2, 3.2))
chances = st.builds(
    Chance,
    apart_m=st.floats(1_200.0, 25_000.0),
    legs=st.lists(st.tuples(st.integers(1, 240), share, heading, share, heading), min_size=1, max_size=12),
    errors=st.lists(st.tuples(st.floats(0, 1), st.floats(-3.2, 3.2)), min_size=1, max_size=8),
    accuracy_m=st.tuples(st.floats(3, 80), st.floats(3, 80)),
    by_stream=st.tuples(st.booleans(), st.booleans()),
    phase_s=st.integers(0, 59),
)


def ways(chance: Chance) -> NDArray[np.float64]:
    """Where both are at each second, (SECONDS + 61, 2 people, 2 axes)."""
    places = np.zeros((SECONDS + 61, 2, 2))
    places[0, 1, 0] = chance.apart_m
    legs = [leg for leg in chance.legs for _ in range(leg[0])]
    for second in range(1, len(places)):
        _, hers, her_way, his, his_way = legs[min(second - 1, len(legs) - 1)]
        before = places[second - 1]
        towards = np.arctan2(*(before[1] - before[0])[::-1])
        for person, part, angle in ((0, hers, towards + her_way), (1, his, towards + np.pi + his_way)):
            step = part * TOP_MPS[person] * np.array([np.cos(angle), np.sin(angle)])
            places[second, person] = before[person] + step
    return places


def least_apart_m(places: NDArray[np.float64], begin: int, end: int) -> float:
    """The least true distance from one second to another, moving straight in between."""
    apart = places[begin : end + 1, 1] - places[begin : end + 1, 0]
    way = np.diff(apart, axis=0)
    square = np.einsum("ij,ij->i", way, way)
    share = np.clip(-np.einsum("ij,ij->i", apart[:-1], way) / np.where(square > 0, square, 1.0), 0.0, 1.0)
    return float(np.linalg.norm(apart[:-1] + share[:, None] * way, axis=1).min())


def pair() -> tuple[Roster, list[int]]:
    """A roster of one pair, and the rows of her device and his."""
    people = [
        CasePerson(number, uuid.uuid4(), role, devices=[CaseDevice(number, uuid.uuid4(), "bracelet")])
        for number, role in ((1, "victim"), (2, "aggressor"))
    ]
    order = CaseOrder(1, uuid.uuid4(), 1, 2, alert_m=R_M, warning_m=2 * R_M)
    roster = Roster()
    roster.apply(Case(1, uuid.uuid4(), uuid.uuid4(), 1, people, [order]), BEGIN_MS)
    return roster, [int(roster.lookup[1]), int(roster.lookup[2])]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chances)
def test_no_breach_begins_between_two_pings_sent_as_told(chance: Chance) -> None:
    places = ways(chance)
    roster, rows = pair()
    order_row = int(roster.cases[1].orders[0])
    asking = Asking(b"secret")
    fix: list[NDArray[np.float64] | None] = [None, None]
    fixed_s = [0, 0]
    due_s = [0, chance.phase_s]
    pings = 0
    while min(due_s) < SECONDS:
        side = int(np.argmin(due_s))
        now_s = due_s[side]
        part, way = chance.errors[pings % len(chance.errors)]
        pings += 1
        error = part * 3 * chance.accuracy_m[side] * np.array([np.cos(way), np.sin(way)])
        fix[side], fixed_s[side] = places[now_s, side] + error, now_s
        known = float(roster.devices.asked_s[rows[side]])
        if fix[0] is not None and fix[1] is not None:
            judge(asking, roster, order_row, side, rows[side], fix, fixed_s, chance.accuracy_m, now_s)
        if chance.by_stream[side]:
            known = float(roster.devices.asked_s[rows[side]])
        wait_s = known or 60.0
        due_s[side] = now_s + int(wait_s)
        if known > SHORTEST_S[side]:
            assert least_apart_m(places, now_s, due_s[side]) >= R_M, (side, now_s, wait_s)


def judge(
    asking: Asking, roster: Roster, order_row: int, side: int, row: int, fix: list[Any], fixed_s: list[int],
    accuracy_m: tuple[float, float], now_s: int,
) -> None:  # fmt: skip
    def one(value: Any) -> NDArray[Any]:
        return np.array([value], dtype=np.float64)

    with mock.patch.multiple(sampling, REST_S=0.0, DECOY_SHARE=0.0, BURST_SHARE=0.0):
        asking.judged(
            roster, np.array([order_row]), np.array([side]), np.array([row], dtype=np.int32),
            np.array([[*fix[side], 0.0]]), one(np.linalg.norm(fix[1] - fix[0])), one(accuracy_m[0]), one(accuracy_m[1]),
            one(now_s - fixed_s[0]), one(now_s - fixed_s[1]), np.array([BEGIN_MS + now_s * 1000]), np.array([False]),
        )  # fmt: skip


@given(
    distance=st.floats(0, 50_000), nearer=st.floats(0, 50_000), age=st.floats(0, 600), older=st.floats(0, 600),
    accuracy=st.floats(1, 2_000), told=st.floats(1, 60),
)  # fmt: skip
def test_nearer_older_or_less_sure_is_never_asked_for_less(
    distance: float, nearer: float, age: float, older: float, accuracy: float, told: float
) -> None:
    def wait(apart: float, aged: float, unsure: float) -> float:
        bound = sampling.lower_bound_m(*(np.array([value]) for value in (apart, unsure, aged, aged)))
        return float(sampling.wait_s(sampling.safe_s(bound, np.array([R_M])), np.array([told]))[0])

    assert wait(min(distance, nearer), age, accuracy) <= wait(distance, age, accuracy)
    assert wait(distance, age + older, accuracy) <= wait(distance, age, accuracy)
    assert wait(distance, age, accuracy * 2) <= wait(distance, age, accuracy)
