"""The rule of orders: two estimates and two radii → rings, approach, assurance. Pure: `geo.judging` writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo import approach, assurance, separation, states
from geo.fix_filter import is_at_rest, is_placed_once, velocity
from geo.frame import Floats
from geo.pulse import TAMPER_BITS
from geo.rows import WORD, Devices, Orders, Rows
from geo.track import GAP, LIVE, PLACE, PP, SERVICE_MS, SIGMA, STEP, Bools, Times
from geo.view import NOBODY, View, fresh

BETTER_SHARE: Final = 1.0 / 16.0
"""Of the variance of a poor fix: an estimate below was made by better ones. Poor ones alone make none of less than a
quarter (`geo.fix_filter.LASTING_SHARE`)."""
WAY_MAX_MS: Final = 180_000
"""Two fixes further apart than this are not joined by a straight way."""


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
    heard: Bools | None = None
    """(n,): entered because his bracelet was heard; None: nobody listens."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of n orders: whether he is predicted to be inside soon."""

    view: View
    before: Bools
    after: Bools
    away_before_ms: Times
    away_ms: Times
    coming_before_ms: Times
    coming_ms: Times
    """Since when the distance has been shrinking; 0: it is not."""
    p: Floats
    eta_s: Floats
    entered: Bools


@dataclass(frozen=True, slots=True)
class Assurance:
    """Of n orders: how sure separation is, and when that ends."""

    view: View
    before: NDArray[np.int8]
    after: NDArray[np.int8]
    sure_before_ms: Times
    sure_ms: Times
    poor_before_ms: Times
    poor_ms: Times
    bound_m: Floats


def judge(devices: Devices, orders: Orders, view: View) -> Verdict | None:
    """The rings of those that are on or may come on (most pairs are far apart); None when there is none."""
    step, gap_ms = _step(view)
    stride = np.sqrt(np.einsum("ij,ij->i", step, step))
    limits = orders.limits.take(view.rows, axis=0)
    on = orders.on.take(view.rows, axis=0)
    near = view.distance_m - stride - separation.CERTAIN_SIGMAS * view.sigma_m < limits[:, 1]
    near |= on[:, 1] | view.heard
    if view.doubted_m is not None:
        near |= view.doubted_m < limits[:, 1]
    if not near.all():
        keep = near.nonzero()[0]
        if not keep.size:
            return None
        view = view.take(keep)
        step, limits, on = (each.take(keep, axis=0) for each in (step, limits, on))
        stride, gap_ms = stride.take(keep), gap_ms.take(keep)
    distance, sigma = view.distance_m, view.sigma_m
    radii = limits[:, :2]
    p_enter = orders.p_enter.take(view.rows)[:, None]
    p = separation.p_within(radii, distance[:, None], sigma[:, None])
    likely = p >= p_enter
    blind = separation.is_blind(radii, sigma[:, None]) & (distance[:, None] <= radii)
    if blind.any():  # one poor fix alone is no ground for it: the next is asked for at once
        blind[:, 0] &= ~(is_placed_once(view.victim) | is_placed_once(view.aggressor))
    entered = likely | blind
    his = view.side == 1
    way = np.where(
        his,
        view.aggressor[:, PP] + view.variance_victim,
        view.victim[:, PP] + view.variance_aggressor,
    )
    passed, closest, p_passed, share = _passed(
        view.apart, step, distance - stride, radii, np.sqrt(way), p_enter, entered
    )
    up = entered | passed
    up[:, 0] |= view.heard
    up[:, 1] |= up[:, 0]
    if view.doubted_m is not None:
        up[:, 1] |= view.doubted_m <= radii[:, 1]
    if not (up.any() or on.any()):
        return None
    out_before = orders.out_ms.take(view.rows, axis=0)
    exits = limits[:, 2:]
    out = states.is_out(distance, sigma, exits)
    if on.any():
        out &= separation.p_within(exits, distance[:, None], sigma[:, None]) <= orders.p_exit.take(view.rows)[:, None]
    on_now, out_now = states.step(
        on,
        out_before,
        up,
        out,
        fresh(devices, view),
        view.now_ms,
        np.minimum(view.victim[:, LIVE], view.aggressor[:, LIVE]),
        orders.hold_ms.take(view.rows),
    )
    reached = np.where(his, view.aggressor[:, LIVE], view.victim[:, LIVE])
    moved_at = reached - np.where(passed.any(axis=1), (1 - share) * gap_ms, 0)
    return Verdict(
        rows=view.rows,
        index=view.index,
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
        at_ms=np.where(view.side == NOBODY, view.now_ms, moved_at),
        victim=view.victim,
        aggressor=view.aggressor,
        heard=view.heard & ~entered[:, 0],
    )


def predict(devices: Devices, orders: Orders, view: View) -> Prediction | None:
    """Whether he will be inside soon, of those in the warning ring (its rings being written already)."""
    on = orders.on.take(view.rows, axis=0)
    before = orders.predicted.take(view.rows)
    asked = np.flatnonzero(before | (on[:, 1] & ~on[:, 0]))
    if not asked.size:
        return None
    view, before, inside = view.take(asked), before[asked], on[asked, 0]
    by_victim, by_aggressor = separation.closing(view.victim, view.aggressor, view.apart, view.distance_m)
    closing = by_victim + by_aggressor
    coming = (closing >= approach.CLOSING_LEAST_MPS) & ~inside
    since_before = orders.coming_ms.take(view.rows)
    since = np.where(since_before > 0, since_before, np.where(coming, view.now_ms, 0))
    since[(closing < approach.LEAVING_MPS) | inside] = 0
    p, eta = np.zeros(asked.size), np.zeros(asked.size)
    some = np.flatnonzero(coming)
    if some.size:
        part = view.take(some)
        p[some], eta[some] = approach.chance(
            part.victim,
            part.aggressor,
            part.apart,
            part.variance_victim + part.variance_aggressor,
            orders.limits[part.rows, 0],
            orders.horizon_s[part.rows],
            (part.now_ms - since[some]) / 1000.0,
        )
    needed = orders.p_approach.take(view.rows)
    up = coming & (p >= needed)
    if not (up.any() or before.any() or (since != since_before).any()):
        return None
    away = orders.away_ms.take(view.rows)
    lost = fresh(devices, view) & (p < approach.LOST_SHARE * needed)
    after, away_after = approach.step(
        before, away, up, lost, before & inside, orders.hold_ms.take(view.rows), view.now_ms
    )
    return Prediction(view, before, after, away, away_after, since_before, since, p, eta, inside)


def assure(devices: Devices, orders: Orders, view: View) -> Assurance:
    """How sure separation is, by the fixes there are; what silence makes of it is `deadlines`."""
    rows = view.rows
    radius = orders.limits[rows, 0]
    ages_s = (2.0 * view.now_ms - view.victim[:, LIVE] - view.aggressor[:, LIVE]) / 1000.0
    sigmas = _sigmas(view.victim, view.aggressor)
    bound = assurance.lower_bound_m(view.distance_m, sigmas, ages_s)
    before, sure, poor_ms = orders.assured.take(rows), orders.sure_ms.take(rows), orders.poor_ms.take(rows)
    after, sure_after, poor_after = assurance.step(
        before,
        sure,
        poor_ms,
        bound,
        assurance.lower_bound_m(view.distance_m, sigmas, np.zeros(len(rows))),
        radius,
        view.distance_m,
        _sigma_told(view, radius),
        fresh(devices, view),
        view.good_ms.max(axis=1),
        view.now_ms,
    )
    return Assurance(view, before, after, sure, sure_after, poor_ms, poor_after, bound)


def deadlines(devices: Devices, orders: Orders, rows: NDArray[np.int64], best: Rows) -> tuple[Floats, Floats]:
    """`geo.assurance.deadlines_ms` of order rows (n,): functions of the fixes, and of nothing that time changes."""
    victim = devices.fix.take(best[:, 0], axis=0)
    aggressor = devices.fix.take(best[:, 1], axis=0)
    apart = aggressor[:, PLACE] - victim[:, PLACE]
    gap = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    by_victim, by_aggressor = separation.closing(victim, aggressor, apart, gap)
    limits = orders.limits.take(rows, axis=0)
    return assurance.deadlines_ms(
        service_ms=devices.fix[best, SERVICE_MS],
        fresh_ms=devices.fresh_ms.take(best),
        gap_m=gap,
        sigma_sum_m=_sigmas(victim, aggressor),
        closing_mps=np.stack([by_victim, by_aggressor], axis=1),
        speed_mps=np.linalg.norm(velocity(victim), axis=1) + np.linalg.norm(velocity(aggressor), axis=1),
        radius_m=limits[:, 0],
        warning_m=limits[:, 1],
        horizon_s=orders.horizon_s.take(rows),
        grace_ms=orders.grace_ms.take(rows),
        resting=np.stack([is_at_rest(victim), is_at_rest(aggressor)], axis=1),
        feared=orders.on[rows, 0] | orders.predicted.take(rows),
        tampered=(devices.pulse[best[:, 1], WORD] & TAMPER_BITS) != 0,
    )


def _sigma_told(view: View, radius_m: Floats) -> Floats:
    """How wide the relative position is, (n,): of each what the newest fix said, if nothing better is known.

    Who rests where better fixes have placed him is known by those. Who moves by poor fixes, or was never placed by any
    but poor ones, is not known better than they are, however many there were: they may all be wrong alike.
    """
    raw = np.hypot(view.victim[:, SIGMA], view.aggressor[:, SIGMA])
    if not (raw > assurance.MENDED_RATIO * radius_m).any():
        return view.sigma_m
    victim = _variance_told(view.victim, view.variance_victim)
    sigma: Floats = np.sqrt(victim + _variance_told(view.aggressor, view.variance_aggressor))
    return sigma


def _variance_told(fixes: Floats, variance: Floats) -> Floats:
    """Variance an axis of parties, (n,): of the estimate where good fixes placed who rests, else of the newest fix."""
    newest = fixes[:, SIGMA] * fixes[:, SIGMA]
    placed = is_at_rest(fixes) & (fixes[:, PP] < BETTER_SHARE * newest)
    told: Floats = np.where(placed, variance, np.maximum(newest, variance))
    return told


def _sigmas(victim: Floats, aggressor: Floats) -> Floats:
    """Sum of both standard deviations an axis when each was last seen, (n,)."""
    both: Floats = np.sqrt(victim[:, PP]) + np.sqrt(aggressor[:, PP])
    return both


def _step(view: View) -> tuple[Floats, Floats]:
    """How the difference vector changed over the mover's last step, (n, 3): his or her way less the other's.

    And the milliseconds it took, (n,).
    """
    his = view.side == 1
    gap_ms = np.where(his, view.aggressor[:, GAP], view.victim[:, GAP])
    joined = (view.side != NOBODY) & (gap_ms > 0) & (gap_ms <= WAY_MAX_MS)
    seconds = gap_ms * 0.001
    ahead = his[:, None]
    way = np.where(ahead, view.aggressor[:, STEP], view.victim[:, STEP])
    way = way - np.where(ahead, velocity(view.victim), velocity(view.aggressor)) * seconds[:, None]
    way *= np.where(joined, np.where(his, 1.0, -1.0), 0.0)[:, None]
    return way, gap_ms


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
