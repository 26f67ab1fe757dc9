"""The rule of orders: two fixes and two radii → rings on or off. Pure: the engine writes what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo import separation, states
from geo.fix_filter import variance
from geo.frame import Floats
from geo.rows import Devices, Orders, People, Rows
from geo.track import GAP, LIVE, PLACE, PP, STEP, Bools, Times

WAY_MAX_MS: Final = 180_000
"""Two fixes further apart than this are not joined by a straight way."""
NOBODY: Final = -1
"""Side of an evaluation that no fix caused: a configuration, a beginning."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rings of n subjects are after an evaluation, and the figures behind it."""

    rows: NDArray[np.int64]
    """Rows of orders or zones, (n,)."""
    index: NDArray[np.int64]
    """Where each stood in what was asked, (n,)."""
    on_before: Bools
    on: Bools
    out_before_ms: Times
    out_ms: Times
    distance_m: Floats
    sigma_m: Floats
    p_inner: Floats
    uncertain: Bools
    """(n, 2): a ring entered by distance alone, σ being too wide for a probability."""
    closest_m: Floats
    """Where a ring was entered on the way since the fix before: the least distance."""
    p_closest: Floats
    """And the probability of being within the inner ring there."""
    passed: Bools
    """(n, 2): a ring entered only on the way."""
    at_ms: Floats
    """When the one who moved was there."""
    victim: Floats
    aggressor: Floats
    """Their fixes, (n, WIDTH)."""


def judge(
    devices: Devices, people: People, orders: Orders, rows: NDArray[np.int64], now_ms: Times, side: NDArray[np.int64]
) -> Verdict | None:
    """Evaluate order rows (n,) at `now_ms` (n,), `side` (n,) having moved: 0 victim, 1 aggressor, -1 nobody.

    Returns a verdict on those that are on or may come on (most pairs are far apart); None when there is none.
    """
    best = people.best.take(orders.party.take(rows, axis=0))
    usable = (best >= 0).all(axis=1) & orders.live.take(rows)
    index = np.arange(len(rows))
    if not usable.all():
        index = usable.nonzero()[0]
        if not index.size:
            return None
        rows, now_ms, side, best = rows[index], now_ms[index], side[index], best[index]
    victim = devices.fix.take(best[:, 0], axis=0)
    aggressor = devices.fix.take(best[:, 1], axis=0)
    apart = aggressor[:, PLACE] - victim[:, PLACE]
    distance = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    variance_v, variance_a = variance(victim, now_ms), variance(aggressor, now_ms)
    sigma = np.sqrt(variance_v + variance_a)
    his = side == 1
    step = _step(np.where(his[:, None], aggressor, victim), his, side)
    stride = np.sqrt(np.einsum("ij,ij->i", step, step))
    limits = orders.limits.take(rows, axis=0)
    on = orders.on.take(rows, axis=0)
    near = distance - stride - separation.CERTAIN_SIGMAS * sigma < limits[:, 1]
    near |= on[:, 1]
    if not near.all():
        keep = near.nonzero()[0]
        if not keep.size:
            return None
        index, rows, now_ms, his, side, distance, sigma, stride, variance_v, variance_a = (
            each.take(keep)
            for each in (index, rows, now_ms, his, side, distance, sigma, stride, variance_v, variance_a)
        )
        best, victim, aggressor, apart, step, limits, on = (
            each.take(keep, axis=0) for each in (best, victim, aggressor, apart, step, limits, on)
        )
    radii = limits[:, :2]
    p_enter = orders.p_enter.take(rows)[:, None]
    p = separation.p_within(radii, distance[:, None], sigma[:, None])
    likely = p >= p_enter
    blind = separation.is_blind(radii, sigma[:, None]) & (distance[:, None] <= radii)
    entered = likely | blind
    way = np.where(his, aggressor[:, PP] + variance_v, victim[:, PP] + variance_a)
    passed, closest, p_passed, share = _passed(apart, step, distance - stride, radii, np.sqrt(way), p_enter, entered)
    up = entered | passed
    up[:, 1] |= up[:, 0]
    if not (up.any() or on.any()):
        return None
    out_before = orders.out_ms.take(rows, axis=0)
    fresh = (now_ms - victim[:, LIVE] <= devices.fresh_ms.take(best[:, 0])) & (
        now_ms - aggressor[:, LIVE] <= devices.fresh_ms.take(best[:, 1])
    )
    on_now, out_now = states.step(
        on,
        out_before,
        up,
        states.is_out(distance, sigma, limits[:, 2:]),
        fresh,
        now_ms,
        np.minimum(victim[:, LIVE], aggressor[:, LIVE]),
    )
    mover = np.where(his[:, None], aggressor, victim)
    moved_at = mover[:, LIVE] - np.where(passed.any(axis=1), (1 - share) * mover[:, GAP], 0)
    return Verdict(
        rows=rows,
        index=index,
        on_before=on,
        on=on_now,
        out_before_ms=out_before,
        out_ms=out_now,
        distance_m=distance,
        sigma_m=sigma,
        p_inner=p[:, 0],
        uncertain=blind & ~likely,
        closest_m=closest,
        p_closest=p_passed,
        passed=passed,
        at_ms=np.where(side == NOBODY, now_ms, moved_at),
        victim=victim,
        aggressor=aggressor,
    )


def _step(mover: Floats, his: Bools, side: NDArray[np.int64]) -> Floats:
    """How the difference vector (aggressor less victim) changed with the mover's last step, (n, 3)."""
    gap = mover[:, GAP]
    joined = (side != NOBODY) & (gap > 0) & (gap <= WAY_MAX_MS)
    sign = np.where(joined, np.where(his, 1.0, -1.0), 0.0)
    step: Floats = mover[:, STEP] * sign[:, None]
    return step


def _passed(
    apart: Floats, step: Floats, reach: Floats, radii: Floats, sigma: Floats, p_enter: Floats, entered: Bools
) -> tuple[Bools, Floats, Floats, Floats]:
    """Rings, (n, 2), entered only at a closest approach that was neither at this fix nor at the one before.

    `reach`: the distance less the step; where that is beyond the ring nothing needs a look. Returns the rings, and
    where one was entered the closest distance, the probability of being within the inner ring there, and its share
    of the way, (n,) each.
    """
    passed = np.zeros(radii.shape, dtype=np.bool_)
    closest, p_closest, share = np.zeros(len(radii)), np.zeros(len(radii)), np.ones(len(radii))
    some = np.flatnonzero(((reach[:, None] < radii) & ~entered).any(axis=1))
    if some.size:
        closest[some], share[some] = separation.closest_approach(apart[some], step[some])
        some = some[(share[some] > 0.0) & (share[some] < 1.0)]
    if some.size:
        p = separation.p_within(radii[some], closest[some, None], sigma[some, None])
        passed[some] = (p >= p_enter[some]) & ~entered[some]
        p_closest[some] = p[:, 0]
    return passed, closest, p_closest, share


def orders_of(people: People, orders: Orders, persons: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], Rows]:
    """The orders of persons (n,): (order rows, the person's side in each, index of the person), each (m,)."""
    links = people.link.take(persons)
    index = np.flatnonzero(links >= 0)
    links = links[index].astype(np.int64)
    all_links, all_index = links, index
    while True:
        links = orders.next.reshape(-1).take(links)
        more = links >= 0
        if not more.any():
            return all_links >> 1, all_links & 1, all_index.astype(np.int32)
        links, index = links[more].astype(np.int64), index[more]
        all_links, all_index = np.concatenate([all_links, links]), np.concatenate([all_index, index])
