"""From changed cases in PostgreSQL to configuration records in the shard's log.

Model: a poll (woken by NOTIFY `case`, each second anyway) finds the versions that changed since the last mark;
those the engine does not know and that were not appended before are loaded in pages and appended in entries of
a bounded number of cases. A shard with many of them unread is left until its engine has taken some, so a seed
of a hundred thousand orders never fills the log. Appending a version twice is harmless.

Failure: an entry that the engine cannot take is appended again case by case, and the case that it cannot take alone
stays set aside until it changes.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from core.domain.case import decode_case
from core.postgres import case_feed
from core.postgres.database import Database
from core.redis.shard_log import ShardLog, id_key
from geo.shard import ShardRunner

log = structlog.get_logger(__name__)

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
        self._unread: list[tuple[str, dict[int, int]]] = []
        """(entry id, {case number: version}) appended and not yet evaluated."""
        self._alone: dict[int, int] = {}
        """Versions that were in an entry the engine could not take: each goes in an entry of its own."""
        self._refused: dict[int, int] = {}
        """Versions the engine could not take alone: set aside, and not appended again."""

    async def step(self) -> bool:
        """Append one page of what is new; True when there is more to append now or after the engine moves on."""
        runner = self._runner
        if not runner.ready.is_set():
            return False
        self._look_back()
        if self._known is None or self._loads != runner.loads:
            self._known, self._loads, self._mark, self._wanted = runner.case_versions(), runner.loads, 0, {}
        async with self._database.connection() as connection:
            if not self._wanted:
                self._mark, changed = await case_feed.changed_since(connection, runner.shard, self._mark)
                known = self._known | {number: v for number, v in self._refused.items() if number in changed}
                self._wanted = {number: v for number, v in changed.items() if known.get(number, -1) < v}
            if not self._wanted or self._unread_cases() >= UNREAD_CASES_MAX:
                return bool(self._wanted)
            numbers = list(self._wanted)[:PAGE_CASES]
            configurations = await case_feed.load(connection, runner.shard, numbers)
        await self._append(configurations)
        for number in numbers:
            del self._wanted[number]
        return bool(self._wanted)

    def _look_back(self) -> None:
        """Forget what was evaluated; of an entry that was set aside, see to it that one bad case harms no other."""
        position = id_key(self._runner.position)
        unread = []
        for entry, versions in self._unread:
            if id_key(entry) > position:
                unread.append((entry, versions))
            elif self._runner.was_set_aside(entry):
                (self._refused if len(versions) == 1 else self._alone).update(versions)
        self._unread = unread

    def _unread_cases(self) -> int:
        return sum(len(versions) for _, versions in self._unread)

    async def _append(self, configurations: list[case_feed.CaseConfiguration]) -> None:
        assert self._known is not None
        configurations = [one for one in configurations if self._is_readable(one)]
        together = [one for one in configurations if one.number not in self._alone]
        parts = [together[start : start + ENTRY_CASES] for start in range(0, len(together), ENTRY_CASES)]
        parts += [[one] for one in configurations if one.number in self._alone]
        for part in parts:
            body = b"[" + b",".join(configuration.body for configuration in part) + b"]"
            entry = await self._log.append_configurations(self._runner.shard, self._runner.token, [body])
            versions = {configuration.number: configuration.version for configuration in part}
            self._unread.append((entry, versions))
            self._known.update(versions)
            await asyncio.sleep(0)

    def _is_readable(self, configuration: case_feed.CaseConfiguration) -> bool:
        """Whether a compiled case is one; another would make its whole entry unreadable."""
        try:
            decode_case(configuration.body)
        except (msgspec.DecodeError, ValueError) as error:
            name = f"{configuration.number}@{configuration.version}"
            log.error("case_set_aside", shard=self._runner.shard, case=name, error=type(error).__name__)
            self._runner.set_aside(name, f"{type(error).__name__}: {error}", configuration.body)
            self._refused[configuration.number] = configuration.version
            return False
        return True
