"""The shard's log, as the engine reads it: pings, ticks and configuration, each entry with its own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PINGS: Final = "p"
TICK: Final = "t"
CONFIGURATION: Final = "c"
PAST: Final = "h"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a shard's log.

    `ms` and `n` are the entry's id `<ms>-<n>`; `ms` is the moment it was received, on the store's clock.
    `payload`: PINGS: packed records; TICK: empty, or b"paused" while no ingest runs (deadlines wait);
    CONFIGURATION: JSON list of `core.domain.case.Case`; PAST: what a retrospective check needs of history.
    `extras`: JSON object {"<record index>": {"heard": [{"beacon": number, "rssi_dbm": -70}]}} or None.
    """

    ms: int
    n: int
    kind: str
    payload: bytes
    extras: bytes | None = None

    @property
    def id(self) -> str:
        """The entry's id as the store writes it."""
        return f"{self.ms}-{self.n}"
