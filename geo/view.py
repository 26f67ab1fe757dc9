"""How orders stand at a moment: both parties found, their estimates brought to one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo.fix_filter import estimate, suspected
from geo.frame import Floats
from geo.rows import FROZEN_BIT, WORD, Devices, Orders, People, Rows
from geo.track import LIVE, PLACE, SERVICE_MS, SUSPECT, Bools, Times

LEAD_S: Final = 15.0
"""How far beyond a fix somebody is believed to have gone on as before: nobody is called inside who was last seen well
outside, only because he was on his way. That is an approach."""
NOBODY: Final = -1
"""Side of an evaluation that no fix caused: a configuration, a beginning."""


@dataclass(frozen=True, slots=True)
class View:
    """How n orders stand at a moment: both parties brought to one time."""

    rows: NDArray[np.int64]
    index: NDArray[np.int64]
    """Where each stood in what was asked."""
    now_ms: Times
    side: NDArray[np.int64]
    """Who moved: 0 victim, 1 aggressor, -1 nobody."""
    best: Rows
    """(n, 2): the device rows that speak for the victim and the aggressor."""
    victim: Floats
    aggressor: Floats
    """Their fixes, (n, WIDTH)."""
    apart: Floats
    """Aggressor less victim, both at `now_ms`, (n, 3) metres."""
    distance_m: Floats
    variance_victim: Floats
    variance_aggressor: Floats
    sigma_m: Floats
    good_ms: Floats
    """(n, 2): how long a fix of each is fresh."""
    pinged: NDArray[np.int64]
    """Whose fix, believed or doubted, is the cause: 0 victim, 1 aggressor, -1 nobody."""
    heard: Bools
    """His bracelet was heard by her unit just now."""
    doubted_m: Floats | None
    """How near the other he or she would be if a fix that is not believed yet were true; None: no such fix."""

    def take(self, some: NDArray[np.int64]) -> View:
        """The same of some of them."""
        return View(
            self.rows.take(some), self.index.take(some), self.now_ms.take(some), self.side.take(some),
            self.best.take(some, axis=0), self.victim.take(some, axis=0), self.aggressor.take(some, axis=0),
            self.apart.take(some, axis=0), self.distance_m.take(some), self.variance_victim.take(some),
            self.variance_aggressor.take(some), self.sigma_m.take(some), self.good_ms.take(some, axis=0),
            self.pinged.take(some), self.heard.take(some),
            None if self.doubted_m is None else self.doubted_m.take(some),
        )  # fmt: skip


def look(
    devices: Devices,
    people: People,
    orders: Orders,
    rows: NDArray[np.int64],
    now_ms: Times,
    side: NDArray[np.int64],
    heard: Bools | None = None,
    pinged: NDArray[np.int64] | None = None,
) -> View | None:
    """Order rows (n,) at `now_ms` (n,), of those in force whose parties have been seen; None when there is none."""
    best = people.best.take(orders.party.take(rows, axis=0))
    if heard is None:
        heard = np.zeros(len(rows), dtype=np.bool_)
    elif (best < 0).any():  # heard, though one of them never gave a position
        for k, side_of in np.argwhere((best < 0) & heard[:, None]).tolist():
            best[k, side_of] = people.about[int(orders.party[rows[k], side_of])][1][0]
    if pinged is None:
        pinged = side
    usable = (best >= 0).all(axis=1) & orders.live.take(rows)
    index = np.arange(len(rows))
    if not usable.all():
        index = usable.nonzero()[0]
        if not index.size:
            return None
        rows, now_ms, side, best = rows[index], now_ms[index], side[index], best[index]
        heard, pinged = heard[index], pinged[index]
    victim = devices.fix.take(best[:, 0], axis=0)
    aggressor = devices.fix.take(best[:, 1], axis=0)
    place_v, variance_v = estimate(victim, now_ms, LEAD_S)
    place_a, variance_a = estimate(aggressor, now_ms, LEAD_S)
    apart = place_a - place_v
    distance = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    sigma = np.sqrt(variance_v + variance_a)
    return View(
        rows, index, now_ms, side, best, victim, aggressor, apart, distance, variance_v, variance_a, sigma,
        devices.fresh_ms.take(best), pinged, heard, _doubted_m(victim, aggressor),
    )  # fmt: skip


def fresh(devices: Devices, view: View) -> Bools:
    """Where both parties' fixes are no older than two of their intervals, and their receivers not frozen, (n,)."""
    both: Bools = view.now_ms - view.victim[:, LIVE] <= view.good_ms[:, 0]
    both &= view.now_ms - view.aggressor[:, LIVE] <= view.good_ms[:, 1]
    frozen = (devices.pulse[view.best, WORD] & FROZEN_BIT) != 0
    if np.count_nonzero(frozen):
        both &= ~frozen.any(axis=1)
    return both


def stale_ms(view: View) -> Times:
    """Service times at which the fix of one of both is no longer fresh, (n,)."""
    hers = view.victim[:, SERVICE_MS] + view.good_ms[:, 0]
    his = view.aggressor[:, SERVICE_MS] + view.good_ms[:, 1]
    return np.minimum(hers, his).astype(np.int64)


def _doubted_m(victim: Floats, aggressor: Floats) -> Floats | None:
    doubted_v, doubted_a = suspected(victim)[0], suspected(aggressor)[0]
    if not (doubted_v.any() or doubted_a.any()):
        return None
    between = aggressor[:, PLACE] - victim[:, PLACE]
    to_v = np.linalg.norm(between - victim[:, SUSPECT], axis=1)
    to_a = np.linalg.norm(between + aggressor[:, SUSPECT], axis=1)
    nearest: Floats = np.minimum(np.where(doubted_v, to_v, np.inf), np.where(doubted_a, to_a, np.inf))
    return nearest


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
