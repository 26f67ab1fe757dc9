"""Bytes to pings and their errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from api.ingest.decode import (
    BROKEN,
    Bounds,
    Flaw,
    Ping,
    Unreadable,
    at_ms,
    decode_frame,
    decode_upload,
    flaw_of,
    sift_frame,
)
from core.clock import to_ms

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
BOUNDS = Bounds(max_age_ms=30 * 86_400_000, max_future_ms=86_400_000)


def test_unknown_fields_are_ignored_and_known_ones_kept() -> None:
    ping = decode_frame(b'{"at":"2026-05-01T12:00:00Z","lat":1,"lon":2,"seq":3,"strap":"open","colour":{"a":[1]}}')
    assert ping == Ping(at=NOW, lat=1.0, lon=2.0, seq=3, strap="open")


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        datetime(1969, 12, 31, 23, 59, 59, 1999, tzinfo=UTC),
        datetime(2262, 1, 1, 1, 1, 1, 999_999, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_time_is_in_exact_milliseconds(moment: datetime) -> None:
    assert at_ms(Ping(at=moment)) == to_ms(moment)


def test_a_frame_of_nothing_right_is_taken_apart_item_by_item() -> None:
    items = sift_frame(b'[{"at":"2026-05-01T12:00:00Z"},{"seq":5},7,null,{"at":"2026-05-01T12:00:00Z","seq":"x"}]')
    assert isinstance(items[0], Ping)
    codes = [item.code for item in items if isinstance(item, Flaw)]
    assert codes == ["time_invalid", "validation_failed", "validation_failed", "validation_failed"]
    assert [item.seq for item in items] == [None, 5, None, None, None]


@pytest.mark.parametrize("text", [b"", b"[", b"{'at':1}", b"[1,]", b'{"a":1}x', b"\xff", b"[" * 5000, b'{"a":"\xff"}'])
def test_what_is_no_json_is_unreadable(text: bytes) -> None:
    with pytest.raises(BROKEN):
        decode_frame(text)
    with pytest.raises(Unreadable) as caught:
        sift_frame(text)
    assert caught.value.code == "malformed_json"
    with pytest.raises(Unreadable):
        decode_upload(text)


@pytest.mark.parametrize("text", [b'"ping"', b"7", b"null", b"true"])
def test_json_of_another_form_is_unreadable_as_such(text: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        sift_frame(text)
    assert caught.value.code == "malformed_request"


def test_too_many_beacons_are_refused() -> None:
    (flaw,) = sift_frame(b'{"at":"2026-05-01T12:00:00Z","heard":[' + b",".join([b'{"beacon":"b"}'] * 65) + b"]}")
    assert isinstance(flaw, Flaw)
    assert flaw.code == "validation_failed"


@pytest.mark.parametrize(
    ("ping", "code"),
    [
        (Ping(at=NOW, lat=1, lon=1), None),
        (Ping(at=NOW), None),
        (Ping(at=NOW, lat=1), "position_invalid"),
        (Ping(at=NOW, lon=1), "position_invalid"),
        (Ping(at=NOW + timedelta(days=1)), None),
        (Ping(at=NOW + timedelta(days=1, milliseconds=1)), "time_in_future"),
        (Ping(at=NOW - timedelta(days=30)), None),
        (Ping(at=NOW - timedelta(days=30, milliseconds=1)), "time_too_old"),
    ],
)
def test_bounds_of_time_and_wholeness_of_position(ping: Ping, code: str | None) -> None:
    flaw = flaw_of(ping, at_ms(ping), to_ms(NOW), BOUNDS)
    assert (flaw.code if flaw is not None else None) == code


def test_one_number_that_is_none_costs_only_its_own_ping() -> None:
    right = '{"seq":1,"at":"2026-05-01T12:00:00Z","lat":43.2,"lon":76.9}'
    wrong = '{"seq":2,"at":"2026-05-01T12:00:00Z","lat":NaN,"lon":76.9}'
    unsaid = '{"seq":3,"at":"2026-05-01T12:00:00Z","lat":43.2,"lon":76.9,"accuracy_m":Infinity,"speed_mps":-Infinity}'
    for items in (
        sift_frame(f"[{right},{wrong},{unsaid}]".encode()),
        decode_upload(f'{{"pings":[{right},{wrong},{unsaid}]}}'.encode()),
    ):
        first, second, third = items
        assert isinstance(first, Ping)
        assert isinstance(second, Flaw)
        assert (second.code, second.seq) == ("position_invalid", 2)
        assert isinstance(third, Ping)
        assert third.accuracy_m is None
        assert third.lat == 43.2
