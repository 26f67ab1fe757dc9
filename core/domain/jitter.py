"""When and how near to her a warning to him is released: never where, or at the moment at which, he crosses the edge.

A warning that came exactly at the edge would draw the edge, and her in the middle of it, for whoever walks about. So
each warning waits, and holds only within a radius of its own. Both come from a keyed hash of the order and the hour:
to come again within the hour gives the same, not another draw to average. And each order has a part that never
changes, so that what is left after weeks of averaging is not the edge but that order's own bias.

The key is the order's id, which no device is ever told. A zone that was not disclosed to him warns of nothing.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Final

HOUR_MS: Final = 3_600_000
DELAY_S: Final = (30.0, 600.0)
"""Shortest and longest wait of a warning."""
SHARE: Final = (0.35, 0.95)
"""Between the alert radius (0) and the warning radius (1): where a warning may hold."""
BIAS_SHARE: Final = 0.5
"""How much of a draw is the order's own for ever; the rest changes by the hour."""


@dataclass(frozen=True, slots=True)
class Release:
    """A warning that may be said: not before `at_ms`, and only while he is within `radius_m`."""

    at_ms: int
    radius_m: float


def release_of(order_id: uuid.UUID, entered_ms: int, alert_m: float, warning_m: float) -> Release:
    """When a warning may be said to who came into the warning ring at `entered_ms`, and within which radius."""
    hour = entered_ms // HOUR_MS
    delay_s = _between(DELAY_S, _draw(order_id, "delay", hour))
    share = _between(SHARE, _draw(order_id, "radius", hour))
    return Release(entered_ms + round(delay_s * 1000), round(alert_m + share * (warning_m - alert_m), 1))


def may_warn(*, warn_aggressor: bool, disclosed: bool | None = None) -> bool:
    """Whether anything at all may be said to him: the order says so, and what he is near is no secret to him.

    `disclosed`: of a zone, whether he was told of it; None: it is about the order's distance, which he knows.
    """
    return warn_aggressor and disclosed is not False


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])


def _draw(order_id: uuid.UUID, what: str, hour: int) -> float:
    """A number in [0, 1): partly the order's own, partly the hour's."""
    own = _share(order_id, what, "own")
    return BIAS_SHARE * own + (1 - BIAS_SHARE) * _share(order_id, what, str(hour))


def _share(order_id: uuid.UUID, *words: str) -> float:
    digest = hashlib.blake2b(
        "\x1f".join(words).encode(), key=order_id.bytes, digest_size=8, person=b"qorgan-jitter"
    ).digest()
    return int.from_bytes(digest, "big") / 2**64
