"""The simulator's only reading of the wall clock (it shares no code with the service, so it has its own)."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The present moment in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(moment_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, as devices write it."""
    seconds, milliseconds = divmod(moment_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"
