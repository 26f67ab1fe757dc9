"""Which presses and wishes to cancel wait, by device and name: looked up without opening anything that is sealed.

Two roads lead here: this process's journal, and the stream in Redis, which bears what other processes took. Pure; one
process's, in memory.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from core.clock import from_ms
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import ToldIn

Place = int | str
"""Where a record waits: its place in the journal, or its entry in the stream."""
Record = PanicIn | CancelIn | ToldIn
"""What waits: a press, a wish to cancel it, or who was told of it meanwhile."""

P = TypeVar("P", bound=Place)

CANCELS_MAX: Final = 16
"""Wishes of one device that wait on one road; beyond it the oldest give way to the newest."""
EQUAL_CANCELS_MAX: Final = 3
"""So many of them may be equal, panic and PIN: the third wrong PIN in a row counts, a fourth says nothing new. So a
flood of one PIN pushes out no other."""


class PanicIndex:
    """What waits."""

    def __init__(self) -> None:
        self._records: dict[Place, PanicIn | CancelIn] = {}
        self._panics: dict[tuple[uuid.UUID, str], dict[Place, PanicIn]] = {}
        """(device, a name of the panic in lower case) → where it waits, the first first."""
        self._wishes: dict[uuid.UUID, dict[Place, CancelIn]] = {}
        """Device → its wishes to cancel, as they came."""

    def note(self, place: Place, record: Record | None) -> None:
        """A record waits there; a second call does nothing. What was told is not looked up, and not kept here."""
        if place in self._records:
            return
        if isinstance(record, PanicIn):
            self._records[place] = record
            for key in _keys(record):
                self._panics.setdefault(key, {})[place] = record
        elif isinstance(record, CancelIn):
            self._records[place] = record
            self._wishes.setdefault(record.device_id, {})[place] = record

    def drop(self, place: Place) -> None:
        """Nothing waits there any more; a second call does nothing."""
        record = self._records.pop(place, None)
        if isinstance(record, PanicIn):
            for key in _keys(record):
                self._panics[key].pop(place)
                if not self._panics[key]:
                    del self._panics[key]
        elif isinstance(record, CancelIn):
            self._wishes[record.device_id].pop(place)
            if not self._wishes[record.device_id]:
                del self._wishes[record.device_id]

    def panic(self, name: str, device_id: uuid.UUID) -> PanicIn | None:
        """A device's panic that waits, by its id or the client's own."""
        return next(iter(self._panics.get((device_id, name.lower()), {}).values()), None)

    def is_here(self, name: str, device_id: uuid.UUID) -> bool:
        """Whether a device's panic waits in this process's own journal."""
        return any(isinstance(place, int) for place in self._panics.get((device_id, name.lower()), {}))

    def wishes(self, device_id: uuid.UUID | None) -> list[CancelIn]:
        """A device's wishes to cancel that wait, as they came."""
        return list(self._wishes.get(device_id, {}).values()) if device_id is not None else []

    def cancelling(self) -> frozenset[uuid.UUID]:
        """Devices of which a wish to cancel waits."""
        return frozenset(self._wishes)

    def is_cancelling(self, panic: PanicIn) -> bool:
        """Whether a wish of the device that pressed waits."""
        return panic.device_id in self._wishes

    def surplus(self, device_id: uuid.UUID, road: type[int] | type[str]) -> list[Place]:
        """Places of a device's wishes beyond the bounds, on one road: the oldest."""
        places = [place for place in self._wishes.get(device_id, {}) if isinstance(place, road)]
        equal: Counter[tuple[str, str]] = Counter()
        gone: list[Place] = []
        kept: list[Place] = []
        for place in reversed(places):
            wish = self._wishes[device_id][place]
            equal[wish.panic_id, wish.pin] += 1
            (gone if equal[wish.panic_id, wish.pin] > EQUAL_CANCELS_MAX else kept).append(place)
        return gone + kept[CANCELS_MAX:]


def wish_for(wishes: Iterable[CancelIn], names: Iterable[str | None]) -> CancelIn | None:
    """The first of these wishes that is to cancel a panic known by any of these names."""
    wanted = {name.lower() for name in names if name}
    return next((wish for wish in wishes if wish.panic_id.lower() in wanted), None)


def as_answered(panic: dict[str, Any], wishes: Iterable[CancelIn]) -> None:
    """Have a panic's row say what its device was told: cancelled, where one of these wishes is to cancel it."""
    if panic["cancel_asked_at"] is None and (wish := wish_for(wishes, (str(panic["id"]), panic["client_id"]))):
        panic["cancel_asked_at"] = from_ms(wish.received_ms)


def _keys(panic: PanicIn) -> set[tuple[uuid.UUID, str]]:
    if panic.device_id is None:
        return set()
    return {(panic.device_id, name.lower()) for name in (str(panic.id), panic.client_id) if name}


def in_turn(waiting: Sequence[tuple[P, Record]], first: Callable[[PanicIn], bool]) -> list[tuple[P, Record]]:
    """Presses and wishes in the order in which they are brought in.

    A device's own keep the order in which they came: a press after a wish to cancel is another thing than before it.
    Beyond that presses come before wishes, which take their time to judge, and devices take turns, so that however
    many one of them sends, it holds up itself alone. `first`: presses that go before their like.
    """
    wishes: dict[uuid.UUID | None, int] = {}
    ranked: list[tuple[tuple[int, bool, int], P, Record]] = []
    for number, (place, record) in enumerate(waiting):
        if isinstance(record, ToldIn):
            continue
        before = wishes.get(record.device_id, 0)
        if isinstance(record, CancelIn):
            wishes[record.device_id] = before + 1
            ranked.append(((2 * before + 1, False, number), place, record))
        else:
            ranked.append(((2 * before, not first(record), number), place, record))
    ranked.sort(key=lambda one: one[0])
    return [(place, record) for _, place, record in ranked]
