"""A service: a long-running part that starts, stops, and may be stopped twice.

Model: `start` returns once the service works; `stop` asks it to end and waits until it has. Both are safe to
call again. A service whose task ends by itself with an error remembers it: `wait` raises it, so that whoever
supervises ends the process and starts a fresh one, instead of a half-dead one living on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine

import structlog

log = structlog.get_logger(__name__)


class Service(ABC):
    """Base of everything that runs until stopped; subclasses write `run` and may override `open`/`close`."""

    name: str = "service"

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        """Set when the service is asked to end; `run` should return soon after."""

    async def open(self) -> None:
        """Get what `run` needs; an error here makes `start` fail."""
        return

    @abstractmethod
    async def run(self) -> None:
        """Work until `self.stopping` is set."""

    async def close(self) -> None:
        """Give back what `open` got; runs exactly once after `run` has ended."""
        return

    async def start(self) -> None:
        """Open, then run in a task of its own; a second call does nothing."""
        if self._task is not None:
            return
        self.stopping.clear()
        await self.open()
        self._task = asyncio.create_task(self._main(), name=self.name)

    async def _main(self) -> None:
        try:
            await self.run()
        finally:
            await self.close()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Ask the service to end and wait for it; cancelled after `timeout_s`. A second call does nothing."""
        self.stopping.set()
        task, self._task = self._task, None
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            log.warning("service_cancelled", service=self.name, after_s=timeout_s)
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("service_failed", service=self.name, error=type(error).__name__, exc_info=error)

    async def wait(self) -> None:
        """Return when the service has ended by itself; raise the error that ended it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def pause(self, seconds: float) -> bool:
        """Wait up to `seconds`; True as soon as the service is asked to end."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Loop(Service):
    """A service that does one thing again and again, `interval_s` apart, until stopped."""

    def __init__(self, name: str, step: Callable[[], Coroutine[object, object, None]], interval_s: float) -> None:
        super().__init__()
        self.name = name
        self._step = step
        self._interval_s = interval_s

    async def run(self) -> None:
        while not self.stopping.is_set():
            await self._step()
            if await self.pause(self._interval_s):
                return
