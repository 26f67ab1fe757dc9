"""What an adversary learns who keeps everything that his bracelet is told, knows the method, and lacks only the key.

Printed with `pytest -s`; docs/sampling.md tells the figures.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geo import sampling
from tests.unit.geo.asking_stage import AGGRESSOR, VICTIM, Floats, Stage

STEP_S = 5.0
HOUR_S = 3600.0
AUC_MAX = 0.6


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, ties half (Mann & Whitney)."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(counts) - (counts - 1) / 2)[ranks]
    count = int(positive.sum())
    return float((mean_rank[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def play(stage: Stage, hers: Floats, his: Floats, fast_hers: NDArray[np.bool_]) -> Floats:
    """Both devices of every pair wait as told; what his was told at each `STEP_S`, (steps, count).

    `hers`, `his`: places, (steps, count, 2). `fast_hers`, (steps, count): her phone is told 1 s by an open panic.
    """
    told = []
    for step in range(len(hers)):
        now_s = step * STEP_S
        due = np.flatnonzero((stage.due_s[:, VICTIM] <= now_s) | fast_hers[step])
        stage.ping(VICTIM, due, hers[step, due], now_s)
        due = np.flatnonzero(stage.due_s[:, AGGRESSOR] <= now_s)
        stage.ping(AGGRESSOR, due, his[step, due], now_s)
        told.append(stage.told_s(AGGRESSOR))
    return np.array(told)


def features(told: Floats, at_step: int) -> Floats:
    """What a careful observer would look at around a moment he suspects, (count, features)."""
    quarter = int(900 / STEP_S)
    before, after = told[at_step - quarter : at_step], told[at_step : at_step + quarter]
    fast = after == sampling.FAST_S
    first = np.where(fast.any(axis=0), fast.argmax(axis=0), quarter)
    edges = (np.diff(after, axis=0) != 0).sum(axis=0) - (np.diff(before, axis=0) != 0).sum(axis=0)
    minute = int(60 / STEP_S)
    return np.column_stack(
        [
            (1 / after).mean(axis=0),
            (1 / after).mean(axis=0) - (1 / before).mean(axis=0),
            (1 / after[:minute]).mean(axis=0) - (1 / before[-minute:]).mean(axis=0),
            first,
            edges,
            fast.sum(axis=0),
            fast[-minute:].mean(axis=0),
            after.min(axis=0),
        ]
    ).astype(float)


def learned(train: Floats, truth: NDArray[np.bool_], test: Floats) -> Floats:
    """Scores of a logistic regression on the features and their products, by 300 steps of gradient descent."""

    def widened(x: Floats) -> Floats:
        x = (x - train.mean(axis=0)) / (train.std(axis=0) + 1e-9)
        pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
        return np.column_stack([np.ones(len(x)), x, *pairs])

    wide, weights = widened(train), np.zeros(1 + train.shape[1] + train.shape[1] * (train.shape[1] + 1) // 2)
    for _ in range(300):
        slope = wide.T @ (1 / (1 + np.exp(-np.clip(wide @ weights, -30, 30))) - truth) / len(truth)
        weights -= 0.05 * (slope + 0.01 * weights)
    return np.asarray(widened(test) @ weights)


@pytest.mark.parametrize("from_m", [2_500.0, 5_000.0, 9_000.0])
def test_a_panic_cannot_be_told_from_cover(from_m: float) -> None:
    """He rests for hours, knows the second at which she may have pressed, and half of the time she did, and runs."""
    count, random = 1200, np.random.default_rng(7)
    stage = Stage(count)
    steps, pressed_at = int(5400 / STEP_S), int(2700 / STEP_S)
    pressed = random.random(count) < 0.5
    his = np.broadcast_to(random.uniform(-20_000, 20_000, (count, 2)), (steps, count, 2))
    angle = random.uniform(0, 2 * np.pi, count)
    apart = random.uniform(from_m, 1.6 * from_m, count)
    hers = np.repeat(his[:1] + apart[None, :, None] * np.stack([np.cos(angle), np.sin(angle)], 1)[None], steps, axis=0)
    flight = random.uniform(0, 2 * np.pi, count)
    seconds = np.clip((np.arange(steps) - pressed_at) * STEP_S, 0, 600)
    ran = np.where(pressed, 3.0, 0.0)[None, :] * seconds[:, None]
    hers = hers + ran[:, :, None] * np.stack([np.cos(flight), np.sin(flight)], 1)[None]
    fast_hers = pressed[None, :] & (np.arange(steps) >= pressed_at)[:, None]
    stage.rested(his[0], -3 * HOUR_S)
    told = play(stage, hers, his, fast_hers)
    seen = features(told, pressed_at)
    half = np.arange(count) % 2 == 0
    alone = max(max(auc(x, pressed), 1 - auc(x, pressed)) for x in seen.T)
    together = auc(learned(seen[half], pressed[half], seen[~half]), pressed[~half])
    share_fast = float((told == sampling.FAST_S).mean())
    print(
        f"panic from cover, {from_m / 1000:g} km and more: AUC {together:.3f} learned, {alone:.3f} the best single"
        f" feature; fast {share_fast:.0%} of the time"
    )
    assert max(alone, together) <= AUC_MAX


def test_what_his_device_is_told_is_the_same_to_the_byte_whether_or_not_she_pressed() -> None:
    """With her at the same places, her phone at 1 s or at 60 changes nothing in his."""
    count, random = 300, np.random.default_rng(3)
    steps = int(3600 / STEP_S)
    his = np.broadcast_to(random.uniform(-20_000, 20_000, (count, 2)), (steps, count, 2))
    hers = his + random.uniform(2_000, 12_000, (1, count, 1)) * np.array([1.0, 0.0])
    tellings = []
    for pressed in (False, True):
        stage = Stage(count)
        stage.rested(his[0], -3 * HOUR_S)
        tellings.append(play(stage, hers, his, np.full((steps, count), pressed)))
    assert (tellings[0] == tellings[1]).all()


CELLS = 20
CELL_M = 1_000.0


def grid() -> Floats:
    """Centres of the cells, (CELLS², 2)."""
    axis = (np.arange(CELLS) + 0.5) * CELL_M
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def rank_of(scores: Floats, true_cell: NDArray[np.int64]) -> float:
    """Mean share of cells that score below hers, ties half, over (count, cells): 0.5 is chance."""
    hers = np.take_along_axis(scores, true_cell[:, None], axis=1)
    return float(((scores < hers).mean(axis=1) + 0.5 * (scores == hers).mean(axis=1)).mean())


def test_walking_a_grid_with_a_log_says_nothing_of_where_she_is() -> None:
    """20 km by 20 km, a minute in each kilometre, she at home all the while; hours of driving, no cell left out."""
    count, random, cells = 40, np.random.default_rng(5), grid()
    home = random.integers(0, len(cells), count)
    rows = np.arange(len(cells)).reshape(CELLS, CELLS)
    rows[1::2] = rows[1::2, ::-1]
    path = rows.reshape(-1)
    stage, each = Stage(count), int(60 / STEP_S)
    places = np.repeat(cells[path], each, axis=0)
    hers = np.broadcast_to(cells[home], (len(places), count, 2))
    told = play(stage, hers, np.repeat(places[:, None], count, axis=1), np.zeros((len(places), count), np.bool_))
    speed = np.zeros((count, len(cells)))
    speed[:, path] = (1 / told).reshape(len(cells), each, count).mean(axis=1).T
    # her cell, and a wide disc about each cell, as he would look for a pattern larger than a cell
    near = (np.linalg.norm(cells[:, None] - cells[None], axis=2) <= 3_000).astype(float)
    smooth = speed @ near / near.sum(axis=1)
    alone, wide = rank_of(speed, home), rank_of(smooth, home)
    print(f"walked grid: her cell ranks {alone:.3f} by itself, {wide:.3f} by what lies about it (chance 0.5)")
    assert abs(alone - 0.5) <= 0.05
    assert abs(wide - 0.5) <= 0.05


@pytest.mark.parametrize(("rests", "at_most"), [(1, 0.7), (8, 0.95)])
def test_resting_for_hours_at_each_of_many_places_narrows_it(rests: int, at_most: float) -> None:
    """The leak that remains, measured: hours still at a place, then the next; he weighs every cell by Bayes."""
    count, random, cells = 150, np.random.default_rng(11), grid()
    home = random.integers(0, len(cells), count)
    weights = np.zeros((count, len(cells)))
    stage = Stage(count)
    for rest in range(rests):
        spots = random.uniform(0, CELLS * CELL_M, (count, 2))
        begin_s = rest * 9000.0
        stage.rested(spots, begin_s - sampling.REST_S)
        slowest = np.zeros(count)
        for minute in range(15):
            who = np.arange(count)
            stage.ping(VICTIM, who, cells[home], begin_s + 60 * minute)
            stage.ping(AGGRESSOR, who, spots, begin_s + 60 * minute)
            slowest = np.maximum(slowest, stage.told_s(AGGRESSOR))
        apart = np.linalg.norm(cells[None] - spots[:, None], axis=2)
        most = np.where(apart > 11_000, 60.0, np.where(apart > 4_500, 15.0, 5.0))
        # a decoy or a burst says the least at any distance; else the distance speaks
        same = (most == slowest[:, None]) * (1 - sampling.DECOY_SHARE) + (slowest[:, None] == 5) * sampling.DECOY_SHARE
        weights += np.log(np.maximum(same, 1e-6))
    rank = rank_of(weights, home)
    print(f"{rests} rests of more than two hours: her cell ranks {rank:.3f} (chance 0.5, known 1)")
    assert rank <= at_most
