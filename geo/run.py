"""A stretch of ping entries as one array of records, and the rounds it is taken in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.domain.log import Entry
from core.domain.ping import RECORD, RECORD_BYTES
from geo.rows import Rows

Index = NDArray[np.int64]
EVERYTHING: Final = slice(None)


class Run:
    """The records of some entries, (n,), their times of reception, and which entry each came from."""

    def __init__(self, entries: Sequence[Entry], shards: Sequence[int]) -> None:
        """`shards`: whose log each of the entries stands in; those of a shard stand together."""
        self._entries, self._shards = entries, shards
        counts = np.asarray([len(entry.payload) // RECORD_BYTES for entry in entries])
        self._starts = np.cumsum(counts) - counts
        whole = [entry.payload[: len(entry.payload) // RECORD_BYTES * RECORD_BYTES] for entry in entries]
        self.records = np.frombuffer(b"".join(whole), dtype=RECORD)
        self.now_ms = np.repeat(np.asarray([entry.ms for entry in entries], dtype=np.int64), counts)

    def extras(self) -> list[tuple[int, bytes]]:
        """Of entries with rare fields: the index of their first record here, and the fields."""
        return [
            (int(start), entry.extras)
            for start, entry in zip(self._starts.tolist(), self._entries, strict=True)
            if entry.extras is not None
        ]

    def __getitem__(self, record: int) -> tuple[int, str, int]:
        """The shard and the id of the entry a record stands in, and its index there."""
        at = int(np.searchsorted(self._starts, record, side="right")) - 1
        return self._shards[at], self._entries[at].id, record - int(self._starts[at])


def picked(array: NDArray[Any], some: Index | slice) -> NDArray[Any]:
    """Rows of an array, whole: `take` copies each as one piece, an index would copy the fields of a record singly."""
    return array if isinstance(some, slice) else array.take(some, axis=0)


def with_copies(rows: Rows, cause: Index, following: Rows) -> tuple[Rows, Index, bool]:
    """Rows and their causes, (n,), with the further rows of devices that are in several cases; whether there were any.

    `following`: for each row of the table, the device's next row, or -1.
    """
    copied = False
    found, whose = rows, cause
    while True:
        found = following.take(found)
        more = (found >= 0).nonzero()[0]
        if not more.size:
            return rows, cause, copied
        copied = True
        found, whose = found[more], whose[more]
        rows, cause = np.concatenate([rows, found]), np.concatenate([cause, whose])


def rounds(cases: NDArray[np.int64], cause: Index, ordered_already: bool) -> list[Index | slice]:
    """Indices in rounds: each has at most one row a case, and rows of a case come in the order of their causes.

    `ordered_already`: whether the causes only grow.
    """
    ordered, order = _sorted(cases) if ordered_already else _by_cause(cases, cause)
    first = np.empty(len(order), dtype=np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = first.nonzero()[0]
    if len(starts) == len(order):
        return [EVERYTHING]
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    ranks, by_rank = _sorted(rank)
    cuts = np.searchsorted(ranks, np.arange(1, int(ranks[-1]) + 1))
    return list(np.split(order.take(by_rank), cuts))


def _sorted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], Index]:
    """Keys (n,), not negative, in order, and where each stood; of equals the first comes first.

    Both in one number: numbers are sorted several times faster than their indices.
    """
    bits = len(keys).bit_length()
    packed = np.sort((keys << bits) | np.arange(len(keys)))
    return packed >> bits, packed & ((1 << bits) - 1)


def _by_cause(keys: NDArray[np.int64], cause: Index) -> tuple[NDArray[np.int64], Index]:
    order = np.lexsort((cause, keys))
    return keys.take(order), order
