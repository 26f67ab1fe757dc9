"""Rows ↔ the fields of the shard's state hash: small, binary, written only when they changed.

m                          meta: clocks and counters
c <case number>            the case's configuration, msgpack, deflated
d <case number> <number>   a device's fix, pulse and whether it is its person's best
o <order number>           an order's rings, approach and assurance, once there is any
z <zone id>                a zone's rings, only while one is on
u <number>                 the newest record of a device no case knows yet (geo.strangers)
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.domain.case import Case
from geo.roster import Roster
from geo.rows import ALARM_AT, HEARD, SERVICE, SIGNAL_AT, WORD, Orders, Rows, Zones
from geo.track import AT, CONFLICT_S, EXACT, LIVE, PLACE, SEQ, SERVICE_MS, SUSPECT, SUSPECT_SIGMA, TAKEN

META: Final = b"m"
META_FORMAT: Final = struct.Struct("<Bqqqqqqqqq")
FORMAT_VERSION: Final = 3
PAIR_KEY: Final = struct.Struct("<II")
NUMBER_KEY: Final = struct.Struct("<I")
RINGS: Final = struct.Struct("<Bqq")
MOMENT_BYTES: Final = 6
"""A moment in milliseconds since the epoch, signed: good for some two thousand years on either side."""
ORDER: Final = struct.Struct("<BBqqqqqqdq")
"""Bits (inner, outer, predicted), assurance, the moments in the order of the columns, `p_legal` and its moment."""
DEVICE: Final = np.dtype(
    [
        ("place", "<f8", 3),
        ("told", "<f8", 2),  # AT and SEQ: whatever a device says
        ("times", "u1", (6, MOMENT_BYTES)),  # LIVE, TAKEN, SERVICE_MS, HEARD, SERVICE, SIGNAL_AT
        ("word", "<i4"),
        ("best", "u1"),
        ("estimate", "<f4", SUSPECT.start - EXACT),
        ("suspect", "<f4", 4),
        ("conflict_s", "<f4"),
        ("alarm", "u1", MOMENT_BYTES),  # ALARM_AT
    ]
)
"""A device's record. What most devices never have comes last, for zeros at the end are not written."""
DEVICE_BYTES: Final = DEVICE.itemsize
FIX_TIMES: Final = (LIVE, TAKEN, SERVICE_MS)
PULSE_TIMES: Final = (HEARD, SERVICE, SIGNAL_AT)

_encode_case: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode_case: Final = msgspec.msgpack.Decoder(Case).decode
DEFLATED: Final = b"\xc1"
"""First byte of a configuration that is deflated; MessagePack itself never begins with it."""
WINDOW_BITS: Final = -12
_SAID: Final = (
    "zones geometry type coordinates Point LineString Polygon MultiPolygon radius_m schedule days from to "
    "valid_from_ms valid_until_ms time_zone Asia/Almaty active hold_s exit_margin_m horizon_s legal_m p_enter "
    "p_approach p_exit p_unknown grace_s inclusion exclusion primary other tracker victim_unit since_ms interval_s "
    "number id agency_id version people number id role victim devices number id kind phone interval_s since_ms "
    "number id role aggressor devices number id kind bracelet orders number id victim aggressor alert_m warning_m"
)
_DICTIONARY: Final = b"".join(bytes([0xA0 | len(word)]) + word.encode() for word in _SAID.split())
"""What every configuration says, as it stands there; never to be changed, for states in being were deflated by it."""


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
        state[b"c" + NUMBER_KEY.pack(number)] = None if case is None else _deflate(_encode_case(case))
    roster.changed.clear()
    _take_devices(roster, state)
    _take_orders(roster, state)
    _take_rings(roster, state)
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
            roster.apply(_decode_case(_inflate(value)), meta.clock_ms - meta.paused_ms)
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
    device_rows: list[int] = []
    records: list[bytes] = []
    for field, value in fields.items():
        kind = field[:1]
        if kind == b"d" and len(value) <= DEVICE_BYTES:
            row = rows.get(PAIR_KEY.unpack(field[1:]))
            if row is not None:
                device_rows.append(row)
                records.append(value.ljust(DEVICE_BYTES, b"\0"))
        elif kind == b"o":
            _restore_order(orders, order_rows.get(PAIR_KEY.unpack(field[1:])), value)
        elif kind == b"z":
            key = (NUMBER_KEY.unpack(field[1:5])[0], uuid.UUID(bytes=field[5:]))
            _restore_rings(zones, zone_rows.get(key), value)
    _restore_devices(roster, np.asarray(device_rows, dtype=np.int32), np.frombuffer(b"".join(records), dtype=DEVICE))
    roster.devices.dirty[[row for entry in roster.cases.values() for row in entry.devices]] = False
    roster.changed.clear()
    roster.gone.clear()
    return meta


def _take_devices(roster: Roster, state: dict[bytes, bytes | None]) -> None:
    devices = roster.devices
    rows = roster.tables.of(devices, roster.slot, devices.dirty)
    if not rows.size:
        return
    devices.dirty[rows] = False
    fix, pulse = devices.fix.take(rows, axis=0), devices.pulse.take(rows, axis=0)
    records = np.empty(rows.size, dtype=DEVICE)
    records["place"] = fix[:, PLACE]
    records["told"] = fix[:, (AT, SEQ)]
    records["times"][:, :3] = _packed(fix[:, FIX_TIMES])
    records["times"][:, 3:] = _packed(pulse[:, PULSE_TIMES])
    records["word"] = pulse[:, WORD]
    records["best"] = roster.people.best.take(devices.person.take(rows)) == rows
    records["estimate"] = fix[:, EXACT : SUSPECT.start]
    records["suspect"] = fix[:, SUSPECT.start : SUSPECT_SIGMA + 1]
    records["conflict_s"] = fix[:, CONFLICT_S]
    records["alarm"] = _packed(pulse[:, ALARM_AT])
    data = records.tobytes()
    cases, numbers = devices.case.take(rows).tolist(), devices.number.take(rows).tolist()
    for k, (case, number) in enumerate(zip(cases, numbers, strict=True)):
        state[b"d" + PAIR_KEY.pack(case, number)] = data[k * DEVICE_BYTES : (k + 1) * DEVICE_BYTES].rstrip(b"\0")


def _restore_devices(roster: Roster, rows: Rows, records: NDArray[np.void]) -> None:
    """Rows (n,) from their records (n,) `DEVICE`."""
    devices, people = roster.devices, roster.people
    fix, pulse = devices.fix[rows], devices.pulse[rows]
    fix[:, PLACE] = records["place"]
    fix[:, (AT, SEQ)] = records["told"]
    fix[:, FIX_TIMES] = _moments(records["times"][:, :3])
    pulse[:, PULSE_TIMES] = _moments(records["times"][:, 3:])
    pulse[:, WORD] = records["word"]
    fix[:, EXACT : SUSPECT.start] = records["estimate"]
    fix[:, SUSPECT.start : SUSPECT_SIGMA + 1] = records["suspect"]
    fix[:, CONFLICT_S] = records["conflict_s"]
    pulse[:, ALARM_AT] = _moments(records["alarm"])
    devices.fix[rows], devices.pulse[rows] = fix, pulse
    best = rows[records["best"] != 0]
    people.best[devices.person[best]] = best


def _packed(moments: NDArray[Any]) -> NDArray[np.uint8]:
    """Milliseconds, (…), in `MOMENT_BYTES` bytes each, (…, MOMENT_BYTES)."""
    wide = np.ascontiguousarray(moments).astype("<i8")
    return wide[..., None].view(np.uint8)[..., :MOMENT_BYTES]


def _moments(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Back again: the sign, too."""
    wide = np.zeros((*packed.shape[:-1], 8), dtype=np.uint8)
    wide[..., -MOMENT_BYTES:] = packed
    moments: NDArray[np.int64] = wide.view("<i8")[..., 0] >> (8 * (8 - MOMENT_BYTES))
    return moments


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=WINDOW_BITS, memLevel=5, zdict=_DICTIONARY)
    return DEFLATED + deflater.compress(data) + deflater.flush()


def _inflate(value: bytes) -> bytes:
    """What was deflated; what never was, as it is."""
    if not value.startswith(DEFLATED):
        return value
    inflater = zlib.decompressobj(wbits=WINDOW_BITS, zdict=_DICTIONARY)
    return inflater.decompress(value[1:]) + inflater.flush()


def _take_orders(roster: Roster, state: dict[bytes, bytes | None]) -> None:
    orders = roster.orders
    rows = roster.tables.of(orders, roster.slot, orders.dirty)
    for row in rows.tolist():
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
    orders.dirty[rows] = False


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


def _take_rings(roster: Roster, state: dict[bytes, bytes | None]) -> None:
    table = roster.zones
    rows = roster.tables.of(table, roster.slot, table.dirty)
    for row in rows.tolist():
        case, _, zone = table.about[row]
        field = b"z" + NUMBER_KEY.pack(case.number) + zone.id.bytes
        inner, outer = table.on[row].tolist()
        state[field] = RINGS.pack(inner | outer << 1, *table.out_ms[row].tolist()) if inner or outer else None
    table.dirty[rows] = False


def _restore_rings(table: Zones, row: int | None, value: bytes) -> None:
    if row is not None and len(value) == RINGS.size:
        bits, inner_ms, outer_ms = RINGS.unpack(value)
        table.on[row] = (bits & 1, bits >> 1 & 1)
        table.out_ms[row] = (inner_ms, outer_ms)


def _take_live(roster: Roster) -> tuple[list[tuple[int, bytes]], list[tuple[float, float, int]]]:
    devices = roster.devices
    if not devices.shown:
        return [], []
    whose, slots, shown = (np.concatenate(parts) for parts in zip(*devices.shown, strict=True))
    devices.shown.clear()
    mine = slots == roster.slot
    if not mine.all():
        others = (~mine).nonzero()[0]
        devices.shown.append((whose[others], slots[others], shown[others]))
        whose, shown = whose[mine], shown[mine]
        if not whose.size:
            return [], []
    # of several the last, of devices that are still somebody's
    _, back = np.unique(whose[::-1], return_index=True)
    newest = len(whose) - 1 - back
    newest = newest[roster.lookup.take(whose[newest], mode="clip") >= 0]
    numbers, shown = whose[newest].tolist(), shown[newest]
    data, size = shown.tobytes(), shown.dtype.itemsize
    live = [(number, data[k * size : (k + 1) * size]) for k, number in enumerate(numbers)]
    places = list(zip(shown["lon"].tolist(), shown["lat"].tolist(), numbers, strict=True))
    return live, places
