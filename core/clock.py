"""The only place that reads the wall clock; everything else is handed `now`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the present moment as an aware UTC datetime; injected wherever a deadline is computed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """The present moment in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Milliseconds since the Unix epoch of an aware datetime, exact (no float rounding)."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(moment_ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since the Unix epoch."""
    return EPOCH + timedelta(milliseconds=moment_ms)


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and a `Z`, the one form Qorgan writes."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
