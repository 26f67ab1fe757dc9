"""Where a browser takes Web Push: an address of its push service and two keys (RFC 8030, RFC 8291)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from core.errors import InvalidInput

MAX_ENDPOINT_CHARS: Final = 2000
POINT_BYTES: Final = 65
AUTH_BYTES: Final = 16
LOOPBACK: Final = "127.0.0.1"


def check_subscription(given: Mapping[str, Any], hosts: str) -> dict[str, Any]:
    """A browser's subscription `{"endpoint", "keys": {"p256dh", "auth"}}`, and nothing else of it.

    `hosts`: push services we may be sent to, comma-separated, with what lies below them: a user names an address that
    our server will call. Raises InvalidInput.
    """
    endpoint, keys = given.get("endpoint"), given.get("keys")
    if not isinstance(endpoint, str) or len(endpoint) > MAX_ENDPOINT_CHARS or not isinstance(keys, Mapping):
        raise InvalidInput("A subscription is what the browser gives: endpoint and keys.")
    if not is_push_service(endpoint, hosts):
        raise InvalidInput("The subscription's endpoint is of no push service that this installation asks.")
    point, auth = _bytes(keys.get("p256dh")), _bytes(keys.get("auth"))
    if len(point) != POINT_BYTES or point[0] != 4 or len(auth) != AUTH_BYTES:
        raise InvalidInput("The subscription's keys are no P-256 point and 16 bytes in base64url.")
    return {"endpoint": endpoint, "keys": {"p256dh": keys["p256dh"], "auth": keys["auth"]}}


def is_push_service(endpoint: str, hosts: str) -> bool:
    """Whether an address is https on one of `hosts` or below it; plain http on the loopback alone, when it is named."""
    try:
        parts = urlsplit(endpoint)
        host = (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        return False
    named = {one.strip().lower() for one in hosts.split(",") if one.strip()}
    if host == LOOPBACK:
        return LOOPBACK in named and parts.scheme in ("http", "https")
    below = any(host == one or host.endswith("." + one) for one in named)
    return below and parts.scheme == "https" and port in (None, 443) and parts.username is None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > 200:
        return b""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return b""
