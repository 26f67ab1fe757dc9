"""Fixes that nothing explains: kept, believed with others that agree, or forgotten; and what a receiver gives away.

A *jump* is a suspect that nobody can have reached and that did not persist. *Frozen* is a receiver that gives the very
same coordinates while the device moves. A *conflict* is Wi-Fi or cell placing a device elsewhere than the satellites.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo.frame import Floats
from geo.track import (
    AT,
    BELIEF,
    CONFLICT_S,
    DRIFT,
    FIX_MARK,
    FIX_RADIO,
    FIX_REST,
    FIX_SIGMA,
    FIX_SPEED,
    GAP,
    LIVE,
    MARK,
    PLACE,
    PP,
    PV,
    SAME_S,
    SEQ,
    SIGMA,
    STEP,
    SUSPECT,
    SUSPECT_SIGMA,
    TAKEN,
    VELOCITY,
    VV,
    Bools,
)

Words = NDArray[np.int64]

# What is told of each fix.
NOTE_ACCEPTED: Final = 1 << 0
"""The estimate took the fix in."""
NOTE_SUSPECT: Final = 1 << 1
"""Nothing explains the fix; the estimate stays."""
NOTE_JUMP: Final = 1 << 2
"""The suspects before were an impossible jump that did not persist. Told once."""
NOTE_FROZEN: Final = 1 << 3
"""The same coordinates again and again while the device says it moves. As long as it lasts."""
NOTE_CONFLICT: Final = 1 << 4
"""Wi-Fi or cell place the device elsewhere than the satellites. As long as it lasts."""
NOTE_FORGED: Final = 1 << 5
"""The suspects before were an impossible jump, and it persists: some of its places are not true. Told once."""

GATE: Final = 13.8
"""99.9 % of |y|²/S with two degrees of freedom."""
CRUISE_VARIANCE: Final = 1.125
"""(1.5 m/s)²/2: a velocity an axis that is always possible."""
DRIFT_SHARE2: Final = 0.5
"""Of a prediction: the speed stays, the course is forgotten."""
MANOEUVRE_VARIANCE: Final = 144.0
"""(12 m/s)²: what a velocity an axis may turn into at once."""

SUSPECT_SPEED_MPS: Final = 5.0
"""How fast an axis suspects may move and still be of one place."""
SUPPORT_SPEED_MPS: Final = 1.5
BELIEVED: Final = 3
BELIEVED_SUPPORTED: Final = 2
BELIEVED_WITHIN_MS: Final = 15_000.0
BELIEVED_AFTER_MS: Final = 4_000.0
JUMP_MPS: Final = 70.0
JUMP_SIGMAS: Final = 3.0
JUMP_LEAST_M: Final = 300.0
"""Less may be what houses do to satellites, however short the time."""
FORGED_LEAST_M: Final = 1_000.0
FORGED_BY_RADIO_M: Final = 3_000.0
"""Whoever says it: no network places anybody so far off for so long."""

FROZEN_FIXES: Final = 3
FROZEN_S: Final = 60.0
FROZEN_SPEED_MPS: Final = 1.0
CONFLICT_FIXES: Final = 3
CONFLICT_LEAST_S: Final = 120.0
SECONDS_MODULO: Final = float(1 << 24)

# Bits of the column WORD; counters stop at 3.
LEVEL_MASK: Final = 0b11
REST, CRUISE, MANOEUVRE = 0, 1, 2
SUSPECTS_SHIFT: Final = 2
SAME_SHIFT: Final = 4
CONFLICTS_SHIFT: Final = 6
JUMPED_BIT: Final = 1 << 8
"""One of the kept suspects was an impossible jump."""
FROZEN_BIT: Final = 1 << 9
YOUNG_SHIFT: Final = 11
"""Fixes believed since the track began."""
YOUNG: Final = 3
"""With fewer there is no reason to believe the old ones rather than the new one."""
CONFLICT_BIT: Final = 1 << 10
LEVEL_AND_SUSPECTS: Final = LEVEL_MASK | 3 << SUSPECTS_SHIFT | JUMPED_BIT


def doubt(
    new: Floats, after: Words, notes: Words, held: Floats, word: Words, fixes: Floats, some: NDArray[np.int64]
) -> None:
    """Fixes that no level explains: keep them, or believe them. In place, rows `some`."""
    before, fix = held[some], fixes[some]
    speed = np.fmax(fix[:, FIX_SPEED], 0.0)
    offset = fix[:, PLACE] - before[:, PLACE]
    kept = (word[some] >> SUSPECTS_SHIFT) & 3
    since_ms = fix[:, LIVE] - before[:, TAKEN]
    apart = offset - before[:, SUSPECT]
    seconds = since_ms * 0.001
    travel = np.maximum(speed, SUSPECT_SPEED_MPS) * seconds
    spread = fix[:, FIX_SIGMA] ** 2 + before[:, SUSPECT_SIGMA] ** 2 + travel * travel
    agrees = (kept > 0) & (np.einsum("ij,ij->i", apart, apart) <= GATE * spread)
    count = np.where(agrees, np.minimum(kept + 1, 3), 1)
    supported = (fix[:, FIX_SPEED] > SUPPORT_SPEED_MPS) | (fix[:, FIX_REST] <= -2.0)
    supported |= (since_ms >= BELIEVED_AFTER_MS) & (since_ms <= BELIEVED_WITHIN_MS)
    young = ((word[some] >> YOUNG_SHIFT) & 3) < YOUNG
    believed = (count >= BELIEVED) | ((count >= BELIEVED_SUPPORTED) & supported) | young
    blur = JUMP_SIGMAS * np.sqrt(before[:, PP] + fix[:, FIX_SIGMA] ** 2)
    way = np.sqrt(np.einsum("ij,ij->i", offset, offset)) - blur
    # an access point that was carried to another town is nobody's jump: see `compare`
    impossible_m = JUMP_MPS * 0.001 * (fix[:, LIVE] - before[:, LIVE])
    jump = (way > np.maximum(impossible_m, JUMP_LEAST_M)) & (fix[:, FIX_RADIO] == 0)
    rows = before.copy()
    rows[:, TAKEN], rows[:, AT], rows[:, SEQ] = fix[:, LIVE], fix[:, AT], fix[:, SEQ]
    rows[:, SUSPECT] = offset
    rows[:, SUSPECT_SIGMA] = fix[:, FIX_SIGMA]
    words = (word[some] & ~(3 << SUSPECTS_SHIFT)) | count << SUSPECTS_SHIFT | np.where(jump, JUMPED_BIT, 0)
    forged = jump | ((word[some] & JUMPED_BIT) != 0) | ((way > impossible_m) & (way > FORGED_BY_RADIO_M))
    forged &= believed & ~young & (way > FORGED_LEAST_M)
    sure_of = believed.nonzero()[0]
    if sure_of.size:
        begun = fix[sure_of]
        rows[sure_of, PLACE] = begun[:, PLACE]
        rows[sure_of, STEP] = offset[sure_of]
        rows[sure_of, LIVE] = begun[:, LIVE]
        # nobody took the way of an impossible jump, whoever tells it
        straight = ~(forged | young | (way > np.maximum(impossible_m, JUMP_LEAST_M)))[sure_of]
        rows[sure_of, GAP] = np.where(straight, begun[:, LIVE] - before[sure_of, LIVE], 0.0)
        # of one fix nobody knows the velocity
        between = np.where(kept[sure_of] > 0, np.maximum(seconds[sure_of], 1.0), np.inf)
        variance = begun[:, FIX_SIGMA] ** 2
        either = variance + before[sure_of, SUSPECT_SIGMA] ** 2
        # velocity between the two suspects, as far as it stands out of their noise
        prior = np.maximum(MANOEUVRE_VARIANCE, speed[sure_of] ** 2)
        share = np.where(kept[sure_of] > 0, prior / (prior + either / (between * between)), 0.0)
        rows[sure_of, VELOCITY] = apart[sure_of] * (share / between)[:, None]
        rows[sure_of, PP] = variance
        rows[sure_of, PV] = 0.0
        rows[sure_of, VV] = prior * (1.0 - share) + CRUISE_VARIANCE
        pace = rows[sure_of, VELOCITY]
        rows[sure_of, DRIFT] = np.maximum(DRIFT_SHARE2 * np.einsum("ij,ij->i", pace, pace), CRUISE_VARIANCE)
        rows[sure_of, SIGMA] = begun[:, FIX_SIGMA]
        rows[sure_of, BELIEF] = 0.0
        words[sure_of] = (words[sure_of] & ~(LEVEL_AND_SUSPECTS | 3 << YOUNG_SHIFT)) | CRUISE | 1 << YOUNG_SHIFT
    new[some] = rows
    after[some] = words
    notes[some] = np.where(believed, NOTE_ACCEPTED, NOTE_SUSPECT) | np.where(forged, NOTE_JUMP | NOTE_FORGED, 0)


def compare(new: Floats, after: Words, notes: Words, fixes: Floats, first: Bools) -> None:
    """What a receiver that stands still, or is led astray, gives away: frozen, conflict. In place."""
    radio = fixes[:, FIX_RADIO] != 0
    same = fixes[:, FIX_MARK] == new[:, MARK]
    now_s = np.fmod(np.floor(fixes[:, LIVE] * 0.001), SECONDS_MODULO)
    changed = ~(same | radio) | first
    new[:, MARK] = np.where(changed, fixes[:, FIX_MARK], new[:, MARK])
    new[:, SAME_S] = np.where(changed, now_s, new[:, SAME_S])
    after &= np.where(changed, ~(3 << SAME_SHIFT | FROZEN_BIT), -1)
    again = (same & ~radio & ~first).nonzero()[0]
    if again.size:
        count = np.minimum(((after[again] >> SAME_SHIFT) & 3) + 1, 3)
        lasts = np.fmod(now_s[again] - new[again, SAME_S] + SECONDS_MODULO, SECONDS_MODULO) >= FROZEN_S
        moves = (fixes[again, FIX_SPEED] > FROZEN_SPEED_MPS) | (fixes[again, FIX_REST] <= -2.0)
        frozen = (count >= FROZEN_FIXES - 1) & lasts & moves
        after[again] = (after[again] & ~(3 << SAME_SHIFT)) | count << SAME_SHIFT | np.where(frozen, FROZEN_BIT, 0)
    if np.count_nonzero(radio):
        some = radio.nonzero()[0]
        outside = (notes[some] & NOTE_SUSPECT) != 0
        count = np.where(outside, np.minimum(((after[some] >> CONFLICTS_SHIFT) & 3) + 1, 3), 0)
        new[some, CONFLICT_S] = np.where(count == 1, now_s[some], new[some, CONFLICT_S])
        lasts = np.fmod(now_s[some] - new[some, CONFLICT_S] + SECONDS_MODULO, SECONDS_MODULO) >= CONFLICT_LEAST_S
        conflict = ((count >= CONFLICT_FIXES) & lasts) | (outside & ((after[some] & CONFLICT_BIT) != 0))
        after[some] = (after[some] & ~(3 << CONFLICTS_SHIFT | CONFLICT_BIT)) | count << CONFLICTS_SHIFT
        after[some] |= np.where(conflict, CONFLICT_BIT, 0)
    both = after & (FROZEN_BIT | CONFLICT_BIT)
    if np.count_nonzero(both):
        notes |= both // (FROZEN_BIT // NOTE_FROZEN)
