"""Fixes → an estimate: a robust Kalman filter a device, n devices at once, everything elementwise.

State an axis: place and velocity, the three earth-centred axes alike and independent. The velocity is an integrated
Ornstein-Uhlenbeck process (it forgets itself in `TAU_S`), at one of three levels: rest, cruise, manoeuvre. The level
with the greatest posterior explains a fix; a fix that none explains (99.9 % gate) is *suspect*: the estimate stays
where it was, growing unsure with its age, until the fix is believed with others that agree with it, or forgotten.

Errors of neighbouring fixes hang together (`ERROR_MEMORY_S`): a fix that says what the last one said adds little.
Its variance is inflated by up to (1 + ρ)/(1 - ρ), as for the mean of an autoregression, the more the estimate
already leans on its predecessors.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo.doubts import (
    CRUISE,
    CRUISE_VARIANCE,
    DRIFT_SHARE2,
    GATE,
    JUMPED_BIT,
    LEVEL_AND_SUSPECTS,
    LEVEL_MASK,
    MANOEUVRE,
    MANOEUVRE_VARIANCE,
    NOTE_ACCEPTED,
    NOTE_CONFLICT,
    NOTE_FROZEN,
    NOTE_JUMP,
    NOTE_SUSPECT,
    REST,
    SUSPECTS_SHIFT,
    YOUNG,
    YOUNG_SHIFT,
    Words,
    compare,
    doubt,
)
from geo.frame import Floats
from geo.track import (
    AT,
    BELIEF,
    DRIFT,
    EXACT,
    FIX_RADIO,
    FIX_REST,
    FIX_SIGMA,
    FIX_SPEED,
    GAP,
    LIVE,
    PLACE,
    PP,
    PV,
    SEQ,
    SERVICE_MS,
    SIGMA,
    STEP,
    SUSPECT,
    SUSPECT_SIGMA,
    TAKEN,
    VELOCITY,
    VV,
    WORD,
    Bools,
    Times,
)

__all__ = [
    "CRUISE",
    "MANOEUVRE",
    "NOTE_ACCEPTED",
    "NOTE_CONFLICT",
    "NOTE_FROZEN",
    "NOTE_JUMP",
    "NOTE_SUSPECT",
    "REST",
    "TAU_S",
    "advance",
    "estimate",
    "is_at_rest",
    "is_placed_once",
    "level_of",
    "suspected",
    "variance",
    "velocity",
    "velocity_variance",
]

LEAST_VARIANCE: Final = 0.01
"""m²: of a device that never gave a fix, too, so that nothing is divided by nothing."""
SETTLED: Final = 2.5
"""Log-odds of rest that only several fixes make."""
TAU_S: Final = 90.0
"""How long a velocity remembers itself."""
ERROR_MEMORY_S: Final = TAU_S / 3.0
"""A third of `TAU_S`, so that one exponential serves both."""
RADIO_EXCESS: Final = 1.5
"""Variance of a fix by Wi-Fi or cell over the one it claims: what those know of their own accuracy is rough."""
LASTING_SHARE: Final = 0.25
"""Share of a fix's variance that no number of fixes averages out: the same cell, the same reflecting house."""
SPEED_SCALE_MOST: Final = 2.0
"""By how much a speed that is told lengthens the velocity, where its course is certain; else not at all."""
COURSE_CERTAIN: Final = 4.0
"""Square of a velocity over its variance an axis from which its course is."""
INFLATION_LEAST: Final = 0.05
"""Floor of 1 - ρ: bounds the inflation to about 40."""
CRUISE_SHARE2: Final = 0.25
"""While cruising a velocity changes by half of itself."""
SWERVE_SHARE: Final = 0.3
"""Share of a prediction's velocity variance that may come at once: turns and stops do not wait."""
WALKING_MPS: Final = 1.5
"""A pace at which everybody may go on unseen, whatever is known of the course."""
SAYS_NOTHING: Final = 16.0
"""A fix whose variance is so many times that of the prediction tells nothing of where a device went."""
UNKNOWN_VARIANCE: Final = 112.5
"""(15 m/s)²/2: velocity of a device of which there is one fix, without a speed."""
REST_CREEP: Final = 0.05
"""m²/s an axis: how a resting device shifts about."""
REST_DOUBT: Final = 4e-4
"""The same as a share a second of a fix's variance: the poorer the fixes, the longer a departure goes unseen."""
STILL_CREEP_MOST: Final = 5.0
"""m²/s an axis: the most of both while the device itself says that it does not move, however poor its fixes. Its motion
sensor sees what a cell does not; 130 m in an hour is what is left to it."""
TOLD_STILL: Final = 1.5
"""What a device says for rest, log-odds, from which it says so itself."""
DEPARTED: Final = 500.0
"""m² an axis: how far a walker may be by the time he can be told from one at rest."""

LOG_CRUISE: Final = -0.16
LOG_MANOEUVRE: Final = -1.9
"""Logarithms of the shares of both among devices that move."""
BELIEF_REST: Final = 1.4
"""Log-odds of rest when nothing is known: four in five."""
BELIEF_MOST: Final = 3.5
BELIEF_COMMITTED: Final = 1.0
"""What a decision for or against rest leaves of the belief at least."""


def advance(held: Floats, fixes: Floats, headings_deg: Floats) -> tuple[Floats, Words]:
    """Take one newer fix (n, FIX_WIDTH) a device into its row (n, WIDTH): (new rows, notes (n,)).

    `headings_deg`: what the devices say of their course, (n,), NaN: nothing; it matters to a first fix only.
    """
    new = held.copy()
    first = held[:, LIVE] == 0
    live, sigma, speed = fixes[:, LIVE], fixes[:, FIX_SIGMA], fixes[:, FIX_SPEED]
    raw = sigma * sigma * (1.0 + (RADIO_EXCESS - 1.0) * fixes[:, FIX_RADIO])
    word = held[:, WORD].astype(np.int64)
    velocity = held[:, VELOCITY]
    pp, pv, vv = held[:, PP], held[:, PV], held[:, VV]
    seconds = (live - held[:, LIVE]) * 0.001
    if first.any():
        seconds[first] = 0.0
    # the motion model
    alpha = np.exp(seconds * (-1.0 / TAU_S))
    lost = 1.0 - alpha
    reach = TAU_S * lost
    growth = np.maximum((2.0 / TAU_S) * seconds - 3.0 + alpha * (4.0 - alpha), 0.0) * (TAU_S * TAU_S)
    speed2 = np.einsum("ij,ij->i", velocity, velocity)
    cruise = np.maximum(CRUISE_SHARE2 * speed2, CRUISE_VARIANCE)
    manoeuvre = np.maximum(speed2, MANOEUVRE_VARIANCE)
    np.fmax(manoeuvre, speed * speed, out=manoeuvre)
    predicted = np.empty((3, len(held)))
    moving = pp + reach * (2.0 * pv + reach * vv)
    creep = REST_CREEP + REST_DOUBT * raw
    np.minimum(creep, STILL_CREEP_MOST, out=creep, where=fixes[:, FIX_REST] >= TOLD_STILL)
    predicted[REST] = pp + creep * seconds
    predicted[CRUISE] = np.maximum(moving + cruise * growth, pp + np.where(word & LEVEL_MASK, 0.0, DEPARTED))
    predicted[MANOEUVRE] = moving + manoeuvre * (growth + reach * reach)
    # which level explains the fix
    shift = reach[:, None] * velocity
    offset = fixes[:, PLACE] - held[:, PLACE]
    ahead = offset - shift
    miss = np.empty_like(predicted)
    miss[REST] = np.einsum("ij,ij->i", offset, offset)
    miss[CRUISE:] = np.einsum("ij,ij->i", ahead, ahead)
    spread = predicted + raw
    miss /= spread
    score = np.log(spread)
    score += 0.5 * miss
    by_cruise, by_manoeuvre = score[CRUISE] - LOG_CRUISE, score[MANOEUVRE] - LOG_MANOEUVRE
    swerves = (by_manoeuvre < by_cruise) | (miss[CRUISE] > GATE)
    belief = BELIEF_REST + (held[:, BELIEF] - BELIEF_REST) * np.sqrt(np.sqrt(alpha))
    evidence = np.minimum(by_manoeuvre, by_cruise) - score[REST] + fixes[:, FIX_REST]
    rests = (belief + evidence > 0) & (miss[REST] <= GATE)
    # neighbouring fixes are one testimony: what is remembered of it grows with the time between them
    belief = belief + evidence * np.minimum(seconds * (1.0 / ERROR_MEMORY_S), 1.0)
    belief = np.clip(belief, np.where(rests, BELIEF_COMMITTED, -BELIEF_MOST),
                     np.where(rests, BELIEF_MOST, -BELIEF_COMMITTED))  # fmt: skip
    level = np.where(rests, REST, np.where(swerves, MANOEUVRE, CRUISE))
    swerves &= ~rests
    prior = np.where(rests, predicted[REST], np.where(swerves, predicted[MANOEUVRE], predicted[CRUISE]))
    bad = np.where(rests, miss[REST], np.where(swerves, miss[MANOEUVRE], miss[CRUISE])) > GATE
    # the update
    moves = np.where(rests, 0.0, 1.0)
    turned = np.where(swerves, manoeuvre, 0.0)
    drawn = np.where(swerves, manoeuvre, cruise)
    vv = vv + turned
    pv = moves * (alpha * (pv + reach * vv) + drawn * (TAU_S * lost * lost))
    vv = np.where(rests, CRUISE_VARIANCE, alpha * alpha * vv + drawn * (1.0 - alpha * alpha))
    rho = alpha * alpha * alpha
    inflation = (1.0 + rho) / np.maximum(1.0 - rho, INFLATION_LEAST) - 1.0
    noise = raw * (1.0 + inflation * raw / (raw + prior))
    total = prior + noise
    gain, gain_v = prior / total, pv / total
    shift *= moves[:, None]
    offset -= shift
    # over a fix that tells nothing an uncertain course carries nobody
    mute = ((raw > SAYS_NOTHING * prior) & (speed2 > WALKING_MPS**2)).nonzero()[0]
    if mute.size:
        shift[mute] *= _certain_share(held[mute, VV], speed2[mute])[:, None]
    step = shift + gain[:, None] * offset
    new[:, STEP] = step
    step += held[:, PLACE]
    new[:, PLACE] = step
    now_v = (moves * alpha)[:, None] * velocity + gain_v[:, None] * offset
    # a speed that is told is better than one that is reckoned; the course is the filter's
    now_speed2 = np.einsum("ij,ij->i", now_v, now_v)
    certain = now_speed2 > COURSE_CERTAIN * (vv - gain_v * pv)
    scale = np.minimum(speed / np.sqrt(np.maximum(now_speed2, 1e-9)), np.where(certain, SPEED_SCALE_MOST, 1.0))
    scale[np.isnan(scale)] = 1.0
    now_v *= scale[:, None]
    new[:, VELOCITY] = now_v
    new[:, PP] = np.maximum(gain * noise, np.minimum(prior, LASTING_SHARE * raw))
    new[:, PV] = pv * (1.0 - gain)
    new[:, VV] = vv - gain_v * pv
    new[:, LIVE] = live
    new[:, GAP] = live - held[:, LIVE]
    new[:, SIGMA] = sigma
    # who drove a minute ago and stands may drive on
    pace2 = np.maximum(scale * scale * now_speed2, (held[:, DRIFT] / DRIFT_SHARE2) * np.sqrt(alpha))
    new[:, DRIFT] = np.maximum(DRIFT_SHARE2 * np.fmax(pace2, speed * speed), CRUISE_VARIANCE)
    new[:, BELIEF] = belief
    new[:, TAKEN] = live
    new[:, AT] = fixes[:, AT]
    new[:, SEQ] = fixes[:, SEQ]
    notes = np.full(len(held), NOTE_ACCEPTED)
    after = (word & ~LEVEL_AND_SUSPECTS) | level
    after += np.where((word >> YOUNG_SHIFT) & 3 < YOUNG, 1 << YOUNG_SHIFT, 0)
    jumped = (word & JUMPED_BIT) != 0
    if jumped.any():
        notes[jumped] |= NOTE_JUMP
    if first.any():
        _begin(new, fixes, headings_deg, first.nonzero()[0])
        bad &= ~first
        notes[first] = NOTE_ACCEPTED
        after[first] = CRUISE | 1 << YOUNG_SHIFT
    if bad.any():
        doubt(new, after, notes, held, word, fixes, bad.nonzero()[0])
    compare(new, after, notes, fixes, first)
    new[:, WORD] = after
    new[:, EXACT:] = new[:, EXACT:].astype(np.float32)
    return new, notes


def _begin(new: Floats, fixes: Floats, headings_deg: Floats, some: NDArray[np.int64]) -> None:
    """First fixes: nothing to compare with. In place, rows `some`."""
    place, speed = fixes[some, PLACE], fixes[some, FIX_SPEED]
    said = speed >= 0
    course = np.radians(headings_deg[some].astype(np.float64))
    with_course = said & np.isfinite(course)
    course, pace = np.where(with_course, course, 0.0), np.where(with_course, speed, 0.0)
    ring = np.maximum(np.hypot(place[:, 0], place[:, 1]), 1e-9)
    length = np.sqrt(ring * ring + place[:, 2] * place[:, 2])
    cos_lon, sin_lon, cos_lat, sin_lat = place[:, 0] / ring, place[:, 1] / ring, ring / length, place[:, 2] / length
    east, north = pace * np.sin(course), pace * np.cos(course)
    rows = np.zeros((len(some), new.shape[1]))
    rows[:, PLACE] = place
    rows[:, LIVE] = rows[:, TAKEN] = fixes[some, LIVE]
    rows[:, AT], rows[:, SEQ] = fixes[some, AT], fixes[some, SEQ]
    rows[:, SERVICE_MS] = new[some, SERVICE_MS]
    rows[:, VELOCITY] = np.stack(
        [-east * sin_lon - north * sin_lat * cos_lon, east * cos_lon - north * sin_lat * sin_lon, north * cos_lat],
        axis=1,
    )
    rows[:, PP] = fixes[some, FIX_SIGMA] ** 2
    unsure = np.where(with_course, (1.0 + 0.1 * speed) ** 2, np.maximum(0.5 * speed * speed, CRUISE_VARIANCE))
    rows[:, VV] = np.where(said, unsure, UNKNOWN_VARIANCE)
    rows[:, DRIFT] = np.where(said, np.maximum(DRIFT_SHARE2 * speed * speed, CRUISE_VARIANCE), CRUISE_VARIANCE)
    rows[:, SIGMA] = fixes[some, FIX_SIGMA]
    new[some] = rows


def estimate(rows: Floats, now_ms: Times, lead_s: float | None = None) -> tuple[Floats, Floats]:
    """Where devices are at `now_ms` by the motion model: places (n, 3), metres, and variances an axis (n,), m².

    `lead_s`: how far a velocity carries the place at most, and at a walk's pace while its course is not certain; the
    variance grows with the whole age all the same.
    """
    seconds, alpha, reach = _ages(rows, now_ms)
    carried = reach
    if lead_s is not None:
        carried = np.minimum(reach, lead_s)
        speed2 = np.einsum("ij,ij->i", rows[:, VELOCITY], rows[:, VELOCITY])
        unsure = ((speed2 > WALKING_MPS**2) & (speed2 <= COURSE_CERTAIN * rows[:, VV])).nonzero()[0]
        carried[unsure] *= WALKING_MPS / np.sqrt(speed2[unsure])
    place: Floats = rows[:, PLACE] + carried[:, None] * rows[:, VELOCITY]
    return place, _grown(rows, seconds, alpha, reach)


def variance(rows: Floats, now_ms: Times) -> Floats:
    """Variance an axis of the place predicted to `now_ms`, m². Shape (n,)."""
    return _grown(rows, *_ages(rows, now_ms))


def velocity(rows: Floats) -> Floats:
    """Filtered velocities at `LIVE`, m/s, (n, 3); zero at rest."""
    return rows[:, VELOCITY]


def velocity_variance(rows: Floats, now_ms: Times) -> Floats:
    """Variance an axis of the velocity predicted to `now_ms`, (m/s)². Shape (n,)."""
    _, alpha, _ = _ages(rows, now_ms)
    kept = alpha * alpha
    out: Floats = kept * rows[:, VV] + rows[:, DRIFT] * (1.0 - kept)
    return out


def is_at_rest(rows: Floats) -> Bools:
    """Which devices have been at rest for some time, by more than their newest fix. Shape (n,)."""
    rests: Bools = ((rows[:, WORD].astype(np.int64) & LEVEL_MASK) == REST) & (rows[:, BELIEF] >= SETTLED)
    return rests


def is_placed_once(rows: Floats) -> Bools:
    """Which devices are where they are by one fix alone: the first, or the first of a track begun anew. Shape (n,)."""
    once: Bools = ((rows[:, WORD].astype(np.int64) >> YOUNG_SHIFT) & 3) < 2
    return once


def suspected(rows: Floats) -> tuple[Bools, Floats, Floats]:
    """Which devices have a suspect fix at present, where those are, and their variance an axis: (n,), (n, 3), (n,)."""
    kept: Bools = (rows[:, WORD].astype(np.int64) & (3 << SUSPECTS_SHIFT)) != 0
    return kept, rows[:, PLACE] + rows[:, SUSPECT], rows[:, SUSPECT_SIGMA] ** 2


def level_of(rows: Floats) -> Words:
    """The level that explained the newest believed fix: REST, CRUISE or MANOEUVRE. Shape (n,)."""
    return rows[:, WORD].astype(np.int64) & LEVEL_MASK


def _certain_share(variance: Floats, speed2: Floats) -> Floats:
    """Share of velocities (n,), given by their variances an axis and their squares, that may carry somebody unseen.

    The less the more uncertain the course is; at a walk's pace, which it is never less than, everybody is believed.
    """
    share: Floats = np.maximum(1.0 - COURSE_CERTAIN * variance / speed2, WALKING_MPS / np.sqrt(speed2))
    return share


def _ages(rows: Floats, now_ms: Times) -> tuple[Floats, Floats, Floats]:
    """Seconds since the estimate, what a velocity keeps of itself, and the seconds of way it still makes."""
    seconds = np.maximum((now_ms - rows[:, LIVE]) * 0.001, 0.0)
    alpha = np.exp(seconds * (-1.0 / TAU_S))
    return seconds, alpha, TAU_S * (1.0 - alpha)


def _grown(rows: Floats, seconds: Floats, alpha: Floats, reach: Floats) -> Floats:
    growth = np.maximum((2.0 / TAU_S) * seconds - 3.0 + alpha * (4.0 - alpha), 0.0) * (TAU_S * TAU_S)
    drift = rows[:, DRIFT]
    at_once = rows[:, VV] + SWERVE_SHARE * (drift - CRUISE_VARIANCE)
    out: Floats = rows[:, PP] + reach * (2.0 * rows[:, PV] + reach * at_once) + drift * growth
    return np.maximum(out, LEAST_VARIANCE)
