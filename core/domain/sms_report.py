"""The text message of a phone without data: who, how often, when, where, and signed; one segment of 160 letters.

    Q1 P AGLIYDMMRN5FVNOVLLJV6YGG6A 17 1777636800 43.23890,76.94550,12 86 FSJ3ANDANUEK2IK2
    │  │ │                          │  │          │                    │  └ signature
    │  │ └ device id, base32        │  └ Unix     └ lat,lon,accuracy_m └ battery, %
    │  └ kind                       └ number        seconds              (each `-` when not known)
    └ version

The signature is HMAC-SHA256 over everything before the space in front of it, keyed with the SHA-256 of the device's
token, its first 10 bytes in base32. All letters are capitals and in the GSM 7-bit alphabet; what is read here is first
made so, since gateways change case and spaces. A field that cannot be read counts as not known: a panic is never
refused for its content.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from typing import Final, Literal

VERSION: Final = "Q1"
UNKNOWN: Final = "-"
MAC_BYTES: Final = 10
TEXT_CHARS_MAX: Final = 480
"""Three segments: what some gateway adds in front or behind; a report itself fits one."""
SEQ_MAX: Final = 2**63 - 1
AT_MAX_S: Final = 2**33
LAT_MAX, LON_MAX, ACCURACY_MAX_M, BATTERY_MAX_PCT = 90.0, 180.0, 99_999.0, 100.0

Kind = Literal["panic", "audible_panic", "location", "check_in"]
KINDS: Final[dict[str, Kind]] = {"P": "panic", "A": "audible_panic", "L": "location", "C": "check_in"}
PANICS: Final = frozenset({"panic", "audible_panic"})
PLAIN_CALLS: Final = frozenset(
    {"sos", "102", "112", "help", "көмек", "комек", "көмектес", "көмектесіңіз", "құтқар", "құтқарыңыз"}
    | {"помощь", "помогите", "спасите", "помоги", "сос"}
)
"""Whole messages that are a call for help, from a number that is on record."""


@dataclass(frozen=True, slots=True)
class SmsReport:
    """What a text message says; None where it says nothing that can be read."""

    kind: Kind
    device_id: uuid.UUID | None
    seq: int | None
    at_ms: int | None
    lat: float | None
    lon: float | None
    accuracy_m: float | None
    battery_pct: float | None
    signed: str
    """What the signature is over."""
    mac: bytes

    def is_signed_by(self, token_digest: bytes) -> bool:
        """Whether who has the token of this digest signed it."""
        return hmac.compare_digest(self.mac, mac_of(token_digest, self.signed))


def mac_of(token_digest: bytes, signed: str) -> bytes:
    """The signature of a text, 10 bytes; `token_digest` is the SHA-256 of the device's token."""
    return hmac.digest(token_digest, signed.encode("ascii", "replace"), hashlib.sha256)[:MAC_BYTES]


def read(text: str) -> SmsReport | None:
    """The report in a message; None for any other text."""
    words = text[:TEXT_CHARS_MAX].upper().split()
    if VERSION not in words:
        return None
    words = words[words.index(VERSION) :]
    kind = KINDS.get(words[1]) if len(words) > 1 else None
    if kind is None:
        return None
    fields = [*words[2:7], *[UNKNOWN] * 5][:5]
    lat, lon, accuracy_m = _place(fields[3])
    seconds = _integer(fields[2], AT_MAX_S)
    return SmsReport(
        kind=kind,
        device_id=_device(fields[0]),
        seq=_integer(fields[1], SEQ_MAX),
        at_ms=seconds * 1000 if seconds is not None else None,
        lat=lat,
        lon=lon,
        accuracy_m=accuracy_m,
        battery_pct=_number(fields[4], 0.0, BATTERY_MAX_PCT),
        signed=" ".join(words[:7]),
        mac=_bytes(words[7], MAC_BYTES) or b"" if len(words) > 7 else b"",
    )


def is_plain_call(text: str) -> bool:
    """Whether a message is nothing but a call for help in words."""
    return " ".join(text[:TEXT_CHARS_MAX].casefold().strip(" \t\r\n.,!?*").split()) in PLAIN_CALLS


def _bytes(text: str, length: int) -> bytes | None:
    try:
        value = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == length else None


def _device(text: str) -> uuid.UUID | None:
    value = _bytes(text, 16)
    return uuid.UUID(bytes=value) if value is not None else None


def _integer(text: str, most: int) -> int | None:
    return value if text.isascii() and text.isdigit() and len(text) < 20 and (value := int(text)) <= most else None


def _number(text: str, least: float, most: float) -> float | None:
    if not all(letter in "0123456789.-" for letter in text):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if least <= value <= most else None


def _place(text: str) -> tuple[float | None, float | None, float | None]:
    parts = [*text.split(","), ""]
    if len(parts) < 3:
        return None, None, None
    lat, lon = _number(parts[0], -LAT_MAX, LAT_MAX), _number(parts[1], -LON_MAX, LON_MAX)
    if lat is None or lon is None:
        return None, None, None
    return lat, lon, _number(parts[2], 0.0, ACCURACY_MAX_M)
