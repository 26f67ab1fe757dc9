"""Bytes to pings: a frame or a batch, each ping right or answered by its own error.

Model: the whole message is decoded by msgspec in one go; only when that fails is it taken apart, so that one bad
ping of many costs nobody else. Fields nobody knows are ignored. What is optional and cannot be (a negative
accuracy, a battery of 300 %) counts as not said: a position is not thrown away for its ornaments.

Errors are values (`Flaw`), with codes of `core.errors.CODES`; nothing here raises for what a device sent, but
`Unreadable` when the message as a whole is no JSON or not of the right form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from core.clock import EPOCH

Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Sequence64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Closure = Literal["closed", "open"]

MAX_HEARD: Final = 64
"""Beacons one ping may have heard."""


class Heard(msgspec.Struct, gc=False):
    """A radio beacon in reach."""

    beacon: str
    """Device id of the bracelet heard."""
    rssi_dbm: float | None = None


class Ping(msgspec.Struct, gc=False):
    """A ping as the contract has it; `at` is aware, ranges of positions are checked, the rest is as sent."""

    at: Annotated[datetime, Meta(tz=True)]
    lat: Latitude | None = None
    lon: Longitude | None = None
    seq: Sequence64 | None = None
    device_id: str | None = None
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    altitude_m: float | None = None
    battery_pct: float | None = None
    source: str | None = None
    strap: Closure | None = None
    casing: Closure | None = None
    charging: bool | None = None
    moving: bool | None = None
    jamming: bool | None = None
    mock: bool | None = None
    heard: Annotated[list[Heard], Meta(max_length=MAX_HEARD)] | None = None


class SignedPing(Ping, gc=False):
    """A ping that came wrapped in a signature; who is to have signed is known only once its device is."""

    signed: str = ""
    """The ping's JSON text, which was signed."""
    signature: str = ""
    """Base64url, as sent."""


class _Wrapped(msgspec.Struct, gc=False):
    """What a signed ping travels in."""

    signed: str
    signature: str


class Flaw(msgspec.Struct, gc=False, frozen=True):
    """Why one ping is not taken."""

    code: str
    detail: str
    seq: int | None = None


class Unreadable(Exception):  # noqa: N818 - it is not one of ours to answer with: callers turn it into a Flaw
    """A message that is no JSON, or not of the right form."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class _Numbered(msgspec.Struct, gc=False):
    """What is asked of a bad ping, to answer it: its sequence number, if that much is right."""

    seq: Sequence64 | None = None


class _Upload(msgspec.Struct, gc=False):
    pings: list[Ping]


class _RawUpload(msgspec.Struct):
    pings: list[msgspec.Raw]


CONSTANTS: Final = re.compile(rb"NaN|Infinity")
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; msgspec.ValidationError is a DecodeError."""

decode_frame: Final = msgspec.json.Decoder(Ping | list[Ping]).decode
"""A frame's fast road: one ping or a list; raises one of BROKEN, then `sift_frame` finds out why."""

_decode_ping: Final = msgspec.json.Decoder(Ping).decode
_decode_wrapped: Final = msgspec.json.Decoder(_Wrapped).decode
_decode_signed: Final = msgspec.json.Decoder(SignedPing).decode
_decode_numbered: Final = msgspec.json.Decoder(_Numbered).decode
_decode_raw_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_upload: Final = msgspec.json.Decoder(_Upload).decode
_decode_raw_upload: Final = msgspec.json.Decoder(_RawUpload).decode
_decode_anything: Final = msgspec.json.Decoder().decode


def sift_frame(data: bytes) -> list[Ping | Flaw]:
    """Take a bad frame apart: each ping, or what is wrong with it. Raises Unreadable for the frame as a whole."""
    data = without_constants(data)
    start = data.lstrip(b" \t\r\n")[:1]
    if start == b"[":
        return [_sift(raw) for raw in _raw_items(data)]
    _assert_json(data)
    if start != b"{":
        raise Unreadable("malformed_request", "Send a ping, or an array of pings, as one JSON text a frame.")
    return [_sift(data)]


def decode_upload(data: bytes) -> Sequence[Ping | Flaw]:
    """The pings of an HTTP batch, in order. Raises Unreadable for the body as a whole."""
    try:
        return _decode_upload(data).pings
    except BROKEN:
        data = without_constants(data)
        _assert_json(data)
    try:
        raws = _decode_raw_upload(data).pings
    except BROKEN as error:
        raise Unreadable("malformed_request", f'Send {{"pings":[…]}}: {error}.') from None
    return [_sift(raw) for raw in raws]


def without_constants(data: bytes) -> bytes:
    """The same text without the NaN and Infinity that some devices write, though JSON has none of them.

    One such number must not keep the rest of a batch from being taken: a coordinate becomes a word that its own ping is
    refused for, anything else becomes null, not said. What is broken otherwise comes back as it was.
    """
    if not CONSTANTS.search(data):
        return data
    try:
        return msgspec.json.encode(json.loads(data, parse_constant=str, object_pairs_hook=_plain_object))
    except (ValueError, RecursionError):
        return data


def _plain_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {
        name: value if name in ("lat", "lon") or value not in ("NaN", "Infinity", "-Infinity") else None
        for name, value in pairs
    }


def _raw_items(data: bytes) -> list[msgspec.Raw]:
    try:
        items = _decode_raw_list(data)
    except BROKEN as error:
        raise Unreadable("malformed_json", f"This is no JSON: {_reason(error)}.") from None
    return items


def _assert_json(data: bytes) -> None:
    """Raise Unreadable unless the whole is one JSON text."""
    try:
        _decode_anything(data)
    except BROKEN as error:
        if isinstance(error, msgspec.ValidationError) and "out of range" in str(error):
            return  # well-formed: the ping's own error says which number is beyond all bounds
        raise Unreadable("malformed_json", f"This is no JSON: {_reason(error)}.") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")


def _sift(raw: bytes | msgspec.Raw) -> Ping | Flaw:
    """One ping, or what is wrong with it."""
    try:
        return _decode_ping(raw)
    except msgspec.ValidationError as error:
        if (wrapped := _unwrap(raw)) is not None:
            return wrapped
        detail = str(error)
    except BROKEN as error:
        return Flaw("malformed_json", f"This is no JSON: {_reason(error)}.", _number_of(raw))
    if detail.endswith(("`$.lat`", "`$.lon`")):
        code = "position_invalid"
    elif detail.endswith(("`$.at`", "field `at`")):
        code = "time_invalid"
    else:
        code = "validation_failed"
    return Flaw(code, detail + ".", _number_of(raw))


def _unwrap(raw: bytes | msgspec.Raw) -> Ping | Flaw | None:
    """The ping inside a signed one, or what is wrong with it; None: this is none."""
    try:
        wrapped = _decode_wrapped(raw)
    except BROKEN:
        return None
    text = wrapped.signed.encode()
    try:
        ping = _decode_signed(text)
    except BROKEN:
        inner = _sift(text)
        return inner if isinstance(inner, Flaw) else Flaw("validation_failed", "A signed ping wraps one ping.")
    ping.signed, ping.signature = wrapped.signed, wrapped.signature
    return ping


def _number_of(raw: bytes | msgspec.Raw) -> int | None:
    try:
        return _decode_numbered(raw).seq
    except BROKEN:
        return None


# what a right ping may still be wrong in ------------------------------------------------------------------------

DAY_MS: Final = 86_400_000


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """How far from now a ping's time may be."""

    max_age_ms: int
    max_future_ms: int


def at_ms(ping: Ping) -> int:
    """Milliseconds since the Unix epoch of the ping's own time, rounded down, in integer arithmetic."""
    since = ping.at - EPOCH
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def flaw_of(ping: Ping, moment_ms: int, now_ms: int, bounds: Bounds) -> Flaw | None:
    """What is wrong with a decoded ping whose time is `moment_ms`; None when it may be taken."""
    if (ping.lat is None) is not (ping.lon is None):
        return Flaw("position_invalid", "Send both lat and lon, or neither for a heartbeat.", ping.seq)
    if moment_ms > now_ms + bounds.max_future_ms:
        return Flaw("time_in_future", "The ping's time lies ahead; set the device's clock.", ping.seq)
    if moment_ms < now_ms - bounds.max_age_ms:
        return Flaw("time_too_old", "The ping is older than any that are kept.", ping.seq)
    return None
