"""The files of a replay, read and checked line by line: every fault says which file, which line, what."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from core.clock import to_ms
from core.domain.ping import CLOSURE_CODES, FLAG_EXTRA, FLAG_PRIMARY, NO_SEQ, RECORD_FORMAT, SOURCE_CODES, flags_of
from core.domain.policy import (
    BOUNDS,
    RISKS,
    STANDARD_RISK,
    OrderPolicy,
    check_bounds,
    check_not_below,
    check_policy,
    values_of,
)
from core.domain.policy import Policy as AgencyPolicy
from core.errors import InvalidInput

LINE_BYTES_MAX: Final = 1_000_000
ORDERS_BYTES_MAX: Final = 500_000_000
INTERVAL_BOUNDS_S: Final = (1.0, 86_400.0)

Text = str | int
T = TypeVar("T")


class ReplayOrder(msgspec.Struct, kw_only=True, frozen=True):
    """An order of the orders file; what it does not name comes from the policy file, else is at its default."""

    order_id: str
    victim_id: str
    aggressor_id: str
    alert_m: float | None = None
    warning_m: float | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    grace_s: float | None = None
    legal_m: float = 0.0
    risk_level: str = STANDARD_RISK
    policy: OrderPolicy = OrderPolicy()
    """What it sets otherwise than the policy file."""
    zones: list[dict[str, Any]] = []
    time_zone: str = "Asia/Almaty"


class Policy(AgencyPolicy, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a policy file may set: the names of an agency's policy, with the same bounds, and `interval_s`."""

    interval_s: float = 60.0
    """Expected time between the pings of a device."""


class Heard(msgspec.Struct, kw_only=True, frozen=True):
    """A bracelet heard by radio."""

    beacon: Text
    """Its wearer, as in `person_id`."""
    rssi_dbm: float | None = None


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
    heard: list[Heard] | None = None


class ReplayPing(msgspec.Struct, kw_only=True, frozen=True):
    """A line of the pings file, with its times in milliseconds."""

    person_id: str
    device_id: str
    """As given; a person's only, unnamed device otherwise."""
    received_ms: int
    at_ms: int
    line: _PingLine


_decode_ping: Final = msgspec.json.Decoder(_PingLine).decode


def pack(ping: ReplayPing, number: int, backlog: bool) -> bytes:
    """The ping as the record that ingest would have appended; `backlog`: not the newest of its upload."""
    line = ping.line
    return struct.pack(
        RECORD_FORMAT,
        number,
        FLAG_PRIMARY | (FLAG_EXTRA if line.heard else 0) | flags_of(line, backlog),
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
        with _told_where(where):
            check_bounds({"alert_m": order.alert_m, "warning_m": order.warning_m, "grace_s": order.grace_s})
            check_bounds(msgspec.structs.asdict(order.policy))
        _in_range(where, "legal_m", order.legal_m, 0.0, BOUNDS["alert_m"][1])
        if order.risk_level not in RISKS:
            raise InvalidInput(f"{where}: risk_level is {order.risk_level!r}; it has to be one of {', '.join(RISKS)}.")
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
    read = _decoded(path, _read(path), lambda raw: msgspec.json.decode(raw, type=Policy))
    with _told_where(path):
        check_policy(read)
    _in_range(str(path), "interval_s", read.interval_s, *INTERVAL_BOUNDS_S)
    return read


def judged_by(order: ReplayOrder, policy: Policy, path: Path) -> dict[str, float]:
    """The values an order is judged by, by their names in a CaseOrder, as the database would compile them.

    Raises InvalidInput, with the orders file `path`, when its own contradict each other or the policy.
    """
    with _told_where(f"{path}: order {order.order_id!r}"):
        return _judged_by(order, policy)


def _judged_by(order: ReplayOrder, policy: Policy) -> dict[str, float]:
    alert_m = order.alert_m if order.alert_m is not None else policy.alert_for(order.legal_m)
    warning_m = order.warning_m if order.warning_m is not None else policy.warning_for(alert_m)
    check_not_below("alert_m", alert_m, "legal_m", order.legal_m)
    check_not_below("warning_m", warning_m, "alert_m", alert_m)
    grace_s = order.grace_s if order.grace_s is not None else policy.grace_s
    radii = {"alert_m": alert_m, "warning_m": warning_m, "legal_m": order.legal_m, "grace_s": grace_s}
    return radii | values_of(policy, order.policy, order.risk_level)


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


@contextmanager
def _told_where(where: Path | str) -> Iterator[None]:
    """What is wrong within is told with where it stands."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", code=error.code) from None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
