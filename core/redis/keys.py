"""Every key Qorgan writes, by name; a shard's keys share its hash tag."""

from __future__ import annotations

import struct
from typing import Final

LIVE_FORMAT: Final = "<ddffffqqI"
"""Value of a `live` field: lat, lon, accuracy_m, speed_mps, heading_deg, battery_pct, at_ms, received_ms, flags."""
ASK_FORMAT: Final = "<If"
"""A record of `asks`: device number, seconds; 0 seconds: what is expected of it."""
LIVE_BYTES: Final = struct.calcsize(LIVE_FORMAT)


def pings(shard: int) -> str:
    """Stream: the shard's log. Fields: `k` kind, `b` payload, `x` extras (core.domain.log.Entry)."""
    return f"{{s{shard}}}:pings"


def transitions(shard: int) -> str:
    """Stream: what the engine decided. Field `t`: JSON list of core.domain.transition.Transition."""
    return f"{{s{shard}}}:transitions"


def owner(shard: int) -> str:
    """String: the greatest lease token seen; a smaller one may not write."""
    return f"{{s{shard}}}:owner"


def cursor(shard: int) -> str:
    """String: id of the last log entry whose effects are committed."""
    return f"{{s{shard}}}:cursor"


def state(shard: int) -> str:
    """Hash: the engine's state, field → bytes (fields are the engine's own)."""
    return f"{{s{shard}}}:state"


def live(shard: int) -> str:
    """Hash: device number → LIVE_FORMAT, at most once a second a device."""
    return f"{{s{shard}}}:live"


def geo(shard: int) -> str:
    """Sorted set (GEO): member = device number, for "who is near"."""
    return f"{{s{shard}}}:geo"


def asked(shard: int) -> str:
    """Hash: device number → seconds between its pings it is asked for, where that is not what is expected of it."""
    return f"{{s{shard}}}:asked"


def asks(shard: int) -> str:
    """Stream: changes of `asked`, for those who answer devices. Field `a`: ASK_FORMAT records; the oldest go."""
    return f"{{s{shard}}}:asks"


def history(shard: int) -> str:
    """String: id up to which the historian has the log durably in PostgreSQL (a copy, for trimming)."""
    return f"{{s{shard}}}:history"


INGEST_BEAT: Final = "{ingest}:beat"
"""String with expiry, set each second by every ingest: while absent, ticks are `paused` and silence waits."""

PRESSED: Final = "{panic}:pressed"
"""Sorted set: id of a person who pressed a panic, scored by when in ms; her devices are asked for the most."""


def outage_told(what: str) -> str:
    """String with expiry: the operator was told that this part is missing."""
    return f"{{outage}}:told:{what}"


PANICS: Final = "{panic}:pending"
"""Stream: panics PostgreSQL did not take in time. Field `p`: sealed JSON. Drained on recovery, then deleted."""
