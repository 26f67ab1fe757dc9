"""Many pairs whose devices wait as told: what each was told, over time, for tests of sampling."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson
from geo.asking import Asking
from geo.roster import Roster

BEGIN_MS = 1_800_000_000_000
R_M = 1_000.0
VICTIM, AGGRESSOR = 0, 1
Floats = NDArray[np.float64]


def roster_of(count: int, expected_s: float = 60.0) -> Roster:
    """`count` pairs; the devices of pair k have the numbers 2 k + 1 (hers) and 2 k + 2 (his)."""
    roster = Roster()
    for k in range(count):
        people = [
            CasePerson(
                number, uuid.UUID(int=number), role,
                devices=[CaseDevice(number, uuid.UUID(int=number), "bracelet", interval_s=expected_s)],
            )
            for number, role in ((2 * k + 1, "victim"), (2 * k + 2, "aggressor"))
        ]  # fmt: skip
        order = CaseOrder(k, uuid.UUID(int=k), 2 * k + 1, 2 * k + 2, alert_m=R_M, warning_m=2 * R_M)
        roster.apply(Case(k, uuid.UUID(int=k), uuid.UUID(int=0), 1, people, [order]), BEGIN_MS)
    return roster


@dataclass
class Stage:
    """Pairs at places of the test's choosing, judged whenever a device pings; every array is (count, …)."""

    count: int
    key: bytes = b"secret"
    expected_s: float = 60.0
    accuracy_m: float = 10.0
    asks: list[tuple[int, float]] = field(default_factory=list)
    """All that was ever asked: (device number, seconds)."""

    def __post_init__(self) -> None:
        self.roster = roster_of(self.count, self.expected_s)
        self.asking = Asking(self.key)
        devices = self.roster.devices
        self.rows = np.array([[self.roster.lookup[2 * k + 1 + side] for side in (0, 1)] for k in range(self.count)])
        self.orders = np.array([self.roster.cases[k].orders[0] for k in range(self.count)])
        self.seen = np.zeros((self.count, 2, 2))
        self.seen_s = np.full((self.count, 2), -np.inf)
        self.due_s = np.zeros((self.count, 2))
        self._devices = devices

    def told_s(self, side: int) -> Floats:
        """What each pair's device of this side is told now."""
        told = self._devices.asked_s[self.rows[:, side]].astype(np.float64)
        return np.where(told > 0, told, self.expected_s)

    def rested(self, places: Floats, since_s: float) -> None:
        """He has been at these places, (count, 2), since then."""
        rows = self.rows[:, AGGRESSOR]
        self._devices.rest_place[rows, :2] = places
        self._devices.rest_ms[rows] = BEGIN_MS + int(since_s * 1000)

    def ping(
        self, side: int, who: NDArray[Any], places: Floats, now_s: float, hot: NDArray[np.bool_] | None = None
    ) -> None:
        """Devices of the pairs `who` report their places, (n, 2), and are judged; they are due again as told."""
        self.seen[who, side], self.seen_s[who, side] = places, now_s
        both = np.isfinite(self.seen_s[who]).all(axis=1)
        some, count = who[both], int(both.sum())
        told_before = self.told_s(side)[who]
        if count:
            apart = np.linalg.norm(self.seen[some, 1] - self.seen[some, 0], axis=1)
            now_ms = np.full(count, BEGIN_MS + int(now_s * 1000))
            accuracy = np.full(count, self.accuracy_m)
            self.asking.judged(
                self.roster, self.orders[some], np.full(count, side), self.rows[some, side].astype(np.int32),
                np.column_stack([places[both], np.zeros(count)]), apart, accuracy, accuracy,
                now_s - self.seen_s[some, 0], now_s - self.seen_s[some, 1], now_ms,
                np.zeros(count, np.bool_) if hot is None else hot[both],
            )  # fmt: skip
            self.asks += self.asking.take(self.roster)
        # what was known before the ping is told in its answer; less follows at once
        self.due_s[who, side] = now_s + np.minimum(told_before, self.told_s(side)[who])
