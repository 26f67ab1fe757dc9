"""What a device says of itself: heard, strap, casing, jamming, mock, battery. An alarm is never lost to an older time.

An alarm bit is taken from any record newer than the newest alarm, even one that comes late (then marked retrospective);
all is well only from the newest record.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.ping import SHIFT_CASING, SHIFT_JAMMING, SHIFT_MOCK, SHIFT_STRAP
from geo.doubts import NOTE_ACCEPTED, NOTE_CONFLICT, NOTE_FORGED, NOTE_FROZEN, NOTE_JUMP
from geo.frame import Floats
from geo.rows import (
    ALARM_AT,
    BATTERY_SHIFT,
    CONFLICT_BIT,
    FROZEN_BIT,
    HEARD,
    HEARD_BIT,
    JUMPED_BIT,
    LATE_BIT,
    SERVICE,
    SIGNAL_AT,
    SILENT_BIT,
    WORD,
)
from geo.track import Bools, Times

SIGNALS: Final = (
    ("strap", 1 << SHIFT_STRAP, "closed", "open"),
    ("casing", 1 << SHIFT_CASING, "closed", "open"),
    ("jamming", 1 << SHIFT_JAMMING, "no", "yes"),
    ("mock", 1 << SHIFT_MOCK, "no", "yes"),
)
"""Name, bit in the word, states."""
ALARM_BITS: Final = sum(bit for _, bit, _, _ in SIGNALS)
TOLD: Final = (
    *SIGNALS[:3],
    ("mock", 1 << SHIFT_MOCK | CONFLICT_BIT, "no", "yes"),
    ("jump", JUMPED_BIT, "no", "yes"),
    ("frozen", FROZEN_BIT, "no", "yes"),
)
"""Name, bits of which any is an alarm, states: what a device says, and what its fixes give away (`geo.fix_filter`)."""
FOUND_BITS: Final = FROZEN_BIT | CONFLICT_BIT | JUMPED_BIT
TAMPER_BITS: Final = ALARM_BITS | FOUND_BITS

NOTES: Final = NOTE_JUMP | NOTE_FROZEN | NOTE_CONFLICT | NOTE_FORGED

BATTERY_NAMES: Final = ("ok", "low", "critical")
BATTERY_MASK: Final = 0b11 << BATTERY_SHIFT
BATTERY_LOW_PCT: Final = 15.0
BATTERY_CRITICAL_PCT: Final = 5.0
BATTERY_MENDED_PCT: Final = 10.0
"""From critical back to low."""
BATTERY_WELL_PCT: Final = 25.0
"""From low back to ok."""


def alarms(flags: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The alarm bits that ping flags report: 2 (open, yes) in the two bits of a signal."""
    wide = flags.astype(np.int64)
    reported: NDArray[np.int64] = (wide >> 1) & ~wide & ALARM_BITS
    return reported


def beat(
    held: Times, now_ms: Times, service_ms: Times, live_ms: Times, flags: NDArray[np.uint32], battery_pct: Floats
) -> tuple[Times, Bools]:
    """Pulses after one record each, (n, PULSE_WIDTH), and which records were the newest of their device."""
    new = held.copy()
    newest: Bools = live_ms >= held[:, SIGNAL_AT]
    new[:, HEARD] = now_ms
    new[:, SERVICE] = service_ms
    new[:, SIGNAL_AT] = np.maximum(live_ms, held[:, SIGNAL_AT])
    word = (held[:, WORD] | HEARD_BIT) & ~(SILENT_BIT | LATE_BIT)
    opened = alarms(flags)
    if np.count_nonzero(opened | (word & ALARM_BITS)):
        wide = flags.astype(np.int64)
        closed = np.where(newest, wide & ~(wide >> 1) & ALARM_BITS, 0)
        opened = np.where(newest | (live_ms > held[:, ALARM_AT]), opened, 0)
        new[:, ALARM_AT] = np.where(opened != 0, np.maximum(held[:, ALARM_AT], live_ms), held[:, ALARM_AT])
        word = (word | opened) & ~closed
    weak = np.flatnonzero(((battery_pct < BATTERY_WELL_PCT) | ((word & BATTERY_MASK) != 0)) & newest)
    if weak.size:
        charge = _battery((word[weak] & BATTERY_MASK) >> BATTERY_SHIFT, battery_pct[weak])
        word[weak] = (word[weak] & ~BATTERY_MASK) | (charge << BATTERY_SHIFT)
    new[:, WORD] = word
    return new, newest


def _battery(state: NDArray[np.int64], pct: Floats) -> NDArray[np.int64]:
    """Battery states after a reading, with hysteresis; NaN changes nothing."""
    state = np.where(pct >= BATTERY_WELL_PCT, 0, state)
    state = np.where((pct > BATTERY_MENDED_PCT) & (state == 2), 1, state)
    state = np.where((pct <= BATTERY_LOW_PCT) & (state == 0), 1, state)
    return np.where(pct <= BATTERY_CRITICAL_PCT, 2, state)


def changes(before: int, after: int) -> list[tuple[str, str, str]]:
    """Signals that differ between two words: (signal, from, to)."""
    out = []
    for name, bits, well, alarm in TOLD:
        if bool(before & bits) != bool(after & bits):
            out.append((name, alarm, well) if before & bits else (name, well, alarm))
    left, right = (before & BATTERY_MASK) >> BATTERY_SHIFT, (after & BATTERY_MASK) >> BATTERY_SHIFT
    if left != right:
        out.append(("battery", BATTERY_NAMES[left], BATTERY_NAMES[right]))
    if before & (SILENT_BIT | LATE_BIT) and not after & (SILENT_BIT | LATE_BIT):
        out.append(("silence", "silent" if before & SILENT_BIT else "late", "reporting"))
    return out


def find(words: Times, notes: Times) -> Times:
    """Words (n,) with what the fixes of the same devices gave away (`geo.fix_filter` notes, (n,))."""
    if not ((notes & NOTES) | (words & FOUND_BITS)).any():
        return words
    found = np.where(notes & NOTE_FROZEN, FROZEN_BIT, 0)
    found |= np.where(notes & (NOTE_CONFLICT | NOTE_FORGED), CONFLICT_BIT, 0)
    # a jump is over with the next fix that is believed
    found |= np.where(notes & NOTE_JUMP, JUMPED_BIT, np.where(notes & NOTE_ACCEPTED, 0, words & JUMPED_BIT))
    return (words & ~FOUND_BITS) | found
