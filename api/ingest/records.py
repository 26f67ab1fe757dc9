"""Pings to records: what one ping is in the log, and which of an upload's pings are news."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import nan
from typing import Final

import msgspec

from api.ingest.decode import Ping
from api.ingest.registry import DeviceIdentity, Registry
from core.domain.ping import (
    CLOSURE_CODES,
    FLAG_BACKLOG,
    FLAG_POSITION,
    NO_SEQ,
    RECORD_FORMAT,
    SHIFT_CASING,
    SHIFT_CHARGING,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    SHIFT_STRAP,
    SOURCE_CODES,
    TRUTH_CODES,
)

pack_record: Final = struct.Struct(RECORD_FORMAT).pack

SOURCE_FLAGS: Final = {source: code << SHIFT_SOURCE for source, code in SOURCE_CODES.items()}
STRAP_FLAGS: Final = {closure: code << SHIFT_STRAP for closure, code in CLOSURE_CODES.items()}
CASING_FLAGS: Final = {closure: code << SHIFT_CASING for closure, code in CLOSURE_CODES.items()}
CHARGING_FLAGS: Final = {truth: code << SHIFT_CHARGING for truth, code in TRUTH_CODES.items()}
MOVING_FLAGS: Final = {truth: code << SHIFT_MOVING for truth, code in TRUTH_CODES.items()}
JAMMING_FLAGS: Final = {truth: code << SHIFT_JAMMING for truth, code in TRUTH_CODES.items()}
MOCK_FLAGS: Final = {truth: code << SHIFT_MOCK for truth, code in TRUTH_CODES.items()}

MAX_ACCURACY_M: Final = 1e7
MAX_SPEED_MPS: Final = 1e4
MAX_ALTITUDE_M: Final = 1e6
"""Beyond these a value is a fault of the device and counts as not said."""


def flags_of(ping: Ping, backlog: bool = False) -> int:
    """The record's flags, but for FLAG_PRIMARY and FLAG_EXTRA, which belong to a copy."""
    # A source nobody has named here is a position all the same.
    flags = SOURCE_FLAGS.get(ping.source, 0) | STRAP_FLAGS[ping.strap]
    if ping.lat is not None:
        flags |= FLAG_POSITION
    if ping.casing is not None:
        flags |= CASING_FLAGS[ping.casing]
    if ping.charging is not None:
        flags |= CHARGING_FLAGS[ping.charging]
    if ping.moving is not None:
        flags |= MOVING_FLAGS[ping.moving]
    if ping.jamming is not None:
        flags |= JAMMING_FLAGS[ping.jamming]
    if ping.mock is not None:
        flags |= MOCK_FLAGS[ping.mock]
    if backlog:
        flags |= FLAG_BACKLOG
    return flags


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
