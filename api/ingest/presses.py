"""Who pressed a panic, said to every process that answers devices before PostgreSQL can."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from api.ingest.asked import PRESS_KEPT_MS
from core.domain.panic import PanicIn
from core.redis.asked import note_press
from core.redis.client import Client

log = structlog.get_logger(__name__)

WAIT_S: Final = 0.5
UNDER_WAY_MAX: Final = 64
"""Notes on their way; beyond it a press is not noted, and PostgreSQL tells of it a second later."""


class Presses:
    """Notes presses in Redis; no panic waits for it, and none fails by it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, panic: PanicIn, registry: Any) -> None:
        """Have the devices of whoever pressed asked for the most there is; an aggressor's device presses nothing."""
        device = registry.device_by_id(panic.device_id) if registry is not None and panic.device_id else None
        if device is None or device.person_id is None or device.role == "aggressor":
            return
        if len(self._tasks) < UNDER_WAY_MAX:
            task = asyncio.create_task(self._note(str(device.person_id), panic.received_ms))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _note(self, person_id: str, at_ms: int) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await note_press(self._client, person_id, at_ms, PRESS_KEPT_MS)
        except Exception as error:  # PostgreSQL tells of the panic a second later
            log.warning("press_not_noted", error=type(error).__name__)

    def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
