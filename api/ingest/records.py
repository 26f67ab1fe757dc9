"""Pings to records: what one ping is in the log, and which of an upload's pings are news."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import nan
from typing import Final

import msgspec

from api.ingest.decode import Ping
from api.ingest.registry import DeviceIdentity, Registry
from core.domain.ping import NO_SEQ, RECORD_FORMAT

pack_record: Final = struct.Struct(RECORD_FORMAT).pack

MAX_ACCURACY_M: Final = 1e7
MAX_SPEED_MPS: Final = 1e4
MAX_ALTITUDE_M: Final = 1e6
"""Beyond these a value is a fault of the device and counts as not said."""


def pack(number: int, ping: Ping, at_ms: int, flags: int) -> bytes:
    """One 64-byte record of the device with this number."""
    lat, lon, seq = ping.lat, ping.lon, ping.seq
    accuracy_m, speed_mps, heading_deg = ping.accuracy_m, ping.speed_mps, ping.heading_deg
    altitude_m, battery_pct = ping.altitude_m, ping.battery_pct
    return pack_record(
        number,
        flags,
        at_ms,
        NO_SEQ if seq is None else seq,
        nan if lat is None else lat,
        nan if lon is None else lon,
        accuracy_m if accuracy_m is not None and 0 < accuracy_m < MAX_ACCURACY_M else nan,
        speed_mps if speed_mps is not None and 0 <= speed_mps < MAX_SPEED_MPS else nan,
        heading_deg if heading_deg is not None and 0 <= heading_deg <= 360 else nan,
        altitude_m if altitude_m is not None and -MAX_ALTITUDE_M < altitude_m < MAX_ALTITUDE_M else nan,
        battery_pct if battery_pct is not None and 0 <= battery_pct <= 100 else nan,
        0,
    )


class Sighting(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A bracelet heard by radio, by its device number."""

    beacon: int
    rssi_dbm: float | None = None


def sightings_of(ping: Ping, registry: Registry) -> list[Sighting] | None:
    """What the ping heard of devices we know; None when that is nothing."""
    if not ping.heard:
        return None
    sightings = [
        Sighting(beacon.number, heard.rssi_dbm)
        for heard in ping.heard
        if (beacon := registry.device_by_text(heard.beacon)) is not None
    ]
    return sightings or None


def newest_of_each(pings: Sequence[tuple[DeviceIdentity, Ping]]) -> set[int]:
    """Indices of each device's newest ping (by its own time, then the later one): the live lane of an upload."""
    newest: dict[int, int] = {}
    for index, (device, ping) in enumerate(pings):
        known = newest.get(device.number)
        if known is None or ping.at >= pings[known][1].at:
            newest[device.number] = index
    return set(newest.values())
