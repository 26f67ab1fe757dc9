"""From history in PostgreSQL to PAST entries in the shard's log: what a retrospective check wants, at a bounded pace.

Model: once a second the engine's wants are looked at, the longest waiting first. One is answered once history has
reached well beyond the tick that asked (so the late fixes themselves are in it, on whatever shard they lie), a bounded
number a round: after an outage of many devices the wants wait, live work does not.

Failure: PostgreSQL away, or history behind: later. An answer that is appended twice finds nothing wanted any more. One
that the engine cannot take is set aside, and not tried again until more is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.domain.past import Past, Want, encode_past, serial_of
from core.metrics import RETROSPECT_ANSWERS, RETROSPECT_DROPPED, RETROSPECT_WAIT_SECONDS
from core.postgres import past
from core.postgres.database import Database
from core.redis.shard_log import ShardLog, id_key
from geo.shard import ShardRunner

SETTLE_MS: Final = 2_000
"""How far beyond a tick history has to be: another shard's copy of an upload may be appended a little later."""
ROUND_WANTS: Final = 50
"""Wants answered a round, by one worker."""
ROUND_SPAN_MS: Final = 48 * 3_600_000
"""And how long the stretches of history of a round are together; a longer one comes alone."""
ENTRY_PARTS: Final = 20
ENTRY_BYTES_MAX: Final = 1_000_000
"""Beyond it an entry takes no further part."""

Key = tuple[int, int]


class Budget:
    """What a round may still cost."""

    def __init__(self) -> None:
        self.wants = ROUND_WANTS
        self._span_ms = ROUND_SPAN_MS

    def takes(self, want: Want) -> bool:
        """Whether there is room for the want, which is then taken off."""
        span_ms = want.to_ms - want.from_ms
        if not self.wants or (span_ms > self._span_ms and self._span_ms < ROUND_SPAN_MS):
            return False
        self.wants -= 1
        self._span_ms = max(0, self._span_ms - span_ms)
        return True


class PastFeeder:
    """Answers one shard's wants; lives as long as its runner."""

    def __init__(self, runner: ShardRunner, database: Database, shard_log: ShardLog, shards: int) -> None:
        self._runner = runner
        self._database = database
        self._log = shard_log
        self._shards = shards
        self._loads = 0
        self._unread: list[tuple[str, dict[Key, int]]] = []
        """(entry id, {(case, order): serial answered}) appended and not yet evaluated."""
        self._refused: dict[Key, int] = {}
        """Answers the engine could not take."""
        self._dropped = 0

    async def step(self, budget: Budget, now_ms: int) -> None:
        """Answer what is wanted, as far as the budget and history reach."""
        runner = self._runner
        if not runner.ready.is_set():
            return
        self._look_back()
        in_flight = {key for _, answered in self._unread for key in answered}
        wants = runner.wants(len(in_flight) + len(self._refused) + ROUND_WANTS)
        self._measure(wants, now_ms)
        wants = [want for want in wants if self._is_open(want, in_flight)]
        if not wants or not budget.wants:
            return
        async with self._database.connection() as connection:
            settled_ms = await past.reached_ms(connection, self._shards) - SETTLE_MS
            wants = [want for want in wants if want.since_ms <= settled_ms and budget.takes(want)]
            if not wants:
                return
            serials = [min(want.serial, serial_of(settled_ms, 0)) for want in wants]
            parts = await past.answers(connection, wants, serials)
        await self._append(parts)

    def _is_open(self, want: Want, in_flight: set[Key]) -> bool:
        key = (want.case, want.order)
        return key not in in_flight and self._refused.get(key) != want.serial

    def _look_back(self) -> None:
        """Forget what was evaluated, and remember what could not be."""
        runner = self._runner
        if self._loads != runner.loads:
            self._loads, self._unread, self._dropped = runner.loads, [], 0
        position = id_key(runner.position)
        unread = []
        for entry, answered in self._unread:
            if id_key(entry) > position:
                unread.append((entry, answered))
            elif runner.was_set_aside(entry):
                self._refused.update(answered)
        self._unread = unread

    def _measure(self, wants: Sequence[Want], now_ms: int) -> None:
        shard = str(self._runner.shard)
        wait_s = (now_ms - wants[0].since_ms) / 1000 if wants else 0.0
        RETROSPECT_WAIT_SECONDS.labels(shard).set(max(0.0, wait_s))
        dropped = self._runner.wants_dropped_total()
        if dropped > self._dropped:
            RETROSPECT_DROPPED.labels(shard).inc(dropped - self._dropped)
        self._dropped = dropped

    async def _append(self, parts: Sequence[Past]) -> None:
        group: list[Past] = []
        size = 0
        for part in parts:
            own = part.victim.nbytes + part.aggressor.nbytes
            if group and (len(group) == ENTRY_PARTS or size + own > ENTRY_BYTES_MAX):
                await self._append_entry(group)
                group, size = [], 0
            group.append(part)
            size += own
        await self._append_entry(group)

    async def _append_entry(self, group: Sequence[Past]) -> None:
        entry = await self._log.append_past(self._runner.shard, self._runner.token, encode_past(group))
        self._unread.append((entry, {(part.case, part.order): part.serial for part in group}))
        RETROSPECT_ANSWERS.labels(str(self._runner.shard)).inc(len(group))
