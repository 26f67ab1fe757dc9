"""Where people were, seen afterwards: two tracks of raw fixes → the stays of one within a radius of the other.

Pure, and independent of the live filter: here both sides of every moment are known. A track is cleaned of fixes that no
believable speed joins to their neighbours, each fix is weighed against the straight way between the two beside it, and
between fixes a place is less sure the further it is in time from one. What is not known is neither inside nor out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from core.domain.ping import DEFAULT_ACCURACY_M, SHIFT_SOURCE, TWO_BITS
from geo.frame import Floats, flatten, to_vectors
from geo.separation import closest_approach, is_blind, p_within
from geo.shapes import least_on_way, signed_distance

Bools = NDArray[np.bool_]
Times = NDArray[np.int64]

RADIUS_68_SIGMA: Final = 1.51
"""The 68 % radius of a round two-dimensional normal distribution, in standard deviations."""
NEAREST_MAX_MS: Final = 300_000
"""Further in time from every fix, a place is not known. Also how long a device speaks for its wearer alone."""
WAY_MAX_MS: Final = 300_000
"""Two fixes further apart are joined by a way of which only the ends are known."""
GAP_MAX_MS: Final = 3_600_000
DRIFT_FLOOR_MPS: Final = 1.5
DRIFT_SHARE: Final = 0.2
"""Of the speed between two fixes: how far off the straight way somebody may be."""
DRIFT_UNKNOWN_MPS: Final = 15.0
BELIEVABLE_MPS: Final = 70.0
GATE_999: Final = 13.8
"""99.9 % of χ² with two degrees of freedom: a fix further from what its neighbours say is suspect."""
SURE: Final = 0.9
"""One moment inside is enough only when it is this probable."""
HALFWAY: Final = 0.5
"""Several have to reach, once, so far from `p_enter` to certainty: who lives by the edge is not told of afterwards."""
SUSPECTS_MIN: Final = 3
"""Suspect fixes count only together."""
CROSSING_SIGMAS: Final = 2.0
"""A way through a place counts when it lies within for more than this many σ: less may be noise."""


@dataclass(frozen=True, slots=True)
class Track:
    """Where somebody was: n fixes in order of time."""

    at_ms: Times
    place: Floats
    """(n, 3) earth-centred metres."""
    variance: Floats
    """(n,) an axis, m²."""
    speed_mps: Floats
    """(n,), NaN: not said."""
    suspect: Bools


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A track at m moments."""

    place: Floats
    variance: Floats
    known: Bools
    suspect: Bools


@dataclass(frozen=True, slots=True)
class Events:
    """What m moments, in order, say of a subject."""

    at_ms: Floats
    beyond_m: Floats
    """Distance beyond the edge; negative inside."""
    p: Floats
    inside: Bools
    out: Bools
    """Surely outside, the margin for leaving included."""
    suspect: Bools
    apart: Floats | None = None
    """(m, 3) the difference vector, where the edge is a circle about her."""
    sigma_m: Floats | None = None
    """And its standard deviation an axis."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of time inside. Times in ms."""

    from_ms: int
    until_ms: int
    closest: int
    """Index of the event that was nearest."""
    first: int
    last: int
    """Indices of the first and the last event inside."""
    moments: int


@dataclass(frozen=True, slots=True)
class Rule:
    """The values by which a stay is told from what is none."""

    radius_m: float
    p_enter: float
    exit_margin_m: float
    p_exit: float
    hold_s: float


def track_of(fixes: NDArray[np.void], rank: Mapping[int, int], sigma_max_m: float) -> Track:
    """The track of a person by the PAST_FIX rows (n,) of her devices, in any order.

    `rank`: how much each device is worn. One less worn (or with fewer fixes) counts only where the others say nothing.
    Fixes with a σ above `sigma_max_m` do not count.
    """
    accuracy = fixes["accuracy_m"].astype(np.float64)
    source = (fixes["flags"] >> np.uint32(SHIFT_SOURCE)) & np.uint32(TWO_BITS)
    accuracy = np.where(accuracy > 0, accuracy, np.asarray(DEFAULT_ACCURACY_M)[source])
    sigma = np.maximum(accuracy, 0.5) / RADIUS_68_SIGMA
    sound = (np.abs(fixes["lat"]) <= 90) & (np.abs(fixes["lon"]) <= 180) & (sigma <= sigma_max_m)
    fixes, sigma = fixes[sound], sigma[sound]
    numbers, counts = np.unique(fixes["device"], return_counts=True)
    kept = np.empty(0, dtype=np.int64)
    for _, _, number in sorted(
        (-rank.get(number, 0), -count, number) for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ):
        own = np.flatnonzero(fixes["device"] == number)
        if kept.size:
            covered = np.sort(fixes["live_ms"][kept])
            own = own[_nearest_ms(covered, fixes["live_ms"][own]) > NEAREST_MAX_MS]
        kept = np.concatenate([kept, own])
    order = kept[np.lexsort((sigma[kept], fixes["live_ms"][kept]))]
    at_ms = fixes["live_ms"][order]
    once = np.ones(len(order), dtype=np.bool_)
    once[1:] = at_ms[1:] != at_ms[:-1]
    order = order[once]
    at_ms, sigma = at_ms[once], sigma[order]
    place = to_vectors(fixes["lat"][order], fixes["lon"][order])
    speed = fixes["speed_mps"][order].astype(np.float64)
    kept = np.flatnonzero(_is_believable(at_ms, place, sigma))
    return _weighed(at_ms[kept], place[kept], sigma[kept] ** 2, speed[kept])


def _nearest_ms(times: Times, asked: Times) -> Times:
    """How far each asked moment is from the nearest of `times` (sorted, not empty)."""
    after = np.searchsorted(times, asked)
    before = np.abs(asked - times[np.maximum(after - 1, 0)])
    nearest: Times = np.minimum(before, np.abs(times[np.minimum(after, len(times) - 1)] - asked))
    return nearest


def _is_believable(at_ms: Times, place: Floats, sigma: Floats) -> Bools:
    """Which fixes at least half of the (up to four) fixes beside them are joined to by a believable speed."""
    asked, joined = np.zeros(len(at_ms)), np.zeros(len(at_ms))
    for step in (1, 2):
        if len(at_ms) <= step:
            break
        way = np.linalg.norm(place[step:] - place[:-step], axis=1) - 3.0 * (sigma[step:] + sigma[:-step])
        yes = way <= BELIEVABLE_MPS * (at_ms[step:] - at_ms[:-step]) / 1000.0
        for part in (slice(step, None), slice(None, -step)):
            asked[part] += 1
            joined[part] += yes
    believable: Bools = 2 * joined >= asked
    return believable


def _weighed(at_ms: Times, place: Floats, variance: Floats, speed: Floats) -> Track:
    """Each fix weighed against the straight way between its neighbours; suspect where the two do not agree."""
    suspect = np.zeros(len(at_ms), dtype=np.bool_)
    if len(at_ms) < 3:
        return Track(at_ms, place, variance, speed, suspect)
    before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
    gap_s = (at_ms[after] - at_ms[before]) / 1000.0
    share = (at_ms[here] - at_ms[before]) / (at_ms[after] - at_ms[before])
    chord = place[after] - place[before]
    way = place[before] + share[:, None] * chord
    said = np.fmax(np.fmax(speed[before], speed[here]), speed[after])
    drift = np.fmax(np.maximum(DRIFT_FLOOR_MPS, DRIFT_SHARE * np.linalg.norm(chord, axis=1) / gap_s), said)
    nearest_s = np.minimum(share, 1 - share) * gap_s
    spread = (1 - share) ** 2 * variance[before] + share**2 * variance[after] + (drift * nearest_s) ** 2
    own = variance[here]
    off = place[here] - way
    agree = np.einsum("ij,ij->i", off, off) <= GATE_999 * (own + spread)
    near = (gap_s <= 2 * NEAREST_MAX_MS / 1000.0) & agree
    weight = np.where(near, own / (own + spread), 0.0)
    out, out_variance = place.copy(), variance.copy()
    out[here] = place[here] - weight[:, None] * off
    out_variance[here] = own * (1 - weight)
    suspect[here] = ~agree
    return Track(at_ms, out, out_variance, speed, suspect)


def whereabouts(track: Track, moments: Times) -> Whereabouts:
    """Where somebody was at moments (m,): on the straight way between two fixes, less sure the further from both."""
    n = len(track.at_ms)
    if not n:
        nothing = np.zeros(len(moments), dtype=np.bool_)
        return Whereabouts(np.zeros((len(moments), 3)), np.ones(len(moments)), nothing, nothing)
    found = np.searchsorted(track.at_ms, moments, side="right") - 1
    before, after = np.maximum(found, 0), np.minimum(found + 1, n - 1)
    after = np.where(track.at_ms[before] == moments, before, after)
    gap_ms = track.at_ms[after] - track.at_ms[before]
    since_ms, until_ms = np.abs(moments - track.at_ms[before]), np.abs(track.at_ms[after] - moments)
    nearest_s = np.minimum(since_ms, until_ms) / 1000.0
    between = (gap_ms > 0) & (gap_ms <= GAP_MAX_MS) & (found >= 0)
    share = np.where(between, since_ms / np.maximum(gap_ms, 1), (until_ms < since_ms).astype(np.float64))
    chord = track.place[after] - track.place[before]
    pace = np.linalg.norm(chord, axis=1) * 1000.0 / np.maximum(gap_ms, 1)
    pace = np.where(gap_ms <= WAY_MAX_MS, DRIFT_SHARE * pace, pace)
    speed = track.speed_mps[np.where(share > 0.5, after, before)]
    alone = np.where(np.isnan(speed), DRIFT_UNKNOWN_MPS, speed)
    drift = np.maximum(DRIFT_FLOOR_MPS, np.where(between, pace, alone))
    variance = (1 - share) ** 2 * track.variance[before] + share**2 * track.variance[after] + (drift * nearest_s) ** 2
    suspect = (track.suspect[before] & (share < 1)) | (track.suspect[after] & (share > 0))
    place = track.place[before] + share[:, None] * chord
    return Whereabouts(place, variance, nearest_s * 1000 <= NEAREST_MAX_MS, suspect)


def encounters(victim: Track, aggressor: Track, from_ms: int, to_ms: int, rule: Rule) -> Events:
    """How near they were at every fix of either between two moments, and where they passed each other between."""
    moments = np.union1d(victim.at_ms, aggressor.at_ms)
    moments = moments[(moments >= from_ms) & (moments <= to_ms)]
    hers, his = whereabouts(victim, moments), whereabouts(aggressor, moments)
    known = hers.known & his.known
    at_ms = moments[known].astype(np.float64)
    apart = (his.place - hers.place)[known]
    variance, suspect = (hers.variance + his.variance)[known], (hers.suspect | his.suspect)[known]
    if len(at_ms) > 1:
        step = apart[1:] - apart[:-1]
        _, share = closest_approach(apart[1:], step)
        gap = at_ms[1:] - at_ms[:-1]
        some = np.flatnonzero((share > 0) & (share < 1) & (gap <= WAY_MAX_MS))
        share = share[some]
        passed = apart[some] + share[:, None] * step[some]
        off_s = np.minimum(share, 1 - share) * gap[some] / 1000.0
        spread = np.maximum(variance[some], variance[some + 1]) + (DRIFT_FLOOR_MPS * off_s) ** 2
        at_ms = np.concatenate([at_ms, at_ms[some] + share * gap[some]])
        order = np.argsort(at_ms, kind="stable")
        at_ms = at_ms[order]
        apart = np.concatenate([apart, passed])[order]
        variance = np.concatenate([variance, spread])[order]
        suspect = np.concatenate([suspect, suspect[some] | suspect[some + 1]])[order]
    distance, sigma = np.linalg.norm(apart, axis=1), np.sqrt(variance)
    p = p_within(np.asarray(rule.radius_m), distance, sigma)
    out = p_within(np.asarray(rule.radius_m + rule.exit_margin_m), distance, sigma) <= rule.p_exit
    return Events(at_ms, distance - rule.radius_m, p, p >= rule.p_enter, out, suspect, apart, sigma)


def trespasses(
    track: Track, plane: Floats, shape: Any, edge: Any, inclusion: bool, from_ms: int, to_ms: int, rule: Rule
) -> Events:
    """Where he was against the edge of a place (see `geo.zones`) at every fix, and where his way crossed it."""
    some = np.flatnonzero((track.at_ms >= from_ms) & (track.at_ms <= to_ms))
    spots = flatten(plane, track.place[some])
    sigma, at_ms, suspect = np.sqrt(track.variance[some]), track.at_ms[some].astype(np.float64), track.suspect[some]
    count = len(some)
    signed = signed_distance(_rows(shape, count), _rows(edge, count), np.full(count, inclusion), spots)
    wide = np.zeros(count, dtype=np.bool_)
    if not inclusion:
        wide = is_blind(np.full(count, np.sqrt(shape.area / np.pi)), sigma)
    p = np.where(wide, 0.0, ndtr(-signed / sigma))
    ways = np.flatnonzero(_may_cross(at_ms, spots, signed))
    if ways.size:
        shapes, edges = _rows(shape, ways.size), _rows(edge, ways.size)
        least, share, beyond = least_on_way(shapes, edges, np.full(ways.size, inclusion), spots[ways], spots[ways + 1])
        widest = np.maximum(sigma[ways], sigma[ways + 1])
        deep = beyond > CROSSING_SIGMAS * widest
        ways, least, share, widest = ways[deep], least[deep], share[deep], widest[deep]
        at_ms = np.concatenate([at_ms, at_ms[ways] + share * (at_ms[ways + 1] - at_ms[ways])])
        order = np.argsort(at_ms, kind="stable")
        at_ms = at_ms[order]
        signed = np.concatenate([signed, least])[order]
        suspect = np.concatenate([suspect, suspect[ways] | suspect[ways + 1]])[order]
        p = np.concatenate([p, ndtr(-least / widest)])[order]
        sigma = np.concatenate([sigma, widest])[order]
    out = ndtr((rule.exit_margin_m - signed) / sigma) <= rule.p_exit
    return Events(at_ms, signed, p, p >= rule.p_enter, out, suspect)


def _rows(shape: Any, count: int) -> NDArray[np.object_]:
    out = np.empty(count, dtype=np.object_)
    out[:] = shape
    return out


def _may_cross(at_ms: Floats, spots: Floats, signed: Floats) -> Bools:
    """Which ways from a fix to the next, both where he may be, are long enough to lead through where he may not."""
    stride = np.linalg.norm(np.diff(spots, axis=0), axis=1)
    clear = (signed[:-1] > 0) & (signed[1:] > 0) & (np.diff(at_ms) <= WAY_MAX_MS)
    may: Bools = clear & (signed[:-1] + signed[1:] <= stride)
    return may


def stays(events: Events, from_ms: int, to_ms: int, rule: Rule) -> list[Stay]:
    """The stays with a moment inside between two moments.

    Only where he was surely out for `hold_s` does one end and another begin. One that rests on a single moment has to
    be sure, on several likelier than it takes to enter; one that rests on suspect fixes has to rest on several.
    """
    inside = np.flatnonzero(events.inside)
    if not inside.size:
        return []
    out = np.flatnonzero(events.out)
    following = np.searchsorted(out, inside[:-1], side="right")
    first_out = out[np.minimum(following, len(out) - 1)] if out.size else np.zeros(len(following), dtype=np.int64)
    left = (following < len(out)) & (first_out < inside[1:])
    left &= events.at_ms[inside[1:]] - events.at_ms[first_out] >= rule.hold_s * 1000
    found = []
    for own in np.split(inside, np.flatnonzero(left) + 1):
        at_ms = events.at_ms[own]
        if at_ms[-1] < from_ms or at_ms[0] > to_ms or not ((at_ms >= from_ms) & (at_ms <= to_ms)).any():
            continue
        if events.suspect[own].all() and own.size < SUSPECTS_MIN:
            continue
        if events.p[own].max() < (SURE if own.size < 2 else rule.p_enter + HALFWAY * (1 - rule.p_enter)):
            continue
        first, last = int(own[0]), int(own[-1])
        found.append(
            Stay(
                from_ms=round(_edge_ms(events, first, first - 1, rule)),
                until_ms=round(_edge_ms(events, last, last + 1, rule)),
                closest=int(own[np.argmin(events.beyond_m[own])]),
                first=first,
                last=last,
                moments=int(own.size),
            )
        )
    return found


def _edge_ms(events: Events, inside: int, beside: int, rule: Rule) -> float:
    """When the edge was passed between a moment inside and the one beside it; where unknown, the moment itself."""
    at_ms = float(events.at_ms[inside])
    if not 0 <= beside < len(events.at_ms) or abs(events.at_ms[beside] - at_ms) > WAY_MAX_MS:
        return at_ms
    within, beyond = float(events.beyond_m[inside]), float(events.beyond_m[beside])
    if within > 0 or beyond <= 0:
        return at_ms
    share = within / (within - beyond)
    if events.apart is not None:  # |a + s (b - a)| = R, its root between 0 and 1
        a, way = events.apart[inside], events.apart[beside] - events.apart[inside]
        square, mixed = float(way @ way), float(a @ way)
        rest = float(a @ a) - rule.radius_m**2
        share = (-mixed + float(np.sqrt(max(mixed * mixed - square * rest, 0.0)))) / max(square, 1e-9)
    return at_ms + min(max(share, 0.0), 1.0) * (float(events.at_ms[beside]) - at_ms)
