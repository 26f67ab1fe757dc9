"""Whether there is room for pings, and the beat that says so.

Model: each second the memory of Redis is held against `ping_log_max_bytes` and the free disk of the data directory
against `free_disk_floor_mb`. Beyond either, the appender refuses pings: devices keep them, and nothing is lost by
a store that is full. It takes them again once there is RESUME_SHARE of room, so that it does not flutter.

While pings are taken, the device stream's process sets INGEST_BEAT each second; while it is absent the engine's
deadlines wait, because a device that nobody listens to is not silent. The API's own batch road does not beat: it
must not make silent the many who are connected to a stream that is down.

Failure: Redis away leaves the marks as they were (the appender itself sees that Redis is away); a data directory
that cannot be looked at refuses nothing.
"""

from __future__ import annotations

import shutil
from typing import Any, Final

import structlog

from api.ingest.appender import Appender
from core.redis.client import AWAY, Client, RedisError
from core.redis.keys import INGEST_BEAT
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
BEAT_LIFE_S: Final = 3
RESUME_SHARE: Final = 0.05
"""Room, beyond the mark, at which pings are taken again."""
MEMORY_FULL: Final = "Redis has no room for more"
DISK_LOW: Final = "the disk is nearly full"


class IngestHealth(Service):
    """Looks each second; one a process that takes pings."""

    name = "ingest-health"

    def __init__(self, settings: Settings, redis: Client, appender: Appender, *, beats: bool = True) -> None:
        super().__init__()
        self._beats = beats
        self._settings = settings
        self._redis = redis
        self._appender = appender
        self._memory_full = False
        self._disk_low = False

    async def open(self) -> None:
        """Look once, so that nothing is taken that there is no room for."""
        await self.look()

    async def run(self) -> None:
        """Look each second until stopped."""
        while not await self.pause(LOOK_S):
            await self.look()

    async def look(self) -> None:
        """Look at memory and disk once, set the marks, and beat if pings are taken."""
        self._judge_disk()
        try:
            self._judge_memory(await self._redis.info("memory"))
            if self._beats and self._appender.refusal is None:
                await self._redis.set(INGEST_BEAT, b"1", ex=BEAT_LIFE_S)
        except (*AWAY, RedisError) as error:
            log.debug("ingest_health_unseen", error=type(error).__name__)

    def _judge_memory(self, answer: dict[str, Any]) -> None:
        # A cluster answers for each node; the fullest one is the one that refuses.
        nodes = [answer] if "used_memory" in answer else list(answer.values())
        used_bytes = max((int(node.get("used_memory", 0)) for node in nodes if isinstance(node, dict)), default=0)
        bound_bytes = self._settings.ping_log_max_bytes * (1 - RESUME_SHARE * self._memory_full)
        self._memory_full = used_bytes > bound_bytes
        self._appender.mark("memory", MEMORY_FULL if self._memory_full else None)

    def _judge_disk(self) -> None:
        floor_bytes = self._settings.free_disk_floor_mb * 1_048_576 * (1 + RESUME_SHARE * self._disk_low)
        try:
            free_bytes = shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            return
        self._disk_low = free_bytes < floor_bytes
        self._appender.mark("disk", DISK_LOW if self._disk_low else None)
