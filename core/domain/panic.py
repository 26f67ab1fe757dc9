"""A panic as it travels: read leniently, kept whole, written to a journal before anything else.

A panic is never refused for its content: what cannot be read is left out of its fields, kept in `body` as far as
a bound, and told as `doubts`.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from core.clock import from_ms, rfc3339, to_ms
from core.ids import derived_id, timed_id

MODES: Final = ("silent", "audible")
TRIGGERS: Final = ("button", "hardware", "timer", "sms", "widget")
NOTE_CHARS: Final = 2_000
TEXT_CHARS: Final = 1_000
PIN_CHARS: Final = 32
BODY_FIELDS: Final = 40
BODY_DEPTH: Final = 3
INTEGER_BOUND: Final = 2**53


PRESSED_WITHIN_MS: Final = 3_600_000
"""How far the moment in a press's own id may be from its receipt and still be the incident's."""
RECEIVED_STEP_MS: Final = 1 << 20
"""To so much (17 min) the receipt counts for the incident's id, where the press's own id bears no such moment."""


class PanicIn(msgspec.Struct, frozen=True, kw_only=True, tag="panic", tag_field="record"):
    """One press of the button, with what is known of who pressed."""

    id: uuid.UUID
    """The client's own id when it is a UUID, else derived (see `panic_id`)."""
    client_id: str | None
    received_ms: int
    token_digest: str | None
    """SHA-256 of the bearer token, hexadecimal."""
    source: str
    """What anonymous panics fold by: a digest of the sender's address."""
    device_id: uuid.UUID | None = None
    person_id: uuid.UUID | None = None
    agency_id: uuid.UUID | None = None
    doubts: list[str] = []
    """Why it is not verified; empty: verified."""
    at_ms: int | None = None
    mode: str | None = None
    trigger: str | None = None
    lat: float | None = None
    lon: float | None = None
    accuracy_m: float | None = None
    note: str | None = None
    body: dict[str, Any] = {}
    """All that was sent, cleaned and bounded."""


def incident_id_of(panic_id: uuid.UUID, received_ms: int) -> uuid.UUID:
    """The incident that a panic opens: a UUIDv7, the same whichever of its attempts is brought in.

    A press that was told of and never answered is sent again, and received at another moment; what its messages said
    of the incident still holds. So the moment in it is that of the press's own id (apps make them as UUIDv7), and of
    the receipt only roughly where that has none or its clock is astray. When a panic folds into an open incident, that
    one's id is another.
    """
    pressed_ms = panic_id.int >> 80
    told = panic_id.version == 7 and abs(pressed_ms - received_ms) <= PRESSED_WITHIN_MS
    return timed_id(pressed_ms if told else received_ms - received_ms % RECEIVED_STEP_MS, "incident", panic_id)


class CancelIn(msgspec.Struct, frozen=True, kw_only=True, tag="cancel", tag_field="record"):
    """A wish to cancel a panic. It waits sealed and whole, as the PIN with it says whether she was forced."""

    panic_id: str
    """As the client knows it."""
    device_id: uuid.UUID
    received_ms: int
    id: uuid.UUID | None = None
    """Made when it came: the same wish brought again counts once. None in what an older version left."""
    pin: str = ""
    """As it was sent, cut to `PIN_CHARS`; empty: none was."""


PanicRecord = PanicIn | CancelIn

STALE_MS: Final = 120_000
WIDE_M: Final = 500.0
"""Beyond these a place is noted as stale or wide."""


def place_doubts(panic: PanicIn) -> list[str]:
    """What is doubtful about where she pressed: `missing`, or `stale` and `wide`. None of it refuses anything."""
    if panic.lat is None or panic.lon is None:
        return ["missing"]
    doubts = []
    if panic.at_ms is not None and panic.received_ms - panic.at_ms > STALE_MS:
        doubts.append("stale")
    if panic.accuracy_m is not None and panic.accuracy_m > WIDE_M:
        doubts.append("wide")
    return doubts


def place_of(panic: PanicIn) -> dict[str, Any] | None:
    """Where she pressed, as an incident keeps it; None: nobody knows."""
    if panic.lat is None or panic.lon is None:
        return None
    moment_ms = min(panic.at_ms, panic.received_ms) if panic.at_ms is not None else panic.received_ms
    return {"lat": panic.lat, "lon": panic.lon, "accuracy_m": panic.accuracy_m, "at": rfc3339(from_ms(moment_ms))}


TOKEN_DOUBTS: Final = frozenset({"no_token", "unknown_token", "revoked_token", "replaced_token", "expired_token"})
"""Doubts about who pressed, rather than about what was sent. `replaced_token`: of what an older version kept."""

CANCELLED: Final = "cancelled"
"""What a panic is called before her device, her contacts and their pages once cancelling was asked for."""


def appearance(state: str, detail: Mapping[str, Any]) -> str:
    """The state that her devices, her contacts and their pages and links are shown: never whether the PIN was right.

    `state` and `detail` are the incident's. By what was asked and pressed alone (`cancel_asked_at` goes with a new
    press), which is the same after a right PIN, after duress, and after a PIN that could not be checked: whoever
    compares them learns nothing. Dispatchers see the incident as it is, and not this.
    """
    return CANCELLED if detail.get("cancel_asked_at") else state


ENTRUSTED: Final = frozenset({"dispatcher", "supervisor", "admin", "officer"})
"""Roles that are told what a PIN was; the others see that a cancelling was asked for, and whether she may be called."""
OF_A_PIN: Final = frozenset(
    {"duress", "duress_by", "duress_at", "cancel_pin", "cancel_unverified", "close_by", "wrong_pins"}
)
LINES_OF_A_PIN: Final = frozenset({"duress", "wrong_pin"})


def detail_seen(role: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    """An incident's detail as a role is told it."""
    return {name: value for name, value in detail.items() if role in ENTRUSTED or name not in OF_A_PIN}


def lines_seen(role: str, lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A timeline as a role is told it."""
    if role in ENTRUSTED:
        return list(lines)
    return [
        {**line, "data": {name: value for name, value in line["data"].items() if name != "pin"}}
        for line in lines
        if line["kind"] not in LINES_OF_A_PIN
    ]


def is_quiet(detail: Mapping[str, Any]) -> bool:
    """Whether nothing goes to her phone and her contacts any more: whoever forced her may be holding it.

    True after duress, and after a PIN that could not be checked, which may have been the duress PIN.
    """
    return bool(detail.get("duress") or detail.get("cancel_unverified"))


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(PanicIn | CancelIn).decode


def read_body(raw: bytes) -> tuple[dict[str, Any], list[str]]:
    """The body as a clean object, and what is doubtful about it; never raises."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return {"text": _clean(raw[: TEXT_CHARS * 4].decode("utf-8", "replace"), 0)} if raw else {}, ["malformed_body"]
    cleaned = {str(_clean(name, 0)): _clean(item, 1) for name, item in list(value.items())[:BODY_FIELDS]}
    return cleaned, []


def read_pin(raw: bytes) -> str:
    """The PIN in a wish to cancel, cut; empty where none can be read."""
    pin = read_body(raw[: TEXT_CHARS * 4])[0].get("pin")
    return str(pin).strip()[:PIN_CHARS] if isinstance(pin, str | int) and not isinstance(pin, bool) else ""


def panic_id(
    body: dict[str, Any], origin: str, raw: bytes, received_ms: int
) -> tuple[uuid.UUID, str | None, list[str]]:
    """The panic's id, the client's own id as sent, and the doubts about it.

    A UUID is taken as it is. Any other id is made one together with `origin` (the token's digest, or the sender's
    address), so that the same press sent twice is one. Without an id the body and the second of its arrival stand
    for it: a retry within the second is the same press, a later one is another.
    """
    sent = body.get("id")
    if isinstance(sent, str | int | float) and not isinstance(sent, bool) and str(sent).strip():
        text = str(sent).strip()[:TEXT_CHARS]
        try:
            return uuid.UUID(text), text, []
        except ValueError:
            return derived_id("panic", origin, text), text, ["id_not_uuid"]
    return derived_id("panic", origin, raw.hex(), received_ms // 1000), None, ["id_missing"]


def read_fields(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of PanicIn that the body tells, each None where it tells none or nonsense."""
    lat, lon = _number(body.get("lat"), -90, 90), _number(body.get("lon"), -180, 180)
    placed = lat is not None and lon is not None
    note = body.get("note")
    return {
        "at_ms": _moment(body.get("at")),
        "mode": body["mode"] if body.get("mode") in MODES else None,
        "trigger": body["trigger"] if body.get("trigger") in TRIGGERS else None,
        "lat": lat if placed else None,
        "lon": lon if placed else None,
        "accuracy_m": _number(body.get("accuracy_m"), 0, 1e7),
        "note": note[:NOTE_CHARS] if isinstance(note, str) and note else None,
    }


def _moment(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return to_ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _number(value: Any, least: float, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= most else None


def _clean(value: Any, depth: int) -> Any:
    """What PostgreSQL's jsonb and every JSON reader can hold: no NUL, no lone surrogate, no NaN, nothing endless."""
    if isinstance(value, str):
        return value[:NOTE_CHARS].encode("utf-8", "replace").decode().replace("\x00", "")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= INTEGER_BOUND else f"{value:.6e}" if abs(value) < 10**300 else "huge"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= BODY_DEPTH:
        return "…"
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value[:BODY_FIELDS]]
    return {str(_clean(name, 0)): _clean(item, depth + 1) for name, item in list(value.items())[:BODY_FIELDS]}
