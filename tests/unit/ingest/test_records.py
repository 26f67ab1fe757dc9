"""Pings to records, rates and repeats."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from api.ingest.decode import Ping
from api.ingest.rates import BURST_S, Rates, RecentPings
from api.ingest.records import newest_of_each, pack
from api.ingest.registry import DeviceIdentity
from core.domain.ping import (
    FLAG_BACKLOG,
    FLAG_POSITION,
    NO_SEQ,
    SHIFT_CASING,
    SHIFT_CHARGING,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    SHIFT_STRAP,
    flags_of,
    unpack_records,
)

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
FLOATS = ("lat", "lon", "accuracy_m", "speed_mps", "heading_deg", "altitude_m", "battery_pct")


def device(number: int) -> DeviceIdentity:
    """A device with this number."""
    return DeviceIdentity(
        number, uuid.UUID(int=number), "phone", "victim", None, uuid.UUID(int=0), (0,), 60.0, "active"
    )


def test_every_field_reaches_its_place() -> None:
    ping = Ping(
        at=NOW, lat=43.25, lon=76.95, seq=2**63 - 1, accuracy_m=8.5, speed_mps=1.5, heading_deg=359.5,
        altitude_m=-12.5, battery_pct=77.5, source="wifi", strap="closed", casing="open", charging=True, moving=False,
        jamming=True, mock=False,
    )  # fmt: skip
    (record,) = unpack_records(pack(2**32 - 1, ping, 1_777_000_000_123, flags_of(ping, True)))
    assert record["device"] == 2**32 - 1
    assert record["at_ms"] == 1_777_000_000_123
    assert record["seq"] == 2**63 - 1
    assert [float(record[name]) for name in FLOATS] == [43.25, 76.95, 8.5, 1.5, 359.5, -12.5, 77.5]
    flags = int(record["flags"])
    assert flags & FLAG_POSITION
    assert flags & FLAG_BACKLOG
    shifts = (SHIFT_SOURCE, SHIFT_STRAP, SHIFT_CASING, SHIFT_CHARGING, SHIFT_MOVING, SHIFT_JAMMING, SHIFT_MOCK)
    assert [flags >> shift & 3 for shift in shifts] == [2, 1, 2, 2, 1, 2, 1]


def test_what_is_not_said_is_nan_or_unknown() -> None:
    ping = Ping(at=NOW)
    (record,) = unpack_records(pack(1, ping, 0, flags_of(ping)))
    assert all(math.isnan(record[name]) for name in FLOATS)
    assert (record["flags"], record["seq"]) == (0, NO_SEQ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy_m", -1.0), ("accuracy_m", 0.0), ("accuracy_m", 1e300), ("speed_mps", -1.0), ("speed_mps", 1e39),
        ("heading_deg", -1.0), ("heading_deg", 361.0), ("altitude_m", 1e39), ("altitude_m", -1e300),
        ("battery_pct", -1.0), ("battery_pct", 300.0),
    ],
)  # fmt: skip
def test_an_impossible_ornament_counts_as_not_said(name: str, value: float) -> None:
    ping = Ping(at=NOW, lat=1.0, lon=1.0, **{name: value})  # type: ignore[arg-type]
    (record,) = unpack_records(pack(1, ping, 0, flags_of(ping)))
    assert math.isnan(record[name])
    assert record["lat"] == 1.0


def test_a_source_nobody_named_is_unknown() -> None:
    assert flags_of(Ping(at=NOW, source="galileo")) == 0


def test_the_newest_of_each_device_is_news_and_of_equals_the_later_one() -> None:
    one, two = device(1), device(2)
    later = Ping(at=NOW + timedelta(seconds=1))
    earlier = Ping(at=NOW)
    assert newest_of_each([(one, later), (one, earlier), (two, earlier), (two, earlier)]) == {0, 3}
    assert newest_of_each([]) == set()


def test_a_device_may_spend_a_minutes_pings_at_once_and_then_its_rate() -> None:
    now = 0.0
    rates = Rates(2.0, lambda: now)
    assert rates.take(1, int(2 * BURST_S))
    assert not rates.take(1, 1)
    assert rates.take(2, 1)
    now = 1.0
    assert rates.take(1, 2)
    assert not rates.take(1, 1)
    now = 1e6
    assert not rates.take(1, int(2 * BURST_S) + 1)
    assert rates.take(1, int(2 * BURST_S))


def test_repeats_are_remembered_up_to_a_bound() -> None:
    recent = RecentPings(limit=2)
    recent.add([(1, 1, 1), (1, 2, 2), (1, 3, 3)])
    assert [(1, n, n) in recent for n in (1, 2, 3)] == [False, True, True]
