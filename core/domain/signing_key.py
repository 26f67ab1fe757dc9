"""Keys by which a device signs its pings."""

from __future__ import annotations

import hmac
import uuid
from typing import Final

ED25519: Final = "ed25519"
HMAC: Final = "hmac"
KINDS: Final = (ED25519, HMAC)
PUBLIC_KEY_BYTES: Final = 32


def hmac_key(master: bytes, device_id: uuid.UUID, generation: int) -> bytes:
    """The HMAC-SHA256 key of a device, 32 bytes: derived, so it is stored nowhere; a new generation is a new key."""
    return hmac.digest(master, b"qorgan:ping-signature:" + device_id.bytes + generation.to_bytes(4, "big"), "sha256")
