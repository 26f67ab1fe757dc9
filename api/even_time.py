"""Answers whose time tells nothing: each is given at the end of the next step of an even clock that began with it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Final

STEP_S: Final = 0.5
"""Far beyond what checking a PIN takes, so that nearly every answer is given after one step."""


@contextlib.asynccontextmanager
async def evenly(step_s: float | None = None) -> AsyncIterator[None]:
    """Lets the block's end, also by an error, be seen only after a whole number of steps."""
    step_s = STEP_S if step_s is None else step_s
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        yield
    finally:
        steps = max(1, math.ceil((loop.time() - started) / step_s))
        await asyncio.sleep(started + steps * step_s - loop.time())
