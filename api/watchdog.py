"""The watchdog: whether everything between a press and a message moves, in one word, for whoever watches from outside.

Every part is asked for the age of what waits before it, so that a process that lives and does nothing is found as
well as one that is gone. Nothing is told but green or red; which part it is stands in a metric and, for who asks from
within, in the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from core.clock import from_ms
from core.errors import StoreUnavailable
from core.metrics import WATCHDOG_RED, panics_waiting
from core.postgres import readiness, watchdog
from core.redis import keys
from core.redis.client import AWAY, RedisError

log = structlog.get_logger(__name__)

LOOK_S: Final = 2.0
"""Who asks within this gets the last answer: a stranger's questions cost nothing."""
ANSWER_S: Final = 5.0
"""Longest that a store may take to answer."""
LIMITS: Final[dict[str, timedelta]] = {
    "journal": timedelta(seconds=10),
    "stream": timedelta(seconds=10),
    "engine": timedelta(seconds=10),
    "recorder": timedelta(seconds=15),
    "historian": timedelta(seconds=60),
    "feed": timedelta(seconds=10),
    "notifier": timedelta(seconds=15),
    "untried": timedelta(seconds=60),
    "sealer": timedelta(seconds=60),
}
"""How long something may wait before each part."""

Look = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Told:
    """What PostgreSQL said, asked once for all parts."""

    cursors: dict[str, str]
    beat_at: datetime | None
    untried_since: datetime | None
    unsealed_since: datetime | None


class Watchdog:
    """Looks at every part; `context` is the ApiContext it stands in."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._looked_s = float("-inf")
        self._red: tuple[str, ...] = ()
        self._waiting_since: datetime | None = None
        self._looking = asyncio.Lock()
        self._told: asyncio.Task[Told]

    async def red(self) -> tuple[str, ...]:
        """The parts that do not move; none: all is well."""
        async with self._looking:
            if time.monotonic() - self._looked_s >= LOOK_S:
                found = await self.look()
                if found != self._red:
                    log.warning("watchdog", red=list(found))
                self._red, self._looked_s = found, time.monotonic()
        return self._red

    async def look(self) -> tuple[str, ...]:
        """Ask every part now."""
        parts: dict[str, Look] = {
            "journal": self._journal,
            "postgres": self._postgres,
            "redis": self._redis,
            "stream": self._stream,
            "engine": self._engine,
            "recorder": self._recorder,
            "historian": self._historian,
            "feed": self._feed,
            "notifier": self._notifier,
            "sealer": self._sealer,
            "drill": self._drill,
        }
        self._told = asyncio.create_task(self._ask_postgres())
        well = await asyncio.gather(*(self._bounded(look) for look in parts.values()))
        self._told.cancel()
        for part, fine in zip(parts, well, strict=True):
            WATCHDOG_RED.labels(part).set(0 if fine else 1)
        return tuple(part for part, fine in zip(parts, well, strict=True) if not fine)

    @staticmethod
    async def _bounded(look: Look) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await look()
        except (TimeoutError, StoreUnavailable, RedisError, *AWAY):
            return False

    def _young(self, part: str, since: datetime | None) -> bool:
        """Whether what has waited since then has not waited too long; None: nothing waits."""
        return since is None or self._context.clock() - since <= LIMITS[part]

    async def _journal(self) -> bool:
        if not panics_waiting():
            self._waiting_since = None
            return True
        self._waiting_since = self._waiting_since or self._context.clock()
        return self._young("journal", self._waiting_since)

    async def _ask_postgres(self) -> Told:
        async with self._context.device_database.connection(timeout_s=ANSWER_S) as connection:
            return Told(
                await readiness.cursors(connection),
                await watchdog.notifier_beat_at(connection),
                await watchdog.untried_since(connection),
                await watchdog.unsealed_since(connection),
            )

    async def _postgres(self) -> bool:
        await asyncio.shield(self._told)
        return True

    async def _redis(self) -> bool:
        return bool(await self._context.redis.ping())

    async def _stream(self) -> bool:
        return self._young("stream", _moment(await self._context.redis.xrange(keys.PANICS, count=1)))

    async def _engine(self) -> bool:
        """The owner of a shard writes a tick into its log each second: an old cursor is an engine that stands."""
        for shard in range(self._context.settings.shard_count):
            cursor = await self._context.redis.get(keys.cursor(shard))
            if cursor is None or not self._young("engine", _of(cursor)):
                return False
        return True

    async def _recorder(self) -> bool:
        cursors = (await asyncio.shield(self._told)).cursors
        for shard in range(self._context.settings.shard_count):
            after = cursors.get(f"recorder:{shard}", "0-0")
            oldest = await self._context.redis.xrange(keys.transitions(shard), min=f"({after}", count=1)
            if not self._young("recorder", _moment(oldest)):
                return False
        return True

    async def _historian(self) -> bool:
        cursors = (await asyncio.shield(self._told)).cursors
        for shard in range(self._context.settings.shard_count):
            after = cursors.get(f"historian:{shard}")
            if after is None or not self._young("historian", _of(after.encode())):
                return False
        return True

    async def _feed(self) -> bool:
        tail = self._context.tail
        return tail is None or self._young("feed", tail.looked_at or self._context.clock())

    async def _notifier(self) -> bool:
        told = await asyncio.shield(self._told)
        beats = told.beat_at is not None and self._young("notifier", told.beat_at)
        return beats and self._young("untried", told.untried_since)

    async def _sealer(self) -> bool:
        return self._young("sealer", (await asyncio.shield(self._told)).unsealed_since)

    async def _drill(self) -> bool:
        drill = self._context.self_drill
        return drill is None or bool(drill.is_well(self._context.clock()))


def _of(entry: bytes) -> datetime:
    """The time in a stream entry's id."""
    return from_ms(int(bytes(entry).split(b"-")[0]))


def _moment(entries: Any) -> datetime | None:
    """The time of the first of some stream entries; None of none."""
    return _of(entries[0][0]) if entries else None
