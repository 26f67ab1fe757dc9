"""History kept in memory, for who has no PostgreSQL: a replay answers its engine's wants from the file it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.log import PINGS, Entry
from core.domain.past import MARGIN_MS, PAST_FIX, Past, Want, bucket_ms, encode_past, fixes_of, thinned
from core.domain.ping import RECORD_BYTES, unpack_records

KEPT_MS: Final = 7 * 86_400_000 + MARGIN_MS
"""How far back fixes are kept: what is older is not asked for."""
SWEEP_MS: Final = 3_600_000


class Annals:
    """The fixes of every device of the log so far, a week of them."""

    def __init__(self) -> None:
        self._fresh: list[Entry] = []
        self._fixes: dict[int, bytearray] = {}
        self._swept_ms = 0

    def add(self, entry: Entry) -> None:
        """Take an entry of the log; those that are no PINGS are passed over."""
        if entry.kind == PINGS:
            self._fresh.append(entry)
            if entry.ms - self._swept_ms > SWEEP_MS:
                self._sweep(entry.ms)

    def answer(self, wants: Sequence[Want]) -> bytes:
        """The payload of a PAST entry for these wants, as the worker would make it from PostgreSQL."""
        self._sort_in()
        return encode_past(
            [
                Past(
                    want.case, want.order, want.serial, self._between(want, want.victim),
                    self._between(want, want.aggressor),
                )
                for want in wants
            ]
        )  # fmt: skip

    def _between(self, want: Want, devices: Sequence[int]) -> NDArray[np.void]:
        first_ms, last_ms = want.from_ms - MARGIN_MS, want.to_ms + MARGIN_MS
        parts = [np.empty(0, dtype=PAST_FIX)]
        for number in devices:
            fixes = np.frombuffer(bytes(self._fixes.get(number, b"")), dtype=PAST_FIX)
            parts.append(fixes[(fixes["live_ms"] >= first_ms) & (fixes["live_ms"] <= last_ms)])
        return thinned(np.concatenate(parts), bucket_ms(first_ms, last_ms))

    def _sort_in(self) -> None:
        whole = [entry for entry in self._fresh if len(entry.payload) >= RECORD_BYTES]
        self._fresh = []
        if not whole:
            return
        sizes = [len(entry.payload) // RECORD_BYTES for entry in whole]
        records = unpack_records(
            b"".join(entry.payload[: size * RECORD_BYTES] for entry, size in zip(whole, sizes, strict=True))
        )
        fixes = fixes_of(records, np.repeat(np.asarray([entry.ms for entry in whole], dtype=np.int64), sizes))
        fixes = fixes[np.argsort(fixes["device"], kind="stable")]
        starts = np.flatnonzero(np.diff(fixes["device"], prepend=np.int64(-1)))
        for part in np.split(fixes, starts[1:]):
            if len(part):
                self._fixes.setdefault(int(part["device"][0]), bytearray()).extend(part.tobytes())

    def _sweep(self, now_ms: int) -> None:
        self._sort_in()
        self._swept_ms = now_ms
        for number, held in list(self._fixes.items()):
            fixes = np.frombuffer(bytes(held), dtype=PAST_FIX)
            self._fixes[number] = bytearray(fixes[fixes["live_ms"] >= now_ms - KEPT_MS].tobytes())
