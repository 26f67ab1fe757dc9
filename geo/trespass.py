"""The rule of zones: the aggressor's fix and the edge of a place → rings on or off. Pure, as `geo.proximity`."""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.special import ndtr

from geo import separation, states
from geo.fix_filter import variance
from geo.frame import Floats, flatten
from geo.proximity import WAY_MAX_MS, Verdict
from geo.rows import Devices, Orders, People, Zones
from geo.track import GAP, LIVE, PLACE, PP, STEP, Bools, Times
from geo.zones import crossed_m, signed_distance

CROSSING_SIGMAS: Final = 2.0
"""A way that crosses a place counts when it lies within for more than this many σ: less may be noise."""


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
    moved: bool,
) -> Verdict | None:
    """Evaluate zone rows (n,) at `now_ms` (n,); the distance is signed, negative where he may not be.

    The edge is taken as straight: p_within = Φ(-distance/σ). Where σ is wide against the place, he enters by his
    estimate alone and the verdict says `uncertain`.
    """
    order = zones.order.take(rows)
    best = people.best.take(orders.party.take(order, axis=0)[:, 1])
    index = np.flatnonzero((best >= 0) & zones.live.take(rows) & orders.live.take(order))
    if not index.size:
        return None
    rows, now_ms, best = rows[index], now_ms[index], best[index]
    fix = devices.fix.take(best, axis=0)
    planes = zones.plane.take(rows, axis=0)
    here, before = flatten(planes, fix[:, PLACE]), flatten(planes, fix[:, PLACE] - fix[:, STEP])
    gap = fix[:, GAP]
    joined = (gap > 0) & (gap <= WAY_MAX_MS) & moved
    before[~joined] = here[~joined]
    sigma = np.sqrt(variance(fix, now_ms))
    limits = zones.limits.take(rows, axis=0)
    on = zones.on.take(rows, axis=0)
    inclusion = zones.inclusion.take(rows)
    stride = np.linalg.norm(here - before, axis=1)
    away = np.linalg.norm(here, axis=1) - zones.reach_m.take(rows)
    keep = np.flatnonzero(inclusion | on[:, 1] | (away - stride - separation.CERTAIN_SIGMAS * sigma < limits[:, 1]))
    if not keep.size:
        return None
    index, rows, now_ms, best, fix = index[keep], rows[keep], now_ms[keep], best[keep], fix[keep]
    here, before, joined, sigma = here[keep], before[keep], joined[keep], sigma[keep]
    limits, on, inclusion = limits[keep], on[keep], inclusion[keep]
    shapes = zones.shape.take(rows)
    signed = signed_distance(shapes, zones.edge.take(rows), inclusion, here)
    radii = limits[:, :2]
    p = ndtr((radii - signed[:, None]) / sigma[:, None])
    likely = p >= zones.p_enter.take(rows)[:, None]
    wide = separation.is_blind(zones.size_m.take(rows), sigma)[:, None]
    blind = wide & (signed[:, None] <= radii)
    passed = _crossed(shapes, before, here, fix, joined & ~inclusion & ~likely[:, 0])
    up = likely | blind | passed
    up[:, 1] |= up[:, 0]
    out_before = zones.out_ms.take(rows, axis=0)
    fresh = now_ms - fix[:, LIVE] <= devices.fresh_ms.take(best)
    out = states.is_out(signed, sigma, limits[:, 2:])
    on_now, out_now = states.step(on, out_before, up, out, fresh, now_ms, fix[:, LIVE])
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
        uncertain=up & wide,
        closest_m=np.zeros_like(signed),
        p_closest=np.zeros_like(signed),
        passed=passed,
        at_ms=fix[:, LIVE] if moved else now_ms.astype(np.float64),
        victim=np.zeros_like(fix),
        aggressor=fix,
    )


def _crossed(shapes: NDArray[np.object_], before: Floats, here: Floats, fix: Floats, asked: Bools) -> Bools:
    """Rings entered on the way between two fixes: the inner one where a way from outside crossed the place. (n, 2)"""
    passed = np.zeros((len(asked), 2), dtype=np.bool_)
    some = asked.nonzero()[0]
    if some.size:
        within = crossed_m(shapes[some], before[some], here[some])
        from_outside = shapely.distance(shapes[some], shapely.points(before[some])) > 0
        passed[some, 0] = from_outside & (within > CROSSING_SIGMAS * np.sqrt(fix[some, PP]))
    return passed
