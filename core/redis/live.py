"""Live positions: the last fix of a device, and who is near a place. Read-only; the shard's owner writes them."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from core.redis import keys
from core.redis.client import Client
from core.redis.script import translated

NEAREST_MAX: Final = 1_000
"""Most devices one question may return."""
LATITUDE_MAX_DEG: Final = 85.05112878
"""Beyond this Redis' index takes no place."""

_LIVE: Final = struct.Struct(keys.LIVE_FORMAT)


class LiveFix(msgspec.Struct, frozen=True):
    """Where a device was last, as the engine saw it; NaN: not said. Times in milliseconds since the epoch."""

    lat: float
    lon: float
    accuracy_m: float
    speed_mps: float
    heading_deg: float
    battery_pct: float
    at_ms: int
    received_ms: int
    flags: int

    @classmethod
    def unpack(cls, value: bytes) -> LiveFix:
        """From the bytes of a `live` field."""
        return cls(*_LIVE.unpack(value))

    def pack(self) -> bytes:
        """The bytes of a `live` field."""
        return _LIVE.pack(*msgspec.structs.astuple(self))

    @property
    def has_position(self) -> bool:
        """Whether it bears a place (a device may have sent heartbeats only)."""
        return not (math.isnan(self.lat) or math.isnan(self.lon))


async def read_live(client: Client, shard: int, device_numbers: Sequence[int]) -> dict[int, LiveFix]:
    """The last fixes of these devices of one shard; a device without one is left out."""
    if not device_numbers:
        return {}
    with translated():
        values = await client.hmget(keys.live(shard), [str(number) for number in device_numbers])
    return {
        number: LiveFix.unpack(value)
        for number, value in zip(device_numbers, values, strict=True)
        if value is not None and len(value) == keys.LIVE_BYTES
    }


async def nearest(
    client: Client, shard_count: int, lat: float, lon: float, radius_m: float, limit: int
) -> list[tuple[int, float]]:
    """(device number, distance in metres) of those within `radius_m`, nearest first, at most `limit`."""
    limit = min(limit, NEAREST_MAX)
    lat = max(-LATITUDE_MAX_DEG, min(LATITUDE_MAX_DEG, lat))

    async def of_shard(shard: int) -> list[tuple[int, float]]:
        found = await client.geosearch(
            keys.geo(shard), longitude=lon, latitude=lat, radius=radius_m, unit="m",
            withdist=True, sort="ASC", count=limit,
        )  # fmt: skip
        return [(int(member), float(distance_m)) for member, distance_m in found]

    with translated():
        parts = await asyncio.gather(*(of_shard(shard) for shard in range(shard_count)))
    return sorted((pair for part in parts for pair in part), key=lambda pair: pair[1])[:limit]
