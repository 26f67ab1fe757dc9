"""What a gateway says later of a text message: whether it is the gateway that says it, and what it says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from core.sms_gateways import Callback, Gateway, at

CODE_CHARACTERS: Final = 20


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt as a gateway tells it; `state` None: something on the way, of no interest."""

    state: str | None
    """delivered | failed"""
    provider_id: str | None
    """`<gateway>:<its id>`"""
    reference: uuid.UUID | None
    """Our own id of the message, as it says it again."""
    detail: str | None


def read(body: bytes, content_type: str) -> dict[str, Any]:
    """A callback's fields: of a form, or of JSON; empty when it is neither."""
    try:
        if "json" in content_type:
            document = json.loads(body)
            return document if isinstance(document, dict) else {}
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return {}


def is_genuine(
    gateway: Gateway, callback: Callback, url: str, header: str | None, body: bytes, fields: Mapping[str, Any]
) -> bool:
    """Whether it comes from who knows the gateway's secret.

    `twilio`: HMAC-SHA1 over the address as they called it and the form's fields in order of their names, in base64
    (Twilio, "Validating requests"). `hmac_sha256`: over the body, in hex or base64, with or without `sha256=` before.
    `token`: the header is the secret itself.
    """
    secret = gateway.fill(callback.secret, {}).encode()
    if not header or not secret:
        return False
    if callback.verify == "twilio":
        text = url + "".join(f"{name}{fields[name]}" for name in sorted(fields))
        return _matches(header, hmac.digest(secret, text.encode(), hashlib.sha1))
    if callback.verify == "hmac_sha256":
        return _matches(header.removeprefix("sha256="), hmac.digest(secret, body, hashlib.sha256))
    return hmac.compare_digest(header.encode(), secret)


def _matches(written: str, digest: bytes) -> bool:
    if hmac.compare_digest(written.lower().encode(), digest.hex().encode()):
        return True
    try:
        return hmac.compare_digest(base64.b64decode(written, validate=True), digest)
    except (binascii.Error, ValueError):
        return False


def told_by(gateway: Gateway, callback: Callback, fields: Mapping[str, Any], delivery: str | None) -> Told:
    """What a genuine callback says. `delivery`: our id out of the address, for a gateway whose proof covers it."""
    status = str(at(fields, callback.status) or "").lower()
    state = None
    if status in {one.lower() for one in callback.delivered}:
        state = "delivered"
    elif status in {one.lower() for one in callback.failed}:
        state = "failed"
    found = at(fields, callback.id)
    code = at(fields, callback.error) if callback.error else None
    reference = delivery if callback.verify == "twilio" else callback.reference and at(fields, callback.reference)
    return Told(
        state,
        f"{gateway.name}:{found}" if isinstance(found, str | int) and found != "" else None,
        _as_uuid(reference),
        f"{gateway.name} {_word(status)}" + (f", code {_word(code)}" if code else "") if state == "failed" else None,
    )


def _as_uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None


def _word(code: Any) -> str:
    return "".join(letter for letter in str(code)[:CODE_CHARACTERS] if letter.isalnum() or letter in "._-")
