"""A zone he was not told of changes nothing of what his bracelet is asked while he walks, also straight through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geo.sampling import FAST_S

from .asking_stage import AGGRESSOR, VICTIM, Stage

HER = np.array([[0.0, 50_000.0]])
PACE_MPS = 1.5
LASTS_S = 4_000


def asked_of_him(zone_m: float | None, key: bytes) -> list[tuple[int, float]]:
    """(second, seconds told) while he walks 6 km along a line, on which a zone's edge is at `zone_m`."""
    stage = Stage(1, key=key)
    stage.rested(np.array([[0.0, 0.0]]), 0.0)
    real = stage.asking.judged

    def judged(*arguments: Any) -> None:
        places = arguments[4]
        edge = np.full(len(places), np.inf) if zone_m is None else np.abs(places[:, 0] - zone_m)
        real(*arguments, edge)

    stage.asking.judged = judged  # type: ignore[method-assign]
    one = np.array([0])
    told = []
    for now_s in range(LASTS_S):
        for side in (VICTIM, AGGRESSOR):
            if stage.due_s[0, side] <= now_s:
                place = HER if side == VICTIM else np.array([[PACE_MPS * now_s, 0.0]])
                stage.ping(side, one, place, float(now_s))
        told.append((now_s, float(stage.told_s(AGGRESSOR)[0])))
    return told


@pytest.mark.parametrize("key", [b"secret", b"another"])
def test_his_intervals_are_the_same_with_and_without_a_zone_on_his_way(key: bytes) -> None:
    nothing = asked_of_him(None, key)
    for zone_m in (600.0, 3_000.0, 5_500.0):
        assert asked_of_him(zone_m, key) == nothing
    assert {seconds for _, seconds in nothing[60:]} == {FAST_S}, "whoever moves is told one thing everywhere"
