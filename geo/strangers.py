"""The newest fix of devices that no case of the shard knows yet.

A ping may lie in the log before the configuration that names its device: the order was entered that moment, or the
shard's owner died before it had appended it. Such a fix is kept for a while and taken up with the configuration, so
that somebody who is inside already is seen at once and not at his next ping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.log import PINGS, Entry
from core.domain.ping import FLAG_BACKLOG, FLAG_POSITION, RECORD
from geo.rows import Rows
from geo.run import Run

BOUND: Final = 4_096
"""Devices kept; beyond it further ones are not, until some have gone."""
KEPT_MS: Final = 600_000
"""An older fix is not taken up: where he was ten minutes ago raises no alarm."""
FIRST_INDEX: Final = 1 << 20
"""Index of the first fix taken up by a configuration entry, apart from those of its cases."""
FIELD: Final = b"u"
"""First byte of a state field; the device's number follows."""
NUMBER_BYTES: Final = 4


class TakenUp(Run):
    """Fixes taken up at a configuration entry, as if they came with it."""

    def __getitem__(self, record: int) -> tuple[int, str, int]:
        shard, entry, index = super().__getitem__(record)
        return shard, entry, FIRST_INDEX + index


class Strangers:
    """By device number: the newest record with a position. Part of the engine's state."""

    def __init__(self) -> None:
        self._held: dict[int, bytes] = {}
        self._changed: set[int] = set()

    def note(self, records: NDArray[np.void]) -> None:
        """Keep what of these records, (n,) in log order, is newer than what is held."""
        flags = records["flags"]
        placed = records[(flags & np.uint32(FLAG_POSITION | FLAG_BACKLOG)) == FLAG_POSITION]
        for record in placed:
            number = int(record["device"])
            held = self._held.get(number)
            if held is None and len(self._held) >= BOUND:
                continue
            if held is None or _at_ms(held) <= int(record["at_ms"]):
                self._held[number] = record.tobytes()
                self._changed.add(number)

    def take_up(self, lookup: Rows, entry: Entry, shard: int) -> TakenUp | None:
        """The fixes of those that have a row in `lookup` by now, fresh ones only; they are strangers no more."""
        if not self._held:
            return None
        numbers = np.fromiter(self._held, dtype=np.int64, count=len(self._held))
        known = set(numbers[lookup.take(numbers, mode="clip") >= 0].tolist())
        stale = {number for number, record in self._held.items() if entry.ms - _at_ms(record) > KEPT_MS}
        # In an order that does not depend on how often the engine was restored.
        fresh = sorted((_at_ms(self._held[number]), number) for number in known - stale)
        records = b"".join(self._held[number] for _, number in fresh)
        for number in known | stale:
            del self._held[number]
        self._changed |= known | stale
        return TakenUp([Entry(entry.ms, entry.n, PINGS, records)], [shard]) if records else None

    def take_changes(self) -> dict[bytes, bytes | None]:
        """State fields that changed since the last call."""
        changes = {FIELD + n.to_bytes(NUMBER_BYTES, "little"): self._held.get(n) for n in sorted(self._changed)}
        self._changed.clear()
        return changes

    @classmethod
    def restored(cls, fields: Mapping[bytes, bytes]) -> Strangers:
        """Those of a state hash."""
        strangers = cls()
        for field, value in fields.items():
            if field[:1] == FIELD and len(value) == RECORD.itemsize:
                strangers._held[int.from_bytes(field[1:], "little")] = value
        return strangers


def _at_ms(record: bytes) -> int:
    return int(np.frombuffer(record, dtype=RECORD)["at_ms"][0])
