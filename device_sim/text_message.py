"""The text message that a phone without data sends instead of a panic or a ping; see docs/inbound-sms.md."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from typing import Literal

KINDS = {"panic": "P", "audible_panic": "A", "location": "L", "check_in": "C"}
SEGMENT_CHARACTERS = 160


@dataclass(frozen=True)
class TextMessage:
    """What is to be said; None where it is not known."""

    kind: Literal["panic", "audible_panic", "location", "check_in"]
    device_id: uuid.UUID
    seq: int
    at_s: int | None = None
    """Seconds since the Unix epoch, by the phone's clock."""
    lat: float | None = None
    lon: float | None = None
    accuracy_m: float | None = None
    battery_pct: float | None = None


def compose(message: TextMessage, token: str) -> str:
    """The text, signed with the device's token; at most 160 letters of the GSM 7-bit alphabet."""
    signed = " ".join(
        (
            "Q1",
            KINDS[message.kind],
            _base32(message.device_id.bytes),
            str(message.seq),
            "-" if message.at_s is None else str(message.at_s),
            _place(message),
            "-" if message.battery_pct is None else str(round(message.battery_pct)),
        )
    )
    key = hashlib.sha256(token.encode()).digest()
    text = f"{signed} {_base32(hmac.digest(key, signed.encode('ascii'), hashlib.sha256)[:10])}"
    assert len(text) <= SEGMENT_CHARACTERS
    return text


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def _place(message: TextMessage) -> str:
    if message.lat is None or message.lon is None:
        return "-"
    accuracy = "" if message.accuracy_m is None else f",{min(round(message.accuracy_m), 99_999)}"
    return f"{message.lat:.5f},{message.lon:.5f}{accuracy}"
