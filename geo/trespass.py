"""The rule of zones: the aggressor's fix and the edge of a place → rings on or off. Pure, as `geo.proximity`.

The edge is taken as straight: the probability of being beyond it is Φ(-distance/σ). Where σ is wide against the place
that is too much, for it counts what lies past the far side too: it is bounded by what a round normal distribution can
have within a disc of the place's area, wherever its middle (of all shapes of an area none holds more), and by what it
has within such a disc at his distance. Where no probability can reach `p_enter` so, the estimate itself decides, and
the verdict says `uncertain`: not to know better is no reason to be silent.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from geo import separation, states
from geo.fix_filter import estimate, suspected
from geo.frame import Floats, flatten
from geo.proximity import WAY_MAX_MS, Verdict
from geo.rows import Devices, Orders, People, Zones
from geo.shapes import least_on_way, signed_distance, way_clearance
from geo.track import GAP, LIVE, PLACE, PP, STEP, Bools, Times
from geo.view import LEAD_S

CROSSING_SIGMAS: Final = 2.0
"""A way counts as through where he may not be when it lies there for more than this many σ: less may be noise."""
SMALL_SIGMAS: Final = 6.0
"""A place whose size is more than this many σ has an edge as good as straight."""


def zones_of(orders: Orders, zones: Zones, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The zones of order rows (n,): (zone rows, index of the order), each (m,)."""
    found, whose = [], []
    links = orders.zone.take(rows)
    index = np.flatnonzero(links >= 0)
    links = links[index]
    while links.size:
        found.append(links.astype(np.int64))
        whose.append(index)
        links = zones.next.take(links)
        more = links >= 0
        links, index = links[more], index[more]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(found), np.concatenate(whose)


def judge(
    devices: Devices,
    people: People,
    orders: Orders,
    zones: Zones,
    rows: NDArray[np.int64],
    now_ms: Times,
    moved: Bools | bool,
    faults: list[int] | None = None,
) -> Verdict | None:
    """Evaluate zone rows (n,) at `now_ms` (n,); the distance is signed, negative where he may not be.

    `moved`, (n,) or one for all: whether a fix of his is the cause. Then he is judged by where that fix was, and the
    way to it counts; else, the zone or the time being the cause, by where he is expected to be now.
    Returns a verdict on those he is in reach of; None when there is none. A zone whose geometry cannot be measured is
    left as it is, and its row added to `faults`: the others are judged.
    """
    order = zones.order.take(rows)
    best = people.best.take(orders.party.take(order, axis=0)[:, 1])
    index = np.flatnonzero((best >= 0) & zones.live.take(rows) & orders.live.take(order))
    if not index.size:
        return None
    moved = np.broadcast_to(moved, rows.shape)[index]
    rows, now_ms, best = rows[index], now_ms[index], best[index]
    fix = devices.fix.take(best, axis=0)
    planes = zones.plane.take(rows, axis=0)
    expected, spread = estimate(fix, now_ms, LEAD_S)
    here = flatten(planes, np.where(moved[:, None], fix[:, PLACE], expected))
    before = flatten(planes, fix[:, PLACE] - fix[:, STEP])
    gap = fix[:, GAP]
    joined = (gap > 0) & (gap <= WAY_MAX_MS) & moved
    before[~joined] = here[~joined]
    sigma = np.sqrt(spread)
    limits = zones.limits.take(rows, axis=0)
    on = zones.on.take(rows, axis=0)
    inclusion = zones.inclusion.take(rows)
    stride = np.linalg.norm(here - before, axis=1)
    away = np.linalg.norm(here, axis=1) - zones.reach_m.take(rows)
    near = inclusion | on[:, 1] | (away - stride - separation.CERTAIN_SIGMAS * sigma < limits[:, 1])
    doubted, elsewhere, _ = suspected(fix)
    if doubted.any():
        there = flatten(planes, elsewhere)
        near |= doubted & (np.linalg.norm(there, axis=1) - zones.reach_m.take(rows) < limits[:, 1])
    keep = near.nonzero()[0]
    if not keep.size:
        return None
    shapes, edges = zones.shape.take(rows[keep]), zones.edge.take(rows[keep])
    signed = signed_distance(shapes, edges, inclusion[keep], here[keep])
    sound = np.isfinite(signed)
    if not sound.all():
        if faults is not None:
            faults += [row for row in rows[keep[~sound]].tolist() if zones.shape[row] is not None]
        shapes, edges, signed, keep = shapes[sound], edges[sound], signed[sound], keep[sound]
        if not keep.size:
            return None
    index, rows, now_ms, best, fix = index[keep], rows[keep], now_ms[keep], best[keep], fix[keep]
    here, before, joined, sigma = here[keep], before[keep], joined[keep], sigma[keep]
    limits, on, inclusion, stride, gap = limits[keep], on[keep], inclusion[keep], stride[keep], gap[keep]
    radii, p_enter, size = limits[:, :2], zones.p_enter.take(rows)[:, None], zones.size_m.take(rows)
    p = _p_beyond(radii, signed, sigma, size, inclusion)
    most = -np.expm1(-0.5 * (size / sigma) ** 2)  # what a disc of the place's area holds at best
    wide = (separation.is_blind(size, sigma) | (most < p_enter[:, 0]))[:, None]
    likely = (p >= p_enter) & ~(wide & inclusion[:, None])
    blind = wide & (signed[:, None] <= radii) & ~likely
    entered = likely | blind
    passed, least, p_least, share = _passed(
        shapes, edges, inclusion, before, here, joined, stride, signed, radii, np.sqrt(fix[:, PP]), p_enter, entered
    )
    up = entered | passed
    some = doubted[keep].nonzero()[0]
    if some.size:  # a fix that nothing explains may yet be true: a warning, no breach
        suspect = signed_distance(shapes[some], edges[some], inclusion[some], there[keep[some]])
        up[some, 1] |= suspect <= radii[some, 1]
    up[:, 1] |= up[:, 0]
    out_before = zones.out_ms.take(rows, axis=0)
    fresh = now_ms - fix[:, LIVE] <= devices.fresh_ms.take(best)
    out = states.is_out(signed, sigma, limits[:, 2:])
    out &= ndtr((limits[:, 2:] - signed[:, None]) / sigma[:, None]) <= zones.p_exit.take(rows)[:, None]
    hold_ms = zones.hold_ms.take(rows)
    on_now, out_now = states.step(on, out_before, up, out, fresh, now_ms, fix[:, LIVE], hold_ms)
    on_the_way_ms = np.where(passed.any(axis=1), (1.0 - share) * gap, 0.0)
    return Verdict(
        rows=rows,
        index=index,
        on_before=on,
        on=on_now,
        out_before_ms=out_before,
        out_ms=out_now,
        distance_m=signed,
        sigma_m=sigma,
        p_inner=p[:, 0],
        uncertain=blind,
        closest_m=least,
        p_closest=p_least,
        passed=passed,
        at_ms=np.where(moved[keep], fix[:, LIVE] - on_the_way_ms, now_ms),
        victim=np.zeros_like(fix),
        aggressor=fix,
    )


def _p_beyond(radii: Floats, signed: Floats, sigma: Floats, size: Floats, inclusion: Bools) -> Floats:
    """Probability of being beyond each ring, (n, 2): distances, σ, size (n,), bounded by what fits the place."""
    p: Floats = ndtr((radii - signed[:, None]) / sigma[:, None])
    some = np.flatnonzero(~inclusion & (sigma > size / SMALL_SIGMAS) & (p[:, 1] > 0))
    if some.size:
        disc = size[some, None] + radii[some]
        middle = np.where(signed[some, None] > radii[some], size[some, None] + signed[some, None], 0.0)
        p[some] = np.minimum(p[some], separation.p_within(disc, middle, sigma[some, None]))
    return p


def _passed(
    shapes: NDArray[np.object_],
    edges: NDArray[np.object_],
    inclusion: Bools,
    before: Floats,
    here: Floats,
    joined: Bools,
    stride: Floats,
    signed: Floats,
    radii: Floats,
    sigma: Floats,
    p_enter: Floats,
    entered: Bools,
) -> tuple[Bools, Floats, Floats, Floats]:
    """Rings, (n, 2), entered only on the way from the fix before, that he was neither in then nor is now.

    The inner one wants more than `CROSSING_SIGMAS` of the way to lie beyond the edge. Returns the rings, and where one
    was entered the least signed distance, the probability of being beyond the edge there, and its share of the way.
    """
    passed = np.zeros(radii.shape, dtype=np.bool_)
    least, p_least, share = np.zeros(len(radii)), np.zeros(len(radii)), np.ones(len(radii))
    # the distance changes by no more than the way: what is further off than both of its ends allow needs no look
    grey = separation.CERTAIN_SIGMAS * sigma[:, None] * (p_enter < 0.5)
    near = (signed - stride)[:, None] <= radii + grey
    some = np.flatnonzero(joined & (near & ~entered).any(axis=1))
    if some.size:
        clear = way_clearance(shapes[some], edges[some], inclusion[some], before[some], here[some])
        some = some[(clear[:, None] <= radii[some] + grey[some]).any(axis=1)]
    if not some.size:
        return passed, least, p_least, share
    shapes, edges, inclusion = shapes[some], edges[some], inclusion[some]
    was = signed_distance(shapes, edges, inclusion, before[some])
    nearest, at, beyond = least_on_way(shapes, edges, inclusion, before[some], here[some])
    spread = sigma[some]
    p = ndtr((radii[some] - nearest[:, None]) / spread[:, None])
    reached = (p >= p_enter[some]) & (was[:, None] > radii[some]) & ~entered[some]
    reached[:, 0] &= beyond > CROSSING_SIGMAS * spread
    passed[some] = reached
    told = reached.any(axis=1)
    least[some], p_least[some], share[some] = (np.where(told, each, other) for each, other in
                                               ((nearest, 0.0), (p[:, 0], 0.0), (at, 1.0)))  # fmt: skip
    return passed, least, p_least, share
