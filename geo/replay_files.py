"""The files of a replay, read and checked line by line: every fault says which file, which line, what."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from core.clock import to_ms
from core.domain.ping import CLOSURE_CODES, FLAG_PRIMARY, NO_SEQ, RECORD_FORMAT, SOURCE_CODES, flags_of
from core.errors import InvalidInput

LINE_BYTES_MAX: Final = 1_000_000
ORDERS_BYTES_MAX: Final = 500_000_000
RADIUS_MAX_M: Final = 1_000_000.0

Text = str | int
T = TypeVar("T")


class ReplayOrder(msgspec.Struct, kw_only=True, frozen=True):
    """An order of the orders file."""

    order_id: str
    victim_id: str
    aggressor_id: str
    alert_m: float | None = None
    warning_m: float | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    grace_s: float | None = None
    zones: list[dict[str, Any]] = []
    time_zone: str = "Asia/Almaty"


class Policy(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Values that a policy file may set; an order's own come first."""

    p_enter: float = 0.5
    exit_margin_m: float = 100.0
    grace_s: float = 300.0
    alert_m: float = 1000.0
    warning_m: float | None = None
    interval_s: float = 60.0
    """Expected time between the pings of a device."""


class _PingLine(msgspec.Struct, kw_only=True, frozen=True):
    person_id: Text
    at: datetime
    received_at: datetime
    device_id: Text | None = None
    seq: int | None = None
    lat: float | None = None
    lon: float | None = None
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    altitude_m: float | None = None
    battery_pct: float | None = None
    source: str | None = None
    strap: str | None = None
    casing: str | None = None
    charging: bool | None = None
    moving: bool | None = None
    jamming: bool | None = None
    mock: bool | None = None


class ReplayPing(msgspec.Struct, kw_only=True, frozen=True):
    """A line of the pings file, with its times in milliseconds."""

    person_id: str
    device_id: str
    """As given; a person's only, unnamed device otherwise."""
    received_ms: int
    at_ms: int
    line: _PingLine


_decode_ping: Final = msgspec.json.Decoder(_PingLine).decode


def pack(ping: ReplayPing, number: int) -> bytes:
    """The ping as the record that ingest would have appended."""
    line = ping.line
    return struct.pack(
        RECORD_FORMAT,
        number,
        FLAG_PRIMARY | flags_of(line),
        ping.at_ms,
        NO_SEQ if line.seq is None else line.seq,
        _or_nan(line.lat),
        _or_nan(line.lon),
        _or_nan(line.accuracy_m),
        _or_nan(line.speed_mps),
        _or_nan(line.heading_deg),
        _or_nan(line.altitude_m),
        _or_nan(line.battery_pct),
        0,
    )


def read_orders(path: Path) -> list[ReplayOrder]:
    """The orders file, checked."""
    orders = _decoded(path, _read(path), _decode_orders)
    if not orders:
        raise InvalidInput(f"{path}: there is no order in it.")
    seen: set[str] = set()
    for order in orders:
        where = f"{path}: order {order.order_id!r}"
        if order.order_id in seen:
            raise InvalidInput(f"{where} is there twice.")
        seen.add(order.order_id)
        if order.victim_id == order.aggressor_id:
            raise InvalidInput(f"{where}: the victim and the aggressor are the same person.", code="order_same_person")
        _in_range(where, "alert_m", order.alert_m, 1.0, RADIUS_MAX_M)
        _in_range(where, "warning_m", order.warning_m, 0.0, RADIUS_MAX_M)
        _in_range(where, "grace_s", order.grace_s, 0.0, 86_400.0)
        for name in ("valid_from", "valid_until"):
            _aware(where, name, getattr(order, name))
        if order.valid_from and order.valid_until and order.valid_until <= order.valid_from:
            raise InvalidInput(f"{where}: valid_until is not after valid_from.", code="order_dates_invalid")
    return orders


def _decode_orders(raw: bytes) -> list[ReplayOrder]:
    """Orders whose ids may be numbers."""
    plain = msgspec.json.decode(raw)
    for each in plain if isinstance(plain, list) else ():
        if isinstance(each, dict):
            for name in ("order_id", "victim_id", "aggressor_id"):
                if isinstance(each.get(name), int):
                    each[name] = str(each[name])
    return msgspec.convert(plain, list[ReplayOrder])


def read_policy(path: Path | None) -> Policy:
    """The policy file, checked; the rules' own values without one."""
    if path is None:
        return Policy()
    policy = _decoded(path, _read(path), lambda raw: msgspec.json.decode(raw, type=Policy))
    where = str(path)
    _in_range(where, "p_enter", policy.p_enter, 0.01, 0.99)
    _in_range(where, "exit_margin_m", policy.exit_margin_m, 0.0, 10_000.0)
    _in_range(where, "grace_s", policy.grace_s, 0.0, 86_400.0)
    _in_range(where, "alert_m", policy.alert_m, 1.0, RADIUS_MAX_M)
    _in_range(where, "warning_m", policy.warning_m, 0.0, RADIUS_MAX_M)
    _in_range(where, "interval_s", policy.interval_s, 1.0, 86_400.0)
    return policy


def read_pings(path: Path) -> Iterator[ReplayPing]:
    """The pings file line by line, in order of arrival, checked; empty lines are passed over."""
    before_ms = None
    try:
        with path.open("rb") as lines:
            for count, raw in enumerate(lines, start=1):
                if not raw.strip():
                    continue
                where = f"{path}, line {count}"
                if len(raw) > LINE_BYTES_MAX:
                    raise InvalidInput(f"{where}: longer than {LINE_BYTES_MAX} bytes.")
                line = _decoded(where, raw, _decode_ping)
                ping = _checked(where, line)
                if before_ms is not None and ping.received_ms < before_ms:
                    raise InvalidInput(f"{where}: received_at is before that of the line above.", code="time_invalid")
                before_ms = ping.received_ms
                yield ping
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None


def _checked(where: str, line: _PingLine) -> ReplayPing:
    _aware(where, "at", line.at)
    _aware(where, "received_at", line.received_at)
    if (line.lat is None) != (line.lon is None):
        raise InvalidInput(f"{where}: lat and lon come together or not at all.", code="position_invalid")
    _in_range(where, "lat", line.lat, -90.0, 90.0, code="position_invalid")
    _in_range(where, "lon", line.lon, -180.0, 180.0, code="position_invalid")
    for name in ("accuracy_m", "speed_mps", "heading_deg", "altitude_m", "battery_pct"):
        value = getattr(line, name)
        if value is not None and not math.isfinite(value):
            raise InvalidInput(f"{where}: {name} is not a finite number.")
    for name, known in (("source", SOURCE_CODES), ("strap", CLOSURE_CODES), ("casing", CLOSURE_CODES)):
        value = getattr(line, name)
        if value not in known:
            words = ", ".join(sorted(word for word in known if word is not None))
            raise InvalidInput(f"{where}: {name} is {value!r}; it has to be one of {words}.")
    if line.seq is not None and not 0 <= line.seq < 1 << 53:
        raise InvalidInput(f"{where}: seq is out of range.")
    person = str(line.person_id)
    return ReplayPing(
        person_id=person,
        device_id=person if line.device_id is None else str(line.device_id),
        received_ms=to_ms(line.received_at),
        at_ms=to_ms(line.at),
        line=line,
    )


def _decoded(where: Path | str, raw: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{where}: not JSON: {error}.", code="malformed_json") from None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > ORDERS_BYTES_MAX:
            raise InvalidInput(f"{path} is larger than {ORDERS_BYTES_MAX} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None


def _aware(where: str, name: str, moment: datetime | None) -> None:
    if moment is not None and moment.tzinfo is None:
        raise InvalidInput(f"{where}: {name} has no offset (RFC 3339, as 2026-01-31T12:00:00Z).", code="time_invalid")


def _in_range(
    where: str, name: str, value: float | None, least: float, most: float, *, code: str = "validation_failed"
) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise InvalidInput(f"{where}: {name} is {value:g}; it has to be between {least:g} and {most:g}.", code=code)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
