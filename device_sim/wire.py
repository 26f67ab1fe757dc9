"""The public contract as a device sees it: what it sends, what it is answered, and addresses."""

from __future__ import annotations

import secrets
import uuid
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from device_sim.clock import now_ms

STREAM_PATH: Final = "/v1/pings/stream"
PINGS_PATH: Final = "/v1/pings"
PANIC_PATH: Final = "/v1/panic"
TRY_AGAIN: Final = frozenset({"ingest_unavailable", "store_unavailable", "service_stopping", "rate_limited"})
"""Error codes after which a device keeps the ping and sends it again; any other code is about its content."""
RETRY_AFTER_S: Final = 1.0
"""Pause before sending again when the service names none."""


class Ping(msgspec.Struct, omit_defaults=True):
    """One ping; what a device does not know it leaves out."""

    seq: int
    at: str
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
    heard: list[dict[str, Any]] | None = None
    device_id: str | None = None


class Problem(msgspec.Struct):
    """Why the service did not take something."""

    code: str
    detail: str = ""
    seq: int | None = None
    retry_after_s: float | None = None


class Answer(msgspec.Struct):
    """A frame from the service on the device stream: an acknowledgement or an error."""

    ack: int | None = None
    interval_s: float | None = None
    commands: list[Any] = []
    error: Problem | None = None


class Rejected(msgspec.Struct):
    """One ping of a batch that was refused for its content."""

    index: int
    code: str


class BatchAnswer(msgspec.Struct):
    """The answer to `POST /v1/pings`."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = []
    interval_s: float | None = None
    commands: list[Any] = []


encode: Final = msgspec.json.Encoder().encode
decode_answer: Final = msgspec.json.Decoder(Answer).decode
decode_batch_answer: Final = msgspec.json.Decoder(BatchAnswer).decode


def stream_address(stream_url: str) -> str:
    """The WebSocket address of the device stream; the path is added when only the server is named."""
    parts = urlsplit(stream_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if parts.path.strip("/") else STREAM_PATH
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def bearer(token: str) -> dict[str, str]:
    """The header that says who sends."""
    return {"Authorization": f"Bearer {token}"}


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, version, variant, 74 random bits."""
    random_bits = secrets.randbits(74)
    high = (now_ms() << 16) | 0x7000 | (random_bits >> 62)
    low = (0b10 << 62) | (random_bits & ((1 << 62) - 1))
    return uuid.UUID(int=(high << 64) | low)
