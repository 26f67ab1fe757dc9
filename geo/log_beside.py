"""What a shard's log says beside pings: gathered while the historian reads, written when its cursor passes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.domain.case import decode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.past import decode_past, encode_past
from core.postgres import case_log
from core.postgres.case_log import Answer, Configuration, Tick


@dataclass(slots=True)
class Beside:
    """What stands beside the pings of one stretch of one or several logs."""

    ticks: dict[int, list[Tick]] = field(default_factory=dict)
    """Shard → its ticks, oldest first."""
    configurations: list[Configuration] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def add(self, shard: int, entries: Iterable[Entry]) -> None:
        """Take entries of a shard's log, in order; what cannot be read the engine could not either."""
        for entry in entries:
            if entry.kind == TICK:
                self.ticks.setdefault(shard, []).append((entry.ms, entry.n, bool(entry.payload)))
            elif entry.kind == CONFIGURATION:
                with contextlib.suppress(msgspec.DecodeError, ValueError):
                    self.configurations += [
                        Configuration(
                            case.id, case.agency_id, case.version, shard, entry.ms, entry.n, index,
                            msgspec.to_builtins(case),
                        )
                        for index, case in enumerate(decode_cases(entry.payload))
                    ]  # fmt: skip
            elif entry.kind == PAST:
                with contextlib.suppress(ValueError):
                    self.answers += [
                        Answer(part.case, entry.ms, entry.n, index, encode_past([part]))
                        for index, part in enumerate(decode_past(entry.payload))
                    ]

    async def write(self, connection: Any) -> None:
        """Write it, in the transaction that moves the cursors past it."""
        if self.ticks:
            await case_log.add_ticks(connection, self.ticks)
        if self.configurations:
            await case_log.add_configurations(connection, self.configurations)
        if self.answers:
            await case_log.add_answers(connection, self.answers)


def is_beside(entry: Entry) -> bool:
    """Whether an entry is no PINGS entry."""
    return entry.kind != PINGS
