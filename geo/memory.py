"""Rows ↔ the fields of the shard's state hash: small, binary, written only when they changed.

m                          meta: clocks and counters
c <case number>            the case's configuration, msgpack
d <case number> <number>   a device's fix, pulse and whether it is its person's best
o <order number>           an order's rings, approach and assurance, once there is any
z <zone id>                a zone's rings, only while one is on
u <number>                 the newest record of a device no case knows yet (geo.strangers)
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from core.domain.case import Case
from geo.roster import Roster
from geo.rows import PULSE_WIDTH, Orders, Zones
from geo.track import EXACT, WIDTH

META: Final = b"m"
META_FORMAT: Final = struct.Struct("<Bqqqqqqqqq")
FORMAT_VERSION: Final = 2
PAIR_KEY: Final = struct.Struct("<II")
NUMBER_KEY: Final = struct.Struct("<I")
RINGS: Final = struct.Struct("<Bqq")
ORDER: Final = struct.Struct("<BBqqqqqqdq")
"""Bits (inner, outer, predicted), assurance, the moments in the order of the columns, `p_legal` and its moment."""
FIX_BYTES: Final = 8 * EXACT + 4 * (WIDTH - EXACT)
DEVICE_BYTES: Final = FIX_BYTES + 8 * PULSE_WIDTH + 1

_encode_case: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode_case: Final = msgspec.msgpack.Decoder(Case).decode


@dataclass(frozen=True, slots=True)
class EngineChanges:
    """What an engine's owner writes down, in one step with the log's cursor."""

    state: dict[bytes, bytes | None]
    """Field of the state hash → value; None deletes."""
    live: list[tuple[int, bytes]]
    """(device number, LIVE_FORMAT bytes): newest fixes, at most once a second a device."""
    places: list[tuple[float, float, int]]
    """(longitude, latitude, device number) of the same."""
    asks: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    """(device number, seconds between its pings) it should be told from now on; what changed only."""


@dataclass(slots=True)
class Meta:
    """What belongs to the shard as a whole."""

    clock_ms: int = 0
    """Time of the last tick or configuration: what begins and ends is judged by it."""
    tick_ms: int = 0
    """Time of the last tick; 0: none yet."""
    paused_ms: int = 0
    """Time in which the service was not there, since the log began."""
    last_ms: int = 0
    records_total: int = 0
    unknown_total: int = 0
    """Records of devices no case here knows."""
    refused_total: int = 0
    """Entries, or ends of entries, that could not be read."""


def take_changes(roster: Roster, meta: Meta) -> EngineChanges:
    """What changed since the last call; nothing is changed afterwards."""
    state: dict[bytes, bytes | None] = {}
    for kind, case_number, key in roster.gone:
        if kind == "device" and isinstance(key, int):
            state[b"d" + PAIR_KEY.pack(case_number, key)] = None
        elif kind == "order" and isinstance(key, int):
            state[b"o" + PAIR_KEY.pack(case_number, key)] = None
        elif isinstance(key, uuid.UUID):
            state[b"z" + NUMBER_KEY.pack(case_number) + key.bytes] = None
    roster.gone.clear()
    for number, case in roster.changed.items():
        state[b"c" + NUMBER_KEY.pack(number)] = None if case is None else _encode_case(case)
    roster.changed.clear()
    _take_devices(roster, state)
    _take_orders(roster.orders, state)
    _take_rings(roster.zones, state)
    state[META] = META_FORMAT.pack(
        FORMAT_VERSION,
        meta.clock_ms,
        meta.tick_ms,
        meta.paused_ms,
        meta.last_ms,
        meta.records_total,
        meta.unknown_total,
        meta.refused_total,
        0,
        0,
    )
    live, places = _take_live(roster)
    return EngineChanges(state, live, places)


def restore(roster: Roster, fields: Mapping[bytes, bytes]) -> Meta:
    """Fill an empty roster from a state hash; rings and devices of cases that are gone are passed over."""
    meta = Meta()
    if META in fields:
        _, *values = META_FORMAT.unpack(fields[META])
        meta = Meta(*values[:7])
    for field, value in fields.items():
        if field[:1] == b"c":
            roster.apply(_decode_case(value), meta.clock_ms - meta.paused_ms)
    rows = {
        (int(roster.devices.case[row]), int(roster.devices.number[row])): row
        for entry in roster.cases.values()
        for row in entry.devices
    }
    orders, zones = roster.orders, roster.zones
    order_rows = {(number, orders.about[row][1].number): row
                  for number, entry in roster.cases.items() for row in entry.orders}  # fmt: skip
    zone_rows = {(number, zones.about[row][2].id): row
                 for number, entry in roster.cases.items() for row in entry.zones}  # fmt: skip
    devices = roster.devices
    for field, value in fields.items():
        kind = field[:1]
        if kind == b"d" and len(value) == DEVICE_BYTES:
            row = rows.get(PAIR_KEY.unpack(field[1:]))
            if row is not None:
                devices.fix[row, :EXACT] = np.frombuffer(value, np.float64, EXACT)
                devices.fix[row, EXACT:] = np.frombuffer(value, np.float32, WIDTH - EXACT, 8 * EXACT)
                devices.pulse[row] = np.frombuffer(value, np.int64, PULSE_WIDTH, FIX_BYTES)
                if value[-1]:
                    roster.people.best[devices.person[row]] = row
        elif kind == b"o":
            _restore_order(orders, order_rows.get(PAIR_KEY.unpack(field[1:])), value)
        elif kind == b"z":
            key = (NUMBER_KEY.unpack(field[1:5])[0], uuid.UUID(bytes=field[5:]))
            _restore_rings(zones, zone_rows.get(key), value)
    devices.dirty[:] = False
    roster.changed.clear()
    roster.gone.clear()
    return meta


def _take_devices(roster: Roster, state: dict[bytes, bytes | None]) -> None:
    devices = roster.devices
    rows = np.flatnonzero(devices.dirty)
    if not rows.size:
        return
    devices.dirty[rows] = False
    block = np.empty((rows.size, DEVICE_BYTES), dtype=np.uint8)
    fix = devices.fix.take(rows, axis=0)
    block[:, : 8 * EXACT] = np.ascontiguousarray(fix[:, :EXACT]).view(np.uint8)
    block[:, 8 * EXACT : FIX_BYTES] = fix[:, EXACT:].astype(np.float32).view(np.uint8)
    block[:, FIX_BYTES:-1] = np.ascontiguousarray(devices.pulse.take(rows, axis=0)).view(np.uint8)
    block[:, -1] = roster.people.best.take(devices.person.take(rows)) == rows
    data = block.tobytes()
    cases, numbers = devices.case.take(rows).tolist(), devices.number.take(rows).tolist()
    for k, (case, number) in enumerate(zip(cases, numbers, strict=True)):
        state[b"d" + PAIR_KEY.pack(case, number)] = data[k * DEVICE_BYTES : (k + 1) * DEVICE_BYTES]


def _take_orders(orders: Orders, state: dict[bytes, bytes | None]) -> None:
    for row in np.flatnonzero(orders.dirty).tolist():
        case, order = orders.about[row]
        inner, outer = orders.on[row].tolist()
        bits = inner | outer << 1 | bool(orders.predicted[row]) << 2 | int(orders.silent[row]) << 3
        packed = ORDER.pack(
            bits,
            int(orders.assured[row]),
            *orders.out_ms[row].tolist(),
            int(orders.away_ms[row]),
            int(orders.coming_ms[row]),
            int(orders.sure_ms[row]),
            int(orders.poor_ms[row]),
            float(orders.p_legal[row]),
            int(orders.p_legal_ms[row]),
        )
        state[b"o" + PAIR_KEY.pack(case.number, order.number)] = packed if any(packed) else None
    orders.dirty[:] = False


def _restore_order(orders: Orders, row: int | None, value: bytes) -> None:
    if row is not None and len(value) == ORDER.size:
        bits, assured, inner_ms, outer_ms, away_ms, coming_ms, sure_ms, poor_ms, p_legal, p_legal_ms = ORDER.unpack(
            value
        )
        orders.on[row] = (bits & 1, bits >> 1 & 1)
        orders.out_ms[row] = (inner_ms, outer_ms)
        orders.predicted[row] = bits >> 2 & 1
        orders.silent[row] = bits >> 3 & 3
        orders.away_ms[row] = away_ms
        orders.coming_ms[row] = coming_ms
        orders.assured[row] = assured
        orders.sure_ms[row] = sure_ms
        orders.poor_ms[row] = poor_ms
        orders.p_legal[row] = p_legal
        orders.p_legal_ms[row] = p_legal_ms


def _take_rings(table: Zones, state: dict[bytes, bytes | None]) -> None:
    for row in np.flatnonzero(table.dirty).tolist():
        case, _, zone = table.about[row]
        field = b"z" + NUMBER_KEY.pack(case.number) + zone.id.bytes
        inner, outer = table.on[row].tolist()
        state[field] = RINGS.pack(inner | outer << 1, *table.out_ms[row].tolist()) if inner or outer else None
    table.dirty[:] = False


def _restore_rings(table: Zones, row: int | None, value: bytes) -> None:
    if row is not None and len(value) == RINGS.size:
        bits, inner_ms, outer_ms = RINGS.unpack(value)
        table.on[row] = (bits & 1, bits >> 1 & 1)
        table.out_ms[row] = (inner_ms, outer_ms)


def _take_live(roster: Roster) -> tuple[list[tuple[int, bytes]], list[tuple[float, float, int]]]:
    devices = roster.devices
    if not devices.shown:
        return [], []
    whose, shown = (np.concatenate(parts) for parts in zip(*devices.shown, strict=True))
    devices.shown.clear()
    # of several the last, of devices that are still somebody's
    _, back = np.unique(whose[::-1], return_index=True)
    newest = len(whose) - 1 - back
    newest = newest[roster.lookup.take(whose[newest], mode="clip") >= 0]
    numbers, shown = whose[newest].tolist(), shown[newest]
    data, size = shown.tobytes(), shown.dtype.itemsize
    live = [(number, data[k * size : (k + 1) * size]) for k, number in enumerate(numbers)]
    places = list(zip(shown["lon"].tolist(), shown["lat"].tolist(), numbers, strict=True))
    return live, places
