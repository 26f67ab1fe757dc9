"""From changed cases in PostgreSQL to configuration records in the shard's log.

Model: a poll (woken by NOTIFY `case`, each second anyway) finds the versions that changed since the last mark;
those the engine does not know and that were not appended before are loaded in pages and appended in entries of
a bounded number of cases. A shard with many of them unread is left until its engine has taken some, so a seed
of a hundred thousand orders never fills the log. Appending a version twice is harmless.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.postgres import case_feed
from core.postgres.database import Database
from core.redis.shard_log import ShardLog, id_key
from geo.shard import ShardRunner

PAGE_CASES: Final = 1_000
"""Cases loaded from PostgreSQL at once."""
ENTRY_CASES: Final = 100
"""Cases one entry of the log carries."""
UNREAD_CASES_MAX: Final = 3_000
"""Cases appended but not yet evaluated, a shard."""


class CaseFeeder:
    """Appends what one shard's engine does not know yet; lives as long as its runner."""

    def __init__(self, runner: ShardRunner, database: Database, shard_log: ShardLog) -> None:
        self._runner = runner
        self._database = database
        self._log = shard_log
        self._mark = 0
        self._known: dict[int, int] | None = None
        """Versions the engine knew when it was loaded, and those appended since."""
        self._loads = 0
        self._wanted: dict[int, int] = {}
        self._unread: list[tuple[tuple[int, int], int]] = []
        """(entry id, cases) appended and not yet evaluated."""

    async def step(self) -> bool:
        """Append one page of what is new; True when there is more to append now or after the engine moves on."""
        runner = self._runner
        if not runner.ready.is_set():
            return False
        if self._known is None or self._loads != runner.loads:
            self._known, self._loads, self._mark, self._wanted = runner.case_versions(), runner.loads, 0, {}
        async with self._database.connection() as connection:
            if not self._wanted:
                self._mark, changed = await case_feed.changed_since(connection, runner.shard, self._mark)
                known = self._known
                self._wanted = {number: v for number, v in changed.items() if known.get(number, -1) < v}
            if not self._wanted or self._unread_cases() >= UNREAD_CASES_MAX:
                return bool(self._wanted)
            numbers = list(self._wanted)[:PAGE_CASES]
            configurations = await case_feed.load(connection, runner.shard, numbers)
        await self._append(configurations)
        for number in numbers:
            del self._wanted[number]
        return bool(self._wanted)

    def _unread_cases(self) -> int:
        position = id_key(self._runner.position)
        self._unread = [(entry, cases) for entry, cases in self._unread if entry > position]
        return sum(cases for _, cases in self._unread)

    async def _append(self, configurations: list[case_feed.CaseConfiguration]) -> None:
        assert self._known is not None
        for start in range(0, len(configurations), ENTRY_CASES):
            part = configurations[start : start + ENTRY_CASES]
            body = b"[" + b",".join(configuration.body for configuration in part) + b"]"
            entry = await self._log.append_configurations(self._runner.shard, self._runner.token, [body])
            self._unread.append((id_key(entry), len(part)))
            self._known.update((configuration.number, configuration.version) for configuration in part)
            await asyncio.sleep(0)
